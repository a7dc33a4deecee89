"""Answers to the exercises of chapter "Strings, tokens, probabilities"."""

import math

import torch


def colder(p, t):
    logs = torch.log(p) / t
    weights = torch.exp(logs - logs.max())
    return weights / weights.sum()


def surprise_by_loop(logits, ids):
    return -sum(math.log2(torch.softmax(row, 0)[i].item()) for row, i in zip(logits, ids))


def min_p_by_loop(p, m):
    kept = [x if x >= m * max(p.tolist()) else 0 for x in p.tolist()]
    return [x / sum(kept) for x in kept]


def top_p_instead(p, m):
    ranked, order = torch.sort(p, descending=True)
    total, kept = 0.0, torch.zeros_like(p)
    for x, token in zip(ranked, order):
        kept[token] = x
        total += x
        if total >= m:
            break
    return kept / kept.sum()


ANSWERS = {
    "any-temperature": (
        [colder],
        {
            "0 / 0 is no number": lambda p, t: p ** (1 / t) / (p ** (1 / t)).sum(),
            "upside down": lambda p, t: torch.softmax(p.log() * t, dim=0),
            "*logarithms* of the probabilities": lambda p, t: torch.softmax(p / t, dim=0),
            "do not sum to 1": lambda p, t: torch.exp(p.log() / t),
            "still logarithms": lambda p, t: torch.log(p) / t,
            "changes nothing": lambda p, t: (p / t) / (p / t).sum(),
        },
    ),
    "surprise": (
        [surprise_by_loop],
        {
            "nats": lambda logits, ids: surprise_by_loop(logits, ids) * math.log(2),
            "mean per token": lambda logits, ids: surprise_by_loop(logits, ids) / len(ids),
            "sign": lambda logits, ids: -surprise_by_loop(logits, ids),
            "likeliest token": lambda logits, ids: -logits.log_softmax(-1).max(-1).values.sum() / math.log(2),
            "text's probability itself": lambda logits, ids: torch.softmax(logits, -1)[range(len(ids)), ids].prod(),
            "You took logits": lambda logits, ids: -sum(logits[t, i] for t, i in enumerate(ids)) / math.log(2),
            "over the tokens of the text": lambda logits, ids: -logits.softmax(0)[range(len(ids)), ids].log2().sum(),
            "last token alone": lambda logits, ids: -torch.log2(torch.softmax(logits[-1], 0)[ids[-1]]),
        },
    ),
    "min-p": (
        [min_p_by_loop],
        {
            "cut is at m itself": lambda p, m: torch.where(p < m, 0, p) / torch.where(p < m, 0, p).sum(),
            "does not sum to 1": lambda p, m: torch.where(p / p.max() >= m, p, 0),
            "Nothing is cut": lambda p, m: p / p.sum(),
            "sums up probabilities": top_p_instead,
            "kept the unlikely": lambda p, m: p.masked_fill(p >= m * p.max(), 0) / p[p < m * p.max()].sum(),
            "at 1 − m": lambda p, m: min_p_by_loop(p, 1 - m),
            "Only the likeliest": lambda p, m: (p == p.max()).double(),
        },
    ),
}
