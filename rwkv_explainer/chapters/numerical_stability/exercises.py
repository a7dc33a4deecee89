"""The exercises of chapter "Numerical stability"."""

import math

import torch
from torch import Generator, Tensor, exp, sigmoid

from rwkv_explainer.exercises.cases import normal, uniform
from rwkv_explainer.exercises.comparing import unpack
from rwkv_explainer.exercises.exercise import A_RUN, Exercise

__all__ = ["EXERCISES"]

LARGEST = torch.finfo(torch.float32).max


def one_digit(key: float) -> float:
    """Rounded down to one digit after the point."""
    return math.floor(10 * key) / 10


LARGEST_KEY = Exercise(
    name="largest-key",
    is_value=True,
    cases=lambda random: [(round(math.exp(float(uniform(random, 7, 16)))),)],
    reference=lambda tokens: one_digit(math.log(LARGEST) - math.log(tokens)),
    result_name="key",
    success_message="The sum of that many weights of e to this key still fits, and with a tenth more it does not.",
    mistakes={
        "One weight fits, but their sum does not: a thousand weights are a thousand times as much.": lambda tokens: (
            one_digit(math.log(LARGEST))
        ),
        "That is a power of 10; a weight is a power of e.": lambda tokens: one_digit(
            math.log10(LARGEST) - math.log10(tokens)
        ),
        "That holds in float64; float32 ends much earlier.": lambda tokens: one_digit(
            math.log(torch.finfo(torch.float64).max) - math.log(tokens)
        ),
        "More tokens leave less room: subtract their logarithm.": lambda tokens: one_digit(
            math.log(LARGEST) + math.log(tokens)
        ),
        "That is a power of 2; a weight is a power of e.": lambda tokens: one_digit(
            math.log2(LARGEST) - math.log2(tokens)
        ),
        "That has more digits than one after the point: round it down.": lambda tokens: (
            math.log(LARGEST) - math.log(tokens)
        ),
        "Rounded up it overflows: the largest key that still fits is wanted.": lambda tokens: (
            one_digit(math.log(LARGEST) - math.log(tokens)) + 0.1
        ),
        "That is rounded down to a whole number; one digit after the point is asked for.": lambda tokens: float(
            math.floor(math.log(LARGEST) - math.log(tokens))
        ),
    },
)


def log_add(a: Tensor, b: Tensor) -> Tensor:
    return torch.logaddexp(a, b)


def taken_out(a: Tensor, b: Tensor, m: Tensor) -> Tensor:
    return m + (exp(a - m) + exp(b - m)).log()


LOG_ADD = Exercise(
    name="log-add",
    cases=lambda random: [
        (normal(random, 4), normal(random, 4)),
        (1000 + normal(random, 4), 1000 + normal(random, 4)),
        (-1000 + normal(random, 4), -1000 + normal(random, 4)),
        (torch.tensor([900.0, -900.0]), torch.tensor([-900.0, 900.0])),
        (torch.tensor([900.0, -900.0]), torch.tensor([901.0, -899.0])),
        (torch.tensor([[900.0], [-900.0]]), torch.tensor([[899.0], [-902.0]])),
    ],
    forbidden=("logaddexp", "logaddexp2", "logsumexp"),
    reference=log_add,
    result_name="the logarithm of the sum",
    success_message="For logarithms around 0, around 1000 and −1000, and 1,800 apart from each other or from channel to channel.",
    mistakes={
        "In between stands exp(1000), which is infinite: take the larger one out first, and add it back at the end.": lambda a, b: (
            (exp(a) + exp(b)).log()
        ),
        "The larger one alone: right where the other is far smaller, but the sum of two equal ones is larger by log 2.": torch.maximum,
        "One maximum for all channels: in a channel far below it, both exponentials are 0. Each channel has its own.": lambda a, b: (
            taken_out(a, b, torch.maximum(a, b).max())
        ),
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
    """Keys around 1; around 1000 and −1000, whose weights no float holds; and thousands apart."""
    far = torch.tensor([[1000.0, -1000.0, 0.0], [1001.0, -1001.0, 900.0], [999.0, -999.0, -900.0]])
    keys = normal(random, 5, 3), far + normal(random, 3, 3), 3000 * normal(random, 6, 3)
    return [(k, normal(random, len(k), 3), uniform(random, -3, 0.5, 3)) for k in keys]


def share_step(average: Tensor, log_normalizer: Tensor, key: Tensor, value: Tensor, log_decay: Tensor) -> tuple:
    log_normalizer = log_normalizer - exp(log_decay)
    average = torch.lerp(average, value, sigmoid(key - log_normalizer))
    return average, torch.logaddexp(log_normalizer, key)


def step_with(
    rate=exp,
    share=lambda key, old, faded: sigmoid(key - faded),
    after=lambda key, old, faded: torch.logaddexp(faded, key),
    fade_average=False,
    fade=lambda old, rate: old - rate,
    move=torch.lerp,
):
    """A step by the formulas, that goes wrong in what is given."""

    def step(average, log_normalizer, key, value, log_decay):
        faded = fade(log_normalizer, rate(log_decay))
        if fade_average:
            average = average * exp(-rate(log_decay))
        return move(average, value, share(key, log_normalizer, faded)), after(key, log_normalizer, faded)

    return step


def written_down(key: Tensor, old: Tensor, faded: Tensor) -> Tensor:
    """The share by the weights themselves, which overflow and vanish."""
    return exp(key) / (exp(key) + exp(faded))


def fading_late(average, log_normalizer, key, value, log_decay):
    average, log_normalizer = share_step(average, log_normalizer, key, value, torch.full_like(log_decay, -math.inf))
    return average, log_normalizer - exp(log_decay)


def run_steps(step, keys: Tensor, values: Tensor, log_decay: Tensor):
    """The average after each token (time, channels), and the last logarithm of the normalizer."""
    average, log_normalizer = torch.zeros(3), torch.full((3,), -math.inf)
    averages = []
    for key, value in zip(keys, values):
        returned = step(average, log_normalizer, key, value, log_decay)
        average, log_normalizer = unpack(returned, average=(3,), log_normalizer=(3,))
        averages.append(average)
    return {
        "`average[{1}]` after `keys[{0}]`": torch.stack(averages),
        "`log_normalizer[{0}]` at the end": log_normalizer,
    }


SHARE_STEP = Exercise(
    name="share-step",
    cases=runs,
    reference=share_step,
    run=run_steps,
    inputs_are=A_RUN,
    tolerance=1e-4,
    success_message="It remembers what the package's `StableWKVMemory` does, with keys around 1, around 1000 and −1000, and thousands apart.",
    mistakes={
        "The share is of the normalizer as it was; by now it has faded.": step_with(
            share=lambda key, old, faded: sigmoid(key - old)
        ),
        "You took `log_decay` for the rate: the rate is its exponential.": step_with(rate=lambda log_decay: log_decay),
        "The share is the past's: where the new token is strong, the average should move to its value.": step_with(
            share=lambda key, old, faded: sigmoid(faded - key)
        ),
        "The new token's weight does not get into the normalizer: `torch.logaddexp` adds it to the sum, + does not.": step_with(
            after=lambda key, old, faded: faded
        ),
        "The larger one alone is the running maximum of the other memory; here it is the logarithm of a *sum*.": step_with(
            after=lambda key, old, faded: torch.maximum(faded, key)
        ),
        "It is always the key that you take out of the sum; where it is the smaller one, the exponential overflows.": step_with(
            after=lambda key, old, faded: key + (1 + exp(faded - key)).log()
        ),
        "You subtracted what is *kept*; the logarithm loses the rate, exp(log_decay).": step_with(
            rate=lambda log_decay: exp(-exp(log_decay))
        ),
        "The average fades; it is a ratio, and both of its sums fade by the same factor.": step_with(fade_average=True),
        "Nothing fades.": step_with(rate=torch.zeros_like),
        "Weights are written down, in the share and in the sum: exp(1000) is infinite and exp(−1000) is 0. Keep to logarithms.": step_with(
            share=written_down, after=lambda key, old, faded: (exp(key) + exp(faded)).log()
        ),
        "The share writes weights down, and exp(1000) is infinite: divide both by exp(key), and it is a sigmoid.": step_with(
            share=written_down
        ),
        "The logarithm of the normalizer is computed from the weights themselves: `torch.logaddexp` needs none of them.": step_with(
            after=lambda key, old, faded: (exp(key) + exp(faded)).log()
        ),
        "A factor becomes a difference in a logarithm: subtract the rate, and do not multiply by exp(−rate).": step_with(
            fade=lambda old, rate: old * exp(-rate)
        ),
        "In that normalizer the new token is already: the sigmoid compares it with the past alone.": step_with(
            share=lambda key, old, faded: sigmoid(key - torch.logaddexp(faded, key))
        ),
        "The past fades before the new token joins it; yours fades together with it.": fading_late,
        "The two are swapped: first the average, then the logarithm.": lambda *arguments: share_step(*arguments)[::-1],
        "The new value's share is added to all of the old average, of which only 1 − share is left.": step_with(
            move=lambda average, value, share: average + share * value
        ),
    },
)


def official_step(aa, bb, pp, k, v, log_decay, u):
    p = torch.maximum(pp, u + k)
    e1, e2 = exp(pp - p), exp(u + k - p)
    read = (e1 * aa + e2 * v) / (e1 * bb + e2)
    faded = pp - exp(log_decay)
    p = torch.maximum(faded, k)
    e1, e2 = exp(faded - p), exp(k - p)
    return read, e1 * aa + e2 * v, e1 * bb + e2, p


def official_with(read_of=None, fade=exp, gain_written=False, scaled=True, scale=torch.maximum, returned=None):
    """A step like `official_step` that goes wrong in what is given."""

    def step(aa, bb, pp, k, v, log_decay, u):
        read = official_step(*(read_of or (lambda *x: x))(aa, bb, pp, k, v, log_decay, u))[0]
        faded, k = pp - fade(log_decay), k + u if gain_written else k
        p = scale(faded, k)
        e1, e2 = exp(faded - p) if scaled else 1.0, exp(k - p)
        return read, e1 * aa + e2 * v, e1 * bb + e2, returned(pp, k, u) if returned else p

    return step


def all_by_weights(aa, bb, pp, k, v, log_decay, u):
    contents, normalizer, now = aa * exp(pp), bb * exp(pp), exp(u + k)
    read = (contents + now * v) / (normalizer + now)
    keep = exp(-exp(log_decay))
    return read, keep * contents + exp(k) * v, keep * normalizer + exp(k), torch.zeros_like(pp)


def run_official(step, keys: Tensor, values: Tensor, log_decay: Tensor, log_gain: Tensor):
    """What each token reads, and the memory at the end, whatever it is scaled by."""
    shape = keys[0].shape
    aa, bb, pp, reads = torch.zeros(shape), torch.zeros(shape), torch.full(shape, -1e38), []
    for key, value in zip(keys, values):
        returned = step(aa, bb, pp, key, value, log_decay, log_gain)
        read, aa, bb, pp = unpack(returned, read=shape, aa=shape, bb=shape, pp=shape)
        reads.append(read)
    return {
        "`read[{1}]` for `keys[{0}]`": torch.stack(reads),
        "at the end, in channel {0}, `aa / bb`": aa / bb,
        "at the end, in channel {0}, `pp + log(bb)`": pp + bb.log(),
    }


OFFICIAL_STEP = Exercise(
    name="official-step",
    cases=lambda random: [(*case, normal(random, 3)) for case in runs(random)],
    reference=official_step,
    run=run_official,
    inputs_are=A_RUN,
    tolerance=1e-4,
    success_message="It reads and remembers what the plain sums would, with keys around 1, around 1000 and −1000, and thousands apart.",
    mistakes={
        "The past is read one step too old: first read, then let it fade.": official_with(
            read_of=lambda aa, bb, pp, k, v, log_decay, u: (aa, bb, pp - exp(log_decay), k, v, log_decay, u)
        ),
        "The current token joins the read without its gain.": official_with(
            read_of=lambda aa, bb, pp, k, v, log_decay, u: (aa, bb, pp, k, v, log_decay, 0 * u)
        ),
        "The gain is for the read alone; what is written has the key's weight.": official_with(gain_written=True),
        "Nothing fades: the logarithm of the scale loses the rate with each token.": official_with(
            fade=torch.zeros_like
        ),
        "You took `log_decay` for the rate: the rate is its exponential.": official_with(
            fade=lambda log_decay: log_decay
        ),
        "You subtracted what is *kept*; `pp` loses the rate, exp(log_decay).": official_with(
            fade=lambda log_decay: exp(-exp(log_decay))
        ),
        "The old sums keep their old scale: multiply `aa` and `bb` by exp(pp − rate − p) before the token joins them.": official_with(
            scaled=False
        ),
        "The newest key alone is the scale, and after a strong token the old sums overflow: take the larger of the two.": official_with(
            scale=lambda faded, k: k
        ),
        "The old scale alone is the scale, and a strong token overflows: take the larger of the two.": official_with(
            scale=lambda faded, k: faded
        ),
        "Weights are written down: exp(1000) is infinite. Only differences from the maximum have exponentials.": all_by_weights,
        "The `pp` that you return is the one of the read; the sums that you return have the scale of the write.": official_with(
            returned=lambda pp, k, u: torch.maximum(pp, u + k)
        ),
        "The `pp` that you return is the old one; the sums have a new scale.": official_with(
            returned=lambda pp, k, u: pp
        ),
    },
)

EXERCISES = [LARGEST_KEY, LOG_ADD, SHARE_STEP, OFFICIAL_STEP]
