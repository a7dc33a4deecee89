"""Answers to the exercises of chapter "Blocks and the residual stream"."""

import functools
import itertools

import numpy as np
import torch


def recursive(x, updates, blocks):
    return x if not blocks else recursive(x + updates[0](x), updates[1:], blocks - 1)


def replaced(x, updates, blocks):
    for i in range(blocks):
        x = updates[i](x)
    return x


def from_the_beginning(x, updates, blocks):
    total = x.clone()
    for update in updates[:blocks]:
        total += update(x)
    return total


def last_update(x, updates, blocks):
    out = torch.zeros_like(x)
    for update in updates[:blocks]:
        out = update(x)
        x = x + out
    return out


def after_the_sum(x, ln1, attention, ln2, mlp):
    x = ln1(x + attention(x))
    return ln2(x + mlp(x))


def normalized_stream(x, ln1, attention, ln2, mlp):
    x = ln1(x)
    x = x + attention(x)
    x = ln2(x)
    return x + mlp(x)


def shares_by_loop(updates, scale, row):
    stream = sum(updates)
    spread = ((stream - stream.mean()).square().mean() + 1e-5).sqrt()
    return [((u - u.mean()) / spread * scale * row).sum() for u in updates]


def eating_the_list(x, updates, count):
    while count:
        x = x + updates.pop(0)(x)
        count -= 1
    return x


def added_in_place(stream, blocks, n):
    for i in range(n):
        stream += blocks[i](stream)
    return stream.numpy()


def block_in_place(stream, norm_a, time_mix, norm_b, channel_mix):
    stream += time_mix(norm_a(stream))
    stream += channel_mix(norm_b(stream))
    return stream


def sum_of(x, parts):
    for norm, part in zip(parts[::2], parts[1::2]):
        x = torch.add(x, part(norm(x)))
    return x


def shares_in_numpy(updates, scale, row):
    updates = updates.numpy()
    centered = updates - updates.mean(1, keepdims=True)
    return (centered * scale.numpy() * row.numpy()).sum(1) / np.sqrt(updates.sum(0).var() + 1e-5)


def shares_in_place(updates, scale, row):
    spread = torch.sqrt(torch.var(updates.sum(0), unbiased=False) + 1e-5)
    updates -= updates.mean(1, keepdim=True)
    updates *= scale / spread
    return [float(update.dot(row)) for update in updates]


def steps_of_the_early_logits(updates, scale, row):
    """They, too, sum to the logit: the chapter has just read the stream early."""
    logit, stream, steps = 0.0, torch.zeros_like(row), []
    for update in updates:
        stream = stream + update
        early = torch.nn.functional.layer_norm(stream, stream.shape, scale) @ row
        steps.append(early - logit)
        logit = early
    return steps


ANSWERS = {
    "stop-early": (
        [
            recursive,
            eating_the_list,
            lambda x, updates, count: functools.reduce(
                lambda stream, update: stream + update(stream), updates[:count], x
            ),
            added_in_place,
            lambda x, updates, count: list(itertools.accumulate([x, *updates[:count]], lambda s, u: s + u(s)))[-1],
        ],
        {
            "replaced by the update": replaced,
            "One block too many": lambda x, updates, blocks: recursive(x, updates, min(blocks + 1, len(updates))),
            "what the blocks added": lambda x, updates, blocks: recursive(x, updates, blocks) - x,
            "reads the beginning": from_the_beginning,
            "One block too few": lambda x, updates, blocks: recursive(x, updates, len(range(1, blocks))),
            "All blocks ran": lambda x, updates, blocks: recursive(x, updates, len(updates)),
            "last block's update": last_update,
        },
    ),
    "one-block": (
        [
            lambda x, ln1, att, ln2, mlp: (y := x + att(ln1(x))) + mlp(ln2(y)),
            block_in_place,
            lambda x, *parts: sum_of(x, parts),
            lambda x, ln1, att, ln2, mlp: (x + att(ln1(x)) + mlp(ln2(x + att(ln1(x))))).tolist(),
        ],
        {
            "from before the attention's update": lambda x, ln1, att, ln2, mlp: x + att(ln1(x)) + mlp(ln2(x)),
            "LayerNorms are missing": lambda x, ln1, att, ln2, mlp: (y := x + att(x)) + mlp(y),
            "stream of the beginning": lambda x, ln1, att, ln2, mlp: x + mlp(ln2(x + att(ln1(x)))),
            "what the parts *return*": lambda x, ln1, att, ln2, mlp: (y := x + ln1(att(x))) + ln2(mlp(y)),
            "in front of both parts": lambda x, ln1, att, ln2, mlp: (y := x + att(ln1(x))) + mlp(ln1(y)),
            "second update is not added": lambda x, ln1, att, ln2, mlp: mlp(ln2(x + att(ln1(x)))),
            "first update is not added": lambda x, ln1, att, ln2, mlp: (y := att(ln1(x))) + mlp(ln2(y)),
            "behind the additions": after_the_sum,
            "stream itself is normalized": normalized_stream,
            "two LayerNorms are swapped": lambda x, ln1, att, ln2, mlp: (y := x + att(ln2(x))) + mlp(ln1(y)),
            "gated MLP comes first": lambda x, ln1, att, ln2, mlp: (y := x + mlp(ln2(x))) + att(ln1(y)),
        },
    ),
    "who-wrote-it": (
        [
            shares_by_loop,
            shares_in_numpy,
            shares_in_place,
            lambda u, scale, row: ((u - u.mean(-1, True)) @ (scale * row)) / (u.sum(0).var(correction=0) + 1e-5) ** 0.5,
        ],
        {
            "own spread": lambda u, scale, row: torch.nn.functional.layer_norm(u, u.shape[-1:], scale) @ row,
            "epsilon is missing": lambda u, scale, row: (
                (u - u.mean(1, keepdim=True)) / u.sum(0).std(correction=0) @ (scale * row)
            ),
            "one less than the number": lambda u, scale, row: (
                (u - u.mean(1, keepdim=True)) / (u.sum(0).var() + 1e-5).sqrt() @ (scale * row)
            ),
            "over the *updates*": lambda u, scale, row: (
                (u - u.mean(0)) / (u.sum(0).var(unbiased=False) + 1e-5).sqrt() @ (scale * row)
            ),
            "would lose without the update": lambda u, scale, row: [
                sum(shares_by_loop(u, scale, row)) - sum(shares_by_loop([*u[:i], *u[i + 1 :]], scale, row))
                for i in range(len(u))
            ],
            "LayerNorm is missing": lambda u, scale, row: u @ row,
            "logit of the whole stream": lambda u, scale, row: sum(shares_by_loop(u, scale, row)),
            "loses its own": lambda u, scale, row: u / (u.sum(0).var(unbiased=False) + 1e-5).sqrt() @ (scale * row),
            "learned scale is missing": lambda u, scale, row: shares_by_loop(u, torch.ones_like(scale), row),
            "spread is missing": lambda u, scale, row: (u - u.mean(1, keepdim=True)) @ (scale * row),
            "mean and spread are missing": lambda u, scale, row: (u * scale * row).sum(dim=1),
            "grow from update to update": lambda u, scale, row: torch.stack(shares_by_loop(u, scale, row)).cumsum(0),
            "Nothing is centered": lambda u, scale, row: u / (u.sum(0).pow(2).mean() + 1e-5).sqrt() @ (scale * row),
            "before the mean was subtracted": lambda u, scale, row: (
                (u - u.mean(1, True)) / torch.sqrt(torch.sum(u, 0).square().mean() + 1e-5) @ (scale * row)
            ),
            "steps of the early logits": steps_of_the_early_logits,
            "outside of the square root": lambda u, scale, row: (
                (u - u.mean(1, True)) / (u.sum(0).std(correction=0) + 1e-5) @ (scale * row)
            ),
            "and the epsilon belongs inside": lambda u, scale, row: (
                (u - u.mean(1, True)) / (u.sum(0).std() + 1e-5) @ (scale * row)
            ),
            "and there is no epsilon": lambda u, scale, row: (u - u.mean(1, True)) / u.sum(0).std() @ (scale * row),
            "These sum to 1": lambda u, scale, row: (s := torch.stack(shares_by_loop(u, scale, row))) / s.sum(),
            "one mean for all updates": lambda u, scale, row: (
                (u - u.mean()) / (u.sum(0).var(unbiased=False) + 1e-5).sqrt() @ (scale * row)
            ),
        },
    ),
}
