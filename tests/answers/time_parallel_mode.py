"""Answers to the exercises of chapter "Time-parallel mode"."""

import numpy as np
import torch
from torch import exp

from rwkv_explainer.model import StableWKVMemory


def matrix_from_the_memory(keys, log_decay, log_gain):
    """Feed the memory one-hot values: channel j follows token j."""
    time = len(keys)
    memory = StableWKVMemory(time).requires_grad_(False)
    memory.log_decay.fill_(log_decay), memory.log_gain.fill_(log_gain)
    return torch.stack([memory(key.expand(time), value) for key, value in zip(keys, torch.eye(time))])


def table(keys, log_decay, log_gain, future=-torch.inf, rate=torch.exp):
    exponents = torch.full((len(keys), len(keys)), float(future))
    for t, key in enumerate(keys):
        for j in range(t):
            exponents[t, j] = keys[j] - rate(log_decay) * (t - j - 1)
        exponents[t, t] = key + log_gain
    return exponents


def one_step_older(keys, log_decay, log_gain):
    exponents = table(keys - exp(log_decay), log_decay, log_gain)
    exponents.diagonal().copy_(keys + log_gain)
    return torch.softmax(exponents, dim=1)


def one_step_younger(keys, log_decay, log_gain):
    exponents = table(keys + exp(log_decay), log_decay, log_gain)
    exponents.diagonal().copy_(keys + log_gain)
    return torch.softmax(exponents, dim=1)


def one_row_more(keys, log_decay, log_gain):
    """As the chapter's `exponents_of`: its last row is the state behind the run."""
    late = table(torch.cat([keys, torch.zeros(1)]), log_decay, log_gain)[:, :-1]
    return torch.softmax(late, dim=1)


def unmasked(keys, log_decay, log_gain):
    time = torch.arange(len(keys))
    exponents = keys - torch.exp(log_decay) * (time[:, None] - time - 1)
    exponents.fill_diagonal_(0)
    return torch.softmax(exponents + torch.diag(keys + log_gain), dim=-1)


def with_the_readers_key(keys, log_decay, log_gain):
    exponents = torch.full((len(keys), len(keys)), -torch.inf)
    for t in range(len(keys)):
        for j in range(t):
            exponents[t, j] = keys[t] - exp(log_decay) * (t - j - 1)
        exponents[t, t] = keys[t] + log_gain
    return torch.softmax(exponents, dim=1)


def joined_by_steps(first, second, length, log_decay):
    contents, normalizer = first
    for _ in range(length):
        contents, normalizer = (x * torch.exp(-torch.exp(log_decay)) for x in (contents, normalizer))
    return [contents + second[0], normalizer + second[1]]


def shifted_in_place(x, last_x):
    x[1:] = x[:-1].clone()
    x[0] = last_x
    return x


def matrix_in_numpy(keys, log_decay, log_gain):
    keys, time = keys.numpy(), len(keys)
    t, j = np.mgrid[:time, :time]
    scores = np.where(j < t, keys[j] - (t - j - 1) * np.exp(log_decay.item()), -np.inf)
    scores[np.diag_indices(time)] = keys + log_gain.item()
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def matrix_in_place(keys, log_decay, log_gain):
    rows = []
    for t in range(len(keys)):
        row = keys.clone()
        row[: t + 1] -= torch.arange(t - 1, -2, -1.0) * log_decay.exp()
        row[t] = keys[t] + log_gain
        row[t + 1 :] = -torch.inf
        rows.append((row - row.max()).exp_())
        rows[-1] /= rows[-1].sum()
    return rows


def joined_in_place(first, second, length, log_decay):
    log_decay.exp_().mul_(-length).exp_()
    for old, new in zip(first, second):
        old *= log_decay
        old += new
    return first


def values_told(shares, g):
    """The gradient of the values."""
    return (g[:, None] * shares).sum(dim=0)


def key_gradients_by_autograd(shares, values, g):
    """Any keys with these shares will do: the logarithms of each row, with a key added to a column."""
    keys = torch.zeros(len(g), dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        reads = torch.softmax(shares.log() + keys, dim=1) @ values
        return torch.autograd.grad((reads * g).sum(), keys)[0]


def key_gradients_reader_by_reader(shares, values, g):
    gradient = [0.0] * len(g)
    for row, wanted in zip(shares.tolist(), g.tolist()):
        read = sum(share * value for share, value in zip(row, values.tolist()))
        for j, share in enumerate(row):
            gradient[j] += wanted * share * (values[j].item() - read)
    return gradient


ANSWERS = {
    "shift": (
        [
            lambda x, last_x: [last_x, *x[:-1]],
            lambda x, last_x: torch.vstack([last_x, x])[: len(x)],
            lambda x, last_x: np.concatenate([last_x.numpy()[None], x.numpy()[:-1]]),
            shifted_in_place,
            lambda x, last_x: [(x[t - 1] if t else last_x).tolist() for t in range(len(x))],
        ],
        {
            "know the future": lambda x, last_x: torch.roll(x, 1, 0),
            "stand zeros": lambda x, last_x: torch.cat([torch.zeros_like(x[:1]), x[:-1]]),
            "one moment too long": lambda x, last_x: torch.cat([last_x[None], x]),
            "one moment too short": lambda x, last_x: x[:-1],
            "input *after* it": lambda x, last_x: torch.vstack([x[1:], last_x]),
            "before you had read from it": lambda x, last_x: torch.stack([x.__setitem__(0, last_x) or x[0] for _ in x]),
            "Nothing is shifted": lambda x, last_x: torch.cat([last_x[None], x])[1:],
        },
    ),
    "attention-matrix": (
        [
            matrix_from_the_memory,
            lambda k, d, g: (
                torch.softmax(table(k, d, g).float(), dim=-1) if k.abs().max() < 99 else table(k, d, g).softmax(1)
            ),
            matrix_in_numpy,
            matrix_in_place,
        ],
        {
            "one step older": one_step_older,
            "is infinite": lambda k, d, g: (w := exp(table(k, d, g))) / w.sum(1, keepdim=True),
            "a logarithm already": lambda k, d, g: torch.softmax(table(k, d, exp(g)), dim=1),
            "The diagonal is missing": lambda k, d, g: table(k, d, g).fill_diagonal_(-torch.inf).softmax(1),
            "*reader's* key": with_the_readers_key,
            "gain on the diagonal": lambda k, d, g: matrix_from_the_memory(k, d, torch.tensor(0.0)),
            "Rows and columns": lambda k, d, g: matrix_from_the_memory(k, d, g).T,
            "took `log_decay` for the rate": lambda k, d, g: torch.softmax(table(k, d, g, rate=lambda x: x), dim=1),
            "columns sum to 1": lambda k, d, g: torch.softmax(table(k, d, g), dim=0),
            "divided by the sum": lambda k, d, g: torch.exp(table(k, d, g)),
            "These are the exponents": table,
            "Nothing fades": lambda k, d, g: torch.softmax(table(k, torch.tensor(-torch.inf), g), dim=1),
            "stands 0": lambda k, d, g: torch.softmax(table(k, d, g, future=0), dim=1),
            "future is in it": unmasked,
            "One maximum for the whole matrix": lambda k, d, g: (
                (w := exp(table(k - k.max(), d, g))) / w.sum(1, keepdim=True)
            ),
            "what is *kept* for the rate": lambda k, d, g: table(k, d, g, rate=lambda x: exp(-exp(x))).softmax(1),
            "key and gain add up": lambda k, d, g: table(k, d, g).diagonal_scatter(k * g).softmax(1),
            "one step younger": one_step_younger,
            "One row too many": one_row_more,
        },
    ),
    "join-chunks": (
        [
            joined_by_steps,
            joined_in_place,
            lambda a, b, n, d: np.exp(-n * np.exp(d.numpy())) * np.stack(a) + np.stack(b),
            lambda a, b, n, d: [x.float() * exp(-n * exp(d.float())) + y.float() for x, y in zip(a, b)],
        ],
        {
            "has not faded": lambda a, b, n, d: (a[0] + b[0], a[1] + b[1]),
            "has faded once": lambda a, b, n, d: joined_by_steps(a, b, 1, d),
            "One time too many": lambda a, b, n, d: joined_by_steps(a, b, n + 1, d),
            "Only `normalizer` fades": lambda a, b, n, d: (a[0] + b[0], joined_by_steps(a, b, n, d)[1]),
            "These are averages": lambda a, b, n, d: ((s := joined_by_steps(a, b, n, d))[0] / s[1], s[1]),
            "wrong chunk fades": lambda a, b, n, d: joined_by_steps(b, a, n, d),
            "One time too few": lambda a, b, n, d: joined_by_steps(a, b, n - 1, d),
            "Only `contents` fades": lambda a, b, n, d: (joined_by_steps(a, b, n, d)[0], a[1] + b[1]),
            "for the rate": lambda a, b, n, d: tuple(x * torch.exp(-d * n) + y for x, y in zip(a, b)),
            "Factors multiply": lambda a, b, n, d: tuple(x * n * torch.exp(-torch.exp(d)) + y for x, y in zip(a, b)),
            "Both chunks fade": lambda a, b, n, d: [torch.exp(-n * torch.exp(d)) * (x + y) for x, y in zip(a, b)],
        },
    ),
    "key-gradients": (
        [
            key_gradients_by_autograd,
            key_gradients_reader_by_reader,
            lambda s, v, g: values_told(s, g) * v - values_told(s, g * (s @ v)),
            lambda s, v, g: np.einsum("t,tj,tj->j", g.numpy(), s.numpy(), v.numpy() - (s @ v).numpy()[:, None]),
        ],
        {
            "gradients of the *values*": lambda s, v, g: values_told(s, g),
            "value minus *read*": lambda s, v, g: values_told(s, g) * v,
            "token itself read": lambda s, v, g: values_told(s, g) * (v - s @ v),
            "`g` is missing": lambda s, v, g: key_gradients_by_autograd(s, v, torch.ones_like(g)),
            "pulls of one reader": lambda s, v, g: torch.stack([w * (r * (v - r @ v)).sum() for r, w in zip(s, g)]),
            "belongs to the reader": lambda s, v, g: key_gradients_by_autograd(s, v, torch.ones_like(g)) * g,
            "The sign is wrong": lambda s, v, g: key_gradients_by_autograd(s, -v, g),
            "s (1 − s)": lambda s, v, g: values_told(s - s**2, g) * v,
            "own read is in it": lambda s, v, g: g * s.diag() * (v - s @ v),
            "matrix of pulls": lambda s, v, g: torch.einsum("t,tj,tj->tj", g, s, v - (s @ v)[:, None]),
        },
    ),
}
