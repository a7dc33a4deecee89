"""Answers to the exercises of chapter "Embedding and unembedding"."""

import torch


def norm_by_std(x, weight, bias):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt((x**2).mean(-1, keepdim=True) - mean**2 + 1e-5) * weight + bias


def norm_with_std(x, weight, bias):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.std(-1, keepdim=True) ** 2 + 1e-5) * weight + bias


ANSWERS = {
    "two-ones": ([lambda table: torch.tensor([0, 0.5, 0, 0, 0.5]) @ torch.tensor(table, dtype=torch.float32)], {
        "each has a weight of ½": lambda table: [table[1][0] + table[4][0], table[1][1] + table[4][1]],
        "Rows count from 0": lambda table: [(table[0][0] + table[3][0]) / 2, (table[0][1] + table[3][1]) / 2],
        "Only the first": lambda table: table[1],
    }),
    "layer-norm": ([norm_by_std], {
        "one less than the number": norm_with_std,
        "epsilon is outside": lambda x, w, b: w * (x - x.mean(-1, keepdim=True)) / (
            x.std(-1, keepdim=True, unbiased=False) + 1e-5) + b,
        "bias is missing": lambda x, w, b: norm_by_std(x, w, 0 * b),
    }),
    "safe-softmax": ([lambda logits: torch.exp(logits - torch.logsumexp(logits, dim=-1, keepdim=True))], {
        "infinity over infinity": lambda logits: torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True),
        "take the exponential": lambda logits: logits - torch.logsumexp(logits, dim=-1, keepdim=True),
        "one common sum": lambda logits: torch.exp(logits - torch.logsumexp(logits.flatten(), dim=0)),
    }),
}
