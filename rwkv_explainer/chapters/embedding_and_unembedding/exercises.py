"""The exercises of chapter "Embedding and unembedding"."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

from rwkv_explainer.exercises.cases import normal, randint
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


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


def norm_over(x: Tensor, weight: Tensor, bias: Tensor, dim: int = -1, epsilon: float = 1e-5) -> Tensor:
    mean, square = x.mean(dim=dim, keepdim=True), x.var(dim=dim, keepdim=True, unbiased=False)
    return weight * (x - mean) / (square + epsilon).sqrt() + bias


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
        for size, shape in ((1.0, (6,)), (0.01, (6,)), (3.0, (4, 6)), (2.0, (3, 2, 6)))
    ],
    reference=layer_norm,
    result_name="the normalized vector",
    forbidden=("layer_norm", "native_layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm"),
    success_message="Large and small, one vector, four, or two rows of three, it equals torch's own LayerNorm.",
    mistakes={
        "Your epsilon is outside of the square root; add it to the variance, inside.": lambda x, weight, bias: (
            weight * centered(x) / (variance(x).sqrt() + 1e-5) + bias
        ),
        "Your variance divides by one less than the number of channels; LayerNorm divides by their number.": lambda x, weight, bias: (
            weight * centered(x) / (x.var(dim=-1, keepdim=True) + 1e-5).sqrt() + bias
        ),
        "torch's `std` divides by one less than the number of channels, and the epsilon belongs inside of the root, with the variance.": lambda x, weight, bias: (
            weight * centered(x) / (x.std(dim=-1, keepdim=True) + 1e-5) + bias
        ),
        "torch's `std` divides by one less than the number of channels, and there is no epsilon.": lambda x, weight, bias: (
            weight * centered(x) / x.std(dim=-1, keepdim=True) + bias
        ),
        "The scale multiplies the bias, too: the bias is added at the end.": lambda x, weight, bias: (
            weight * (centered(x) / (variance(x) + 1e-5).sqrt() + bias)
        ),
        "You squared the numbers before the mean was subtracted; the variance is the mean of the squares of what is left.": lambda x, weight, bias: (
            weight * centered(x) / ((x**2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() + bias
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
        "The epsilon is 1e-5; yours is smaller.": lambda x, weight, bias: norm_over(x, weight, bias, epsilon=1e-6),
        "The learned scale is missing.": lambda x, weight, bias: norm_over(x, torch.ones_like(weight), bias),
        "The bias is missing.": lambda x, weight, bias: weight * centered(x) / (variance(x) + 1e-5).sqrt(),
        "The learned scale and bias are missing.": lambda x, weight, bias: centered(x) / (variance(x) + 1e-5).sqrt(),
        "The vector has length 1 before its scale; LayerNorm makes its *variance* 1.": lambda x, weight, bias: (
            weight * functional.normalize(centered(x), dim=-1) + bias
        ),
        "Mean and variance run over all numbers at once; each vector has its own.": lambda x, weight, bias: (
            weight * (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() + bias
        ),
        "Right for a single vector; of four, yours normalizes each *channel*: average over the last axis.": lambda x, weight, bias: (
            norm_over(x, weight, bias, dim=0)
        ),
        "Right for a vector and for a row of them; with one axis more, the channels are still on the *last* one.": lambda x, weight, bias: (
            norm_over(x, weight, bias, dim=min(1, x.dim() - 1))
        ),
    },
)


def in_64ths(x: Tensor) -> Tensor:
    """Rounded so that float32 holds logits of thousands exactly."""
    return (64 * x).round() / 64


def logits_far_apart(random: Generator) -> list[tuple]:
    """Around 0 and 1000; in rows far from each other; far apart within a row, above and below; with three axes."""
    rows = 800 * normal(random, 3, 4) + torch.tensor([[0.0], [-9000.0], [9000.0]])
    far = torch.tensor([[0.0, 0.0, 3000.0, 0.0], [0.0, -2000.0, 0.0, 1.0], [-1000.0, 0.0, 0.0, 1.0]])
    far = far + normal(random, 3, 4)
    return [(in_64ths(x),) for x in (normal(random, 5), 1000 + normal(random, 5), rows, far, normal(random, 2, 3, 4))]


def softmax_less(less: Callable) -> Callable:
    """A softmax that takes `less` of the logits away before the exponentials."""

    def softmax(logits: Tensor) -> Tensor:
        weights = (logits - less(logits)).exp()
        return weights / weights.sum(dim=-1, keepdim=True)

    return softmax


SAFE_SOFTMAX = Exercise(
    name="safe-softmax",
    cases=logits_far_apart,
    forbidden=("softmax", "log_softmax"),
    reference=lambda logits: torch.softmax(logits, dim=-1),
    result_name="the probabilities",
    success_message="It holds around 0 and around 1000, for rows and within rows that are thousands apart, and with three axes.",
    mistakes={
        "exp(1000) is infinite, and infinity over infinity is no number: subtract the largest logit first.": softmax_less(
            torch.zeros_like
        ),
        "The mean is not large enough to subtract: a logit far above it still overflows. Subtract the largest.": softmax_less(
            lambda x: x.mean(dim=-1, keepdim=True)
        ),
        "You subtract the smallest logit, so the largest one can still overflow. Subtract the largest.": softmax_less(
            lambda x: x.amin(dim=-1, keepdim=True)
        ),
        "You subtract the first logit; any other may be far above it. Subtract the largest.": softmax_less(
            lambda x: x[..., :1]
        ),
        "One maximum for all rows: in a row far below it every weight is 0, and 0 / 0 is no number. Each has its own.": softmax_less(
            torch.max
        ),
        "Right for one row; of three, yours makes each *column* sum to 1: the tokens are on the last axis.": lambda logits: (
            torch.softmax(logits, dim=0)
        ),
        "Right for one row and for three; with one axis more, the tokens are still on the *last* one.": lambda logits: (
            torch.softmax(logits, dim=min(1, logits.dim() - 1))
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


State = dict[str, Tensor]
INSIDE = ("ln1.weight", "attention.key.weight", "attention.key_mixer.weight", "gated_mlp.blocks.1.weight")


def state_dicts(random: Generator) -> list[tuple]:
    """A model's tensors by name, more than ten blocks and a name inside of a name, and where a piece stands."""
    ends = ("embedding.embedding.weight", "embedding.normalize_emb.bias", "unembedding.unembedding.weight")
    names = [*ends, *(f"blocks.{i}.{part}" for i in (0, 1, 2, 10, 11) for part in INSIDE)]
    weights = {name: normal(random, 2) for name in names}
    return [(weights, piece) for piece in ("embedding", "blocks.1", "blocks.1.attention", "blocks.10")]


def piece_of(weights: State, prefix: str) -> State:
    return {name.removeprefix(prefix + "."): weights[name] for name in weights if name.startswith(prefix + ".")}


LOAD_A_PIECE = Exercise(
    name="load-a-piece",
    cases=state_dicts,
    reference=piece_of,
    result_name="the piece's tensors",
    success_message="For the embedding, for blocks 1 and 10, and for the attention of block 1: its own tensors, under its own names.",
    mistakes={
        "The names still begin with where the piece stands; alone, it does not know of that.": lambda weights, prefix: {
            name: weights[name] for name in weights if name.startswith(prefix + ".")
        },
        "Tensors of blocks 10 and 11 are among those of block 1: the prefix ends with a dot.": lambda weights, prefix: {
            name.removeprefix(prefix).lstrip("."): weights[name] for name in weights if name.startswith(prefix)
        },
        "A piece's own name may hold the prefix once more: take it away at the beginning alone.": lambda weights, prefix: {
            name.replace(prefix + ".", ""): weights[name] for name in weights if name.startswith(prefix + ".")
        },
        "A name that has the prefix anywhere is in it; it must stand at the beginning.": lambda weights, prefix: {
            name.removeprefix(prefix + "."): weights[name] for name in weights if prefix + "." in name
        },
        "Only the last part of each name is left: `attention.key.weight` is two names deep.": lambda weights, prefix: {
            name.split(".")[-1]: weights[name] for name in weights if name.startswith(prefix + ".")
        },
        "The names begin with a dot: the prefix is followed by one.": lambda weights, prefix: {
            name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix + ".")
        },
        "These are all tensors of the model.": lambda weights, prefix: weights,
    },
)

EXERCISES = [TWO_ONES, LAYER_NORM, SAFE_SOFTMAX, LOAD_A_PIECE]
