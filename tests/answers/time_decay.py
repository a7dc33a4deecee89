"""Answers to the exercises of chapter "Time decay"."""

import math

import numpy as np
import torch
from torch import exp, log


def shortened_by_loop(log_decay, longest, to):
    return [log(torch.tensor(math.log(2) / to)) if math.log(2) / exp(x) > longest else x for x in log_decay]


def shortened_in_place(log_decay, longest, to):
    slow = math.log(2) * exp(-log_decay) > longest
    log_decay[slow] = math.log(math.log(2)) - math.log(to)
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
            lambda d, longest, to: np.where(np.log(2) / np.exp(d.numpy()) > longest, np.log(np.log(2) / to), d.numpy()),
            lambda d, longest, to: d.masked_fill(exp(d) < math.log(2) / longest, math.log(math.log(2) / to)),
            lambda d, longest, to: torch.where(2.0 ** -(1 / longest) < exp(-exp(d)), math.log(math.log(2) / to), d),
        ],
        {
            "half-life of 0.69": lambda d, longest, to: torch.where(math.log(2) / exp(d) > longest, 0, d),
            "All channels": lambda d, longest, to: 0 * d + math.log(math.log(2) / to),
            "`to` is not used": lambda d, longest, to: d.where(math.log(2) / exp(d) <= longest, math.log(math.log(2))),
            "do not multiply": lambda d, longest, to: d.where(
                math.log(2) / exp(d) <= longest, math.log(math.log(2) * to)
            ),
            "to the power of `to`": lambda d, longest, to: torch.where(
                math.log(2) / exp(d) > longest, math.log(math.log(2) ** to), d
            ),
            "You compare 1/rate": lambda d, longest, to: torch.where(exp(-d) > longest, math.log(math.log(2) / to), d),
            "These are half-lives": lambda d, longest, to: (lives := math.log(2) / exp(d)).where(
                lives <= longest, torch.tensor(float(to))
            ),
            "`to` itself must not": lambda d, longest, to: torch.where(math.log(2) / exp(d) > longest, float(to), d),
            "between `to` and `longest`": lambda d, longest, to: log(
                math.log(2) / (math.log(2) / exp(d)).clamp(max=to)
            ),
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
