"""Answers to the exercises of chapter "Attention and memory"."""

import math

import numpy as np
import torch
from torch import exp


def half_life_by_counting(log_decay):
    rate = np.exp(log_decay.numpy())
    return np.log(0.5) / -rate


def shares_by_differences(read, time):
    nothing = read(torch.zeros(time))[-1].item()
    shares = []
    for j in range(time):
        values = torch.zeros(time)
        values[j] = 10
        shares.append((read(values)[-1].item() - nothing) / 10)
    return shares


def shares_of_the_first_read(read, time):
    return [read(torch.eye(time)[j])[0] for j in range(time)]


def step_without_exp_twice(contents, normalizer, key, value, log_decay, log_gain):
    weight = torch.exp(key)
    now = weight * torch.exp(log_gain)
    fade = torch.exp(-torch.exp(log_decay))
    out = (contents + value * now) / (normalizer + now)
    contents = contents * fade
    contents += weight * value
    return [out, contents, normalizer * fade + weight]


def decayed_first(contents, normalizer, key, value, log_decay, log_gain):
    contents, normalizer = contents * exp(-exp(log_decay)), normalizer * exp(-exp(log_decay))
    now = exp(key + log_gain)
    return ((contents + now * value) / (normalizer + now), contents + exp(key) * value, normalizer + exp(key))


def gain_written(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-exp(log_decay))
    return (contents + now * value) / (normalizer + now), keep * contents + now * value, keep * normalizer + now


def no_gain(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key), exp(-exp(log_decay))
    return (contents + now * value) / (normalizer + now), keep * contents + now * value, keep * normalizer + now


def never_fading(contents, normalizer, key, value, log_decay, log_gain):
    now = exp(key + log_gain)
    return (contents + now * value) / (normalizer + now), contents + exp(key) * value, normalizer + exp(key)


def half_fading(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-exp(log_decay))
    return (contents + now * value) / (normalizer + now), keep * contents + exp(key) * value, normalizer + exp(key)


def one_exp(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-log_decay)
    read = (contents + now * value) / (normalizer + now)
    return read, keep * contents + exp(key) * value, keep * normalizer + exp(key)


def fades_all(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-exp(log_decay))
    read = (contents + now * value) / (normalizer + now)
    return read, keep * (contents + exp(key) * value), keep * (normalizer + exp(key))


def block_around(step, gates=torch.sigmoid, update=lambda gates, read, W_o: W_o @ (gates * read)):
    """The attention block around a memory, as a learner writes it."""

    def block(mixed, matrices, contents, normalizer, log_decay, log_gain):
        k, v, r = mixed
        W_k, W_v, W_r, W_o = matrices
        read, contents, normalizer = step(contents, normalizer, W_k @ k, W_v @ v, log_decay, log_gain)
        return [update(gates(W_r @ r), read, W_o), contents, normalizer]

    return block


def one_mixture_for_all(mixed, *rest):
    k, v, r = mixed
    return block_around(step_without_exp_twice)((k, v, k), *rest)


def values_first(mixed, *rest):
    k, v, r = mixed
    return block_around(step_without_exp_twice)((v, k, r), *rest)


def loops(kinds, wanted):
    loud, opened = torch.zeros(len(kinds), 2), torch.zeros(len(kinds), 2)
    for i in range(len(kinds)):
        loud[i, 1 - kinds[i]] = 1  # verbs in the first channel, nouns in the second
        opened[i, 1 - wanted[i]] = 1
    return loud, opened


ANSWERS = {
    "half-life": (
        [half_life_by_counting, lambda log_decay: 0.6931471805599453 * exp(-log_decay)],
        {
            "the rate is its exponential": lambda log_decay: torch.log(torch.tensor(2.0)) / log_decay,
            "sign is turned around": lambda log_decay: math.log(2) * exp(log_decay),
            "factor that is left": lambda log_decay: math.log(2) / exp(-exp(log_decay)),
            "same *amount*": lambda log_decay: 1 / (2 * exp(log_decay)),
            "not negative": lambda log_decay: torch.log(torch.tensor(0.5)) / exp(log_decay),
            "1/e of a weight": lambda log_decay: exp(-log_decay),
        },
    ),
    "last-shares": (
        [shares_by_differences],
        {
            "while they are current": lambda read, time: [read(torch.eye(time)[j])[j] for j in range(time)],
            "added up": lambda read, time: [sum(read(torch.eye(time)[j])) for j in range(time)],
            "all tokens had the value 1": lambda read, time: read([1.0] * time),
            "turned around": lambda read, time: [read(torch.eye(time)[-1 - j])[-1] for j in range(time)],
            "*first* token's read": shares_of_the_first_read,
            "table": lambda read, time: torch.stack([read(row) for row in torch.eye(time)]),
        },
    ),
    "memory-step": (
        [step_without_exp_twice],
        {
            "one step older than it should be: read before you": decayed_first,
            "gain got into the memory": gain_written,
            "without its gain": no_gain,
            "Nothing fades": never_fading,
            "Only `contents` fades": half_fading,
            "took `log_decay` for the rate": one_exp,
            "in the moment it is written": fades_all,
        },
    ),
    "attention-block": (
        [
            block_around(step_without_exp_twice, gates=lambda x: 1 / (1 + exp(-x))),
            block_around(step_without_exp_twice, update=lambda gates, read, W_o: (W_o * (gates * read)).sum(dim=1)),
        ],
        {
            "gates are missing": block_around(step_without_exp_twice, gates=torch.ones_like),
            "without limit": block_around(step_without_exp_twice, gates=lambda x: x),
            "that is a softmax": block_around(step_without_exp_twice, gates=lambda x: x.softmax(-1)),
            "one minus the sigmoid": block_around(step_without_exp_twice, gates=lambda x: 1 / (1 + exp(x))),
            "last matrix is missing": block_around(step_without_exp_twice, update=lambda gates, read, _: gates * read),
            "come too late": block_around(step_without_exp_twice, update=lambda gates, read, W_o: (W_o @ read) * gates),
            "keys and values are swapped": values_first,
            "mixture for keys": one_mixture_for_all,
            "read before it fades": block_around(decayed_first),
            "the gain got into it": block_around(gain_written),
            "nothing in it fades": block_around(never_fading),
        },
    ),
    "last-of-its-kind": (
        [loops, lambda kinds, wanted: [(x[:, None] == torch.arange(2)).int() for x in (kinds, wanted)]],
        {
            "swapped": lambda kinds, wanted: (torch.eye(2)[kinds], torch.eye(2)[1 - wanted]),
            "Both gates": lambda kinds, wanted: (torch.eye(2)[kinds], torch.ones(len(kinds), 2)),
            "loud in both": lambda kinds, wanted: (torch.ones(len(kinds), 2), torch.eye(2)[wanted]),
            "own kind": lambda kinds, wanted: (torch.eye(2)[kinds], torch.eye(2)[kinds]),
            "by what they ask for": lambda kinds, wanted: (torch.eye(2)[wanted], torch.eye(2)[wanted]),
            "All gates are shut": lambda kinds, wanted: (torch.eye(2)[kinds], torch.zeros(len(kinds), 2)),
        },
    ),
}
