"""Answers to the exercises of chapter "Embedding and unembedding"."""

import math
import re

import numpy as np
import torch


def norm_by_std(x, weight, bias):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt((x**2).mean(-1, keepdim=True) - mean**2 + 1e-5) * weight + bias


def norm_with_std(x, weight, bias):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.std(-1, keepdim=True) ** 2 + 1e-5) * weight + bias


def norm_in_place(x, weight, bias):
    x -= x.mean(dim=-1, keepdim=True)
    x /= torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + 0.00001)
    x *= weight
    x += bias
    return x


def norm_in_numpy(x, weight, bias):
    x = x.numpy()
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight.numpy() + bias.numpy()


def norm_by_rows(x, weight, bias):
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        mean = sum(row) / len(row)
        variance = sum((number - mean) ** 2 for number in row) / len(row)
        rows.append((row - mean) / math.sqrt(variance + 1e-5) * weight + bias)
    return torch.stack(rows).view(x.shape)


def softmax_in_place(logits):
    logits -= logits.amax(-1, keepdim=True)
    logits.exp_()
    logits /= logits.sum(-1, keepdim=True)
    return logits


def softmax_in_numpy(logits):
    logits = logits.numpy()
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def piece_in_a_loop(weights, prefix):
    found = {}
    for name, tensor in weights.items():
        if name[: len(prefix) + 1] == f"{prefix}.":
            found[name[len(prefix) + 1 :]] = tensor
    return found


def piece_by_parts(weights, prefix):
    depth = prefix.count(".") + 1
    split = {tuple(name.split(".")): tensor for name, tensor in weights.items()}
    return {".".join(n[depth:]): t.numpy() for n, t in split.items() if n[:depth] == tuple(prefix.split("."))}


def piece_in_place(weights, prefix):
    for name in list(weights):
        head, dot, rest = name.partition(prefix + ".")
        tensor = weights.pop(name)
        if dot and not head:
            weights[rest] = tensor
    return weights


ANSWERS = {
    "load-a-piece": (
        [
            piece_in_a_loop,
            piece_by_parts,
            piece_in_place,
            lambda weights, prefix: {
                re.sub(rf"^{re.escape(prefix)}\.", "", n): t.float()
                for n, t in weights.items()
                if re.match(re.escape(prefix) + r"\.", n)
            },
        ],
        {
            "still begin with": lambda weights, prefix: dict(
                item for item in weights.items() if item[0].startswith(prefix + ".")
            ),
            "blocks 10 and 11": lambda weights, prefix: {
                name[len(prefix) :].lstrip("."): t for name, t in weights.items() if name.startswith(prefix)
            },
            "at the beginning alone": lambda weights, prefix: {
                "".join(name.split(prefix + ".")): t for name, t in weights.items() if name.startswith(prefix + ".")
            },
            "has the prefix anywhere": lambda weights, prefix: {
                name.removeprefix(f"{prefix}."): t for name, t in weights.items() if f"{prefix}." in name
            },
            "Only the last part": lambda weights, prefix: {
                name.rpartition(".")[2]: t for name, t in weights.items() if name.startswith(prefix + ".")
            },
            "begin with a dot": lambda weights, prefix: {
                name[len(prefix) :]: t for name, t in weights.items() if name.startswith(prefix + ".")
            },
            "all tensors of the model": lambda weights, prefix: {**weights},
        },
    ),
    "two-ones": (
        [
            lambda table: torch.tensor([0, 0.5, 0, 0, 0.5]) @ torch.tensor(table, dtype=torch.float32),
            lambda table: np.array([[0, 0.5, 0, 0, 0.5]]) @ np.array(table),
            lambda table: torch.tensor([[table[1], table[4]]]).double().mean(dim=1),
            lambda table: (0.5 * table[1][0] + 0.5 * table[4][0], 0.5 * table[1][1] + 0.5 * table[4][1]),
            lambda table: [round((a + b) / 2, 1) for a, b in zip(table[1], table[-1])],
        ],
        {
            "each has a weight of ½": lambda table: [table[1][0] + table[4][0], table[1][1] + table[4][1]],
            "Rows count from 0": lambda table: [(table[0][0] + table[3][0]) / 2, (table[0][1] + table[3][1]) / 2],
            "Only the first": lambda table: table[1],
            "Only the second": lambda table: table[4],
            "column by column": lambda table: [(a + b) / 2 for a, b in (table[1], table[4])],
            "*all* rows": lambda table: 0.5 * torch.tensor(table).sum(dim=0),
            "Half of it is missing": lambda table: [(0.5 * a + 0.5 * b) / 2 for a, b in zip(table[1], table[4])],
        },
    ),
    "layer-norm": (
        [
            norm_by_std,
            norm_in_place,
            norm_in_numpy,
            lambda x, w, b: w * (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5) ** 0.5 + b,
            lambda x, w, b: torch.addcmul(
                b, w, (c := x - x.mean(-1, True)) * (c.square().mean(-1, True) + 1e-5).rsqrt()
            ),
            norm_by_rows,
        ],
        {
            "one less than the number": norm_with_std,
            "epsilon is outside": lambda x, w, b: (
                w * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, unbiased=False) + 1e-5) + b
            ),
            "yours is smaller": lambda x, w, b: (
                w * (x - x.mean(-1, True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt() + b
            ),
            "torch's own `layer_norm`": lambda x, w, b: torch.nn.functional.layer_norm(x, x.shape[-1:], w, b),
            "scale is missing": lambda x, w, b: norm_by_std(x, 1, b),
            "with one axis more": lambda x, w, b: (
                (x - x.mean(d := int(x.dim() > 1), True)) / (x.var(d, False, keepdim=True) + 1e-5).sqrt() * w + b
            ),
            "bias is missing": lambda x, w, b: norm_by_std(x, w, 0 * b),
            "learned scale and bias": lambda x, w, b: norm_by_std(x, 1, 0),
            "not taken around it": lambda x, w, b: w * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) + b,
            "no epsilon": lambda x, w, b: (x - x.mean(-1, True)) / x.std(-1, keepdim=True, correction=0) * w + b,
            "divided by the variance": lambda x, w, b: (
                (x - x.mean(-1, True)) / (x.var(-1, False, keepdim=True) + 1e-5) * w + b
            ),
            "over all numbers at once": lambda x, w, b: (
                (x - x.mean()) / (((x - x.mean()) ** 2).mean() + 1e-5).sqrt() * w + b
            ),
            "each *channel*": lambda x, w, b: (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() * w + b,
            "and the epsilon belongs inside": lambda x, w, b: (
                w * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5) + b
            ),
            "and there is no epsilon": lambda x, w, b: (x - x.mean(-1, True)) / x.std(-1, keepdim=True) * w + b,
            "multiplies the bias": lambda x, w, b: norm_by_std(x, 1, b) * w,
            "before the mean was subtracted": lambda x, w, b: (
                w * (x - x.mean(-1, True)) / torch.sqrt(x.pow(2).mean(-1, True) + 1e-5) + b
            ),
            "has length 1": lambda x, w, b: (c := x - x.mean(-1, True)) / c.norm(dim=-1, keepdim=True) * w + b,
        },
    ),
    "safe-softmax": (
        [
            lambda logits: torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True)),
            softmax_in_place,
            softmax_in_numpy,
            lambda logits: (w := (logits - logits.max(dim=-1, keepdim=True)[0]).exp()) / w.sum(dim=-1, keepdim=True),
            lambda logits: (w := (logits - logits.amax(-1, True)).float().exp()) / w.sum(-1, True),
            lambda logits: 1 / (logits.unsqueeze(-2) - logits.unsqueeze(-1)).exp().sum(-1),
        ],
        {
            "infinity over infinity": lambda logits: torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True),
            "take the exponential": lambda logits: logits - torch.logsumexp(logits, dim=-1, keepdim=True),
            "one common sum": lambda logits: torch.exp(logits - torch.logsumexp(logits.flatten(), dim=0)),
            "mean is not large enough": lambda logits: (
                (w := torch.exp(logits - logits.mean(-1, True))) / w.sum(-1, True)
            ),
            "torch's own `softmax`": lambda logits: logits.softmax(-1),
            "subtract the smallest": lambda logits: (w := torch.exp(logits - logits.amin(-1, True))) / w.sum(-1, True),
            "subtract the first": lambda logits: (w := torch.exp(logits - logits[..., :1])) / w.sum(-1, True),
            "One maximum for all rows": lambda logits: (w := torch.exp(logits - logits.max())) / w.sum(-1, True),
            "Dividing logits": lambda logits: (w := torch.exp(logits / logits.amax(-1, True))) / w.sum(-1, True),
            "each *column* sum to 1": lambda logits: (w := torch.exp(logits - logits.amax(0))) / w.sum(0),
            "Cutting logits off": lambda logits: (w := torch.exp(logits.clamp(max=700))) / w.sum(-1, True),
            "do not sum to 1": lambda logits: torch.exp(logits - logits.max(dim=-1, keepdim=True).values),
        },
    ),
}
