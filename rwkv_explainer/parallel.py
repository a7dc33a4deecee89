"""RWKV-4 in time-parallel mode: a whole run of tokens at once, over the very same parameters.

Only two pieces know about time, the `Mixer` and the `WKVMemory`, so only these two are written anew here; the rest of
the model is applied to every moment at once. It starts from what the model's buffers hold and leaves them as if the
tokens had been fed one by one. It is differentiable: training runs through it.
"""

import math
from typing import no_type_check

import torch
from torch import Tensor, exp, sigmoid

from rwkv_explainer.model import (
    RWKVLM, AttentionBlock, GatedMLP, Mixer, RWKVBlock, StableWKVMemory, WKVMemory, at_least_float32, check_same_batch,
    check_token,
)
from rwkv_explainer.shapes import EmbeddingSequence, LogitSequence, TokenIds

CHUNK = 32  # tokens that the memory handles in one matrix product


@no_type_check  # as at the model's own door, a wrong token is refused in words
def read(self: RWKVLM, token_ids: TokenIds, last_only: bool = False) -> LogitSequence:
    """Read a whole text at once, as if its tokens had been fed one by one. A method of `RWKVLM`.

    Goes on from what the model remembers, and leaves it remembering the text too: read a prompt, then step.

    Args:
        token_ids: (*batch, time), or a list of ids.
        last_only: give the probabilities after the last token alone, which saves the others' cost.

    Returns:
        Probabilities for the token after each one: (*batch, time, vocabulary), or (*batch, vocabulary).

    Raises:
        TypeError, ValueError: for something else than ids of the vocabulary, or no token at all.
    """
    token_ids = torch.as_tensor(token_ids)
    check_token(token_ids, self.vocabulary)
    if token_ids.is_floating_point() or not token_ids.dim() or not token_ids.shape[-1]:
        raise ValueError(f"token_ids: expected ids of shape (*batch, time) with at least one token, got {token_ids.dtype} "
                         f"of shape {tuple(token_ids.shape)}; step with model(token) to read one-hots")
    x = read_blocks(self, token_ids)  # (*batch, time, channels)
    return self.unembedding(x[..., -1, :] if last_only else x)


def read_logits(model: RWKVLM, token_ids: TokenIds) -> LogitSequence:
    """Logits for the token after each of `token_ids`: ids (*batch, time) to (*batch, time, vocabulary)."""
    return model.unembedding.logits(read_blocks(model, token_ids))  # (*batch, time, vocabulary)


def read_blocks(model: RWKVLM, token_ids: TokenIds) -> EmbeddingSequence:
    """Every token's vector after the last block: ids (*batch, time) to (*batch, time, channels)."""
    x = model.embedding(token_ids)  # (*batch, time, channels)
    for block in model.blocks:
        x = read_block(block, x)
    return x


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

    Where the weights of a chunk are too far apart for this, the chunk is read token by token.
    """
    wide = at_least_float32(keys)
    with torch.autocast(keys.device.type, enabled=False):  # sums over the past want more than half precision
        weights, fading = decay_weights(memory, min(CHUNK, keys.shape[-2]), wide)
        averages = []
        for k, v in zip(keys.to(wide).split(CHUNK, dim=-2), values.to(wide).split(CHUNK, dim=-2)):
            average = remember_chunk(memory, k, v, weights, fading)  # (*batch, t, channels)
            averages.append(step_through(memory, k, v) if average is None else average)
        return torch.cat(averages, dim=-2).to(keys.dtype)  # (*batch, time, channels)


def remember_chunk(
    memory: WKVMemory, keys: EmbeddingSequence, values: EmbeddingSequence, weights: Tensor, fading: Tensor
) -> EmbeddingSequence | None:
    """One chunk through one matrix product, or None, and nothing remembered, if some weights would vanish.

    Weights above the square root of the dtype's largest number are divided by a common factor, which the average does
    not notice: only so far that nothing overflows, for the smallest weights must not vanish either.
    """
    k, v = by_channel(keys), by_channel(values)  # (channels, t, runs)
    past, scale = open_state(memory, keys[..., 0, :])  # (channels, 1, 2 runs), (channels, 1, runs)
    room = math.log(torch.finfo(k.dtype).max) / 2  # no key stands further than this above the factor's logarithm
    top = torch.maximum(k.detach().amax(1, keepdim=True) - room, scale.detach())  # (channels, 1, runs)
    lightest = (k.detach() - top).amin(dim=(1, 2)) + memory.log_gain.detach().clamp(max=0)  # (channels,)
    if lightest.min() < math.log(torch.finfo(k.dtype).tiny) + 1:
        return None
    t = k.shape[1]
    weight = exp(k - top)  # (channels, t, runs)
    new = weights[:, : t + 1, :t] @ torch.cat([weight * v, weight], dim=-1)  # (channels, t + 1, 2 runs)
    sums = new + fading[:, : t + 1] * (past * exp(scale - top).repeat(1, 1, 2))  # (channels, t + 1, 2 runs)
    contents, normalizer = sums[:, :t].chunk(2, dim=-1)  # (channels, t, runs)
    close_state(memory, sums[:, t:], top, keys[..., 0, :].shape)
    return (contents / normalizer).permute(2, 1, 0).reshape(keys.shape)


def step_through(memory: WKVMemory, keys: EmbeddingSequence, values: EmbeddingSequence) -> EmbeddingSequence:
    """The same, token by token: slow, and right for any keys that the memory itself can take."""
    return torch.stack([memory(k, v) for k, v in zip(keys.unbind(-2), values.unbind(-2))], dim=-2)


def open_state(memory: WKVMemory, like: Tensor) -> tuple[Tensor, Tensor]:
    """The memory's two sums, divided by a factor: (channels, 1, 2 runs), and the factor's logarithm: (channels, 1, runs)."""
    if isinstance(memory, StableWKVMemory):
        check_same_batch(memory.log_normalizer, like, empty=-math.inf)
        state = memory.average, torch.ones_like(memory.average), memory.log_normalizer
    else:
        check_same_batch(memory.contents, like)
        state = memory.contents, memory.normalizer, torch.zeros_like(memory.contents)
    contents, normalizer, scale = (by_channel(s.to(like.dtype).expand_as(like)[..., None, :]) for s in state)
    return torch.cat([contents, normalizer], dim=-1), scale


def close_state(memory: WKVMemory, sums: Tensor, scale: Tensor, shape: torch.Size) -> None:
    """Put the two sums, divided by a factor with this logarithm, back into the memory."""
    contents, normalizer = (s[:, 0].T.reshape(shape) for s in sums.chunk(2, dim=-1))  # (*batch, channels)
    scale = scale[:, 0].T.reshape(shape)  # (*batch, channels)
    if isinstance(memory, StableWKVMemory):
        memory.average, memory.log_normalizer = contents / normalizer, normalizer.log() + scale
    else:
        memory.contents, memory.normalizer = contents * exp(scale), normalizer * exp(scale)


def by_channel(x: Tensor) -> Tensor:
    """(*batch, time, channels) to (channels, time, runs): one matrix a channel, for batched matrix products."""
    return x.reshape(-1, *x.shape[-2:]).permute(2, 1, 0).contiguous()


def decay_weights(memory: WKVMemory, t: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """How much token j counts when token i reads, and how much the state before the chunk does, without the keys.

    Returns:
        weights: (channels, t + 1, t), row i for the reader, column j for what is read; row t is what comes after.
        fading: (channels, t + 1, 1), the factor by which the state has faded when token i reads it.
    """
    rate = exp(memory.log_decay.to(dtype))[:, None, None]  # (channels, 1, 1)
    i, j = torch.arange(t + 1, device=rate.device)[:, None], torch.arange(t, device=rate.device)  # (t + 1, 1), (t,)
    past = torch.where(j < i, exp(-rate * (i - 1 - j).clamp(min=0)), 0)  # (channels, t + 1, t)
    weights = torch.where(j == i, exp(memory.log_gain.to(dtype))[:, None, None], past)  # (channels, t + 1, t)
    return weights, exp(-rate * i)
