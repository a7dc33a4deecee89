"""RWKV-4 in time-parallel mode: a whole run of tokens at once, over the very same parameters.

Only two pieces know about time, the `Mixer` and the `WKVMemory`, so only these two are written anew here; the rest of
the model is applied to every moment at once. It starts from what the model's buffers hold and leaves them as if the
tokens had been fed one by one. It is differentiable: training runs through it.
"""

import math

import torch
from torch import Tensor, exp, sigmoid

from rwkv_explainer.model import AttentionBlock, GatedMLP, Mixer, RWKVBlock, RWKVLM, WKVMemory, check_same_batch
from rwkv_explainer.shapes import EmbeddingSequence, LogitSequence, TokenIds

CHUNK = 32  # tokens that the memory handles in one matrix product


def read_logits(model: RWKVLM, token_ids: TokenIds) -> LogitSequence:
    """Logits for the token after each of `token_ids`: ids (*batch, time) to (*batch, time, vocabulary)."""
    x = model.embedding(token_ids)  # (*batch, time, channels)
    for block in model.blocks:
        x = read_block(block, x)
    return model.unembedding.logits(x)  # (*batch, time, vocabulary)


def read_block(block: RWKVBlock, x: EmbeddingSequence) -> EmbeddingSequence:
    """An `RWKVBlock` at every moment of (*batch, time, channels)."""
    x = x + read_attention(block.attention, block.ln1(x))  # (*batch, time, channels)
    return x + read_gated_mlp(block.gated_mlp, block.ln2(x))  # (*batch, time, channels)


def read_gated_mlp(mlp: GatedMLP, x: EmbeddingSequence) -> EmbeddingSequence:
    """A `GatedMLP` at every moment of (*batch, time, channels)."""
    latents = mlp.nonlinearity(mlp.key(mix(mlp.mlp_mixer, x)))  # (*batch, time, hidden)
    gates = sigmoid(mlp.receptance(mix(mlp.receptance_mixer, x)))  # (*batch, time, channels)
    return gates * mlp.value(latents)  # (*batch, time, channels)


def read_attention(attention: AttentionBlock, x: EmbeddingSequence) -> EmbeddingSequence:
    """An `AttentionBlock` at every moment of (*batch, time, channels)."""
    keys = attention.key(mix(attention.key_mixer, x))  # (*batch, time, channels)
    values = attention.value(mix(attention.value_mixer, x))  # (*batch, time, channels)
    gates = sigmoid(attention.receptance(mix(attention.receptance_mixer, x)))  # (*batch, time, channels)
    return attention.output(gates * remember(attention.memory, keys, values))  # (*batch, time, channels)


def mix(mixer: Mixer, x: EmbeddingSequence) -> EmbeddingSequence:
    """A `Mixer` at every moment: the previous input is the same sequence, shifted by one."""
    check_same_batch(mixer.last_x, x[..., 0, :])
    first = mixer.last_x.expand_as(x[..., 0, :])[..., None, :]  # (*batch, 1, channels)
    previous = torch.cat([first, x[..., :-1, :]], dim=-2)  # (*batch, time, channels)
    mixer.last_x = x[..., -1, :]
    return torch.lerp(previous, x, mixer.weight)


def remember(memory: WKVMemory, keys: EmbeddingSequence, values: EmbeddingSequence) -> EmbeddingSequence:
    """A `WKVMemory` at every moment: chunk by chunk, each channel's weights as one matrix.

    Weights above the square root of the dtype's largest number are divided by a common factor, which the average does
    not notice: only so far that nothing overflows, for the smallest weights must not vanish either.
    """
    check_same_batch(memory.contents, keys[..., 0, :])
    with torch.autocast(keys.device.type, enabled=False):  # sums over the past want the parameters' own precision
        k, v = (by_channel(x.to(memory.log_decay.dtype)) for x in (keys, values))  # (channels, time, runs)
        start = (state.expand_as(keys[..., 0, :])[..., None, :] for state in (memory.contents, memory.normalizer))
        past = torch.cat([by_channel(state) for state in start], dim=-1)  # (channels, 1, 2 runs)
        scale = torch.zeros_like(k[:, :1])  # (channels, 1, runs), logarithm of the divisor of `past`
        weights, fading = decay_weights(memory, min(CHUNK, k.shape[1]))
        room = math.log(torch.finfo(k.dtype).max) / 2  # no key stands further than this above `scale`
        averages = []
        for k_chunk, v_chunk in zip(k.split(CHUNK, dim=1), v.split(CHUNK, dim=1)):
            t = k_chunk.shape[1]
            top = torch.maximum(k_chunk.detach().amax(1, keepdim=True) - room, scale)  # (channels, 1, runs)
            weight = exp(k_chunk - top)  # (channels, t, runs)
            new = weights[:, : t + 1, :t] @ torch.cat([weight * v_chunk, weight], dim=-1)  # (channels, t + 1, 2 runs)
            sums = new + fading[:, : t + 1] * (past * exp(scale - top).repeat(1, 1, 2))  # (channels, t + 1, 2 runs)
            contents, normalizer = sums[:, :t].chunk(2, dim=-1)  # (channels, t, runs)
            averages.append(contents / normalizer)
            past, scale = sums[:, t:], top
        memory.contents, memory.normalizer = (
            (state * exp(scale))[:, 0].T.reshape(keys[..., 0, :].shape) for state in past.chunk(2, dim=-1)
        )
        return torch.cat(averages, dim=1).permute(2, 1, 0).reshape(keys.shape)


def by_channel(x: Tensor) -> Tensor:
    """(*batch, time, channels) to (channels, time, runs): one matrix a channel, for batched matrix products."""
    return x.reshape(-1, *x.shape[-2:]).permute(2, 1, 0).contiguous()


def decay_weights(memory: WKVMemory, t: int) -> tuple[Tensor, Tensor]:
    """How much token j counts when token i reads, and how much the state before the chunk does, without the keys.

    Returns:
        weights: (channels, t + 1, t), row i for the reader, column j for what is read; row t is what comes after.
        fading: (channels, t + 1, 1), the factor by which the state has faded when token i reads it.
    """
    rate = exp(memory.log_decay)[:, None, None]  # (channels, 1, 1)
    i, j = torch.arange(t + 1, device=rate.device)[:, None], torch.arange(t, device=rate.device)  # (t + 1, 1), (t,)
    past = torch.where(j < i, exp(-rate * (i - 1 - j).clamp(min=0)), 0)  # (channels, t + 1, t)
    weights = torch.where(j == i, exp(memory.log_gain)[:, None, None], past)  # (channels, t + 1, t)
    return weights, exp(-rate * i)
