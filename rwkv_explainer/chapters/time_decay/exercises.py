"""The exercises of chapter "Time decay"."""

import math

import torch
from torch import Generator, Tensor, exp

from rwkv_explainer.exercises.cases import randint, uniform
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


def log_decay_for(half_life: Tensor) -> Tensor:
    return (math.log(2) / half_life).log()


LOG_DECAY_FOR = Exercise(
    name="decay-for-half-life",
    cases=lambda random: [(torch.tensor([10.0, 1000.0]),), (exp(uniform(random, -1, 8, 2, 3)),)],
    reference=log_decay_for,
    result_name="`log_decay`",
    success_message="Set like this, weights halve after 10, after 1,000 and after six random numbers of tokens.",
    mistakes={
        "That is the rate; `log_decay` is its logarithm.": lambda h: math.log(2) / h,
        "That is the factor kept with each token; `log_decay` is two logarithms further.": lambda h: 0.5 ** (1 / h),
        "That is the logarithm of the kept factor; turn its sign, and take the logarithm once more.": lambda h: (
            -math.log(2) / h
        ),
        "The sign is turned around: a long half-life needs a small `log_decay`.": lambda h: -log_decay_for(h),
        "With that, a weight falls to 1/e in this time; for one half, log 2 belongs in.": lambda h: -h.log(),
        "A weight is halved, a half is not subtracted: the rate is log 2 over the half-life, not ½ over it.": lambda h: (
            (0.5 / h).log()
        ),
        "One logarithm is missing: it is log(log 2) − log(half-life).": lambda h: math.log(2) - h.log(),
        "That is a logarithm to base 10; the memory takes e to the power of `log_decay`.": lambda h: (
            math.log(2) / h
        ).log10(),
        "That is a logarithm to base 2; the memory takes e to the power of `log_decay`.": lambda h: (
            math.log(2) / h
        ).log2(),
    },
)


def half_lives(log_decay: Tensor) -> Tensor:
    return math.log(2) / exp(log_decay)


def shorten(log_decay: Tensor, limit: float | int, new: float | int) -> Tensor:
    return log_decay.where(half_lives(log_decay) <= limit, math.log(math.log(2) / new))


def many_channels(random: Generator) -> list[tuple]:
    """One channel's half-life lies just below `limit`, above `new`; one's far above."""
    cases = []
    for limit, new in ((10, 1), (3, 2), (20, 5)):
        log_decay = uniform(random, -6, 2, 12)
        log_decay[:3] = log_decay_for(torch.tensor([0.85, 1.1, 5.0]) * limit)
        cases.append((log_decay, limit, new))
    return cases


CUT = Exercise(
    name="cut-the-slow",
    cases=many_channels,
    reference=shorten,
    result_name="`log_decay`",
    success_message="Of 36 channels, those that remember too long now have the half-life that was asked for; the others are unchanged.",
    mistakes={
        "`new` is not used, or used as if it were 1: the rate is log 2 divided by `new`.": lambda log_decay, limit, new: (
            shorten(log_decay, limit, 1)
        ),
        "A longer half-life needs a smaller rate: divide log 2 by `new`, do not multiply.": lambda log_decay, limit, new: (
            shorten(log_decay, limit, 1 / new)
        ),
        "log 2 to the power of `new` is no rate: divide log 2 by `new`.": lambda log_decay, limit, new: log_decay.where(
            half_lives(log_decay) <= limit, new * math.log(math.log(2))
        ),
        "You compare 1/rate with `limit`; the half-life is log 2 / rate.": lambda log_decay, limit, new: (
            log_decay.where(1 / exp(log_decay) <= limit, math.log(math.log(2) / new))
        ),
        "These are half-lives; turn them back into `log_decay`.": lambda log_decay, limit, new: half_lives(
            shorten(log_decay, limit, new)
        ),
        "A half-life is no `log_decay`: `new` itself must not get into the parameter.": lambda log_decay, limit, new: (
            log_decay.where(half_lives(log_decay) <= limit, float(new))
        ),
        "Channels between `new` and `limit` have changed too: those below `limit` stay as they are.": lambda log_decay, limit, new: (
            shorten(log_decay, new, new)
        ),
        "The wrong channels: you cut those that were fast already.": lambda log_decay, limit, new: log_decay.where(
            half_lives(log_decay) > limit, math.log(math.log(2) / new)
        ),
        "A `log_decay` of 0 is a rate of 1, which is a half-life of 0.69 tokens; for one token the rate is log 2.": lambda log_decay, limit, new: (
            log_decay.where(half_lives(log_decay) <= limit, 0.0)
        ),
        "That is the rate; `log_decay` is its logarithm.": lambda log_decay, limit, new: log_decay.where(
            half_lives(log_decay) <= limit, math.log(2) / new
        ),
        "All channels are cut; those with a shorter half-life should stay as they are.": lambda log_decay, limit, new: (
            torch.full_like(log_decay, math.log(math.log(2) / new))
        ),
        "The slow channels got the longest half-life that is allowed; they should get the short one.": lambda log_decay, limit, new: (
            shorten(log_decay, limit, limit)
        ),
        "The slow channels do not remember at all any more: they should still halve after one token.": lambda log_decay, limit, new: (
            log_decay.where(half_lives(log_decay) <= limit, torch.inf)
        ),
        "Nothing has changed: is it half-lives that you compare with `limit`, and not the parameter?": lambda log_decay, limit, new: (
            log_decay
        ),
    },
)

WHAT_IS_LEFT = Exercise(
    name="what-is-left",
    is_value=True,
    cases=lambda random: [(randint(random, 3, 20), randint(random, 4, 40))],
    reference=lambda half_life, tokens: 0.5 ** (tokens / half_life),
    result_name="share",
    tolerance=0.002,
    success_message="One half to the power of the number of half-lives that went by.",
    mistakes={
        "A weight does not lose the same amount each time, but the same share.": lambda half_life, tokens: (
            1 - 0.5 * tokens / half_life
        ),
        "That is with e instead of ½: after one half-life, a half is left.": lambda half_life, tokens: math.exp(
            -tokens / half_life
        ),
        "That is what is gone; what is left is the rest.": lambda half_life, tokens: 1 - 0.5 ** (tokens / half_life),
        "A power of 2 grows; a weight falls: it is ½ to that power.": lambda half_life, tokens: (
            2 ** (tokens / half_life)
        ),
        "In one token a weight does not lose one part in the half-life's number of tokens; after a half-life a half is left.": lambda half_life, tokens: (
            (1 - 1 / half_life) ** tokens
        ),
        "The half that goes in a half-life is not spread evenly over its tokens.": lambda half_life, tokens: (
            (1 - 0.5 / half_life) ** tokens
        ),
        "Upside down: the power is tokens over half-life.": lambda half_life, tokens: 0.5 ** (half_life / tokens),
        "That is what would be left if the half-life were one token.": lambda half_life, tokens: 0.5**tokens,
        "That is in percent; a share is a number from 0 to 1.": lambda half_life, tokens: (
            100 * 0.5 ** (tokens / half_life)
        ),
        "Half-lives need not go by whole: the power may have a fraction.": lambda half_life, tokens: (
            0.5 ** (tokens // half_life)
        ),
    },
)

EXERCISES = [WHAT_IS_LEFT, LOG_DECAY_FOR, CUT]
