"""The exercises of chapter "Numerical stability"."""

import math

import torch
from torch import Generator, Tensor, exp, sigmoid

from rwkv_explainer.exercises.cases import normal, uniform, randint
from rwkv_explainer.exercises.comparing import unpack
from rwkv_explainer.exercises.exercise import Exercise

LARGEST = torch.finfo(torch.float32).max

LARGEST_KEY = Exercise(
    name="largest-key",
    is_value=True,
    cases=lambda random: [(randint(random, 1, 9) * 10 ** randint(random, 4, 6),)],
    reference=lambda tokens: math.floor(math.log(LARGEST) - math.log(tokens)),
    result_name="key",
    success_message="The sum of that many weights of e to this key still fits, and with the next whole key it does not.",
    mistakes={
        "One weight fits, but their sum does not: a thousand weights are a thousand times as much.": lambda tokens: (
            math.floor(math.log(LARGEST))
        ),
        "That is a power of 10; a weight is a power of e.": lambda tokens: math.floor(
            math.log10(LARGEST) - math.log10(tokens)
        ),
        "That holds in float64; float32 ends much earlier.": lambda tokens: math.floor(
            math.log(torch.finfo(torch.float64).max) - math.log(tokens)
        ),
        "More tokens leave less room: subtract their logarithm.": lambda tokens: math.floor(
            math.log(LARGEST) + math.log(tokens)
        ),
        "That is a power of 2; a weight is a power of e.": lambda tokens: math.floor(
            math.log2(LARGEST) - math.log2(tokens)
        ),
        "That is no whole number: the largest whole key below it is wanted.": lambda tokens: (
            math.log(LARGEST) - math.log(tokens)
        ),
        "Rounded up it overflows: the largest whole key that still fits is wanted.": lambda tokens: (
            math.floor(math.log(LARGEST) - math.log(tokens)) + 1
        ),
    },
)

LOG_ADD = Exercise(
    name="log-add",
    cases=lambda random: [
        (normal(random, 4), normal(random, 4)),
        (1000 + normal(random, 4), 1000 + normal(random, 4)),
        (-1000 + normal(random, 4), -1000 + normal(random, 4)),
        (torch.tensor([900.0, -900.0]), torch.tensor([-900.0, 900.0])),
    ],
    reference=torch.logaddexp,
    result_name="the logarithm of the sum",
    success_message="For logarithms around 0, around 1000 and −1000, and for such that are 1,800 apart.",
    mistakes={
        "In between stands exp(1000), which is infinite: take the larger one out first, and add it back at the end.": lambda a, b: (
            (exp(a) + exp(b)).log()
        ),
        "The larger one alone: right where the other is far smaller, but the sum of two equal ones is larger by log 2.": torch.maximum,
        "The larger one is not added back.": lambda a, b: torch.logaddexp(a, b) - torch.maximum(a, b),
        "Subtract the larger one: with the smaller one, what remains can be as large as e to their distance.": lambda a, b: (
            torch.minimum(a, b) + (1 + exp((a - b).abs())).log()
        ),
        "That is the logarithm of the *product*.": lambda a, b: a + b,
        "It always subtracts the same one of the two; where that is the smaller one, the exponential overflows.": lambda a, b: (
            a + (1 + exp(b - a)).log()
        ),
        "That is the mean of the two.": lambda a, b: (a + b) / 2,
    },
)


def runs(random: Generator) -> list[tuple]:
    return [
        (size * normal(random, time, 3), normal(random, time, 3), uniform(random, -3, 0.5, 3))
        for size, time in ((1.0, 5), (300.0, 8))
    ]


def share_step(average: Tensor, log_normalizer: Tensor, key: Tensor, value: Tensor, log_decay: Tensor) -> tuple:
    log_normalizer = log_normalizer - exp(log_decay)
    average = torch.lerp(average, value, sigmoid(key - log_normalizer))
    return average, torch.logaddexp(log_normalizer, key)


def wrong_step(
    rate=exp,
    share=lambda key, old, faded: sigmoid(key - faded),
    after=lambda key, old, faded: torch.logaddexp(faded, key),
    fade_average=False,
):
    """A step that goes wrong in one place."""

    def step(average, log_normalizer, key, value, log_decay):
        faded = log_normalizer - rate(log_decay)
        if fade_average:
            average = average * exp(-rate(log_decay))
        return torch.lerp(average, value, share(key, log_normalizer, faded)), after(key, log_normalizer, faded)

    return step


def run_steps(step, keys: Tensor, values: Tensor, log_decay: Tensor):
    """The average after each token (time, channels), and the last logarithm of the normalizer."""
    average, log_normalizer = torch.zeros(3), torch.full((3,), -math.inf)
    averages = []
    for key, value in zip(keys, values):
        returned = step(average, log_normalizer, key, value, log_decay)
        average, log_normalizer = unpack(returned, average=(3,), log_normalizer=(3,))
        averages.append(average)
    return {"average": torch.stack(averages), "log_normalizer": log_normalizer}


SHARE_STEP = Exercise(
    name="share-step",
    cases=runs,
    reference=share_step,
    run=run_steps,
    success_message="It remembers what the package's `StableWKVMemory` does, with keys around 1 and with keys around 300.",
    mistakes={
        "The share is of the normalizer as it was; by now it has faded.": wrong_step(
            share=lambda key, old, faded: sigmoid(key - old)
        ),
        "You took `log_decay` for the rate: the rate is its exponential.": wrong_step(rate=lambda log_decay: log_decay),
        "The share is the past's: where the new token is strong, the average should move to its value.": wrong_step(
            share=lambda key, old, faded: sigmoid(faded - key)
        ),
        "The new token's weight does not get into the normalizer: `torch.logaddexp` adds it to the sum, + does not.": wrong_step(
            after=lambda key, old, faded: faded
        ),
        "The average fades; it is a ratio, and both of its sums fade by the same factor.": wrong_step(fade_average=True),
        "Nothing fades.": wrong_step(rate=torch.zeros_like),
    },
)

EXERCISES = [LARGEST_KEY, LOG_ADD, SHARE_STEP]
