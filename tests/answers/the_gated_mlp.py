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
    "mix-a-sequence": (
        [mix_step_by_step],
        {
            "last *mixture*": remembers_the_mixture,
            "as if the run were a ring": lambda x, w: torch.lerp(torch.roll(x, 1, 0), x, w),
            "swapped": lambda x, w: torch.stack(mix_step_by_step(x, 1 - w)),
            "the first itself": lambda x, w: w * x + (1 - w) * x[[0, *range(len(x) - 1)]],
            "looks into the future": lambda x, w: w * x + (1 - w) * torch.stack([*x[1:], torch.zeros_like(x[0])]),
            "added whole": lambda x, w: w * x + torch.stack([torch.zeros_like(x[0]), *x[:-1]]),
            "Only the current": lambda x, w: x * w,
        },
    ),
    "mixers-reach": (
        [lambda blocks, tokens: torch.tensor(blocks + 1)],
        {
            "own output changes too": lambda blocks, tokens: blocks,
            "All outputs": lambda blocks, tokens: tokens,
            "One token per block": lambda blocks, tokens: 2,
            "does not double": lambda blocks, tokens: 2**blocks,
            "not by two": lambda blocks, tokens: 1 + 2 * blocks,
            "Not the first token alone": lambda blocks, tokens: 1,
        },
    ),
    "gated-mlp": (
        [
            lambda k, r, key, value, receptance: (
                functional.linear(functional.linear(k, key).clamp(min=0).square(), value)
                / (1 + torch.exp(-receptance @ r))
            )
        ],
        {
            "square is missing": lambda k, r, key, value, rec: torch.sigmoid(rec @ r) * (value @ torch.relu(key @ k)),
            "Squared before the ReLU": lambda k, r, key, value, rec: torch.sigmoid(rec @ r) * (value @ (key @ k) ** 2),
            "gates are missing": lambda k, r, key, value, rec: value @ torch.relu(key @ k).square(),
            "without limit": lambda k, r, key, value, rec: (rec @ r) * (value @ torch.relu(key @ k).square()),
            "mixtures are swapped": lambda k, r, key, value, rec: (
                torch.sigmoid(rec @ k) * (value @ torch.relu(key @ r) ** 2)
            ),
            "The gates read `k`": lambda k, r, key, value, rec: (
                torch.sigmoid(rec @ k) * (value @ torch.relu(key @ k) ** 2)
            ),
            "that is a softmax": lambda k, r, key, value, rec: (
                (rec @ r).softmax(-1) * (value @ torch.relu(key @ k) ** 2)
            ),
            "update is squared too": lambda k, r, key, value, rec: (
                torch.sigmoid(rec @ r) * (value @ torch.relu(key @ k).square()).square()
            ),
            "what comes *out* of it": lambda k, r, key, value, rec: (
                value @ torch.relu(key @ (torch.sigmoid(rec @ r) * k)) ** 2
            ),
        },
    ),
}
