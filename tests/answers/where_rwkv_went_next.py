"""Answers to the exercises of chapter "Where RWKV went next"."""

import math

import numpy as np
import torch
from torch import exp


def told_step_by_step(rate, times):
    old, new = 1.0, 0.0
    for _ in range(times):
        old, new = old - rate * old, new - rate * new + rate
    return [old, new]


def whole_keys(rate, times):
    old, new = 1.0, 0.0
    for _ in range(times):
        old, new = old - rate * old, new - rate * new + 1
    return old, new


def swapped_by_loops(i, j, size):
    key = [0.0] * size
    key[i], key[j] = -(0.5**0.5), 0.5**0.5
    return key, torch.full((size,), 2.0)


def unit(i, j, size, sign=-1.0):
    key = torch.zeros(size, dtype=torch.float64)
    key[i], key[j] = 1, sign
    return key / key.norm()


def eagle_in_place(key, value, w):
    return key, value, w.exp_().neg_().exp_(), torch.ones(len(key)).float(), torch.zeros(1)


def swapped_in_place(first, second, n):
    q = torch.zeros(n)
    q[first] += 1
    q[second] -= 1
    return q.div_(q.norm()), [2.0] * n


def goose_in_place(S, k, v, w, q, rate):
    found = q @ S
    S *= w.unsqueeze(1)
    S -= (rate * q).unsqueeze(1) * found
    S += k.unsqueeze(1) * v
    return S


def goose_in_numpy(*given):
    S, k, v, w, q, rate = (x.numpy() for x in given)
    new = np.zeros_like(S)
    for row in range(len(S)):
        new[row] = w[row] * S[row] - rate[row] * q[row] * (q @ S) + k[row] * v
    return new


def finch_in_place(table, receptance, key, value, gain, log_decay):
    now = key.unsqueeze(1) * value
    read = (receptance.unsqueeze(1) * (table + gain.unsqueeze(1) * now)).sum(0)
    table *= log_decay.exp_().neg_().exp_().unsqueeze(1)
    table += now
    return [read, table]


def finch_in_numpy(*given, fade=1, u=lambda gain: gain, rate=np.exp):
    S, r, k, v, gain, w = (x.numpy() for x in given)
    read, new = np.zeros(len(k)), np.zeros_like(S)
    for i in range(len(k)):
        read += r[i] * (S[i] + u(gain)[i] * k[i] * v)
        new[i] = np.exp(-rate(w[i])) * S[i] + k[i] * v
    return read, new


def finch_by_shares(S, r, k, v, u, w):
    """Past and present one after the other, without a table of the present."""
    return r @ S + (r * u * k).sum() * v, torch.diag((-w.exp()).exp()) @ S + k[:, None] @ v[None]


def finch_writes_first(S, r, k, v, u, w):
    _, table = finch_by_shares(S, r, k, v, u, w)
    return r @ table, table


ANSWERS = {
    "finch-step": (
        [
            finch_in_place,
            finch_in_numpy,
            finch_by_shares,
            lambda *given: finch_in_place(*(x.float() for x in given)),
            lambda *given: tuple(part.tolist() for part in finch_by_shares(*given)),
        ],
        {
            "read after the write": finch_writes_first,
            "not in what is read": lambda S, r, k, v, u, w: finch_by_shares(S, r, k, v, 0 * u, w),
            "gain is missing": lambda S, r, k, v, u, w: finch_by_shares(S, r, k, v, u / u, w),
            "a factor here": lambda *given: finch_in_numpy(*given, u=np.exp),
            "is written too": lambda S, r, k, v, u, w: (
                finch_by_shares(S, r, k, v, u, w)[0],
                finch_in_numpy(S, r, u * k, v, u, w)[1],
            ),
            "fades before it is read": lambda S, r, k, v, u, w: (
                r @ (torch.exp(-torch.exp(w))[:, None] * S) + (r * u * k).sum() * v,
                finch_by_shares(S, r, k, v, u, w)[1],
            ),
            "Two exponentials lead": lambda *given: finch_in_numpy(*given, rate=lambda w: w),
            "columns fade": lambda S, r, k, v, u, w: (
                finch_by_shares(S, r, k, v, u, w)[0],
                S * torch.exp(-torch.exp(w)) + torch.outer(k, v),
            ),
            "fades with the rest": lambda S, r, k, v, u, w: (
                finch_by_shares(S, r, k, v, u, w)[0],
                (S + torch.outer(k, v)) * torch.exp(-w.exp()).unsqueeze(1),
            ),
            "Key and value are swapped": lambda S, r, k, v, u, w: finch_in_numpy(S, r, v, k, u, w),
            "goes to the columns": lambda S, r, k, v, u, w: (
                S @ r + u * k * (v @ r),
                finch_by_shares(S, r, k, v, u, w)[1],
            ),
            "first what is read": lambda *given: finch_in_place(*given)[::-1],
        },
    ),
    "bit-by-bit": (
        [
            told_step_by_step,
            lambda rate, times: (1 - (new := -math.expm1(times * math.log1p(-rate))), new),
            lambda rate, times: np.array([(1 - rate) ** times, 1 - (1 - rate) ** times]),
            lambda rate, times: torch.linalg.matrix_power(torch.tensor([[1 - rate, 0], [rate, 1]]), times)[:, 0],
        ],
        {
            "old city comes first": lambda rate, times: (1 - (1 - rate) ** times, (1 - rate) ** times),
            "share that is *removed*": lambda rate, times: (rate**times, 1 - rate**times),
            "not the same amount": lambda rate, times: (1 - times * rate, times * rate),
            "not at 1": lambda rate, times: ((1 - rate) ** times, 1),
            "of the new one, too": lambda rate, times: ((1 - rate) ** times, rate * times),
            "One time too few": lambda rate, times: told_step_by_step(rate, times - 1),
            "Nothing was removed": lambda rate, times: [1.0, times * rate],
            "after it was told once": lambda rate, times: (1 - rate, rate),
            "not whole": whole_keys,
        },
    ),
    "as-eagle": (
        [
            lambda key, value, log_decay: (key, value, (-log_decay.exp()).exp(), 0 * key, 1 + 0 * key),
            lambda key, value, log_decay: [key.tolist(), value, exp(-exp(log_decay)), value, 0.0],
            eagle_in_place,
            lambda key, value, log_decay: (key, value, np.exp(-np.exp(log_decay.numpy())), np.zeros(len(key)), 0),
        ],
        {
            "It still removes": lambda key, value, log_decay: (key, value, exp(-exp(log_decay)), key, 1.0),
            "Nothing fades": lambda key, value, log_decay: (key, value, 1.0, key, 0.0),
            "`log_decay` itself": lambda key, value, log_decay: (key, value, log_decay, key, 0.0),
            "You passed the rate": lambda key, value, log_decay: (key, value, log_decay.exp(), key, 0.0),
            "two exponentials": lambda key, value, log_decay: (key, value, exp(-log_decay), 0 * key, 0.0),
            "as in RWKV-4": lambda key, value, log_decay: (key.exp(), value, exp(-exp(log_decay)), key, 0.0),
            "rows are where": lambda key, value, log_decay: (value, key, exp(-exp(log_decay)), key, 0.0),
        },
    ),
    "swap": (
        [
            swapped_by_loops,
            lambda i, j, size: (unit(j, i, size), 2),
            lambda i, j, size: ((np.eye(size)[i] - np.eye(size)[j]) * 0.5**0.5, np.array(2)),
            swapped_in_place,
        ],
        {
            "both are at their average": lambda i, j, size: (unit(i, j, size), 1),
            "a removal key has the length 1": lambda i, j, size: (2**0.5 * unit(i, j, size), 1),
            "more is removed than you meant": lambda i, j, size: (2**0.5 * unit(i, j, size), 2),
            "changed their sign": lambda i, j, size: (unit(i, j, size, 1.0), 2),
            "The first row is gone": lambda i, j, size: (torch.eye(size)[i], 1),
            "so each of the two is √½": lambda i, j, size: (unit(i, j, size) / 2**0.5, 2),
            "first the removal key": lambda i, j, size: (2.0, unit(i, j, size)),
            "moved apart": lambda i, j, size: (unit(i, j, size), -2),
        },
    ),
    "goose-write": (
        [
            goose_in_place,
            goose_in_numpy,
            lambda S, k, v, w, q, rate: (torch.diag(w) - (rate * q)[:, None] * q) @ S + k[:, None] * v,
            lambda *given: goose_in_place(*(x.float() for x in given)),
        ],
        {
            "Finch's write": lambda S, k, v, w, q, rate: torch.diag(w) @ S + torch.outer(k, v),
            "Nothing fades": lambda S, k, v, w, q, rate: goose_in_numpy(S, k, v, torch.ones(len(w)), q, rate),
            "has faded already": lambda S, k, v, w, q, rate: goose_in_numpy(
                w[:, None] * S, k, v, torch.ones(len(w)), q, rate
            ),
            "`rate` is missing": lambda S, k, v, w, q, rate: goose_in_numpy(S, k, v, w, q, torch.ones(len(w))),
            "rows are where": lambda S, k, v, w, q, rate: goose_in_numpy(S, v, k, w, q, rate),
            "by columns": lambda S, k, v, w, q, rate: w[:, None] * S - torch.outer(rate * q, S @ q) + torch.outer(k, v),
            "not written": lambda S, k, v, w, q, rate: w[:, None] * S - torch.outer(rate * q, q @ S),
        },
    ),
}
