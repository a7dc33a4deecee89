"""The exercises of chapter "Strings, tokens, probabilities"."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from rwkv_explainer.exercises.cases import distribution, normal, uniform
from rwkv_explainer.exercises.exercise import Exercise
from rwkv_explainer.generation import adjust_probabilities

__all__ = ["EXERCISES"]


def normalized(p: Tensor) -> Tensor:
    return p / p.sum(dim=-1, keepdim=True)


def sharp_below(limit: float) -> Callable:
    """A temperature whose small values are a special case: the likeliest token alone."""

    def answer(p: Tensor, t: float) -> Tensor:
        return adjust_probabilities(p, temperature=t) if t >= limit else torch.eye(len(p))[p.argmax()]

    return answer


def temperatures(random: Generator) -> list[tuple]:
    """Warm and cool ones; one that is cold for almost equal chances; and one for which two chances are equal."""
    some = [(distribution(random, 6), t) for t in (1.0, 0.5, 3.0)]
    some += [(torch.tensor([0.4, 0.3, 0.2, 0.1])[torch.randperm(4, generator=random)], 0.2)]
    close = torch.tensor([0.26, 0.25, 0.25, 0.24])[torch.randperm(4, generator=random)]
    return [*some, (close, 0.002), (torch.tensor([0.4, 0.4, 0.2]), 0.00001)]


ANY_TEMPERATURE = Exercise(
    name="any-temperature",
    cases=temperatures,
    reference=lambda probabilities, temperature: adjust_probabilities(probabilities, temperature=temperature),
    result_name="the probabilities",
    success_message="At temperatures from 0.00001 to 3 it gives what the package's own function gives, and no number is lost.",
    mistakes={
        "Right until it gets cold: at 0.00001 all powers are 0, and 0 / 0 is no number. Divide logarithms by the temperature, and subtract the largest before you take exponentials, as `torch.softmax` does.": lambda p, t: (
            normalized(p ** (1 / t))
        ),
        "A small temperature is no special case: two tokens that are equally likely stay so, however cold it gets.": sharp_below(
            0.01
        ),
        "At 0.2 it is not that cold: several tokens still have a chance. A small temperature is no special case.": sharp_below(
            0.3
        ),
        "The temperature is kept from getting small. It may be 0.002, which is not the same as 0.01.": lambda p, t: (
            adjust_probabilities(p, temperature=max(t, 0.01))
        ),
        "The temperature is upside down: below 1 it should sharpen, so the power is 1 / temperature.": lambda p, t: (
            normalized(p**t)
        ),
        "The softmax undoes a logarithm, and there is none yet: divide the *logarithms* of the probabilities.": lambda p, t: (
            torch.softmax(p / t, dim=-1)
        ),
        "These do not sum to 1 any more: divide by their sum.": lambda p, t: p ** (1 / t),
        "These are still logarithms: a softmax turns them back into probabilities.": lambda p, t: p.log() / t,
        "The temperature changes nothing: multiplied or divided by one number, chances keep their ratios.": lambda p, t: (
            p
        ),
    },
)


def surprise(logits: Tensor, ids: Tensor) -> Tensor:
    return -chances(logits, ids).sum() / math.log(2)


def chances(logits: Tensor, ids: Tensor) -> Tensor:
    """The logarithm of the probability of each token: (time,)."""
    return logits.log_softmax(dim=-1).gather(-1, ids[:, None])[:, 0]


SURPRISE = Exercise(
    name="surprise",
    cases=lambda random: [
        (4 * normal(random, time, 9), torch.randint(9, (time,), generator=random)) for time in (1, 6, 400)
    ],
    reference=surprise,
    result_name="the surprise",
    success_message="For texts of one token, of six and of four hundred, these are the bits that the tokens cost.",
    mistakes={
        "These are nats: for bits, take the logarithm to base 2.": lambda logits, ids: -chances(logits, ids).sum(),
        "That is the mean per token; the surprise of a text is the sum.": lambda logits, ids: (
            surprise(logits, ids) / len(ids)
        ),
        "That is the mean per token, in nats, as `cross_entropy` returns it; the surprise of a text is the sum, in bits.": lambda logits, ids: (
            -chances(logits, ids).mean()
        ),
        "That is a logarithm to base 10; bits have the base 2.": lambda logits, ids: (
            -chances(logits, ids).sum() / math.log(10)
        ),
        "That is one number for each token; the surprise of the text is their sum.": lambda logits, ids: (
            -chances(logits, ids) / math.log(2)
        ),
        "`p[:, ids]` takes every id in every row; each row is about one token: `p[torch.arange(len(ids)), ids]`.": lambda logits, ids: (
            -logits.log_softmax(dim=-1)[:, ids].sum() / math.log(2)
        ),
        "That is the entropy, the surprise that the model itself expects; take the token that came alone.": lambda logits, ids: (
            -(logits.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum() / math.log(2)
        ),
        "The sign is wrong: logarithms of probabilities are negative, a surprise is not.": lambda logits, ids: (
            -surprise(logits, ids)
        ),
        "That is the text's probability itself; the surprise is its logarithm, with the sign turned.": lambda logits, ids: (
            chances(logits, ids).sum().exp()
        ),
        "The product of four hundred probabilities is smaller than any number above 0 that a float holds: add up their logarithms.": lambda logits, ids: (
            -chances(logits, ids).exp().prod().log() / math.log(2)
        ),
        "Row t is what the model said *before* token t, so it is about token t and not about the one after it.": lambda logits, ids: (
            surprise(logits[:-1], ids[1:])
        ),
        "The first token is left out: row 0 is about it.": lambda logits, ids: surprise(logits[1:], ids[1:]),
        "The last token is left out: each token has its row.": lambda logits, ids: surprise(logits[:-1], ids[:-1]),
        "You took the likeliest token at each place, not the one that is in the text.": lambda logits, ids: surprise(
            logits, logits.argmax(dim=-1)
        ),
        "You took logits for logarithms of probabilities: they still have to be normalized.": lambda logits, ids: (
            -logits.gather(-1, ids[:, None]).sum() / math.log(2)
        ),
        "That is the surprise of the last token alone; the text's is the sum over all.": lambda logits, ids: surprise(
            logits[-1:], ids[-1:]
        ),
        "The softmax ran over the tokens of the text instead of the vocabulary.": lambda logits, ids: (
            -logits.log_softmax(dim=0).gather(-1, ids[:, None]).sum() / math.log(2)
        ),
    },
)


def with_rest_on_top(p: Tensor, kept: Tensor) -> Tensor:
    result = p.where(kept, 0)
    result[p.argmax()] += 1 - result.sum()
    return result


def with_min_p(probabilities: Tensor, m: float) -> Tensor:
    return normalized(probabilities.where(probabilities >= m * probabilities.max(), 0))


def cuts(random: Generator) -> list[tuple]:
    """Probabilities of which some lie between each two cuts that one might take; and one exactly at the cut."""
    falling = torch.tensor([0.30, 0.20, 0.14, 0.10, 0.08, 0.06, 0.05, 0.04, 0.03])
    cases = []
    for m in (0.15, 0.25, 0.6, 0.85):
        p = falling * uniform(random, 0.99, 1.01, 9)
        cases.append((normalized(p[torch.randperm(9, generator=random)]), m))
    return [*cases, (torch.tensor([0.25, 0.5, 0.125, 0.125]), 0.5)]


MIN_P = Exercise(
    name="min-p",
    cases=cuts,
    reference=with_min_p,
    result_name="the probabilities",
    success_message="It keeps what is likely enough beside the likeliest token, and what it keeps sums to 1.",
    mistakes={
        "The cut is at m itself; it should be at m times the largest probability.": lambda p, m: normalized(
            p.where(p >= m, 0)
        ),
        "What is kept does not sum to 1: divide by the sum.": lambda p, m: p.where(p >= m * p.max(), 0),
        "You kept the unlikely tokens and dropped the others.": lambda p, m: normalized(p.where(p < m * p.max(), 0)),
        "That is top-p: it sums up probabilities. Min-p looks at each token alone.": lambda p, m: adjust_probabilities(
            p, top_p=m
        ),
        "The cut is at 1 − m of the largest probability, not at m of it.": lambda p, m: normalized(
            p.where(p >= (1 - m) * p.max(), 0)
        ),
        "Only the likeliest token is left.": lambda p, m: normalized(p.where(p >= p.max(), 0)),
        "Nothing is cut.": lambda p, m: p,
        "A token that is exactly m times as likely as the likeliest one stays: at least m times is asked for.": lambda p, m: (
            normalized(p.where(p > m * p.max(), 0))
        ),
        "What is cut goes to the likeliest token; it is to be spread over all that are kept, by one factor.": lambda p, m: (
            with_rest_on_top(p, p >= m * p.max())
        ),
    },
)

EXERCISES = [ANY_TEMPERATURE, SURPRISE, MIN_P]
