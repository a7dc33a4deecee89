"""Answers to the exercises of chapter "Time decay"."""

import math

import torch
from torch import exp, log


def shortened_by_loop(log_decay, longest, to):
    return [log(torch.tensor(math.log(2) / to)) if math.log(2) / exp(x) > longest else x for x in log_decay]


ANSWERS = {
    "what-is-left": (
        [lambda half_life, tokens: math.exp(-tokens * math.log(2) / half_life)],
        {
            "same amount": lambda half_life, tokens: 1 - tokens / (2 * half_life),
            "what is gone": lambda half_life, tokens: 1 - 2 ** (-tokens / half_life),
            "Upside down": lambda half_life, tokens: 2 ** (-half_life / tokens),
            "with e instead of ½": lambda half_life, tokens: math.e ** -(tokens / half_life),
            "go by whole": lambda half_life, tokens: 0.5 ** int(tokens / half_life),
            "one token": lambda half_life, tokens: 2.0**-tokens,
            "in percent": lambda half_life, tokens: 100 * 2 ** (-tokens / half_life),
        },
    ),
    "decay-for-half-life": (
        [lambda h: log(-log(0.5 ** (1 / h)))],
        {
            "`log_decay` is its logarithm": lambda h: torch.log(torch.tensor(2.0)) / h,
            "sign is turned around": lambda h: log(h / math.log(2)),
            "log 2 belongs in": lambda h: log(1 / h),
            "two logarithms further": lambda h: 2 ** (-1 / h),
            "take the logarithm once more": lambda h: log(0.5 ** (1 / h)),
            "½ over it": lambda h: log(1 / (2 * h)),
            "base 2": lambda h: torch.log2(math.log(2) / h),
        },
    ),
    "cut-the-slow": (
        [shortened_by_loop],
        {
            "half-life of 0.69": lambda d, longest, to: torch.where(math.log(2) / exp(d) > longest, 0, d),
            "All channels": lambda d, longest, to: 0 * d + math.log(math.log(2)),
            "longest half-life that is allowed": lambda d, longest, to: torch.stack(
                shortened_by_loop(d, longest, longest)
            ),
            "cut those that were fast": lambda d, longest, to: torch.where(
                math.log(2) / exp(d) <= longest, math.log(math.log(2) / to), d
            ),
            "That is the rate": lambda d, longest, to: torch.where(math.log(2) / exp(d) > longest, math.log(2) / to, d),
            "not the parameter": lambda d, longest, to: torch.where(d > longest, math.log(math.log(2) / to), d),
            "do not remember at all": lambda d, longest, to: torch.where(math.log(2) / exp(d) > longest, math.inf, d),
        },
    ),
}
