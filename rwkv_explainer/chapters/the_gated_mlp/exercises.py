"""The exercises of chapter "The gated MLP"."""

import torch
from torch import Generator, Tensor, relu, sigmoid

from rwkv_explainer.exercises.cases import normal, randint
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


def previous(x: Tensor) -> Tensor:
    """Each embedding's predecessor, zeros before the first: (time, channels) to the same."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def mix_all(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x + (1 - weight) * previous(x)


def mix_outputs(x: Tensor, weight: Tensor) -> Tensor:
    """A mixer that remembers what it returned instead of what it read."""
    last, mixed = torch.zeros_like(x[0]), []
    for now in x:
        last = weight * now + (1 - weight) * last
        mixed.append(last)
    return torch.stack(mixed)


MIX = Exercise(
    name="mix-a-sequence",
    cases=lambda random: [(normal(random, time, 4), torch.tensor([-0.4, 0.3, 0.8, 1.6])) for time in (3, 7, 1)],
    reference=mix_all,
    result_name="the mixed sequence",
    success_message="For runs of 1, 3 and 7 embeddings, it blends each with the one before, and the first with zeros, by any weights.",
    mistakes={
        "The weights are swapped: `weight` belongs to the current embedding, 1 − `weight` to the one before.": lambda x, weight: (
            (1 - weight) * x + weight * previous(x)
        ),
        "What is remembered is the last *mixture*; a mixer remembers the last input itself. (Did you write into `x` before you had read it?)": mix_outputs,
        "Before the first embedding stands the last one, as if the run were a ring; there should be zeros.": lambda x, weight: (
            weight * x + (1 - weight) * x.roll(1, dims=0)
        ),
        "Before the first embedding stands the first itself; there should be zeros.": lambda x, weight: (
            weight * x + (1 - weight) * torch.cat([x[:1], x[:-1]])
        ),
        "Each embedding is blended with the one *after* it: that looks into the future.": lambda x, weight: (
            weight * x + (1 - weight) * torch.cat([x[1:], torch.zeros_like(x[:1])])
        ),
        "The previous embedding is added whole; it comes with 1 − `weight`.": lambda x, weight: (
            weight * x + previous(x)
        ),
        "Only the current embedding is in it.": lambda x, weight: weight * x,
        "A weight may be above 1 or below 0: yours is kept between them.": lambda x, weight: mix_all(
            x, weight.clamp(0, 1)
        ),
    },
)


def mlp_cases(random: Generator) -> list[tuple]:
    """Two mixtures and the three matrices, for 2 and for 5 channels."""
    return [tuple(normal(random, *shape) for shape in ((c,), (c,), (4 * c, c), (c, 4 * c), (c, c))) for c in (2, 5)]


def gated_mlp(k: Tensor, r: Tensor, key: Tensor, value: Tensor, receptance: Tensor) -> Tensor:
    return sigmoid(receptance @ r) * (value @ relu(key @ k) ** 2)


GATED = Exercise(
    name="gated-mlp",
    cases=mlp_cases,
    reference=gated_mlp,
    result_name="the update",
    tolerance=1e-5,
    success_message="With 2 and with 5 channels, the update is the one of the package's `GatedMLP`.",
    mistakes={
        "The square is missing: the nonlinearity is a *squared* ReLU.": lambda k, r, key, value, receptance: (
            sigmoid(receptance @ r) * (value @ relu(key @ k))
        ),
        "Squared before the ReLU, negative latents become positive: first cut them off, then square.": lambda k, r, key, value, receptance: (
            sigmoid(receptance @ r) * (value @ relu((key @ k) ** 2))
        ),
        "The gates are open without limit: a sigmoid keeps them between 0 and 1.": lambda k, r, key, value, receptance: (
            (receptance @ r) * (value @ relu(key @ k) ** 2)
        ),
        "`r @ receptance` multiplies with the columns of the matrix; a matrix times a vector is `receptance @ r`.": lambda k, r, key, value, receptance: (
            gated_mlp(k, r, key, value, receptance.T)
        ),
        "The gates are a sigmoid of `r` itself: it goes through the matrix `receptance` first.": lambda k, r, key, value, receptance: (
            sigmoid(r) * (value @ relu(key @ k) ** 2)
        ),
        "The gates are missing.": lambda k, r, key, value, receptance: value @ relu(key @ k) ** 2,
        "The gates share their opening: that is a softmax, and a sigmoid decides for each channel by itself.": lambda k, r, key, value, receptance: (
            torch.softmax(receptance @ r, 0) * (value @ relu(key @ k) ** 2)
        ),
        "The gates read `k`; they have a mixture of their own, `r`.": lambda k, r, key, value, receptance: gated_mlp(
            k, k, key, value, receptance
        ),
        "The two mixtures are swapped: `k` goes into the key, `r` into the receptance.": lambda k, r, key, value, receptance: (
            gated_mlp(r, k, key, value, receptance)
        ),
        "The update is squared too; only the latents are.": lambda k, r, key, value, receptance: (
            sigmoid(receptance @ r) * (value @ relu(key @ k) ** 2) ** 2
        ),
        "The gates stand in front of the MLP; they decide about what comes *out* of it.": lambda k, r, key, value, receptance: (
            value @ relu(key @ (sigmoid(receptance @ r) * k)) ** 2
        ),
        "Where a gate should be open, yours is shut: that is one minus the sigmoid.": lambda k, r, key, value, receptance: (
            sigmoid(-(receptance @ r)) * (value @ relu(key @ k) ** 2)
        ),
    },
)

REACH = Exercise(
    name="mixers-reach",
    is_value=True,
    cases=lambda random: [(randint(random, 3, 12), 99, randint(random, 2, 60))],
    reference=lambda blocks, tokens, place: place + blocks,
    result_name="last",
    success_message="Each block's mixers hand the change on by one token.",
    mistakes={
        "One token too few: the first block hands the change on as well.": lambda blocks, tokens, place: (
            place + blocks - 1
        ),
        "One token too many: without any block it would be the changed token itself.": lambda blocks, tokens, place: (
            place + blocks + 1
        ),
        "One token per block: the second block's mixers remember an input in which the change already is.": lambda blocks, tokens, place: (
            place + 1
        ),
        "All later outputs would change if the memories worked. Mixers alone look back by one token in each block.": lambda blocks, tokens, place: (
            tokens
        ),
        "A change spreads by one token per block; it does not double.": lambda blocks, tokens, place: place + 2**blocks,
        "A block's two mixers stand side by side, not one after the other: together they look back by one token.": lambda blocks, tokens, place: (
            place + 2 * blocks
        ),
        "Not the changed token alone: the mixers remember it, and hand the change on.": lambda blocks, tokens, place: (
            place
        ),
        "That is how far the change is handed on; which is the last token that it reaches?": lambda blocks, tokens, place: (
            blocks
        ),
        "That is how many outputs change; which is the last of them?": lambda blocks, tokens, place: blocks + 1,
    },
)

EXERCISES = [MIX, REACH, GATED]
