"""Answers to the exercises of chapter "The whole model"."""

import collections
import re

import numpy as np
import torch

import rwkv_explainer as rwkv


def spliced_in_place(one, other, layers):
    for layer in layers:
        for name in other:
            if name.startswith(f"blocks.{layer}."):
                one[name] = other[name]
    return one


def spliced_where(asked):
    """A splice of the buffers for which `asked` says so."""

    def splice(one, other, layers):
        state = dict(one)
        for name in one:
            if int(name.split(".")[1]) in layers and asked(name):
                state[name] = other[name]
        return state

    return splice


def by_prefix(one, other, layers):
    return {name: other[name] if name.startswith(tuple(f"blocks.{n}" for n in layers)) else one[name] for name in one}


def spliced_by_copying(first, second, chosen):
    for name, tensor in first.items():
        number = int(re.match(r"blocks\.(\d+)\.", name)[1])
        if number in set(chosen):
            tensor.copy_(second[name])
    return first


ANSWERS = {
    "size-of-memory": (
        [
            lambda layers, channels, tokens: float(layers * channels * 4),
            lambda layers, channels, tokens: np.int64(2 * layers * channels) * 2,
            lambda layers, channels, tokens: sum(channels for _ in range(layers) for _ in "abxy"),
            lambda layers, channels, tokens: torch.zeros(layers, 4, channels).numel(),
        ],
        {
            "length of the text": lambda layers, channels, tokens: 4 * layers * channels * tokens,
            "Mixers remember too": lambda layers, channels, tokens: 2 * channels * layers,
            "share one copy": lambda layers, channels, tokens: 7 * channels * layers,
            "a number more for each channel": lambda layers, channels, tokens: 3 * layers * channels,
            "one number too many": lambda layers, channels, tokens: layers * channels * 5,
            "Each layer has": lambda layers, channels, tokens: 4 * channels,
            "two sums, and two last inputs": lambda layers, channels, tokens: layers * channels,
        },
    ),
    "count-parameters": (
        [
            lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 11 * c),
            lambda v, c, n: float(2 * v * c + 4 * c + n * (13 * c**2 + 11 * c)),
            lambda v, c, n: sum(
                len(p.flatten()) for p in rwkv.RWKVLM.from_config(rwkv.RWKVConfig(v, c, n, 4 * c)).parameters()
            ),
            lambda v, c, n: torch.tensor([v, c, n]).prod() * 0 + 2 * c * (v + 2) + n * c * (13 * c + 11),
        ],
        {
            "matrix of its own": lambda v, c, n: v * c + 4 * c + n * (13 * c * c + 11 * c),
            "four times as wide": lambda v, c, n: 2 * v * c + 4 * c + n * (7 * c * c + 11 * c),
            "the memory's decay and gain, or two": lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 9 * c),
            "before the unembedding": lambda v, c, n: 2 * v * c + n * (13 * c * c + 11 * c),
            "LayerNorms are missing: two": lambda v, c, n: 2 * v * c + n * (13 * c * c + 7 * c),
            "mixers' weights are missing": lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 6 * c),
            "a scale and a bias": lambda v, c, n: 2 * v * c + 2 * c + n * (13 * c * c + 9 * c),
            "One matrix of channels": lambda v, c, n: 2 * v * c + 4 * c + n * (12 * c * c + 11 * c),
            "one layer's share": lambda v, c, n: 2 * v * c + 4 * c + 13 * c * c + 11 * c,
        },
    ),
    "splice": (
        [
            spliced_in_place,
            lambda one, other, layers: collections.ChainMap(spliced_where(lambda name: True)(one, other, layers)),
            lambda one, other, layers: one | {k: v for k, v in other.items() if int(k.split(".")[1]) in layers},
            spliced_by_copying,
        ],
        {
            "compare the whole number": by_prefix,
            "Only the first of the layers": lambda one, other, layers: spliced_in_place(one, other, layers[:1]),
            "One digit of the name": lambda one, other, layers: {
                k: (other if int(k[7]) in layers else one)[k] for k in one
            },
            "missing": lambda one, other, layers: {n: x for n, x in other.items() if int(n.split(".")[1]) in layers},
            "wrong way round": lambda one, other, layers: spliced_in_place(other, one, layers),
            "mixers' last inputs": spliced_where(lambda name: name.endswith(("contents", "normalizer"))),
            "memories' sums": spliced_where(lambda name: name.endswith("last_x")),
            "Layers count from 0": lambda one, other, layers: spliced_in_place(one, other, [n - 1 for n in layers]),
            "second snapshot unchanged": lambda one, other, layers: {**one, **other},
            "first snapshot unchanged": lambda one, other, layers: {
                **one,
                **{n: other[n] for n in other if n in layers},
            },
        },
    ),
    "cost-of-a-token": (
        [
            lambda vocabulary, channels, layers: channels * (13 * channels * layers + vocabulary),
            lambda v, c, n: torch.tensor(float(v * c + n * (4 * c * c + 2 * 4 * c * c + c * c))),
            lambda v, c, n: sum(
                p.numel()
                for name, p in rwkv.RWKVLM.from_config(rwkv.RWKVConfig(v, c, n, 4 * c)).named_parameters()
                if p.dim() == 2 and not name.startswith("embedding.")
            ),
        ],
        {
            "looks a row up": lambda v, c, n: 13 * n * c * c + 2 * v * c,
            "unembedding is missing": lambda v, c, n: 13 * n * c * c,
            "four in the attention": lambda v, c, n: 12 * n * c * c + v * c,
            "four times as long": lambda v, c, n: 7 * n * c * c + v * c,
            "MLP is missing": lambda v, c, n: 4 * n * c * c + v * c,
            "one layer's share": lambda v, c, n: 13 * c * c + v * c,
            "count once": lambda v, c, n: 26 * n * c * c + 2 * v * c,
        },
    ),
}
