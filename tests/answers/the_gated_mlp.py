"""Answers to the exercises of chapter "The gated MLP"."""

import numpy as np
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


def mix_in_place(x, weight):
    for t in range(len(x) - 1, 0, -1):  # from the end, so that what is read is still there
        x[t] = weight * x[t] + (1 - weight) * x[t - 1]
    x[0] *= weight
    return x


def mlp_in_place(k, r, W_k, W_v, W_r):
    hidden = W_k.mv(k)
    hidden.relu_().square_()
    gate = W_r.mv(r).sigmoid_()
    gate *= W_v.mv(hidden)
    return gate


def mlp_by_loops(k, r, key, value, receptance):
    latents = [max(0.0, sum(w * x for w, x in zip(row, k)).item()) ** 2 for row in key]
    written = [sum(w.item() * x for w, x in zip(row, latents)) for row in value]
    return [x / (1 + 2.718281828459045 ** -(row @ r)) for x, row in zip(written, receptance)]


def mlp_in_numpy(k, r, key, value, receptance):
    return np.dot(value, np.maximum(0, np.dot(key, k)) ** 2) / (1 + np.exp(-np.dot(receptance, r)))


ANSWERS = {
    "mix-a-sequence": (
        [
            mix_step_by_step,
            mix_in_place,
            lambda x, weight: torch.lerp(torch.nn.functional.pad(x, (0, 0, 1, 0))[:-1], x, weight),
            lambda x, weight: x.numpy() * weight.numpy() + (1 - weight.numpy()) * np.vstack([0 * x[:1], x[:-1]]),
            lambda x, weight: [w.tolist() for w in mix_step_by_step(x, weight)],
        ],
        {
            "last *mixture*": remembers_the_mixture,
            "as if the run were a ring": lambda x, w: torch.lerp(torch.roll(x, 1, 0), x, w),
            "swapped": lambda x, w: torch.stack(mix_step_by_step(x, 1 - w)),
            "the first itself": lambda x, w: w * x + (1 - w) * x[[0, *range(len(x) - 1)]],
            "looks into the future": lambda x, w: w * x + (1 - w) * torch.stack([*x[1:], torch.zeros_like(x[0])]),
            "added whole": lambda x, w: w * x + torch.stack([torch.zeros_like(x[0]), *x[:-1]]),
            "Only the current": lambda x, w: x * w,
            "kept between them": lambda x, w: torch.stack(mix_step_by_step(x, w.clip(0, 1))),
        },
    ),
    "mixers-reach": (
        [
            lambda blocks, tokens, place: torch.tensor(place + blocks),
            lambda blocks, tokens, place: float(place + blocks),
            lambda blocks, tokens, place: max(range(place, place + blocks + 1)),
            lambda blocks, tokens, place: [sum([place] + [1] * blocks)],
        ],
        {
            "One token too few": lambda blocks, tokens, place: blocks + place - 1,
            "One token too many": lambda blocks, tokens, place: 1 + place + blocks,
            "All later outputs": lambda blocks, tokens, place: tokens,
            "One token per block": lambda blocks, tokens, place: place + 1,
            "does not double": lambda blocks, tokens, place: place + 2**blocks,
            "stand side by side": lambda blocks, tokens, place: place + blocks * 2,
            "Not the changed token alone": lambda blocks, tokens, place: place,
            "how many outputs change": lambda blocks, tokens, place: blocks + 1,
            "how far the change is handed on": lambda blocks, tokens, place: float(blocks),
        },
    ),
    "gated-mlp": (
        [
            lambda k, r, key, value, receptance: (
                functional.linear(functional.linear(k, key).clamp(min=0).square(), value)
                / (1 + torch.exp(-receptance @ r))
            ),
            mlp_in_place,
            lambda k, r, key, value, receptance: mlp_in_place(*(x.float() for x in (k, r, key, value, receptance))),
            mlp_by_loops,
            lambda *given: mlp_in_numpy(*(x.numpy() for x in given)),
        ],
        {
            "square is missing": lambda k, r, key, value, rec: torch.sigmoid(rec @ r) * (value @ torch.relu(key @ k)),
            "Squared before the ReLU": lambda k, r, key, value, rec: torch.sigmoid(rec @ r) * (value @ (key @ k) ** 2),
            "columns of the matrix": lambda k, r, key, value, rec: (
                torch.sigmoid(r @ rec) * (value @ torch.relu(key @ k) ** 2)
            ),
            "goes through the matrix": lambda k, r, key, value, rec: r.sigmoid() * (value @ torch.relu(key @ k) ** 2),
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
