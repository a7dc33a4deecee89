"""Answers to the exercises of chapter "Numerical stability"."""

import math

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


def without_fading(average, log_normalizer, key, value, log_decay):
    return step_with_weights(average, log_normalizer, key, value, torch.full_like(log_decay, -torch.inf))


ANSWERS = {
    "largest-key": ([largest_by_trying], {
        "their sum does not": lambda tokens: 88,
        "power of 10": lambda tokens: 38 - len(str(tokens)) + 1 - (int(str(tokens)[0]) > 3),
        "Rounded up": lambda tokens: largest_by_trying(tokens) + 1,
    }),
    "log-add": ([lambda a, b: torch.logsumexp(torch.stack([a, b]), dim=0)], {
        "exp(1000), which is infinite": lambda a, b: torch.log(torch.exp(a) + torch.exp(b)),
        "larger one alone": lambda a, b: torch.where(a > b, a, b),
        "*product*": lambda a, b: b + a,
    }),
    "share-step": ([step_with_weights], {
        "Nothing fades": without_fading,
        "new token's weight is missing": lambda a, L, k, v, d: (step_with_weights(a, L, k, v, d)[0], L - torch.exp(d)),
        "for the rate": lambda a, L, k, v, d: step_with_weights(a, L, k, v, torch.log(d)) if (d > 0).all() else (
            torch.lerp(a, v, torch.sigmoid(k - (L - d))), torch.logaddexp(L - d, k)),
    }),
}
