"""RWKV-4 in time-parallel mode: a whole run of tokens at once, over the very same parameters.

Only two pieces know about time, the `Mixer` and the `WKVMemory`, so only these two are written anew here; the rest of
the model is applied to every moment at once. It starts from what the model's buffers hold and leaves them as if the
tokens had been fed one by one. It is differentiable: training runs through it.
"""

import math
from functools import partial
from typing import no_type_check

import torch
from torch import Tensor, exp, nn, sigmoid

from rwkv_explainer.model import (
    RWKVLM,
    AttentionBlock,
    GatedMLP,
    Mixer,
    Piece,
    RWKVBlock,
    SquaredReLU,
    StableWKVMemory,
    Unembedding,
    WKVMemory,
    at_least_float32,
    check_same_batch,
    check_token,
)
from rwkv_explainer.products import linear
from rwkv_explainer.shapes import EmbeddingSequence, LogitSequence, TokenIds

CHUNK = 32  # tokens that the memory handles in one matrix product
SEGMENT = 512  # tokens that go through the blocks together, a whole number of chunks
RUSH = 20.0  # a log_decay from which on nothing is left of any weight; its rate, times any age, is still a number


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
        raise ValueError(
            "token_ids: expected ids of shape (*batch, time) with at least one token, got a tensor of "
            f"{token_ids.dtype}, shape {tuple(token_ids.shape)}; step with model(token) to read one-hots"
        )
    x = read_blocks(self, token_ids)  # (*batch, time, channels)
    x = x[..., -1, :] if last_only else x  # (*batch, channels) or (*batch, time, channels)
    return unembed(self.unembedding, x)


def read_logits(model: RWKVLM, token_ids: TokenIds) -> LogitSequence:
    """Logits for the token after each of `token_ids`: ids (*batch, time) to (*batch, time, vocabulary)."""
    return model.unembedding.logits(read_blocks(model, token_ids))  # (*batch, time, vocabulary)


def read_blocks(model: RWKVLM, token_ids: TokenIds) -> EmbeddingSequence:
    """Every token's vector after the last block: ids (*batch, time) to (*batch, time, channels).

    Where no gradients are asked for, a long text is read in segments, whose numbers stay in the processor's cache.
    """
    together = token_ids.shape[-1] if torch.is_grad_enabled() else SEGMENT
    segments = [read_segment(model, ids) for ids in token_ids.split(together, dim=-1)]
    return torch.cat(segments, dim=-2) if len(segments) > 1 else segments[0]  # (*batch, time, channels)


def read_segment(model: RWKVLM, token_ids: TokenIds) -> EmbeddingSequence:
    """What `read_blocks` says of these tokens, all of them at once."""
    x = model.embedding(token_ids)  # (*batch, time, channels)
    for block in model.blocks if isinstance(model.blocks, nn.Sequential) else [model.blocks]:
        x = read_piece(block, x)
    return x


def unembed(piece: nn.Module, x: Tensor) -> Tensor:
    """Probabilities at every moment: by an `Unembedding`, or by whatever a chapter has put in its place."""
    if type(piece) is not Unembedding or watched(piece):
        return piece(x)
    return torch.softmax(linear(piece.unembedding, piece.normalize_unemb(x)), dim=-1)


def watched(piece: nn.Module) -> bool:
    """Whether hooks hang on a piece of the model; those on layers inside it, such as `nn.Linear`, are called anyway."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in piece.modules() if isinstance(m, Piece))


def read_piece(piece: nn.Module, x: EmbeddingSequence) -> EmbeddingSequence:
    """What stands among a model's blocks, at every moment: a block, or whatever a chapter has put in its place.

    A piece with a memory of a kind that this module does not know, or with hooks on it, is stepped through.
    """
    if type(piece) is RWKVBlock and not watched(piece):
        return read_block(piece, x)
    if next(piece.buffers(), None) is None:  # it sees nothing but the moment
        return piece(x)
    return step_through(piece, x)


def read_block(block: RWKVBlock, x: EmbeddingSequence) -> EmbeddingSequence:
    """An `RWKVBlock` at every moment of (*batch, time, channels)."""
    x = x + read_attention(block.attention, block.ln1(x))  # (*batch, time, channels)
    return x + read_gated_mlp(block.gated_mlp, block.ln2(x))  # (*batch, time, channels)


def read_gated_mlp(mlp: GatedMLP, x: EmbeddingSequence) -> EmbeddingSequence:
    """A `GatedMLP` at every moment of (*batch, time, channels)."""
    mixed, mixed_for_gates = mix(x, mlp.mlp_mixer, mlp.receptance_mixer)  # (*batch, time, channels) each
    latents = squared_relu(mlp.nonlinearity, linear(mlp.key, mixed))  # (*batch, time, hidden)
    gates = sigmoid(linear(mlp.receptance, mixed_for_gates))  # (*batch, time, channels)
    return gates * linear(mlp.value, latents)  # (*batch, time, channels)


def squared_relu(piece: nn.Module, x: Tensor) -> Tensor:
    """The nonlinearity, which is four times as wide as all else: in place, where nobody asks for x any more."""
    if type(piece) is not SquaredReLU or piece._forward_hooks or piece._forward_pre_hooks or torch.is_grad_enabled():
        return piece(x)
    return x.relu_().square_()


def read_attention(attention: AttentionBlock, x: EmbeddingSequence) -> EmbeddingSequence:
    """An `AttentionBlock` at every moment of (*batch, time, channels)."""
    mixers = attention.key_mixer, attention.value_mixer, attention.receptance_mixer
    for_keys, for_values, for_gates = mix(x, *mixers)  # (*batch, time, channels) each
    keys, values = linear(attention.key, for_keys), linear(attention.value, for_values)  # (*batch, time, channels) each
    gates = sigmoid(linear(attention.receptance, for_gates))  # (*batch, time, channels)
    return linear(attention.output, gates * remember(attention.memory, keys, values))  # (*batch, time, channels)


def mix(x: EmbeddingSequence, *mixers: Mixer) -> list[EmbeddingSequence]:
    """What each `Mixer` makes of x at every moment: the previous input is the same sequence, shifted by one."""
    mixed, shared = [], None
    for mixer in mixers:
        check_same_batch(mixer.last_x, x[..., 0, :])
        if shared is None or mixer.last_x is not shared:  # as a rule, they all remember the same
            shared = mixer.last_x
            first = shared.expand_as(x[..., 0, :])[..., None, :]  # (*batch, 1, channels)
            previous = torch.cat([first, x[..., :-1, :]], dim=-2)  # (*batch, time, channels)
        mixed.append(torch.lerp(previous, x, mixer.weight))
    for mixer, last in zip(mixers, [x[..., -1, :].clone()] * len(mixers)):  # of a view, all of x would be kept
        mixer.last_x = last
    return mixed


def remember(memory: WKVMemory, keys: EmbeddingSequence, values: EmbeddingSequence) -> EmbeddingSequence:
    """A `WKVMemory` at every moment: cut into chunks, each channel's weights in a chunk as one matrix.

    Where the weights in a chunk are too far apart for this, the chunk is read token by token.
    """
    time = keys.shape[-2]
    if time == 1:
        return step_through(memory, keys, values)
    whole = max(time - time % CHUNK, min(time, CHUNK))  # what makes whole chunks, or one that is shorter
    with torch.autocast(keys.device.type, enabled=False):  # sums over the past want more than half precision
        parts = zip(keys.split([whole, time - whole], -2), values.split([whole, time - whole], -2))
        averages = [remember_chunks(memory, k, v, min(CHUNK, k.shape[-2])) for k, v in parts if k.shape[-2]]
    return torch.cat(averages, dim=-2) if len(averages) > 1 else averages[0]  # (*batch, time, channels)


def remember_chunks(memory: WKVMemory, keys: EmbeddingSequence, values: EmbeddingSequence, t: int) -> EmbeddingSequence:
    """Chunks of t tokens each, all of them at once. In each, what is remembered from before counts as one token more.

    Weights are divided by a factor of their chunk, which the average does not notice, so that none overflows.
    """
    k, v = by_channel(keys, t), by_channel(values, t)  # (channels, runs, chunks, t)
    largest = math.log(torch.finfo(k.dtype).max)
    lowest, highest = k.detach().aminmax(dim=-1)  # (channels, runs, chunks)
    factor = highest - largest / 4  # (channels, runs, chunks), its logarithm: small weights must not vanish either
    weight = exp(k - factor[..., None])  # (channels, runs, chunks, t)
    new = torch.stack([weight * v, weight], dim=1)  # (channels, 2, runs, chunks, t)
    weights = decay_weights(memory, t, k.dtype)  # (channels, t + 1, 1 + t)
    sums = (new.flatten(1, 3) @ weights[:, t, 1:, None]).view(new.shape[:-1])  # (channels, 2, runs, chunks)
    fading = weights[:, t, :1]  # (channels, 1)
    average, log_normalizer = carry(memory, sums, factor, fading, keys[..., 0, :])  # (channels, runs, chunks + 1) each
    log_past = log_normalizer[..., :-1] - factor  # (channels, runs, chunks)
    gain = memory.log_gain.detach().to(k.dtype)  # (channels,)
    lightest = min((lowest - factor + gain.clamp(max=0)[:, None, None]).min(), gain.min())
    size = torch.maximum(v.detach().abs().max(), average.detach().abs().max()).clamp(min=1).log()
    heaviest = size + max(log_past.max(), largest / 4 + gain.max())
    if lightest < 1 - largest or not heaviest < largest - 5:  # too far apart or too large, or NaN already
        read = partial(remember_chunks, t=t) if len(factor[0, 0]) > 1 else step_through
        return torch.cat([read(memory, k, v) for k, v in zip(keys.split(t, -2), values.split(t, -2))], dim=-2)
    past = exp(log_past)  # (channels, runs, chunks)
    past = torch.stack([past * average[..., :-1], past], dim=1)[..., None]  # (channels, 2, runs, chunks, 1)
    everything = torch.cat([past, new], dim=-1).flatten(1, 3)  # (channels, 2 runs chunks, 1 + t)
    reads = everything @ weights[:, :t].mT  # (channels, 2 runs chunks, t)
    contents, normalizer = reads.view(new.shape).unbind(1)  # (channels, runs, chunks, t)
    leave(memory, average[..., -1], log_normalizer[..., -1], keys[..., 0, :].shape)
    return (contents / normalizer).permute(1, 2, 3, 0).reshape(keys.shape).to(keys.dtype)


def carry(memory: WKVMemory, sums: Tensor, factor: Tensor, fading: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """What is remembered before each chunk, and after the last one.

    Args:
        sums: each chunk's own contents and normalizer at its end, (channels, 2, runs, chunks).
        factor: the logarithm of what they are divided by, (channels, runs, chunks).
        fading: by how much a memory fades in a chunk, (channels, 1).
        like: one moment, (*batch, channels).

    Returns:
        The averages, and the logarithms of the normalizers: (channels, runs, chunks + 1) each.
    """
    average, log_normalizer = enter(memory, like, factor.dtype)  # (channels, runs) each
    averages, logs = [average], [log_normalizer]
    for (contents, normalizer), log in zip((s.unbind(1) for s in sums.unbind(-1)), factor.unbind(-1)):
        past = fading * exp(log_normalizer - log)  # (channels, runs)
        contents, normalizer = contents + past * average, normalizer + past  # (channels, runs) each
        average, log_normalizer = contents / normalizer, normalizer.log() + log  # (channels, runs) each
        averages.append(average)
        logs.append(log_normalizer)
    return torch.stack(averages, dim=-1), torch.stack(logs, dim=-1)


def step_through(piece: nn.Module, *sequences: EmbeddingSequence) -> EmbeddingSequence:
    """Any piece at every moment, one after the other: slow, and right for all that the piece itself can take."""
    return torch.stack([piece(*moment) for moment in zip(*(s.unbind(-2) for s in sequences))], dim=-2)


def enter(memory: WKVMemory, like: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The memory's average, and its normalizer's logarithm: (channels, runs) each."""
    if isinstance(memory, StableWKVMemory):
        check_same_batch(memory.log_normalizer, like, empty=-math.inf)
        state = memory.average, memory.log_normalizer
    else:
        check_same_batch(memory.contents, like)
        empty = memory.normalizer == 0
        state = memory.contents / memory.normalizer.masked_fill(empty, 1), memory.normalizer.log()
    return tuple(part.to(dtype).expand_as(like).reshape(-1, like.shape[-1]).T for part in state)


def leave(memory: WKVMemory, average: Tensor, log_normalizer: Tensor, shape: torch.Size) -> None:
    """Put an average and a normalizer's logarithm, (channels, runs) each, back into the memory."""
    average, log_normalizer = average.T.reshape(shape), log_normalizer.T.reshape(shape)  # (*batch, channels) each
    if isinstance(memory, StableWKVMemory):
        memory.average, memory.log_normalizer = average, log_normalizer
    else:
        normalizer = exp(log_normalizer)  # (*batch, channels)
        memory.contents, memory.normalizer = average * normalizer, normalizer


def by_channel(x: Tensor, t: int) -> Tensor:
    """(*batch, time, channels) to (channels, runs, chunks, t), in no less than float32: a matrix for each channel."""
    chunks = x.to(at_least_float32(x)).reshape(-1, x.shape[-2] // t, t, x.shape[-1])  # (runs, chunks, t, channels)
    return chunks.permute(3, 0, 1, 2).contiguous()


def decay_weights(memory: WKVMemory, t: int, dtype: torch.dtype) -> Tensor:
    """How much a reader of a chunk weighs what it reads, the keys left out: (channels, t + 1, 1 + t).

    Row i is for the reader of token i, row t for one who comes after the chunk. Column 0 is for all that was remembered
    before, column 1 + j for token j. Down each diagonal the age is the same: rows are windows on one line of weights.
    """
    rate = exp(memory.log_decay.to(dtype).clamp(max=RUSH))[:, None]  # (channels, 1)
    fading = exp(-rate * torch.arange(t, -1, -1, device=rate.device))  # (channels, t + 1), oldest first
    now = exp(memory.log_gain.to(dtype))[:, None]  # (channels, 1)
    line = torch.cat([fading, now, torch.zeros_like(fading[:, 2:])], dim=1)  # (channels, 2 t + 1), no future
    return line.unfold(1, t + 1, 1).flip(1)  # (channels, t + 1, 1 + t)
