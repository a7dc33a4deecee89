"""RWKV-4 in time-parallel mode: a whole text at once, with the same parameters as in RNN mode.

Only two pieces know about time, the `Mixer` and the memory, so only these two are written anew here; the rest of the
model is applied to every moment at once. It starts from the model's state and leaves it as if the tokens had been fed
one by one. It is differentiable: training runs through it. Chapter "Time-parallel mode".
"""

import math
from collections.abc import Sequence
from typing import no_type_check

import torch
from torch import Tensor, exp, nn, sigmoid

from rwkv_explainer.model import (
    RWKVLM,
    AttentionBlock,
    GatedMLP,
    Mixer,
    RWKVBlock,
    StableWKVMemory,
    WKVMemory,
)
from rwkv_explainer.piece import Piece, require_same_batch, require_token
from rwkv_explainer.shapes import Distribution, EmbeddingSequence, LogitSequence, TokenIds

__all__ = ["decay_weights", "read", "read_attention", "read_blocks", "read_logits", "remember", "step_through"]

CHUNK = 32  # tokens of a chunk: see `remember`
SEGMENT = 512  # tokens that go through the blocks together, a whole number of chunks
MAX_LOG_DECAY = 20.0  # above it, nothing is left of a weight after one token; clamping keeps rate x age finite

AnyMemory = WKVMemory | StableWKVMemory


@no_type_check  # `require_token` has the clearer message for a wrong token
def read(model: RWKVLM, token_ids: TokenIds | Sequence[int], last_only: bool = False) -> Distribution:
    """Read a whole text, as if its tokens had been fed one by one. `model.read(token_ids)` calls this.

    Goes on from what the model remembers, and leaves it remembering the text too: read a prompt, then step. A single
    token is one step, `model(token)`.

    Args:
        token_ids: (*batch, time), or a list of ids.
        last_only: give the probabilities after the last token alone, which saves the cost of the others.

    Returns:
        Probabilities for the token after each one: (*batch, time, vocab_size), or (*batch, vocab_size).

    Raises:
        TypeError, ValueError: for something else than ids of the vocabulary, no token at all, or another batch shape
            than that of the run so far.
    """
    token_ids, _ = require_token(torch.as_tensor(token_ids), model.vocab_size)
    if token_ids.is_floating_point() or not token_ids.dim() or not token_ids.shape[-1]:
        raise ValueError(
            "token_ids: expected ids of shape (*batch, time) with at least one token, got a tensor of "
            f"{token_ids.dtype}, shape {tuple(token_ids.shape)}; step with model(token) to read one-hots"
        )
    if token_ids.shape[-1] == 1:
        probabilities = model(token_ids[..., 0])  # (*batch, vocab_size)
        return probabilities if last_only else probabilities[..., None, :]
    x = read_blocks(model, token_ids)  # (*batch, time, channels)
    return model.unembedding(x[..., -1, :] if last_only else x)


def read_logits(model: RWKVLM, token_ids: TokenIds) -> LogitSequence:
    """Logits for the token after each of `token_ids`: ids (*batch, time) to (*batch, time, vocab_size)."""
    return model.unembedding.logits(read_blocks(model, token_ids))  # (*batch, time, vocab_size)


def read_blocks(model: RWKVLM, token_ids: TokenIds) -> EmbeddingSequence:
    """Every token's vector after the last block: ids (*batch, time) to (*batch, time, channels).

    Without gradients, a long text is read in segments, whose activations stay in the processor's cache.
    """
    require_same_batch(model, token_ids.shape[:-1])
    length = token_ids.shape[-1] if torch.is_grad_enabled() else SEGMENT
    segments = [_read_segment(model, ids) for ids in token_ids.split(length, dim=-1)]
    return torch.cat(segments, dim=-2) if len(segments) > 1 else segments[0]  # (*batch, time, channels)


def _read_segment(model: RWKVLM, token_ids: TokenIds) -> EmbeddingSequence:
    """One segment of `read_blocks`."""
    x = model.embedding(token_ids)  # (*batch, time, channels)
    for block in model.blocks if isinstance(model.blocks, nn.Sequential) else [model.blocks]:
        x = _read_piece(block, x)
    return x


def _read_piece(piece: nn.Module, x: EmbeddingSequence) -> EmbeddingSequence:
    """One element of a model's blocks: a block, or whatever a chapter has put in its place.

    A block with hooks on any of its pieces runs token by token, so that the pieces' own `forward` is what runs. So does
    a module with a state that this file does not know.
    """
    if type(piece) is RWKVBlock and not _has_hooks(piece):
        return read_block(piece, x)
    if next(piece.buffers(), None) is None:  # no state: all moments may go through together
        return piece(x)
    return step_through(piece, x)


def _has_hooks(piece: nn.Module) -> bool:
    """Whether any piece of the model in it has hooks; those on `nn.Linear` and `nn.LayerNorm` are called anyway."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in piece.modules() if isinstance(m, Piece))


def step_through(piece: nn.Module, *sequences: EmbeddingSequence) -> EmbeddingSequence:
    """Run any piece token by token: (*batch, time, channels) each, to the outputs at every moment."""
    return torch.stack([piece(*moment) for moment in zip(*(s.unbind(-2) for s in sequences))], dim=-2)


# ---------------------------------------------------------------------------------------------------------------------
# the pieces at every moment: (*batch, time, channels) to the same


def read_block(block: RWKVBlock, x: EmbeddingSequence) -> EmbeddingSequence:
    """An `RWKVBlock` at every moment."""
    x = x + read_attention(block.attention, block.ln1(x))  # (*batch, time, channels)
    return x + read_gated_mlp(block.gated_mlp, block.ln2(x))  # (*batch, time, channels)


def read_attention(attention: AttentionBlock, x: EmbeddingSequence) -> EmbeddingSequence:
    """An `AttentionBlock` at every moment."""
    mixers = attention.key_mixer, attention.value_mixer, attention.receptance_mixer
    for_keys, for_values, for_gates = mix(x, *mixers)  # (*batch, time, channels) each
    keys, values = attention.key(for_keys), attention.value(for_values)  # (*batch, time, channels) each
    gates = sigmoid(attention.receptance(for_gates))  # (*batch, time, channels)
    return attention.output(gates * remember(attention.memory, keys, values))  # (*batch, time, channels)


def read_gated_mlp(mlp: GatedMLP, x: EmbeddingSequence) -> EmbeddingSequence:
    """A `GatedMLP` at every moment."""
    for_latents, for_gates = mix(x, mlp.mlp_mixer, mlp.receptance_mixer)  # (*batch, time, channels) each
    latents = mlp.nonlinearity(mlp.key(for_latents))  # (*batch, time, intermediate_size)
    gates = sigmoid(mlp.receptance(for_gates))  # (*batch, time, channels)
    return gates * mlp.value(latents)  # (*batch, time, channels)


def mix(x: EmbeddingSequence, *mixers: Mixer) -> list[EmbeddingSequence]:
    """What each `Mixer` makes of x at every moment: the previous inputs are the same sequence, shifted by one token."""
    mixed, last_x = [], None
    for mixer in mixers:
        if last_x is None or not _same(mixer.last_x, last_x):  # as a rule, a piece's mixers remember the same
            last_x = mixer.last_x  # (*batch, channels)
            first = last_x.expand_as(x[..., 0, :])[..., None, :]  # (*batch, 1, channels)
            previous = torch.cat([first, x[..., :-1, :]], dim=-2)  # (*batch, time, channels)
        mixed.append(torch.lerp(previous, x, mixer.weight))  # (*batch, time, channels)
        mixer.last_x = x[..., -1, :].clone()  # a view would keep all of x in memory
    return mixed


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are known to be equal, at no cost: without gradients, and on the CPU."""
    return a is b or (not torch.is_grad_enabled() and a.device.type == "cpu" and torch.equal(a, b))


# ---------------------------------------------------------------------------------------------------------------------
# the memory at every moment, chunk by chunk


def remember(memory: AnyMemory, keys: EmbeddingSequence, values: EmbeddingSequence) -> EmbeddingSequence:
    """What a memory reads at every moment: keys and values (*batch, time, channels) to averages of that shape.

    The text is cut into chunks of `CHUNK` tokens, and a shorter one at its end. Within a chunk, each channel's weights
    are a matrix; between chunks, a state is carried on.
    """
    time = keys.shape[-2]
    if time == 1:
        return step_through(memory, keys, values)
    whole = max(time - time % CHUNK, min(time, CHUNK))  # tokens in whole chunks, or in a single shorter one
    with torch.autocast(keys.device.type, enabled=False):  # half precision is too coarse for sums over the past
        parts = zip(keys.split([whole, time - whole], -2), values.split([whole, time - whole], -2))
        averages = [_remember_chunks(memory, k, v, min(CHUNK, k.shape[-2])) for k, v in parts if k.shape[-2]]
    return torch.cat(averages, dim=-2) if len(averages) > 1 else averages[0]  # (*batch, time, channels)


def _remember_chunks(memory: AnyMemory, keys: EmbeddingSequence, values: EmbeddingSequence, t: int) -> Tensor:
    """`remember`, for a text of whole chunks of t tokens: summarize all chunks, carry the state, read all chunks.

    Contents and normalizer of a chunk are divided by the same scale, so that neither overflows; in the average it
    cancels. Where the weights in a chunk are too far apart for one scale, its tokens are stepped through.
    """
    k, v = _by_chunk(keys, t), _by_chunk(values, t)  # (channels, runs, chunks, t)
    log_scale = k.detach().amax(dim=-1) - _log_largest(k) / 4  # (channels, runs, chunks): small weights need room too
    log_weights = k - log_scale[..., None]  # (channels, runs, chunks, t)
    decay = decay_weights(memory, t, k.dtype)  # (channels, t + 1, 1 + t)

    terms, sums = summarize_chunks(log_weights, v, decay)
    start = _load_state(memory, keys[..., 0, :], k.dtype)  # (channels, runs) each
    average, log_normalizer = carry(start, sums, log_scale, decay[:, t, :1])  # (channels, runs, chunks + 1) each
    log_past = log_normalizer[..., :-1] - log_scale  # (channels, runs, chunks)
    if not _in_range(memory, log_weights.detach(), v.detach(), log_past.detach(), average.detach()):
        way = step_through if k.shape[2] == 1 else lambda *chunk: _remember_chunks(*chunk, t)
        return torch.cat([way(memory, *chunk) for chunk in zip(keys.split(t, -2), values.split(t, -2))], dim=-2)
    averages = read_chunks(terms, average[..., :-1], log_past, decay)  # (channels, runs, chunks, t)

    _store_state(memory, average[..., -1], log_normalizer[..., -1], keys[..., 0, :].shape)
    return averages.permute(1, 2, 3, 0).reshape(keys.shape).to(keys.dtype)  # (*batch, time, channels)


def summarize_chunks(log_weights: Tensor, values: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """First step, for all chunks together: what each adds to the memory by its end, if it starts from nothing.

    Args:
        log_weights, values: (channels, runs, chunks, t); the keys, less the chunk's scale.
        decay: what `decay_weights` gives, (channels, t + 1, 1 + t).

    Returns:
        Every token's weight x value and weight, (channels, 2, runs, chunks, t); contents and normalizer at the end of
        each chunk, (channels, 2, runs, chunks).
    """
    weights = exp(log_weights)  # (channels, runs, chunks, t)
    terms = torch.stack([weights * values, weights], dim=1)  # (channels, 2, runs, chunks, t)
    sums = terms.flatten(1, 3) @ decay[:, -1, 1:, None]  # (channels, 2 runs chunks, 1)
    return terms, sums.view(terms.shape[:-1])


def carry(start: tuple[Tensor, Tensor], sums: Tensor, log_scale: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Second step, from chunk to chunk: the state before each chunk, and after the last one.

    Args:
        start: the average and the logarithm of the normalizer before the first chunk, (channels, runs) each.
        sums: each chunk's contents and normalizer, (channels, 2, runs, chunks), divided by its scale.
        log_scale: the logarithm of that scale, (channels, runs, chunks).
        kept: the share of an old weight that is left after a chunk, (channels, 1).

    Returns:
        The averages, and the logarithms of the normalizers: (channels, runs, chunks + 1) each.
    """
    states = [start]
    for (contents, normalizer), scale in zip((s.unbind(1) for s in sums.unbind(-1)), log_scale.unbind(-1)):
        average, log_normalizer = states[-1]  # (channels, runs) each
        past = kept * exp(log_normalizer - scale)  # (channels, runs)
        normalizer = normalizer + past  # (channels, runs)
        states.append(((contents + past * average) / normalizer, normalizer.log() + scale))
    averages, log_normalizers = zip(*states)
    return torch.stack(averages, dim=-1), torch.stack(log_normalizers, dim=-1)


def read_chunks(terms: Tensor, average: Tensor, log_past: Tensor, decay: Tensor) -> Tensor:
    """Third step, for all chunks together: what every token reads. The state before a chunk is one token more in it.

    Args:
        terms: every token's weight x value and weight, (channels, 2, runs, chunks, t).
        average, log_past: the state before each chunk, its weight divided by the scale, (channels, runs, chunks) each.
        decay: what `decay_weights` gives, (channels, t + 1, 1 + t).

    Returns:
        The averages: (channels, runs, chunks, t).
    """
    past = exp(log_past)  # (channels, runs, chunks)
    past = torch.stack([past * average, past], dim=1)[..., None]  # (channels, 2, runs, chunks, 1)
    everything = torch.cat([past, terms], dim=-1).flatten(1, 3)  # (channels, 2 runs chunks, 1 + t)
    contents, normalizer = (everything @ decay[:, :-1].mT).view(terms.shape).unbind(1)  # (channels, runs, chunks, t)
    return contents / normalizer


def decay_weights(memory: AnyMemory, t: int, dtype: torch.dtype) -> Tensor:
    """The factor on each weight in a chunk of t tokens, for each reader, without the keys: (channels, t + 1, 1 + t).

    Row i is for the reader of token i, row t for a reader after the chunk. Column 0 is for all that was remembered
    before, column 1 + j for token j. Along a diagonal the age is the same: rows are windows on one line of factors.
    """
    rate = exp(memory.log_decay.to(dtype).clamp(max=MAX_LOG_DECAY))[:, None]  # (channels, 1)
    kept = exp(-rate * torch.arange(t, -1, -1, device=rate.device))  # (channels, t + 1), oldest first
    now = exp(memory.log_gain.to(dtype))[:, None]  # (channels, 1)
    line = torch.cat([kept, now, torch.zeros_like(kept[:, 2:])], dim=1)  # (channels, 2 t + 1), no future
    return line.unfold(1, t + 1, 1).flip(1)  # (channels, t + 1, 1 + t)


def _in_range(memory: AnyMemory, log_weights: Tensor, values: Tensor, log_past: Tensor, average: Tensor) -> bool:
    """Whether no weight underflows and no sum overflows in `read_chunks`. NaN counts as out of range."""
    gain, largest = memory.log_gain.detach().to(values.dtype)[:, None, None], _log_largest(values)  # (channels, 1, 1)
    lightest = torch.minimum((log_weights.amin(dim=-1) + gain.clamp(max=0)).min(), gain.min())
    size = torch.maximum(values.abs().max(), average.abs().max()).clamp(min=1).log()
    heaviest = size + torch.maximum(log_past.max(), largest / 4 + gain.max())
    return bool((lightest >= 1 - largest) & (heaviest < largest - 5))


def _log_largest(x: Tensor) -> float:
    """The logarithm of the largest number that the dtype of x can hold."""
    return math.log(torch.finfo(x.dtype).max)


def _by_chunk(x: Tensor, t: int) -> Tensor:
    """(*batch, time, channels) to (channels, runs, chunks, t), in at least float32: a matrix for each channel."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # (*batch, time, channels)
    chunks = x.reshape(-1, x.shape[-2] // t, t, x.shape[-1])  # (runs, chunks, t, channels)
    return chunks.permute(3, 0, 1, 2).contiguous()


def _load_state(memory: AnyMemory, like: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The memory's average and its normalizer's logarithm: (channels, runs) each, for runs like (*batch, channels)."""
    if isinstance(memory, StableWKVMemory):
        state = memory.average, memory.log_normalizer  # (*batch, channels) each
    else:
        empty = memory.normalizer == 0
        state = memory.contents / memory.normalizer.masked_fill(empty, 1), memory.normalizer.log()
    return tuple(part.to(dtype).expand_as(like).reshape(-1, like.shape[-1]).T for part in state)


def _store_state(memory: AnyMemory, average: Tensor, log_normalizer: Tensor, shape: torch.Size) -> None:
    """Put an average and a normalizer's logarithm, (channels, runs) each, back into the memory."""
    average, log_normalizer = average.T.reshape(shape), log_normalizer.T.reshape(shape)  # (*batch, channels) each
    dtype = memory.state_dtype(memory.log_decay.dtype)  # in which the next step expects it
    if isinstance(memory, StableWKVMemory):
        memory.average, memory.log_normalizer = average.to(dtype, copy=True), log_normalizer.to(dtype, copy=True)
    else:
        normalizer = exp(log_normalizer)  # (*batch, channels)
        memory.contents, memory.normalizer = (average * normalizer).to(dtype), normalizer.to(dtype)
