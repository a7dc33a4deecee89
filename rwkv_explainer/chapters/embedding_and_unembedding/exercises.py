"""The exercises of chapter "Embedding and unembedding"."""

import torch
from torch import Generator, Tensor
from torch.nn import functional

from rwkv_explainer.exercises.cases import normal, randint
from rwkv_explainer.exercises.exercise import Exercise


def small_table(random: Generator) -> list[tuple]:
    return [([[randint(random, -9, 9), randint(random, -9, 9)] for _ in range(5)],)]


TWO_ONES = Exercise(
    name="two-ones",
    is_value=True,
    cases=small_table,
    reference=lambda table: [(a + b) / 2 for a, b in zip(table[1], table[4])],
    result_name="mixture",
    tolerance=0.01,
    success_message="A one-hot with two halves picks half of each row: the point midway between two tokens.",
    mistakes={
        "That is the sum of the two rows; each has a weight of ½.": lambda table: [
            a + b for a, b in zip(table[1], table[4])
        ],
        "Only the first of the two rows is in it.": lambda table: table[1],
        "Only the second of the two rows is in it.": lambda table: table[4],
        "Rows count from 0: the halves stand at the second and at the fifth place.": lambda table: [
            (a + b) / 2 for a, b in zip(table[0], table[3])
        ],
        "That is half of the sum of *all* rows; where the vector is 0, the row does not count.": lambda table: [
            sum(column) / 2 for column in zip(*table)
        ],
        "Each of your numbers mixes one row's two columns; mix the two rows, column by column.": lambda table: [
            sum(table[1]) / 2,
            sum(table[4]) / 2,
        ],
        "Half of it is missing: ½ of one row plus ½ of the other, and no further division.": lambda table: [
            (a + b) / 4 for a, b in zip(table[1], table[4])
        ],
    },
)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weight, bias, eps=1e-5)


def centered(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def variance(x: Tensor) -> Tensor:
    return x.var(dim=-1, keepdim=True, unbiased=False)


LAYER_NORM = Exercise(
    name="layer-norm",
    cases=lambda random: [
        (size * normal(random, *shape), 1 + normal(random, 6), normal(random, 6))
        for size, shape in ((1.0, (6,)), (0.01, (6,)), (3.0, (4, 6)))
    ],
    reference=layer_norm,
    result_name="the normalized vector",
    success_message="Large and small, one vector or four at once, it equals torch's own LayerNorm.",
    mistakes={
        "Your epsilon is outside of the square root; add it to the variance, inside.": lambda x, weight, bias: (
            weight * centered(x) / (variance(x).sqrt() + 1e-5) + bias
        ),
        "Your variance divides by one less than the number of channels; LayerNorm divides by their number.": lambda x, weight, bias: (
            weight * centered(x) / (x.var(dim=-1, keepdim=True) + 1e-5).sqrt() + bias
        ),
        "The mean is not subtracted.": lambda x, weight, bias: weight * x / (variance(x) + 1e-5).sqrt() + bias,
        "The mean is not subtracted, and the squares are not taken around it.": lambda x, weight, bias: (
            weight * x / ((x**2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() + bias
        ),
        "There is no epsilon: for a small vector it shows.": lambda x, weight, bias: (
            weight * centered(x) / variance(x).sqrt() + bias
        ),
        "You divided by the variance; divide by its square root.": lambda x, weight, bias: (
            weight * centered(x) / (variance(x) + 1e-5) + bias
        ),
        "The bias is missing.": lambda x, weight, bias: weight * centered(x) / (variance(x) + 1e-5).sqrt(),
        "The learned scale and bias are missing.": lambda x, weight, bias: centered(x) / (variance(x) + 1e-5).sqrt(),
        "The vector has length 1 before its scale; LayerNorm makes its *variance* 1.": lambda x, weight, bias: (
            weight * functional.normalize(centered(x), dim=-1) + bias
        ),
        "Mean and variance run over all numbers at once; each vector has its own.": lambda x, weight, bias: (
            weight * (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() + bias
        ),
        "Right for a single vector; of four, yours normalizes each *channel*: average over the last axis.": lambda x, weight, bias: (
            weight * (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt() + bias
        ),
    },
)

SAFE_SOFTMAX = Exercise(
    name="safe-softmax",
    cases=lambda random: [
        (normal(random, 5),),
        (1000 + normal(random, 5),),
        (800 * normal(random, 3, 4) + torch.tensor([[0.0], [-9000.0], [9000.0]]),),
    ],
    reference=lambda logits: torch.softmax(logits, dim=-1),
    result_name="the probabilities",
    success_message="It holds for logits around 0, around 1000, and for three rows of logits far apart.",
    mistakes={
        "exp(1000) is infinite, and infinity over infinity is no number: subtract the largest logit first.": lambda logits: (
            logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
        ),
        "The mean is not large enough to subtract: a logit far above it still overflows. Subtract the largest.": lambda logits: (
            centered(logits).exp() / centered(logits).exp().sum(dim=-1, keepdim=True)
        ),
        "One maximum for all rows: in a row far below it every weight is 0, and 0 / 0 is no number. Each has its own.": lambda logits: (
            (logits - logits.max()).exp() / (logits - logits.max()).exp().sum(dim=-1, keepdim=True)
        ),
        "Right for one row; of three, yours makes each *column* sum to 1: the tokens are on the last axis.": lambda logits: (
            torch.softmax(logits, dim=0)
        ),
        "These do not sum to 1: divide by their sum.": lambda logits: (
            logits - logits.amax(dim=-1, keepdim=True)
        ).exp(),
        "Everything is divided by one common sum; each row has to sum to 1.": lambda logits: torch.softmax(
            logits.flatten(), dim=0
        ).reshape(logits.shape),
        "These are logarithms of probabilities: take the exponential.": lambda logits: logits.log_softmax(dim=-1),
        "Cutting logits off makes all large ones equal; subtracting keeps their differences.": lambda logits: (
            logits.clamp(max=700).exp() / logits.clamp(max=700).exp().sum(dim=-1, keepdim=True)
        ),
        "Dividing logits by the largest changes their ratios; subtract it instead.": lambda logits: torch.softmax(
            logits / logits.amax(dim=-1, keepdim=True), dim=-1
        ),
    },
)

EXERCISES = [TWO_ONES, LAYER_NORM, SAFE_SOFTMAX]
