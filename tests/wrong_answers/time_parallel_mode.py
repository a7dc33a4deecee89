"""Answers to the exercises of chapter "Time-parallel mode"."""

import torch

from rwkv_explainer.model import WKVMemory


def matrix_from_the_memory(keys, log_decay, log_gain, newest_faded=False):
    """Feed the memory one-hot values: channel j follows token j."""
    time = len(keys)
    memory = WKVMemory(time).requires_grad_(False)
    memory.log_decay.fill_(log_decay), memory.log_gain.fill_(log_gain)
    rows = []
    for t, value in enumerate(torch.eye(time)):
        if newest_faded:
            memory.step()
        rows.append(memory.read(keys[t].expand(time), value))
        if newest_faded:
            memory.contents, memory.normalizer = memory.contents + keys[t].exp() * value, memory.normalizer + keys[t].exp()
        else:
            memory.write(keys[t].expand(time), value)
    return torch.stack(rows)


def joined_by_steps(first, second, length, log_decay):
    contents, normalizer = first
    for _ in range(length):
        contents, normalizer = (x * torch.exp(-torch.exp(log_decay)) for x in (contents, normalizer))
    return [contents + second[0], normalizer + second[1]]


ANSWERS = {
    "shift": ([lambda x, last_x: [last_x, *x[:-1]]], {
        "know the future": lambda x, last_x: torch.roll(x, 1, 0),
        "stand zeros": lambda x, last_x: torch.cat([torch.zeros_like(x[:1]), x[:-1]]),
        "one moment too long": lambda x, last_x: torch.cat([last_x[None], x]),
    }),
    "attention-matrix": ([matrix_from_the_memory], {
        "one step older": lambda k, d, g: matrix_from_the_memory(k, d, g, newest_faded=True),
        "gain on the diagonal": lambda k, d, g: matrix_from_the_memory(k, d, torch.tensor(0.0)),
        "Rows and columns": lambda k, d, g: matrix_from_the_memory(k, d, g).T,
    }),
    "join-chunks": ([joined_by_steps], {
        "has not faded": lambda a, b, n, d: (a[0] + b[0], a[1] + b[1]),
        "has faded once": lambda a, b, n, d: joined_by_steps(a, b, 1, d),
        "wrong chunk fades": lambda a, b, n, d: joined_by_steps(b, a, n, d),
    }),
}
