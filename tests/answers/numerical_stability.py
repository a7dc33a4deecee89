"""Answers to the exercises of chapter "Numerical stability"."""

import math
import sys

import torch


def largest_by_trying(tokens):
    key = 0
    while tokens * math.exp(key + 1) < 3.4028e38:
        key += 1
    return key


def step_with_weights(average, log_normalizer, key, value, log_decay):
    faded = log_normalizer - torch.exp(log_decay)
    p = torch.maximum(faded, key)
    a, b = torch.exp(faded - p), torch.exp(key - p)
    return (a * average + b * value) / (a + b), p + torch.log(a + b)


def taking_out(which):
    """The hint's formula with `which` of the two taken out of the sum."""
    return lambda a, b: (m := which(a, b)) + torch.log(torch.exp(a - m) + torch.exp(b - m))


def average_fades(average, log_normalizer, key, value, log_decay):
    average = average * torch.exp(-torch.exp(log_decay))
    return step_with_weights(average, log_normalizer, key, value, log_decay)


def share_of_the_old(average, log_normalizer, key, value, log_decay):
    share = torch.sigmoid(key - log_normalizer)
    log_normalizer = log_normalizer - torch.exp(log_decay)
    return (1 - share) * average + share * value, torch.logaddexp(log_normalizer, key)


def share_turned_around(average, log_normalizer, key, value, log_decay):
    faded = log_normalizer - torch.exp(log_decay)
    share = torch.sigmoid(key - faded)
    return share * average + (1 - share) * value, torch.logaddexp(faded, key)


def logarithms_added(average, log_normalizer, key, value, log_decay):
    faded = log_normalizer - torch.exp(log_decay)
    return torch.lerp(average, value, torch.sigmoid(key - faded)), faded + key


def without_fading(average, log_normalizer, key, value, log_decay):
    return step_with_weights(average, log_normalizer, key, value, torch.full_like(log_decay, -torch.inf))


ANSWERS = {
    "largest-key": (
        [largest_by_trying],
        {
            "their sum does not": lambda tokens: 88,
            "power of 10": lambda tokens: 38 - len(str(tokens)) + 1 - (int(str(tokens)[0]) > 3),
            "Rounded up": lambda tokens: largest_by_trying(tokens) + 1,
            "no whole number": lambda tokens: math.log(torch.finfo(torch.float32).max / tokens),
            "holds in float64": lambda tokens: math.floor(math.log(sys.float_info.max / tokens)),
            "power of 2": lambda tokens: int(128 - math.log2(tokens)),
            "less room": lambda tokens: int(math.log(torch.finfo(torch.float32).max) + math.log(tokens)),
        },
    ),
    "log-add": (
        [lambda a, b: torch.logsumexp(torch.stack([a, b]), dim=0)],
        {
            "exp(1000), which is infinite": lambda a, b: torch.log(torch.exp(a) + torch.exp(b)),
            "larger one alone": lambda a, b: torch.where(a > b, a, b),
            "*product*": lambda a, b: b + a,
            "with the smaller one": taking_out(torch.minimum),
            "always subtracts the same": taking_out(lambda a, b: a),
            "not added back": lambda a, b: torch.log(1 + torch.exp(-(a - b).abs())),
            "mean of the two": lambda a, b: torch.stack([a, b]).mean(dim=0),
        },
    ),
    "share-step": (
        [step_with_weights],
        {
            "Nothing fades": without_fading,
            "does not get into the normalizer": logarithms_added,
            "for the rate": lambda a, L, k, v, d: (
                torch.lerp(a, v, torch.sigmoid(k - (L - d))),
                torch.logaddexp(L - d, k),
            ),
            "The average fades": average_fades,
            "by now it has faded": share_of_the_old,
            "The share is the past's": share_turned_around,
        },
    ),
}
