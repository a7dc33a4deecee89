"""Answers to the exercises of chapter "Time decay"."""

import math

import numpy as np
import torch
from torch import exp, log


def shortened_by_loop(log_decay, limit, new):
    return [log(torch.tensor(math.log(2) / new)) if math.log(2) / exp(x) > limit else x for x in log_decay]


def shortened_in_place(log_decay, limit, new):
    slow = math.log(2) * exp(-log_decay) > limit
    log_decay[slow] = math.log(math.log(2)) - math.log(new)
    return log_decay


ANSWERS = {
    "what-is-left": (
        [
            lambda half_life, tokens: math.exp(-tokens * math.log(2) / half_life),
            lambda half_life, tokens: [round(2 ** (-tokens / half_life), 3)],
            lambda half_life, tokens: np.power(np.float32(0.5), tokens / half_life),
            lambda half_life, tokens: torch.exp2(torch.tensor(-tokens / half_life)),
        ],
        {
            "same amount": lambda half_life, tokens: 1 - tokens / (2 * half_life),
            "what is gone": lambda half_life, tokens: 1 - 2 ** (-tokens / half_life),
            "Upside down": lambda half_life, tokens: 2 ** (-half_life / tokens),
            "with e instead of ½": lambda half_life, tokens: math.e ** -(tokens / half_life),
            "go by whole": lambda half_life, tokens: 0.5 ** int(tokens / half_life),
            "A power of 2 grows": lambda half_life, tokens: 2 ** (tokens / half_life),
            "after a half-life a half": lambda half_life, tokens: (1 - 1 / half_life) ** tokens,
            "spread evenly": lambda half_life, tokens: (1 - 1 / (2 * half_life)) ** tokens,
            "one token": lambda half_life, tokens: 2.0**-tokens,
            "in percent": lambda half_life, tokens: 100 * 2 ** (-tokens / half_life),
        },
    ),
    "decay-for-half-life": (
        [
            lambda h: log(-log(0.5 ** (1 / h))),
            lambda h: np.log(np.log(2) / h.numpy()),
            lambda h: h.log_().neg_().add_(math.log(math.log(2))),
            lambda h: log(math.log(2) / h.float()),
        ],
        {
            "`log_decay` is its logarithm": lambda h: torch.log(torch.tensor(2.0)) / h,
            "sign is turned around": lambda h: log(h / math.log(2)),
            "log 2 belongs in": lambda h: log(1 / h),
            "two logarithms further": lambda h: 2 ** (-1 / h),
            "take the logarithm once more": lambda h: log(0.5 ** (1 / h)),
            "½ over it": lambda h: log(1 / (2 * h)),
            "One logarithm is missing": lambda h: math.log(2) - log(h),
            "base 10": lambda h: torch.log10(math.log(2) / h),
            "base 2": lambda h: torch.log2(math.log(2) / h),
        },
    ),
    "cut-the-slow": (
        [
            shortened_by_loop,
            shortened_in_place,
            lambda d, limit, new: np.where(np.log(2) / np.exp(d.numpy()) > limit, np.log(np.log(2) / new), d.numpy()),
            lambda d, limit, new: d.masked_fill(exp(d) < math.log(2) / limit, math.log(math.log(2) / new)),
            lambda d, limit, new: torch.where(2.0 ** -(1 / limit) < exp(-exp(d)), math.log(math.log(2) / new), d),
        ],
        {
            "half-life of 0.69": lambda d, limit, new: torch.where(math.log(2) / exp(d) > limit, 0, d),
            "All channels": lambda d, limit, new: 0 * d + math.log(math.log(2) / new),
            "`new` is not used": lambda d, limit, new: d.where(math.log(2) / exp(d) <= limit, math.log(math.log(2))),
            "do not multiply": lambda d, limit, new: d.where(
                math.log(2) / exp(d) <= limit, math.log(math.log(2) * new)
            ),
            "to the power of `new`": lambda d, limit, new: torch.where(
                math.log(2) / exp(d) > limit, math.log(math.log(2) ** new), d
            ),
            "You compare 1/rate": lambda d, limit, new: torch.where(exp(-d) > limit, math.log(math.log(2) / new), d),
            "These are half-lives": lambda d, limit, new: (lives := math.log(2) / exp(d)).where(
                lives <= limit, torch.tensor(float(new))
            ),
            "`new` itself must not": lambda d, limit, new: torch.where(math.log(2) / exp(d) > limit, float(new), d),
            "between `new` and `limit`": lambda d, limit, new: log(math.log(2) / (math.log(2) / exp(d)).clamp(max=new)),
            "longest half-life that is allowed": lambda d, limit, new: torch.stack(shortened_by_loop(d, limit, limit)),
            "cut those that were fast": lambda d, limit, new: torch.where(
                math.log(2) / exp(d) <= limit, math.log(math.log(2) / new), d
            ),
            "That is the rate": lambda d, limit, new: torch.where(math.log(2) / exp(d) > limit, math.log(2) / new, d),
            "not the parameter": lambda d, limit, new: torch.where(d > limit, math.log(math.log(2) / new), d),
            "do not remember at all": lambda d, limit, new: torch.where(math.log(2) / exp(d) > limit, math.inf, d),
        },
    ),
}
