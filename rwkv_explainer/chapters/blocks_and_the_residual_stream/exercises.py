"""The exercises of chapter "Blocks and the residual stream"."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from rwkv_explainer.exercises.cases import machines, normal, randint
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


def streams(random: Generator) -> list[tuple]:
    return [(normal(random, 4), machines(random, 4, 5), blocks) for blocks in (3, 4, 2, 5, 0)]


def stream_after(x: Tensor, updates: list[Callable], count: int) -> Tensor:
    for update in updates[:count]:
        x = x + update(x)
    return x


def chained(x: Tensor, updates: list[Callable], blocks: int) -> Tensor:
    for update in updates[:blocks]:
        x = update(x)
    return x


STREAM = Exercise(
    name="stop-early",
    cases=streams,
    reference=stream_after,
    result_name="the stream",
    success_message="After none, some and all of five blocks, the stream is the start plus all updates so far.",
    mistakes={
        "The stream is replaced by the update; add the update to it.": chained,
        "Each block reads the beginning; it should read the stream as the blocks before left it.": lambda x, updates, blocks: (
            x + sum(update(x) for update in updates[:blocks])
        ),
        "One block too many.": lambda x, updates, blocks: stream_after(x, updates, blocks + 1),
        "One block too few.": lambda x, updates, blocks: stream_after(x, updates, max(blocks - 1, 0)),
        "All blocks ran: stop after the number that was asked for.": lambda x, updates, blocks: stream_after(
            x, updates, len(updates)
        ),
        "That is what the blocks added; the stream is this and what it began with.": lambda x, updates, blocks: (
            stream_after(x, updates, blocks) - x
        ),
        "That is the last block's update alone.": lambda x, updates, blocks: (
            stream_after(x, updates, blocks) - stream_after(x, updates, max(blocks - 1, 0))
        ),
    },
)


def block_parts(random: Generator) -> list[tuple]:
    cases = []
    for channels in (4, 6):
        norms = [nn.LayerNorm(channels, dtype=torch.float64).requires_grad_(False) for _ in range(2)]
        for norm in norms:
            norm.weight.copy_(1 + normal(random, channels)), norm.bias.copy_(normal(random, channels))
        attention, mlp = machines(random, channels, 2)
        cases.append((normal(random, channels), norms[0], attention, norms[1], mlp))
    return cases


def block(x: Tensor, ln1: nn.Module, attention: Callable, ln2: nn.Module, gated_mlp: Callable) -> Tensor:
    x = x + attention(ln1(x))
    return x + gated_mlp(ln2(x))


BLOCK = Exercise(
    name="one-block",
    cases=block_parts,
    reference=block,
    result_name="the stream",
    success_message="With 4 and with 6 channels, the stream leaves your block as it leaves an `RWKVBlock`.",
    mistakes={
        "The gated MLP reads the stream from before the attention's update; the two work one after the other.": lambda x, ln1, attention, ln2, mlp: (
            x + attention(ln1(x)) + mlp(ln2(x))
        ),
        "The LayerNorms are missing: each part reads the stream through its own.": lambda x, ln1, attention, ln2, mlp: (
            (x + attention(x)) + mlp(x + attention(x))
        ),
        "The second update is added to the stream of the beginning, so the attention's update is lost: add to what is there by then.": lambda x, ln1, attention, ln2, mlp: (
            x + mlp(ln2(x + attention(ln1(x))))
        ),
        "The LayerNorms normalize what the parts *return*; here they stand in front of the parts.": lambda x, ln1, attention, ln2, mlp: (
            block(x, nn.Identity(), lambda y: ln1(attention(y)), nn.Identity(), lambda y: ln2(mlp(y)))
        ),
        "`ln1` stands in front of both parts; the second has a LayerNorm of its own, `ln2`.": lambda x, ln1, attention, ln2, mlp: (
            block(x, ln1, attention, ln1, mlp)
        ),
        "The second update is not added: it replaces the stream.": lambda x, ln1, attention, ln2, mlp: mlp(
            ln2(x + attention(ln1(x)))
        ),
        "The first update is not added: it replaces the stream.": lambda x, ln1, attention, ln2, mlp: (
            attention(ln1(x)) + mlp(ln2(attention(ln1(x))))
        ),
        "The stream itself is normalized; only what a part *reads* goes through a LayerNorm.": lambda x, ln1, attention, ln2, mlp: (
            ln2(ln1(x) + attention(ln1(x))) + mlp(ln2(ln1(x) + attention(ln1(x))))
        ),
        "The LayerNorms stand behind the additions; here they stand before the parts.": lambda x, ln1, attention, ln2, mlp: (
            ln2(ln1(x + attention(x)) + mlp(ln1(x + attention(x))))
        ),
        "The two LayerNorms are swapped.": lambda x, ln1, attention, ln2, mlp: block(x, ln2, attention, ln1, mlp),
        "The gated MLP comes first; the attention should.": lambda x, ln1, attention, ln2, mlp: block(
            x, ln2, mlp, ln1, attention
        ),
    },
)


def written(random: Generator) -> list[tuple]:
    """Updates, a scale and a row; the second stream is so small that the LayerNorm's epsilon shows."""
    return [
        (size * normal(random, parts, 8), 1 + normal(random, 8), normal(random, 8))
        for size, parts in ((1.0, 4), (0.002, randint(random, 5, 9)))
    ]


def centered(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def spread(x: Tensor, epsilon: float = 1e-5, unbiased: bool = False) -> Tensor:
    return (x.var(dim=-1, keepdim=True, unbiased=unbiased) + epsilon).sqrt()


def logit_shares(updates: Tensor, scale: Tensor, row: Tensor) -> Tensor:
    return centered(updates) / spread(updates.sum(dim=0)) * scale @ row


def steps_of_early_logits(updates: Tensor, scale: Tensor, row: Tensor) -> Tensor:
    """What each update adds to the logit that the stream would have at this height: (parts,)."""
    early = updates.cumsum(dim=0)  # (parts, channels)
    return (centered(early) / spread(early) * scale @ row).diff(prepend=torch.zeros(1))


def root_mean_square(x: Tensor) -> Tensor:
    """A spread around 0 instead of the mean."""
    return (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def lost_without(updates: Tensor, scale: Tensor, row: Tensor) -> Tensor:
    """The whole logit, less the one of the stream without each update: (parts,)."""
    stream = updates.sum(dim=0)
    others = stream - updates  # (parts, channels)
    return (centered(stream) / spread(stream) - centered(others) / spread(others)) * scale @ row


WHO_WROTE = Exercise(
    name="who-wrote-it",
    cases=written,
    reference=logit_shares,
    result_name="the shares",
    success_message="The shares of all updates sum to the token's logit, for two random streams, one of them very small.",
    mistakes={
        "Each update is divided by its own spread; they share the one of the whole stream, or they would not add up.": lambda updates, scale, row: (
            centered(updates) / spread(updates) * scale @ row
        ),
        "The epsilon is missing in the spread: for a small stream it shows.": lambda updates, scale, row: (
            centered(updates) / spread(updates.sum(dim=0), epsilon=0.0) * scale @ row
        ),
        "Your variance divides by one less than the number of channels, as torch's `var` does unless told `unbiased=False`; LayerNorm divides by their number.": lambda updates, scale, row: (
            centered(updates) / spread(updates.sum(dim=0), unbiased=True) * scale @ row
        ),
        "You subtract the mean over the *updates*; LayerNorm subtracts the mean over the channels.": lambda updates, scale, row: (
            (updates - updates.mean(dim=0)) / spread(updates.sum(dim=0)) * scale @ row
        ),
        "Nothing is centered: before it squares anything, the LayerNorm subtracts the mean over the channels.": lambda updates, scale, row: (
            updates / root_mean_square(updates.sum(dim=0)) * scale @ row
        ),
        "The updates are centered, but the squares are those of the stream before the mean was subtracted.": lambda updates, scale, row: (
            centered(updates) / root_mean_square(updates.sum(dim=0)) * scale @ row
        ),
        "You subtract one mean for all updates; each has a mean of its own over the channels.": lambda updates, scale, row: (
            (updates - updates.mean()) / spread(updates.sum(dim=0)) * scale @ row
        ),
        "These are the steps of the early logits, each with the spread of the stream as it was then. They sum to the logit as well, but here all shares have one spread, that of the whole stream.": steps_of_early_logits,
        "Your epsilon is outside of the square root; add it to the variance, inside.": lambda updates, scale, row: (
            centered(updates) / (spread(updates.sum(dim=0), epsilon=0.0) + 1e-5) * scale @ row
        ),
        "torch's `std` divides by one less than the number of channels, and the epsilon belongs inside of the root, with the variance.": lambda updates, scale, row: (
            centered(updates) / (updates.sum(dim=0).std() + 1e-5) * scale @ row
        ),
        "torch's `std` divides by one less than the number of channels, and there is no epsilon.": lambda updates, scale, row: (
            centered(updates) / updates.sum(dim=0).std() * scale @ row
        ),
        "These sum to 1; the shares should sum to the logit.": lambda updates, scale, row: (
            logit_shares(updates, scale, row) / logit_shares(updates, scale, row).sum()
        ),
        "That is what the logit would lose without the update: each time the spread is another one. Keep the whole stream's.": lost_without,
        "The LayerNorm subtracts a mean, and so each update loses its own.": lambda updates, scale, row: (
            updates / spread(updates.sum(dim=0)) * scale @ row
        ),
        "The LayerNorm's learned scale is missing.": lambda updates, scale, row: (
            centered(updates) / spread(updates.sum(dim=0)) @ row
        ),
        "The LayerNorm is missing: it stands between the stream and the unembedding.": lambda updates, scale, row: (
            updates @ row
        ),
        "The scale is there, but the LayerNorm's mean and spread are missing.": lambda updates, scale, row: (
            updates * scale @ row
        ),
        "These grow from update to update, as the stream does; each update's own share is wanted.": lambda updates, scale, row: (
            logit_shares(updates, scale, row).cumsum(0)
        ),
        "That is the logit of the whole stream; it should be split into one share for each update.": lambda updates, scale, row: (
            logit_shares(updates, scale, row).sum()
        ),
        "The spread is missing: divide by the standard deviation of the whole stream.": lambda updates, scale, row: (
            centered(updates) * scale @ row
        ),
    },
)

EXERCISES = [STREAM, BLOCK, WHO_WROTE]
