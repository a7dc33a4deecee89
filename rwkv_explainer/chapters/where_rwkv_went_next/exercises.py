"""The exercises of chapter "Where RWKV went next". Its memories are built there; here is the one step they need."""

from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import torch
from torch import Generator, Tensor, exp

from rwkv_explainer.exercises.cases import normal, randint, uniform
from rwkv_explainer.exercises.comparing import unpack
from rwkv_explainer.exercises.exercise import A_RUN, Exercise

__all__ = ["EXERCISES"]


def goose_write(table: Tensor, key: Tensor, value: Tensor, decay: Tensor, removal_key: Tensor, rate: Tensor) -> Tensor:
    """One write of RWKV-7's memory, for one head: the table, (size, size), and vectors, (size,)."""
    found = removal_key @ table  # (size,)
    return decay[:, None] * table - torch.outer(rate * removal_key, found) + torch.outer(key, value)  # (size, size)


# ---------------------------------------------------------------------------------------------------------------------
# Corrected bit by bit


def rates_and_times(random: Generator) -> list[tuple]:
    """A rate between a fifth and four fifths, and how often the new value is told."""
    rates = (0.2 + 0.6 * torch.rand(4, generator=random, dtype=torch.float64)).tolist()
    return list(zip(rates, (torch.randperm(4, generator=random) + 2).tolist()))


def both_cities(rate: float, times: int) -> tuple[float, float]:
    old = (1 - rate) ** times
    return old, 1 - old


BIT_BY_BIT = Exercise(
    name="bit-by-bit",
    cases=rates_and_times,
    reference=both_cities,
    result_name="old and new",
    success_message="For four rates, told two to five times: the old city shrinks by one factor a time, and the two sum to 1.",
    mistakes={
        "The two are swapped: the old city comes first.": lambda rate, times: both_cities(rate, times)[::-1],
        "The rate is the share that is *removed* each time; 1 − rate of the old city stays.": lambda rate, times: (
            rate**times,
            1 - rate**times,
        ),
        "The same *share* is removed each time, of what is still there, not the same amount.": lambda rate, times: (
            1 - rate * times,
            rate * times,
        ),
        "The new city is written anew each time that it is told, and corrected with it: it does not stay at one rate.": lambda rate, times: (
            (1 - rate) ** times,
            rate,
        ),
        "The old city is right; the new one ends at what the old one has lost, not at 1.": lambda rate, times: (
            (1 - rate) ** times,
            1.0,
        ),
        "The old city is right; of the new one, too, each correction removes its share before it adds.": lambda rate, times: (
            (1 - rate) ** times,
            rate * times,
        ),
        "One time too few: after it was told n times, n corrections have been made.": lambda rate, times: both_cities(
            rate, times - 1
        ),
        "Nothing was removed: the old city has to shrink.": lambda rate, times: (1, rate * times),
        "That is what the table holds after it was told once.": lambda rate, times: both_cities(rate, 1),
        "The new city is written with the rate too, not whole: what is barely removed is barely replaced.": lambda rate, times: (
            (1 - rate) ** times,
            sum((1 - rate) ** n for n in range(times)),
        ),
        "One time too many: after it was told n times, n corrections have been made.": lambda rate, times: both_cities(
            rate, times + 1
        ),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Goose as Eagle


def tokens_for_eagle(random: Generator) -> list[tuple]:
    """Keys and values of a run, (time, size), and the rows' log-decays, (size,)."""

    return [
        (normal(random, time, size), normal(random, time, size), normal(random, size) - 1)
        for time, size in ((5, 3), (8, 4))
    ]


def as_eagle(key: Tensor, value: Tensor, log_decay: Tensor) -> tuple:
    return key, value, exp(-exp(log_decay)), key, torch.zeros_like(key)


def run_goose(arrange: Callable, keys: Tensor, values: Tensor, log_decay: Tensor) -> Any:
    """The table after a run in which each token's five inputs are arranged by the answer."""
    size = keys.shape[1]
    table = torch.zeros(size, size, dtype=torch.float64)
    for key, value in zip(keys, values):
        names = ("key", "value", "decay", "removal_key", "rate")
        table = goose_write(table, *unpack(arrange(key, value, log_decay), **dict.fromkeys(names, (size,))))
    return table


AS_EAGLE = Exercise(
    name="as-eagle",
    cases=tokens_for_eagle,
    reference=as_eagle,
    run=run_goose,
    result_name="the table after the run, in row {0} and column {1},",
    inputs_are=A_RUN,
    success_message="Over two runs of 5 and 8 random tokens Goose's table is the one that Eagle would have.",
    mistakes={
        "It still removes: Eagle takes nothing out, so the rate must be 0, or there must be nothing to remove.": lambda key, value, log_decay: (
            key,
            value,
            exp(-exp(log_decay)),
            key,
            torch.ones_like(key),
        ),
        "Nothing fades: Goose takes the factor that is left of each row, and Eagle's is exp(−exp(log_decay)).": lambda key, value, log_decay: (
            key,
            value,
            torch.ones_like(key),
            key,
            torch.zeros_like(key),
        ),
        "You passed `log_decay` itself; Goose wants the factor that is left after one token.": lambda key, value, log_decay: (
            key,
            value,
            log_decay,
            key,
            torch.zeros_like(key),
        ),
        "You passed the rate; Goose wants the factor that is left after one token, exp(−rate).": lambda key, value, log_decay: (
            key,
            value,
            exp(log_decay),
            key,
            torch.zeros_like(key),
        ),
        "`log_decay` is the logarithm of the rate, not the rate: two exponentials lead to the factor.": lambda key, value, log_decay: (
            key,
            value,
            exp(-log_decay),
            key,
            torch.zeros_like(key),
        ),
        "The key is an exponential here, as in RWKV-4. From Eagle on it is written as it is.": lambda key, value, log_decay: (
            exp(key),
            value,
            exp(-exp(log_decay)),
            key,
            torch.zeros_like(key),
        ),
        "Key and value are swapped: rows are where, columns are what.": lambda key, value, log_decay: (
            value,
            key,
            exp(-exp(log_decay)),
            key,
            torch.zeros_like(key),
        ),
        "Everything is forgotten before the token is written: a factor of 0 keeps nothing.": lambda key, value, log_decay: (
            key,
            value,
            torch.zeros_like(key),
            key,
            torch.zeros_like(key),
        ),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Two people trade places


def rows_to_swap(random: Generator) -> list[tuple]:
    """A table, (size, size), and two of its rows, the smaller number first and last."""
    cases = []
    for size, order in ((4, 1), (6, -1), (5, 1)):
        i, j = sorted(torch.randperm(size, generator=random)[:2].tolist())[::order]
        cases.append((normal(random, size, size), i, j))
    return cases


def swap(i: int, j: int, size: int) -> tuple[Tensor, float]:
    return difference_of(i, j, size) / 2**0.5, 2.0


def difference_of(i: int, j: int, size: int, sign: float = -1) -> Tensor:
    return torch.eye(size, dtype=torch.float64)[i] + sign * torch.eye(size, dtype=torch.float64)[j]


def run_swap(answer: Callable, table: Tensor, i: int, j: int) -> Any:
    """The removal key's length, and the table after one write of nothing with it."""
    size = len(table)
    removal_key, rate = unpack(answer(i, j, size), removal_key=(size,), rate=(size,))
    nothing, keep = torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64)
    return {
        "the table after the write, in row {0} and column {1},": goose_write(
            table, nothing, nothing, keep, removal_key, rate
        ),
        "the length of the removal key": removal_key.norm(),
    }


SWAP = Exercise(
    name="swap",
    cases=rows_to_swap,
    reference=swap,
    run=run_swap,
    inputs_are="The table and its rows to swap",
    success_message="In three random tables the two rows changed places in a single write, and all others stayed.",
    mistakes={
        "The two rows are equal now: with their difference removed once, both are at their average. Go on from there.": lambda i, j, size: (
            swap(i, j, size)[0],
            1.0,
        ),
        "The swap is right, but a removal key has the length 1. Make it shorter, and the rate larger.": lambda i, j, size: (
            difference_of(i, j, size),
            1.0,
        ),
        "The removal key is shorter than 1: its length is the root of the sum of its squares, so each of the two is √½.": lambda i, j, size: (
            difference_of(i, j, size) / 2,
            2.0,
        ),
        "The two are swapped: first the removal key, then the rate.": lambda i, j, size: swap(i, j, size)[::-1],
        "The removal key is longer than 1, so more is removed than you meant.": lambda i, j, size: (
            difference_of(i, j, size),
            2.0,
        ),
        "The rows are swapped, but both have changed their sign: ask for the rows' difference, not for their sum.": lambda i, j, size: (
            difference_of(i, j, size, 1.0) / 2**0.5,
            2.0,
        ),
        "The first row is gone, and the second as it was: the removal key has to ask for both.": lambda i, j, size: (
            torch.eye(size)[i],
            1.0,
        ),
        "The first row has changed its sign, and the second is as it was: the removal key has to ask for both.": lambda i, j, size: (
            torch.eye(size)[i],
            2.0,
        ),
        "The rows have moved apart: a negative rate adds what it found.": lambda i, j, size: (
            swap(i, j, size)[0],
            -2.0,
        ),
        "With a rate of 0 nothing is removed, and nothing changes.": lambda i, j, size: (swap(i, j, size)[0], 0.0),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Goose, from memory


def writes(random: Generator) -> list[tuple]:
    """A table, and a token's key, value, decay, removal key of length 1, and rate."""
    cases = []
    for size in (3, 4):
        removal_key = normal(random, size)
        vectors = normal(random, size), normal(random, size), uniform(random, 0.2, 0.9, size)
        cases.append(
            (normal(random, size, size), *vectors, removal_key / removal_key.norm(), uniform(random, 0.2, 0.9, size))
        )
    return cases


GOOSE_WRITE = Exercise(
    name="goose-write",
    cases=writes,
    reference=goose_write,
    result_name="the table",
    success_message="For two random tables the rows fade, what stood under the removal key is corrected, and the token is written.",
    mistakes={
        "Nothing is removed: that is Finch's write.": lambda S, k, v, w, q, rate: w[:, None] * S + torch.outer(k, v),
        "Nothing fades: each row is multiplied by its decay.": lambda S, k, v, w, q, rate: goose_write(
            S, k, v, torch.ones_like(w), q, rate
        ),
        "The columns fade; a decay belongs to a row.": lambda S, k, v, w, q, rate: (
            goose_write(S, k, v, w, q, rate) - w[:, None] * S + w * S
        ),
        "You look up the removal key in the table that has faded already; it is looked up in the table as it was.": lambda S, k, v, w, q, rate: (
            w[:, None] * S - torch.outer(rate * q, q @ (w[:, None] * S)) + torch.outer(k, v)
        ),
        "All that stands under the removal key is removed: `rate` is missing.": lambda S, k, v, w, q, rate: goose_write(
            S, k, v, w, q, torch.ones_like(rate)
        ),
        "What is found is added once more; it is to be removed.": lambda S, k, v, w, q, rate: goose_write(
            S, k, v, w, q, -rate
        ),
        "Key and value are swapped: rows are where, columns are what.": lambda S, k, v, w, q, rate: goose_write(
            S, v, k, w, q, rate
        ),
        "The removal key is looked up by columns, `S @ q`; keys stand for rows, so it is `q @ S`.": lambda S, k, v, w, q, rate: (
            w[:, None] * S - torch.outer(rate * q, S @ q) + torch.outer(k, v)
        ),
        "What is removed is turned on its side: rows by the removal key, columns by what was found.": lambda S, k, v, w, q, rate: (
            w[:, None] * S - torch.outer(q @ S, rate * q) + torch.outer(k, v)
        ),
        "The written key itself is removed: the removal key is another one.": lambda S, k, v, w, q, rate: goose_write(
            S, k, v, w, k, rate
        ),
        "The token itself is not written.": lambda S, k, v, w, q, rate: goose_write(S, 0 * k, v, w, q, rate),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Eagle and Finch, from memory


def steps_of_finch(random: Generator) -> list[tuple]:
    """A table, and a token's receptance, key, value, gain and log-decay."""
    return [(normal(random, size, size), *(normal(random, size) for _ in range(5))) for size in (3, 5)]


def finch_step(
    table: Tensor, receptance: Tensor, key: Tensor, value: Tensor, gain: Tensor, log_decay: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of RWKV-6's memory, for one head: what is read, (size,), and the new table, (size, size)."""
    now = torch.outer(key, value)  # (size, size)
    read = receptance @ (table + gain[:, None] * now)  # (size,)
    return read, exp(-exp(log_decay))[:, None] * table + now


FINCH_STEP = Exercise(
    name="finch-step",
    cases=steps_of_finch,
    reference=finch_step,
    result_name="read and table",
    success_message="For two random tables: the token asks, counts itself with its gain, lets its rows fade, and is written.",
    mistakes={
        "You read after the write: the token asks the table as it was, and adds itself with its gain.": lambda S, r, k, v, u, w: (
            r @ finch_step(S, r, k, v, u, w)[1],
            finch_step(S, r, k, v, u, w)[1],
        ),
        "The current token is not in what is read.": lambda S, r, k, v, u, w: (r @ S, finch_step(S, r, k, v, u, w)[1]),
        "The gain is missing where the token reads itself.": lambda S, r, k, v, u, w: finch_step(
            S, r, k, v, torch.ones_like(u), w
        ),
        "The gain is a factor here, not a logarithm: from Eagle on there is no exponential around it.": lambda S, r, k, v, u, w: (
            finch_step(S, r, k, v, exp(u), w)
        ),
        "The gain is written too; it is for the read alone.": lambda S, r, k, v, u, w: (
            finch_step(S, r, k, v, u, w)[0],
            finch_step(S, r, u * k, v, u, w)[1],
        ),
        "The past fades before it is read: what is read comes from the table as it was.": lambda S, r, k, v, u, w: (
            finch_step(exp(-exp(w))[:, None] * S, r, k, v, u, w)[0],
            finch_step(S, r, k, v, u, w)[1],
        ),
        "Two exponentials lead from `log_decay` to the share that a row keeps, exp(−exp(log_decay)).": lambda S, r, k, v, u, w: (
            finch_step(S, r, k, v, u, w)[0],
            exp(-w)[:, None] * S + torch.outer(k, v),
        ),
        "The columns fade; a decay belongs to a row.": lambda S, r, k, v, u, w: (
            finch_step(S, r, k, v, u, w)[0],
            exp(-exp(w)) * S + torch.outer(k, v),
        ),
        "The new token fades with the rest: it is added after the fading.": lambda S, r, k, v, u, w: (
            finch_step(S, r, k, v, u, w)[0],
            exp(-exp(w))[:, None] * (S + torch.outer(k, v)),
        ),
        "Key and value are swapped: rows are where, columns are what.": lambda S, r, k, v, u, w: finch_step(
            S, r, v, k, u, w
        ),
        "The question goes to the columns, `table @ receptance`; it stands for rows, so it is `receptance @ table`.": lambda S, r, k, v, u, w: (
            (S + u[:, None] * torch.outer(k, v)) @ r,
            finch_step(S, r, k, v, u, w)[1],
        ),
        "The two are swapped: first what is read, then the table.": lambda *given: finch_step(*given)[::-1],
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Who is ahead?

COMPARISONS = [  # in hundredths: our seeds, their seeds, and what guessing gives
    ([92, 97, 95], [61, 70, 66], 25),  # clear, for us
    ([52, 58], [84, 79, 88, 81], 30),  # clear, for them, who have more seeds
    ([71, 73], [70, 66, 69], 25),  # clear by one hundredth
    ([66, 61], [47, 52], 25),  # clear, with two seeds each
    ([98, 99, 60, 97], [64, 31, 35], 20),  # means far apart, and yet the ranges overlap
    ([68, 72, 70], [99, 63, 98], 25),  # their mean and their best are higher, their worst is lower
    ([64, 69, 88], [72, 61, 59], 25),  # our mean, best and worst are higher, and the ranges overlap
    ([91, 80, 86], [66, 80, 71], 25),  # the ranges touch
    ([68, 70], [91, 70, 94], 25),  # the ranges touch, and they are higher
    ([55, 50, 58], [41, 47, 44], 50),  # our worst equals guessing
    ([40, 44, 41], [50, 58, 61], 50),  # their worst equals guessing
    ([48, 59, 57], [41, 46, 44], 50),  # our worst is below guessing, our mean above
    ([41, 44], [47, 56, 48], 51),  # their worst and their mean are below guessing, their best above
    ([30, 33], [21, 25, 22], 50),  # all are below guessing
    ([71, 66], [48, 52, 44], 50),  # clear, for us, and they guess
    ([51, 45], [70, 67, 74], 50),  # clear, for them, and we guess
    ([90], [40], 25),  # a single seed each
    ([91, 88, 93], [55], 25),  # a single seed of theirs
    ([44], [78, 69, 71], 25),  # a single seed of ours
    ([70, 80, 90], [60, 72, 85], 25),  # each of our seeds is above their seed of the same place
    ([80, 85], [60, 70, 90], 25),  # their last seed is better than all of ours
    ([90, 62, 84], [55, 76, 60], 25),  # the first of ours is above the last of theirs
    ([68, 62, 93], [90, 88, 68], 25),  # the last of ours is above the first of theirs, and their mean is higher
]


def comparisons(random: Generator) -> list[tuple]:
    """Shares of right answers by seed of two models, and what guessing gives: all of one case lower by one number."""
    cases = []
    for *models, guess in COMPARISONS:
        lower = randint(random, 0, 15)
        ours, theirs = ([(share - lower) / 100 for share in model] for model in models)
        cases.append((ours, theirs, (guess - lower) / 100))
    return cases


def judged_by(is_ahead: Callable, fewest: int = 2) -> Callable:
    """A verdict by a rule for one model, of its seeds, the other's and a guess; "neither" with fewer seeds of either."""

    def verdict(ours: list[float], theirs: list[float], guess: float) -> str:
        if min(len(ours), len(theirs)) < fewest:
            return "neither"
        if is_ahead(ours, theirs, guess):
            return "ours"
        return "theirs" if is_ahead(theirs, ours, guess) else "neither"

    return verdict


def is_ahead(one: list[float], other: list[float], guess: float) -> bool:
    return min(one) > max(*other, guess)


def seed_by_seed(one: list[float], other: list[float], guess: float) -> bool:
    return min(one) > guess and all(mine > yours for mine, yours in zip(one, other))


def by_deviations(one: list[float], other: list[float], guess: float) -> bool:
    """Whether the means are further apart than the two standard deviations."""
    return min(one) > guess and mean(one) - stdev(one) > mean(other) + stdev(other)


verdict = judged_by(is_ahead)

WHO_IS_AHEAD = Exercise(
    name="who-is-ahead",
    cases=comparisons,
    reference=verdict,
    result_name="the verdict",
    success_message="In 23 comparisons, clear ones and close ones, it names the model that is ahead, and neither where the seeds cannot tell.",
    mistakes={
        "You compare the means, and a few good seeds can lift a mean. The winner's worst seed has to be above the other's best.": judged_by(
            lambda one, other, guess: mean(one) > mean(other) and min(one) > guess
        ),
        "You compare means, with each other and with guessing. In both the winner's worst seed counts.": judged_by(
            lambda one, other, guess: mean(one) > max(mean(other), guess)
        ),
        "The higher mean alone decides. The rule asks for worst and best seeds, for guessing, and for two seeds of each.": judged_by(
            lambda one, other, guess: mean(one) > mean(other), fewest=0
        ),
        "You compare means and standard deviations. That is another rule; this one takes the worst seed and the best.": judged_by(
            by_deviations
        ),
        "You compare the best seeds, and a best seed may be luck. The winner's worst seed has to be above the other's best.": judged_by(
            lambda one, other, guess: max(one) > max(other) and min(one) > guess
        ),
        "The better best seed alone decides, and it may be luck. The rule asks for the worst seed, for guessing, and for two seeds of each.": judged_by(
            lambda one, other, guess: max(one) > max(other), fewest=0
        ),
        "You compare the worst seeds. The winner's worst seed has to be above the other's *best*.": judged_by(
            lambda one, other, guess: min(one) > max(min(other), guess)
        ),
        "Guessing is forgotten. A model whose worst seed is not above guessing is never ahead.": judged_by(
            lambda one, other, guess: min(one) > max(other)
        ),
        "That is the chapter's rule alone. Here guessing counts too, and a single seed tells nothing.": judged_by(
            lambda one, other, guess: min(one) > max(other), fewest=0
        ),
        "Where the ranges touch, neither is ahead. The worst seed has to be above the other's best, not equal to it.": judged_by(
            lambda one, other, guess: min(one) >= max(other) and min(one) > guess
        ),
        "A worst seed that equals guessing is not above guessing.": judged_by(
            lambda one, other, guess: min(one) > max(other) and min(one) >= guess
        ),
        "Equal is not above, neither to the other's best seed nor to guessing.": judged_by(
            lambda one, other, guess: min(one) >= max(*other, guess)
        ),
        "You compare seed by seed, and `zip` drops the rest of the longer list. Each of the winner's seeds has to be above *all* of the other's.": judged_by(
            seed_by_seed
        ),
        "The longer list is cut to the length of the shorter one. All of its seeds count.": lambda ours, theirs, guess: (
            verdict(ours[: len(theirs)], theirs[: len(ours)], guess)
        ),
        "Models with different numbers of seeds can be compared too. The rule needs no pairs.": lambda ours, theirs, guess: (
            verdict(ours, theirs, guess) if len(ours) == len(theirs) else "neither"
        ),
        "It says `ours` whatever comes.": lambda ours, theirs, guess: "ours",
        "It says `theirs` whatever comes.": lambda ours, theirs, guess: "theirs",
        "It says `neither` whatever comes.": lambda ours, theirs, guess: "neither",
        "It never says `theirs`. The rule is the same for both models.": lambda ours, theirs, guess: (
            "ours" if verdict(ours, theirs, guess) == "ours" else "neither"
        ),
        "The two are swapped. `ours` is for where the first list is ahead.": lambda ours, theirs, guess: verdict(
            theirs, ours, guess
        ),
        "A single seed cannot tell. With one seed of either model, neither is ahead.": judged_by(is_ahead, fewest=0),
        "One seed of *either* model is too few, and not only one seed of both.": lambda ours, theirs, guess: (
            "neither" if len(ours) == len(theirs) == 1 else judged_by(is_ahead, fewest=0)(ours, theirs, guess)
        ),
        "Two seeds of each model are enough.": judged_by(is_ahead, fewest=3),
        "The loser may well be guessing. The winner alone has to be above it.": judged_by(
            lambda one, other, guess: min(one) > max(other) and min(*one, *other) > guess
        ),
        "Guessing is held against our model alone. Where theirs is ahead, its worst seed has to be above guessing too.": lambda ours, theirs, guess: (
            verdict(ours, theirs, guess if min(ours) > max(theirs) else 0.0)
        ),
        "You compare guessing with the winner's mean. Even its worst seed has to be above guessing.": judged_by(
            lambda one, other, guess: min(one) > max(other) and mean(one) > guess
        ),
        "You compare guessing with the winner's best seed. Even its worst seed has to be above guessing.": judged_by(
            lambda one, other, guess: min(one) > max(other) and max(one) > guess
        ),
        "The seeds stand in no order. The first is not always the worst, and the last not always the best.": judged_by(
            lambda one, other, guess: one[0] > max(other[-1], guess)
        ),
        "The seeds stand in no order. The first is not always the best, and the last not always the worst.": judged_by(
            lambda one, other, guess: one[-1] > max(other[0], guess)
        ),
    },
)

EXERCISES = [BIT_BY_BIT, AS_EAGLE, SWAP, GOOSE_WRITE, FINCH_STEP, WHO_IS_AHEAD]
