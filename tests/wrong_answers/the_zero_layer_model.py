"""Answers to the exercises of chapter "The zero-layer model"."""

import torch


def loop_by_many_hops(likeliest, start):
    for _ in range(100):
        start = int(likeliest[start])
    loop = {start}
    while int(likeliest[start]) not in loop:
        start = int(likeliest[start])
        loop.add(start)
    return sorted(loop)


def all_visited(likeliest, start):
    seen = set()
    while start not in seen:
        seen.add(start)
        start = int(likeliest[start])
    return sorted(seen)


ANSWERS = {
    "chain-on-paper": ([lambda after: torch.tensor([after["a"]["b"], after["b"]["a"], after["a"]["c"]]).prod()], {
        "added": lambda after: after["a"]["b"] + after["b"]["a"] + after["a"]["c"],
        "first hop is missing": lambda after: after["b"]["a"] * after["a"]["c"],
        "wrong way round": lambda after: after["b"]["a"] * after["a"]["b"] * after["c"]["a"],
    }),
    "loop": ([loop_by_many_hops], {
        "leads into the loop is still there": all_visited,
        "wanted are its tokens": lambda likeliest, start: len(loop_by_many_hops(likeliest, start)),
    }),
    "whole-chain": ([lambda model: torch.softmax(model.logits(torch.eye(model.vocabulary)), dim=-1)], {
        "Rows and columns": lambda model: model(torch.arange(model.vocabulary)).T,
        "These are logits": lambda model: model.logits(torch.arange(model.vocabulary)),
        "That is one row": lambda model: model(0),
    }),
}
