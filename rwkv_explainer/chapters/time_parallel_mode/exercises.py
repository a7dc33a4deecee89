"""The exercises of chapter "Time-parallel mode"."""

import torch
from torch import Generator, Tensor, exp

from rwkv_explainer.exercises.cases import normal, uniform
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


def shifted(x: Tensor, last_x: Tensor) -> Tensor:
    return torch.cat([last_x[None], x[:-1]])


SHIFT = Exercise(
    name="shift",
    cases=lambda random: [(normal(random, time, 3), normal(random, 3)) for time in (5, 1)],
    reference=shifted,
    result_name="the shifted run",
    success_message="For runs of five tokens and of one, each moment gets the input before it, the first the remembered one.",
    mistakes={
        "Before the first moment stands the last one: a mixer would know the future. Put the remembered input there.": lambda x, last_x: (
            x.roll(1, dims=0)
        ),
        "Before the first moment stand zeros; the mixer remembers an input from before this run.": lambda x, last_x: (
            shifted(x, torch.zeros_like(last_x))
        ),
        "The run is shifted the other way: each moment gets the input *after* it.": lambda x, last_x: torch.cat(
            [x[1:], last_x[None]]
        ),
        "It is one moment too long: the last input has no moment after it in this run.": lambda x, last_x: torch.cat(
            [last_x[None], x]
        ),
        "Every moment gets the remembered input: you wrote into `x` before you had read from it.": lambda x, last_x: (
            last_x.expand(x.shape)
        ),
        "Nothing is shifted.": lambda x, last_x: x,
        "It is one moment too short: the remembered input is missing at the beginning.": lambda x, last_x: x[:-1],
    },
)


def channel(random: Generator) -> list[tuple]:
    """Keys, a decay and a gain; the last keys have weights that no float holds."""
    keys = normal(random, 5), normal(random, 8), torch.tensor([-1000.0, -1001.0, 0.0, 1000.0, 999.0])
    return [(k, uniform(random, -3, 0.5), normal(random)) for k in keys]


def exponents(keys: Tensor, rate: Tensor, gain: Tensor, newest: int = 0, causal: bool = True) -> Tensor:
    """Row i for the reader, column j for what is read; -inf for the future."""
    i, j = torch.arange(len(keys))[:, None], torch.arange(len(keys))
    past = keys - (i - 1 - j + newest) * rate
    past = past.where(j < i, -torch.inf) if causal else past
    return past.where(j != i, keys + gain)


def divided(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=1, keepdim=True)


def matrix(keys: Tensor, log_decay: Tensor, log_gain: Tensor) -> Tensor:
    return torch.softmax(exponents(keys, exp(log_decay), log_gain), dim=1)


MATRIX = Exercise(
    name="attention-matrix",
    cases=channel,
    reference=matrix,
    result_name="the matrix",
    success_message="For 5 and for 8 tokens, and for keys of ±1000, each row is what the memory reads, as shares that sum to 1.",
    mistakes={
        "The past is one step older than it should be: the newest token of the past has not faded yet.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(keys, exp(log_decay), log_gain, newest=1), dim=1)
        ),
        "exp(1000) is infinite, and exp(−1000) is 0: subtract each row's largest exponent first, as `torch.softmax` does.": lambda keys, log_decay, log_gain: (
            divided(exponents(keys, exp(log_decay), log_gain).exp())
        ),
        "One maximum for the whole matrix, or for all keys: in a row far below it all exponentials are 0, and 0 / 0 is no number. Each row has its own.": lambda keys, log_decay, log_gain: (
            divided((exponents(keys, exp(log_decay), log_gain) - keys.max()).exp())
        ),
        "You took what is *kept* for the rate: with each token an exponent loses exp(log_decay).": lambda keys, log_decay, log_gain: (
            matrix(keys, -exp(log_decay), log_gain)
        ),
        "On the diagonal key and gain add up; you multiplied them.": lambda keys, log_decay, log_gain: torch.softmax(
            exponents(keys, exp(log_decay), log_gain).diagonal_scatter(keys * log_gain), dim=1
        ),
        "The past is one step younger than it should be: its newest token has not faded yet, and has not grown either.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(keys, exp(log_decay), log_gain, newest=-1), dim=1)
        ),
        "One row too many: the last one is about a reader after this run. The chapter's `exponents_of` has it for the state.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(torch.cat([keys, keys[-1:]]), exp(log_decay), log_gain)[:, :-1], dim=1)
        ),
        "The gain stands in the exponent as it is: `log_gain` is a logarithm already.": lambda keys, log_decay, log_gain: (
            matrix(keys, log_decay, exp(log_gain))
        ),
        "The diagonal is missing: each token reads itself, too. In the first row that is all there is.": lambda keys, log_decay, log_gain: (
            matrix(keys, log_decay, torch.full_like(log_gain, -torch.inf))
        ),
        "You took the *reader's* key; a share depends on the key of the token that is read.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(keys[:, None], exp(log_decay), log_gain), dim=1)
        ),
        "The gain on the diagonal is missing.": lambda keys, log_decay, log_gain: matrix(
            keys, log_decay, torch.zeros_like(log_gain)
        ),
        "You took `log_decay` for the rate: the rate is its exponential.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(keys, log_decay, log_gain), dim=1)
        ),
        "The columns sum to 1; the rows should: each reader has shares of its own.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(keys, exp(log_decay), log_gain), dim=0)
        ),
        "Rows and columns are swapped: a row is a reader, a column what it reads.": lambda keys, log_decay, log_gain: (
            matrix(keys, log_decay, log_gain).T
        ),
        "These are weights; divided by the sum of their row they become shares.": lambda keys, log_decay, log_gain: (
            exponents(keys, exp(log_decay), log_gain).exp()
        ),
        "These are the exponents; a softmax makes shares of them.": lambda keys, log_decay, log_gain: exponents(
            keys, exp(log_decay), log_gain
        ),
        "Nothing fades.": lambda keys, log_decay, log_gain: torch.softmax(
            exponents(keys, torch.zeros_like(log_decay), log_gain), dim=1
        ),
        "The future is in it, with weights of its own: the exponent above the diagonal is −∞.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(keys, exp(log_decay), log_gain, causal=False), dim=1)
        ),
        "Above the diagonal stands 0, and e to the 0 is a weight of 1; only an exponent of −∞ weighs nothing.": lambda keys, log_decay, log_gain: (
            torch.softmax(exponents(keys, exp(log_decay), log_gain).tril(), dim=1)
        ),
    },
)


def chunks(random: Generator) -> list[tuple]:
    return [
        (
            (normal(random, 3), normal(random, 3).exp()),
            (normal(random, 3), normal(random, 3).exp()),
            length,
            uniform(random, -3, 0.5, 3),
        )
        for length in (4, 9, 1)
    ]


def join(first, second, length, log_decay, fade=lambda rate, length: exp(-rate * length)):
    keep = fade(exp(log_decay), length)
    return keep * first[0] + second[0], keep * first[1] + second[1]


def both_faded(first, second, length, log_decay):
    return tuple(exp(-exp(log_decay) * length) * (a + b) for a, b in zip(first, second))


JOIN = Exercise(
    name="join-chunks",
    cases=chunks,
    reference=lambda first, second, length, log_decay: join(first, second, length, log_decay),
    result_name="the state",
    success_message="Joined, the two chunks leave the sums that one run through both of them leaves.",
    mistakes={
        "The first chunk has not faded: all tokens of the second went by since.": lambda first, second, length, log_decay: (
            join(first, second, length, log_decay, lambda rate, n: 1.0)
        ),
        "The first chunk has faded once; it should once for each token of the second.": lambda first, second, length, log_decay: (
            join(first, second, 1, log_decay)
        ),
        "One time too few: the first token of the second chunk lets the past fade too.": lambda first, second, length, log_decay: (
            join(first, second, length - 1, log_decay)
        ),
        "One time too many: the second chunk's tokens let the past fade once each.": lambda first, second, length, log_decay: (
            join(first, second, length + 1, log_decay)
        ),
        "Only `normalizer` fades; `contents` holds the same weights and fades with it.": lambda first, second, length, log_decay: (
            first[0] + second[0],
            join(first, second, length, log_decay)[1],
        ),
        "These are averages; the state is the two sums themselves.": lambda first, second, length, log_decay: (
            join(first, second, length, log_decay)[0] / join(first, second, length, log_decay)[1],
            join(first, second, length, log_decay)[1],
        ),
        "The wrong chunk fades: the first one is older.": lambda first, second, length, log_decay: join(
            second, first, length, log_decay
        ),
        "Only `contents` fades; the weights in `normalizer` fade with it.": lambda first, second, length, log_decay: (
            join(first, second, length, log_decay)[0],
            first[1] + second[1],
        ),
        "You took `log_decay` for the rate: the rate is its exponential.": lambda first, second, length, log_decay: (
            join(first, second, length, log_decay, lambda rate, n: exp(-rate.log() * n))
        ),
        "Factors multiply: after n tokens it is exp(−rate) to the power n, not n times exp(−rate).": lambda first, second, length, log_decay: (
            join(first, second, length, log_decay, lambda rate, n: n * exp(-rate))
        ),
        "Both chunks fade; the second one has only just ended.": both_faded,
    },
)


def run_of_a_channel(random: Generator) -> list[tuple]:
    """Shares, values and the loss's derivatives by the reads: of a run, and of one whose keys are far apart."""
    keys = normal(random, 5), 2 * normal(random, 8), torch.tensor([0.0, 40.0, -40.0, 41.0, 0.0])
    shares = [matrix(k, uniform(random, -3, 0.5), normal(random)) for k in keys]
    return [(each, normal(random, len(each)), normal(random, len(each))) for each in shares]


def pulls(shares: Tensor, values: Tensor) -> Tensor:
    """The derivative of each read, row by row, by each key."""
    return shares * (values - (shares @ values)[:, None])


KEY_GRADIENTS = Exercise(
    name="key-gradients",
    cases=run_of_a_channel,
    reference=lambda shares, values, g: g @ pulls(shares, values),
    result_name="the gradient of the keys",
    success_message="For runs of 5 and of 8 tokens, and where single tokens have almost the whole share, it is what autograd finds.",
    mistakes={
        "These are the gradients of the *values*: a key's has the factor value minus read, too.": lambda shares, values, g: (
            g @ shares
        ),
        "Raising a key also takes share from all others: it is value minus *read* that counts, not the value alone.": lambda shares, values, g: (
            g @ (shares * values)
        ),
        "You subtracted what the token itself read; it is the read of the token that looks at it.": lambda shares, values, g: (
            g @ (shares * (values - shares @ values))
        ),
        "`g` is missing: not every reader matters alike to the loss.": lambda shares, values, g: pulls(
            shares, values
        ).sum(dim=0),
        "You summed over the tokens that are read, and the pulls of one reader add up to zero: sum over the readers.": lambda shares, values, g: (
            (g[:, None] * pulls(shares, values)).sum(dim=1)
        ),
        "`g` belongs to the reader, a row; you gave it to the token that is read, a column.": lambda shares, values, g: (
            (g * pulls(shares, values)).sum(dim=0)
        ),
        "The sign is wrong: a larger key pulls the read towards the token's value, not away from it.": lambda shares, values, g: (
            -g @ pulls(shares, values)
        ),
        "s (1 − s) is how a token's own share moves; the others' shares move too. Together that is value minus read.": lambda shares, values, g: (
            g @ (shares * (1 - shares) * values)
        ),
        "Only the token's own read is in it; all later readers see its key as well.": lambda shares, values, g: (
            g * pulls(shares, values).diagonal()
        ),
        "This is the matrix of pulls: sum over the readers, each with its `g`.": lambda shares, values, g: (
            g[:, None] * pulls(shares, values)
        ),
    },
)

EXERCISES = [SHIFT, MATRIX, JOIN, KEY_GRADIENTS]
