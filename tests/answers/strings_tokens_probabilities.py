"""Answers to the exercises of chapter "Strings, tokens, probabilities"."""

import math

import numpy as np
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


def cooled_in_numpy(probabilities, temperature):
    logits = np.log(probabilities.numpy()) / temperature
    weights = np.exp(logits - np.max(logits))
    return weights / np.sum(weights)


def cooled_in_place(p, t):
    p.log_().div_(t)
    p -= p.max().item()
    p.exp_()
    p /= p.sum()
    return p


def surprise_in_numpy(logits, ids):
    logits = logits.numpy()
    sums = np.log2(np.exp(logits).sum(1))
    return sum(sums - np.take_along_axis(logits, ids.numpy()[:, None], 1)[:, 0] / np.log(2))


def surprise_in_place(logits, ids):
    total = 0
    for row, token in zip(logits, ids.tolist()):
        row -= row.logsumexp(0)
        total += row[token].item()
    return -total / math.log(2)


def min_p_in_place(p, m):
    p[p < m * p.max()] = 0
    p /= p.sum()
    return p


ANSWERS = {
    "any-temperature": (
        [
            colder,
            cooled_in_numpy,
            cooled_in_place,
            lambda p, t: [math.exp((math.log(x) - math.log(max(p))) / t) / sum((p / max(p)) ** (1 / t)) for x in p],
            lambda p, t: torch.softmax(p.float().log() / t, 0) if t > 0.01 else torch.softmax(p.log() / t, 0),
        ],
        {
            "0 / 0 is no number": lambda p, t: p ** (1 / t) / (p ** (1 / t)).sum(),
            "upside down": lambda p, t: torch.softmax(p.log() * t, dim=0),
            "*logarithms* of the probabilities": lambda p, t: torch.softmax(p / t, dim=0),
            "do not sum to 1": lambda p, t: torch.exp(p.log() / t),
            "still logarithms": lambda p, t: torch.log(p) / t,
            "equally likely stay so": lambda p, t: (
                colder(p, t) if t > 0.001 else torch.nn.functional.one_hot(p.argmax(), len(p)).double()
            ),
            "At 0.2 it is not that cold": lambda p, t: colder(p, t) if t >= 0.25 else torch.eye(len(p))[p.argmax()],
            "kept from getting small": lambda p, t: torch.softmax(p.log() / max(t, 0.01), 0),
            "changes nothing": lambda p, t: (p / t) / (p / t).sum(),
        },
    ),
    "surprise": (
        [
            surprise_by_loop,
            lambda logits, ids: torch.nn.functional.cross_entropy(logits, ids, reduction="sum") / math.log(2),
            surprise_in_numpy,
            surprise_in_place,
            lambda logits, ids: float(-(logits.float().softmax(1).log2())[torch.arange(len(ids)), ids].sum()),
        ],
        {
            "nats": lambda logits, ids: surprise_by_loop(logits, ids) * math.log(2),
            "add up their logarithms": lambda logits, ids: (
                -torch.log2(torch.softmax(logits, -1)[torch.arange(len(ids)), ids].prod())
            ),
            "not about the one after it": lambda logits, ids: (
                surprise_by_loop(logits[:-1], ids[1:]) or torch.tensor(0.0)
            ),
            "first token is left out": lambda logits, ids: float(surprise_by_loop(logits[1:], ids[1:])),
            "mean per token": lambda logits, ids: surprise_by_loop(logits, ids) / len(ids),
            "sign": lambda logits, ids: -surprise_by_loop(logits, ids),
            "likeliest token": lambda logits, ids: -logits.log_softmax(-1).max(-1).values.sum() / math.log(2),
            "text's probability itself": lambda logits, ids: torch.softmax(logits, -1)[range(len(ids)), ids].prod(),
            "You took logits": lambda logits, ids: -sum(logits[t, i] for t, i in enumerate(ids)) / math.log(2),
            "over the tokens of the text": lambda logits, ids: -logits.softmax(0)[range(len(ids)), ids].log2().sum(),
            "last token alone": lambda logits, ids: -torch.log2(torch.softmax(logits[-1], 0)[ids[-1]]),
            "one number for each token": lambda logits, ids: [
                -math.log2(row.softmax(0)[i]) for row, i in zip(logits, ids)
            ],
            "takes every id in every row": lambda logits, ids: -torch.softmax(logits, -1)[:, ids].log2().sum(),
            "as `cross_entropy` returns it": lambda logits, ids: torch.nn.functional.cross_entropy(logits, ids),
            "base 10": lambda logits, ids: -torch.softmax(logits, -1)[range(len(ids)), ids].log10().sum(),
            "That is the entropy": lambda logits, ids: (
                torch.distributions.Categorical(logits=logits).entropy().sum() / math.log(2)
            ),
        },
    ),
    "min-p": (
        [
            min_p_by_loop,
            lambda p, m: (kept := p * (p / p.max() >= m)) / kept.sum(),
            min_p_in_place,
            lambda p, m: (kept := np.where(p.numpy() >= m * p.numpy().max(), p.numpy(), 0)) / kept.sum(),
            lambda p, m: torch.nn.functional.normalize(torch.threshold(p, m * p.max().item() - 1e-12, 0), p=1, dim=0),
        ],
        {
            "cut is at m itself": lambda p, m: torch.where(p < m, 0, p) / torch.where(p < m, 0, p).sum(),
            "does not sum to 1": lambda p, m: torch.where(p / p.max() >= m, p, 0),
            "exactly m times as likely": lambda p, m: (q := torch.where(p > m * p.max(), p, 0.0)) / q.sum(),
            "Nothing is cut": lambda p, m: p / p.sum(),
            "sums up probabilities": top_p_instead,
            "kept the unlikely": lambda p, m: p.masked_fill(p >= m * p.max(), 0) / p[p < m * p.max()].sum(),
            "at 1 − m": lambda p, m: min_p_by_loop(p, 1 - m),
            "Only the likeliest": lambda p, m: (p == p.max()).double(),
        },
    ),
}
