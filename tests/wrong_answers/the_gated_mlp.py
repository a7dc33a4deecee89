"""Answers to the exercises of chapter "The gated MLP"."""

import torch
from torch.nn import functional


def mix_step_by_step(x, weight):
    last, out = torch.zeros(x.shape[1]), []
    for now in x:
        out.append(weight * now + (1 - weight) * last)
        last = now
    return out


def remembers_the_mixture(x, weight):
    last, out = torch.zeros(x.shape[1]), []
    for now in x:
        last = torch.lerp(last, now, weight)
        out.append(last)
    return torch.stack(out)


ANSWERS = {
    "mix-a-sequence": ([mix_step_by_step], {
        "last *mixture*": remembers_the_mixture,
        "as if the run were a ring": lambda x, w: torch.lerp(torch.roll(x, 1, 0), x, w),
        "swapped": lambda x, w: torch.stack(mix_step_by_step(x, 1 - w)),
    }),
    "mixers-reach": ([lambda blocks, tokens: torch.tensor(blocks + 1)], {
        "own output changes too": lambda blocks, tokens: blocks,
        "All outputs": lambda blocks, tokens: tokens,
        "One token per block": lambda blocks, tokens: 2,
    }),
    "gated-mlp": ([lambda k, r, key, value, receptance: functional.linear(
        functional.linear(k, key).clamp(min=0).square(), value) / (1 + torch.exp(-receptance @ r))], {
        "square is missing": lambda k, r, key, value, rec: torch.sigmoid(rec @ r) * (value @ torch.relu(key @ k)),
        "Squared before the ReLU": lambda k, r, key, value, rec: torch.sigmoid(rec @ r) * (value @ (key @ k) ** 2),
        "gates are missing": lambda k, r, key, value, rec: value @ torch.relu(key @ k).square(),
    }),
}
