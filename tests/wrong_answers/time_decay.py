"""Answers to the exercises of chapter "Time decay"."""

import math

import torch
from torch import exp, log


def shortened_by_loop(log_decay, longest, to):
    return [log(torch.tensor(math.log(2) / to)) if math.log(2) / exp(x) > longest else x for x in log_decay]


ANSWERS = {
    "what-is-left": ([lambda half_life, tokens: math.exp(-tokens * math.log(2) / half_life)], {
        "same amount": lambda half_life, tokens: 1 - tokens / (2 * half_life),
        "what is gone": lambda half_life, tokens: 1 - 2 ** (-tokens / half_life),
        "Upside down": lambda half_life, tokens: 2 ** (-half_life / tokens),
    }),
    "decay-for-half-life": ([lambda h: log(-log(0.5 ** (1 / h)))], {
        "`log_decay` is its logarithm": lambda h: torch.log(torch.tensor(2.0)) / h,
        "sign is turned around": lambda h: log(h / math.log(2)),
        "log 2 belongs in": lambda h: log(1 / h),
    }),
    "cut-the-slow": ([shortened_by_loop], {
        "half-life of 0.69": lambda d, longest, to: torch.where(math.log(2) / exp(d) > longest, 0, d),
        "All channels": lambda d, longest, to: 0 * d + math.log(math.log(2)),
        "longest half-life that is allowed": lambda d, longest, to: torch.stack(shortened_by_loop(d, longest, longest)),
    }),
}
