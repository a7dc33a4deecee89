"""The exercises of chapter "The playground"."""

import torch
from torch import Generator, Tensor

from rwkv_explainer.exercises.cases import normal, randint, uniform
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]

SHRUNK = Exercise(
    name="how-much-smaller",
    is_value=True,
    cases=lambda random: [(randint(random, 12, 40), randint(random, 5, 40))],
    reference=lambda rows, columns: 4 * columns / (columns + 4),
    result_name="times",
    tolerance=0.0025,
    success_message="Four bytes a weight become one byte a weight and four bytes a row. The wider the row, the nearer to 4.",
    mistakes={
        "The scales travel too: four bytes for each row.": lambda rows, columns: 4,
        "That is with a scale for each column; here each row has one.": lambda rows, columns: 4 * rows / (rows + 4),
        "That is with one scale for the whole matrix; here each row has one.": lambda rows, columns: (
            4 * rows * columns / (rows * columns + 4)
        ),
        "A scale is a float32 number: four bytes, not one.": lambda rows, columns: 4 * columns / (columns + 1),
        "A scale takes 32 *bits*: four bytes.": lambda rows, columns: 4 * columns / (columns + 32),
        "Upside down: how many times larger was it before?": lambda rows, columns: (columns + 4) / (4 * columns),
        "That is the share that is saved; divide the bytes before by the bytes after.": lambda rows, columns: (
            1 - (columns + 4) / (4 * columns)
        ),
        "That is how many bytes it takes now; divide the bytes before by them.": lambda rows, columns: (
            rows * columns + 4 * rows
        ),
    },
)


def matrices(random: Generator) -> list[tuple]:
    """Rows of different sizes, each with its largest weight below zero; one row in the second matrix is all zeros."""
    cases = []
    for shape, largest in (((4, 6), 7), ((5, 3), 1), ((3, 5), 127)):
        W = uniform(random, -1, 0.7, *shape) * uniform(random, 0.1, 4, shape[0])[:, None]
        W[:, 0] = -1.5 * W.abs().amax(dim=1)
        cases.append((W, largest))
    cases[1][0][2] = 0
    return cases


def steps(W: Tensor, s: Tensor) -> Tensor:
    """Each weight in steps of its scale; where the scale is 0, nothing to speak of."""
    return W / s.clamp(min=1e-30)


def row_scale(W: Tensor, largest: float | int) -> Tensor:
    return W.abs().amax(dim=1, keepdim=True) / largest


def round_by(W: Tensor, s: Tensor) -> Tensor:
    return steps(W, s).round() * s


FEWER_BITS = Exercise(
    name="fewer-bits",
    cases=matrices,
    reference=lambda W, largest: round_by(W, row_scale(W, largest)),
    result_name="the rounded matrix",
    success_message="Rounded to whole numbers up to 7, 1 and 127, each row by its own scale, and a row of zeros stays zero.",
    mistakes={
        "The whole matrix has one scale, so the row with the largest weight decides for all. Each row has its own.": lambda W, largest: (
            round_by(W, W.abs().max() / largest)
        ),
        "Each column has a scale here; it should be each row: the maximum runs over `dim=1`.": lambda W, largest: (
            round_by(W, W.abs().amax(dim=0) / largest)
        ),
        "It still rounds to whole numbers up to 127: divide by `largest` there.": lambda W, largest: round_by(
            W, row_scale(W, 127)
        ),
        "These are the whole numbers; multiplied by their row's scale they are weights again.": lambda W, largest: (
            steps(W, row_scale(W, largest)).round()
        ),
        "Numbers are cut off where they should be rounded: `.round()` before anything makes whole numbers of them.": lambda W, largest: (
            steps(W, row_scale(W, largest)).trunc() * row_scale(W, largest)
        ),
        "Numbers are rounded down; take the nearest whole number.": lambda W, largest: (
            steps(W, row_scale(W, largest)).floor() * row_scale(W, largest)
        ),
        "A row of zeros has the scale 0, and 0 / 0 is no number: keep what you divide by above 0.": lambda W, largest: (
            (W / row_scale(W, largest)).round() * row_scale(W, largest)
        ),
        "The largest weight of a row may be below zero: take absolute values first.": lambda W, largest: round_by(
            W, W.amax(dim=1, keepdim=True) / largest
        ),
        "The scale is the largest absolute weight over `largest`, not half of the range from smallest to largest.": lambda W, largest: (
            round_by(W, (W.amax(dim=1, keepdim=True) - W.amin(dim=1, keepdim=True)) / (2 * largest))
        ),
        "`largest` is the largest whole number, not a number of bits.": lambda W, largest: round_by(
            W, row_scale(W, 2.0**largest)
        ),
        "Nothing is rounded.": lambda W, largest: W,
    },
)


def opinions(random: Generator) -> list[tuple]:
    """What a model of six layers would say after each: settled at the end, from the start, and after a relapse.

    The tokens are numbers above those of layers and rows, so that none is taken for the other.
    """
    cases = []
    for says in ([1, 2, 0, 3, 2, 0, 0], [4, 4, 4, 4, 4, 4, 4], [2, 3, 3, 1, 5, 5, 3]):
        logits, tokens = normal(random, 7, 14), 8 + torch.randperm(6, generator=random)
        logits[range(7), tokens[says]] = logits.amax(dim=1) + 1
        cases.append((logits,))
    return cases


def known_from(logits: Tensor) -> int:
    final = says_final(logits)
    return len(final) - final[::-1].index(False) if False in final else 0


def says_final(logits: Tensor) -> list[bool]:
    """After how many layers the first choice is the final one: (layers + 1,)."""
    return (logits.argmax(dim=1) == logits[-1].argmax()).tolist()


KNOWN_FROM = Exercise(
    name="known-from",
    cases=opinions,
    reference=known_from,
    result_name="the number of layers",
    success_message="For an answer that comes and goes before it stays, for one that is there at once, and for a late one.",
    mistakes={
        "There the answer comes up for the first time, but it is lost again: from where on does it *stay*?": lambda logits: (
            says_final(logits).index(True)
        ),
        "That is how many rows have this first choice; wanted is the first row from which on all have it.": lambda logits: (
            sum(says_final(logits))
        ),
        "That is how many layers it stays; wanted is after how many it begins to.": lambda logits: (
            len(logits) - known_from(logits)
        ),
        "One too many: row 0 is before any layer, so row k is what k layers say.": lambda logits: (
            known_from(logits) + 1
        ),
        "An answer that is there before any layer is known after 0 layers.": lambda logits: max(1, known_from(logits)),
        "One too few: there it still says something else.": lambda logits: known_from(logits) - 1,
        "That is the token; wanted is after how many layers it stays the first choice.": lambda logits: int(
            logits[-1].argmax()
        ),
        "That is the number of all layers: the last one always agrees with itself.": lambda logits: len(logits) - 1,
    },
)

EXERCISES = [SHRUNK, FEWER_BITS, KNOWN_FROM]
