"""Answers to the exercises of chapter "The zero-layer model"."""

import math

import numpy as np
import torch


def loop_by_many_hops(likeliest, start):
    for _ in range(100):
        start = int(likeliest[start])
    loop = {start}
    while int(likeliest[start]) not in loop:
        start = int(likeliest[start])
        loop.add(start)
    return sorted(loop)


def walk(likeliest, start):
    seen = []
    while start not in seen:
        seen.append(start)
        start = int(likeliest[start])
    return seen


def all_visited(likeliest, start):
    return sorted(walk(likeliest, start))


def in_order(likeliest, start):
    seen = walk(likeliest, start)
    return seen[seen.index(int(likeliest[seen[-1]])) :]


def where_it_closes(likeliest, start):
    seen = set()
    while start not in seen:
        seen.add(start)
        start = likeliest[start].item()
    return [start]


def closed_twice(likeliest, start):
    loop = in_order(likeliest, start)
    return sorted([*loop, loop[0]])


def loop_in_numpy(likeliest, start):
    likeliest, token = likeliest.numpy(), start
    for _ in likeliest:
        token = likeliest[token]
    found = [token]
    while likeliest[found[-1]] != token:
        found.append(likeliest[found[-1]])
    return np.sort(found)


def loop_by_time_of_visit(likeliest, start):
    visited, time = {}, 0
    while start not in visited:
        visited[start] = time
        start, time = likeliest.tolist()[start], time + 1
    return tuple(sorted(token for token, at in visited.items() if at >= visited[start]))


def chain_in_numpy(model):
    table = np.zeros((model.vocab_size, model.vocab_size))
    for token in range(model.vocab_size):
        logits = model.logits(token).numpy()
        table[token] = np.exp(logits - logits.max())
    table /= table.sum(axis=1, keepdims=True)
    return table


ANSWERS = {
    "chain-on-paper": (
        [
            lambda after: torch.tensor([after["a"]["b"], after["b"]["a"], after["a"]["c"]]).prod(),
            lambda after: [math.prod((after["a"]["b"], after["b"]["a"], after["a"]["c"]))],
            lambda after: round(after["a"]["b"] * after["b"]["a"] * after["a"]["c"], 3),
            lambda after: np.exp(sum(np.log(after[x][y]) for x, y in ("ab", "ba", "ac"))),
        ],
        {
            "added": lambda after: after["a"]["b"] + after["b"]["a"] + after["a"]["c"],
            "first hop is missing": lambda after: after["b"]["a"] * after["a"]["c"],
            "wrong way round": lambda after: after["b"]["a"] * after["a"]["b"] * after["c"]["a"],
            "last hop is missing": lambda after: after["a"]["b"] * after["b"]["a"],
            "mean of the three": lambda after: (after["a"]["b"] + after["b"]["a"] + after["a"]["c"]) / 3,
            "looks at the latest token": lambda after: after["a"]["b"] * after["b"]["a"] * after["b"]["c"],
            "yours is rounded": lambda after: float(f"{after['a']['b'] * after['b']['a'] * after['a']['c']:.2f}"),
            "in percent": lambda after: 100 * after["a"]["b"] * after["b"]["a"] * after["a"]["c"],
        },
    ),
    "loop": (
        [
            loop_by_many_hops,
            loop_in_numpy,
            lambda likeliest, start: torch.tensor(loop_by_many_hops(likeliest, start)),
            loop_by_time_of_visit,
        ],
        {
            "leads into the loop is still there": all_visited,
            "wanted are its tokens": lambda likeliest, start: len(loop_by_many_hops(likeliest, start)),
            "in the order of the walk: sort them": in_order,
            "Ten hops are not always": lambda likeliest, start: sorted(
                walk(likeliest, [start := int(likeliest[start]) for _ in range(10)][-1])
            ),
            "enters the loop": where_it_closes,
            "stands there twice": closed_twice,
            "lead *into* the loop": lambda likeliest, start: sorted(
                set(walk(likeliest, start)).difference(in_order(likeliest, start))
            ),
            "These are all tokens in the order": walk,
        },
    ),
    "whole-chain": (
        [
            lambda model: torch.softmax(model.logits(torch.eye(model.vocab_size)), dim=-1),
            lambda model: [model(token) for token in range(model.vocab_size)],
            chain_in_numpy,
            lambda model: torch.cat([model(torch.tensor([token])) for token in range(model.vocab_size)]),
        ],
        {
            "Rows and columns": lambda model: model(torch.arange(model.vocab_size)).T,
            "These are logits": lambda model: model.logits(torch.arange(model.vocab_size)),
            "That is one row": lambda model: model(0),
            "columns sum to 1": lambda model: torch.softmax(model.logits(torch.eye(model.vocab_size)), dim=0),
            "logarithms of probabilities": lambda model: model.logits(torch.arange(model.vocab_size)).log_softmax(-1),
            "likeliest follower": lambda model: torch.stack([model(i).argmax() for i in range(model.vocab_size)]),
            "without their LayerNorm": lambda model: model.unembedding(model.embedding.embedding.weight),
        },
    ),
}
