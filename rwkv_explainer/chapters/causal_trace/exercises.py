"""The exercises of chapter "Causal trace"."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from rwkv_explainer.exercises.cases import machines, normal, randint, uniform
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]

EXACT = Exercise(
    name="what-must-be-exact",
    is_value=True,
    cases=lambda random: [(-randint(random, 1, 9) / 10, -randint(random, 50, 99) / 10)],
    reference=lambda clean, corrupted: [clean, corrupted, clean],
    result_name="log_probabilities",
    tolerance=0.01,
    success_message="The unembedding alone reads the last layer, at the last token. And what is all clean answers clean.",
    mistakes={
        "The other way round: only the last token's last activation reaches the answer.": lambda clean, corrupted: [
            corrupted,
            clean,
            clean,
        ],
        "At an earlier token, nothing reads the last layer's activation: what later tokens know of it is in memories.": lambda clean, corrupted: [
            clean,
            clean,
            clean,
        ],
        "At the last token, the last layer's activation is all that the answer is made of.": lambda clean, corrupted: [
            corrupted,
            corrupted,
            clean,
        ],
        "With every layer restored at every token, nothing of the noise is left.": lambda clean, corrupted: [
            clean,
            corrupted,
            corrupted,
        ],
        "Nothing is somewhere in between here: each of the three is exactly one or the other.": lambda clean, corrupted: (
            [(clean + corrupted) / 2] * 3
        ),
        "Nothing comes back in any of yours. The last layer, at the last token, is all that the answer is made of; and with all restored, nothing of the noise is left.": lambda clean, corrupted: (
            [corrupted] * 3
        ),
        "All three are turned around.": lambda clean, corrupted: [corrupted, clean, corrupted],
        "Only the first is right. At an earlier token nothing reads the last layer, and with all restored nothing of the noise is left.": lambda clean, corrupted: [
            clean,
            clean,
            corrupted,
        ],
        "These three are log-probabilities, not shares of the effect.": lambda clean, corrupted: [1, 0, 1],
    },
)


def three_runs(random: Generator) -> list[tuple]:
    """A map in which restoring one place hurts, and restoring another helps beyond the clean run."""
    clean, corrupted = float(uniform(random, -1, -0.1)), float(uniform(random, -8, -5))
    restored = uniform(random, -5, -1, 3, 4)
    restored[0, 1], restored[2, 3] = corrupted - 1, clean + 0.09
    return [(clean, corrupted, restored)]


RECOVERED = Exercise(
    name="recovered",
    cases=three_runs,
    reference=lambda clean, corrupted, restored: (restored - corrupted) / (clean - corrupted),
    result_name="the share",
    success_message="0 where nothing came back, 1 where all of it did, below 0 where restoring hurt, for a map of 3 tokens and 4 layers.",
    mistakes={
        "That is the share that is still lost; the share that came back is 1 minus it.": lambda clean, corrupted, restored: (
            (clean - restored) / (clean - corrupted)
        ),
        "That is how much came back; divide by how much was lost.": lambda clean, corrupted, restored: (
            restored - corrupted
        ),
        "Measured from the clean run, everything seems lost: start from the corrupted one.": lambda clean, corrupted, restored: (
            (restored - clean) / (clean - corrupted)
        ),
        "Ratios of logarithms mean nothing: take differences first.": lambda clean, corrupted, restored: (
            restored / clean
        ),
        "Divide by what the noise destroyed, clean minus corrupted, not by the clean value.": lambda clean, corrupted, restored: (
            (restored - corrupted) / clean
        ),
        "Shares are cut off at 0 and 1; restoring can hurt, and can help beyond the clean run.": lambda clean, corrupted, restored: (
            ((restored - corrupted) / (clean - corrupted)).clamp(0, 1)
        ),
        "Shares are cut off at 0; where restoring hurts, a share is negative.": lambda clean, corrupted, restored: (
            (restored - corrupted) / (clean - corrupted)
        ).clamp(min=0),
        "Shares are cut off at 1; restoring can help beyond the clean run.": lambda clean, corrupted, restored: (
            (restored - corrupted) / (clean - corrupted)
        ).clamp(max=1),
        "Absolute values hide where restoring hurts: there the share is negative.": lambda clean, corrupted, restored: (
            (restored - corrupted).abs() / abs(clean - corrupted)
        ),
        "The sign is turned around.": lambda clean, corrupted, restored: (restored - corrupted) / (corrupted - clean),
    },
)


def two_inputs(random: Generator) -> list[tuple]:
    """Four blocks, the clean and the noisy input, the layer and the channels to restore there."""
    return [
        (machines(random, 6, 4), normal(random, 6), normal(random, 6), layer, torch.randperm(6, generator=random)[:3])
        for layer in (1, 2, 0, 3)
    ]


def patched(blocks: list[Callable], clean: Tensor, noisy: Tensor, layer: int, channels: Tensor) -> Tensor:
    for index, block in enumerate(blocks):
        clean, noisy = block(clean), block(noisy)
        if index == layer:
            noisy = noisy.index_copy(0, channels, clean[channels])
    return noisy


def through(x: Tensor, blocks: list[Callable]) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def put(x: Tensor, channels: Tensor, source: Tensor) -> Tensor:
    return x.index_copy(0, channels, source[channels])


def rest(channels: Tensor) -> Tensor:
    return torch.tensor([c for c in range(6) if c not in channels])


def patched_early(blocks, clean, noisy, layer, channels):
    clean, noisy = through(clean, blocks[:layer]), through(noisy, blocks[:layer])
    return through(put(noisy, channels, clean), blocks[layer:])


def patched_always(blocks, clean, noisy, layer, channels):
    for block in blocks:
        clean, noisy = block(clean), block(noisy)
        noisy = put(noisy, channels, clean)
    return noisy


def patched_from(blocks, clean, noisy, layer, channels):
    for index, block in enumerate(blocks):
        clean, noisy = block(clean), block(noisy)
        noisy = put(noisy, channels, clean) if index >= layer else noisy
    return noisy


def patched_in_stream(blocks, clean, noisy, layer, channels):
    def adding(block: Callable) -> Callable:
        return lambda x: x + block(x)

    return patched([adding(block) for block in blocks], clean, noisy, layer, channels)


def patched_by_adding(blocks, clean, noisy, layer, channels):
    clean, noisy = through(clean, blocks[: layer + 1]), through(noisy, blocks[: layer + 1])
    return through(noisy.index_add(0, channels, clean[channels]), blocks[layer + 1 :])


def patched_with_input(blocks, clean, noisy, layer, channels):
    return through(put(through(noisy, blocks[: layer + 1]), channels, clean), blocks[layer + 1 :])


PATCH = Exercise(
    name="patch-channels",
    cases=two_inputs,
    reference=patched,
    result_name="the output",
    success_message="Behind each of four layers, three of six channels are the clean run's, and the run goes on with them.",
    mistakes={
        "The patch comes one layer too early: it stands *behind* the block of that number, not before it.": patched_early,
        "The patch comes one layer too late: layers count from 0.": lambda blocks, clean, noisy, layer, channels: (
            patched(blocks, clean, noisy, layer + 1, channels)
        ),
        "The patch is made behind that layer and all later ones; only one is restored.": patched_from,
        "These blocks return the whole vector, not an update: nothing is to be added to what came in.": patched_in_stream,
        "The clean channels are added; they should take the noisy ones' place.": patched_by_adding,
        "The patch is made behind every layer; only one is restored.": patched_always,
        "The clean run gives all channels but those that were named: are the channels turned around, or the two runs?": lambda blocks, clean, noisy, layer, channels: (
            patched(blocks, clean, noisy, layer, rest(channels))
        ),
        "All channels are restored; only those that were named should be.": lambda blocks, clean, noisy, layer, channels: (
            through(clean, blocks)
        ),
        "Nothing is restored: this is the noisy run.": lambda blocks, clean, noisy, layer, channels: through(
            noisy, blocks
        ),
        "What is put in is the clean *input*; it should be what the clean run has at this place.": patched_with_input,
        "The run stops at the patch; the blocks behind it still have to run.": lambda blocks, clean, noisy, layer, channels: (
            put(through(noisy, blocks[: layer + 1]), channels, through(clean, blocks[: layer + 1]))
        ),
    },
)

EXERCISES = [EXACT, RECOVERED, PATCH]
