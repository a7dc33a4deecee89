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


def norm(x, weights, name):
    return torch.nn.functional.layer_norm(x, x.shape, weights[f"{name}.weight"], weights[f"{name}.bias"])


def by_past(weights, ids, age=0.0, u_read=1, u_write=0, rate=torch.exp, ln0=True, gate=torch.sigmoid, swap=False):
    """All tokens of a layer at once: the paper's sum over the past, written out for each reader."""

    def shifted(x, mu):
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        x, before = (before, x) if swap else (x, before)
        return mu * x + (1 - mu) * before

    def rows(x, name):
        return torch.stack([norm(row, weights, name) for row in x])

    x = weights["emb.weight"][ids]
    x = rows(x, "blocks.0.ln0") if ln0 else x
    for i in range(2):
        get = {name.removeprefix(f"blocks.{i}."): tensor for name, tensor in weights.items()}.__getitem__
        seen = rows(x, f"blocks.{i}.ln1")
        r, k, v = (
            shifted(seen, get(f"att.time_mix_{name[0]}")) @ get(f"att.{name}.weight").T
            for name in ("receptance", "key", "value")
        )
        w, u = rate(get("att.time_decay")), get("att.time_first")
        reads = []
        for t in range(len(ids)):
            ages = torch.arange(t - 1, -1, -1, dtype=torch.float64)[:, None] + age
            exponents = torch.cat([k[:t] - ages * w + u_write * u, (k[t] + u_read * u)[None]])
            reads.append((exponents.softmax(0) * v[: t + 1]).sum(0))
        x = x + (gate(r) * torch.stack(reads)) @ get("att.output.weight").T
        seen = rows(x, f"blocks.{i}.ln2")
        latents = (shifted(seen, get("ffn.time_mix_k")) @ get("ffn.key.weight").T).relu().square()
        r = shifted(seen, get("ffn.time_mix_r")) @ get("ffn.receptance.weight").T
        x = x + gate(r) * (latents @ get("ffn.value.weight").T)
    return rows(x, "ln_out") @ weights["head.weight"].T


def by_running_maximum(weights, ids, remembers=True, shared=False, squared=True, ln_out=True, raw=False, beside=False):
    """The official lines in NumPy."""
    z = {name: tensor.numpy() for name, tensor in weights.items()}
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    normed = lambda x, name: norm(torch.tensor(x), weights, name).numpy()
    new = lambda: [np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(4), np.full(4, -1e38)]
    state = [new()] * 2 if shared else [new(), new()]
    logits = []
    for token in ids:
        x = normed(z["emb.weight"][token], "blocks.0.ln0")
        state = state if remembers else [new(), new()]
        for i in range(2):
            att, ffn, (last, last_ffn, aa, bb, pp), start = f"blocks.{i}.att.", f"blocks.{i}.ffn.", state[i], x
            seen = normed(x, f"blocks.{i}.ln1")
            mixed = lambda a, b, mu: z[mu] * a + (1 - z[mu]) * b
            r = z[att + "receptance.weight"] @ mixed(seen, last, att + "time_mix_r")
            k = z[att + "key.weight"] @ mixed(seen, last, att + "time_mix_k")
            v = z[att + "value.weight"] @ mixed(seen, last, att + "time_mix_v")
            ww = z[att + "time_first"] + k
            p = np.maximum(pp, ww)
            wkv = (np.exp(pp - p) * aa + np.exp(ww - p) * v) / (np.exp(pp - p) * bb + np.exp(ww - p))
            ww = pp - np.exp(z[att + "time_decay"])
            p = np.maximum(ww, k)
            aa, bb, pp = (np.exp(ww - p) * aa + np.exp(k - p) * v, np.exp(ww - p) * bb + np.exp(k - p), p)
            x = x + z[att + "output.weight"] @ (sigmoid(r) * wkv)
            read = normed(start if beside else x, f"blocks.{i}.ln2")
            r = z[ffn + "receptance.weight"] @ mixed(read, last_ffn, ffn + "time_mix_r")
            k = np.maximum(z[ffn + "key.weight"] @ mixed(read, last_ffn, ffn + "time_mix_k"), 0)
            state[i][:] = [start if raw else seen, x if raw else read, aa, bb, pp]
            x = x + sigmoid(r) * (z[ffn + "value.weight"] @ (k**2 if squared else k))
        logits.append(z["head.weight"] @ (normed(x, "ln_out") if ln_out else x))
    return np.array(logits)


ANSWERS = {
    "from-the-formulas": (
        [
            by_past,
            by_running_maximum,
            lambda weights, ids: by_running_maximum({n: x.double() for n, x in weights.items()}, ids).tolist(),
            lambda weights, ids: list(by_past(weights, torch.tensor(ids))),
        ],
        {
            "nothing of it is remembered": lambda weights, ids: by_running_maximum(weights, ids, remembers=False),
            "yours share them": lambda weights, ids: by_running_maximum(weights, ids, shared=True),
            "fades before it is read": lambda weights, ids: by_past(weights, ids, age=1.0),
            "either $u$ is missing": lambda weights, ids: by_past(weights, ids, u_write=1),
            "the logarithm of $w$": lambda weights, ids: by_past(weights, ids, rate=lambda log_decay: log_decay),
            "mixes are swapped": lambda weights, ids: by_past(weights, ids, swap=True),
            "not the stream itself": lambda weights, ids: by_running_maximum(weights, ids, raw=True),
            "has been added already": lambda weights, ids: by_running_maximum(weights, ids, beside=True),
            "is squared": lambda weights, ids: by_running_maximum(weights, ids, squared=False),
            "through a sigmoid": lambda weights, ids: by_past(weights, ids, gate=lambda r: r),
            "`ln0` is missing": lambda weights, ids: by_past(weights, ids, ln0=False),
            "`ln_out` is missing": lambda weights, ids: by_running_maximum(weights, ids, ln_out=False),
        },
    ),
    "size-of-memory": (
        [
            lambda layers, channels, tokens: float(layers * channels * 4),
            lambda layers, channels, tokens: np.int64(2 * layers * channels) * 2,
            lambda layers, channels, tokens: sum(channels for _ in range(layers) for _ in "abxy"),
            lambda layers, channels, tokens: torch.zeros(layers, 4, channels).numel(),
        ],
        {
            "length of the text": lambda layers, channels, tokens: 4 * layers * channels * tokens,
            "a Transformer's cache": lambda layers, channels, tokens: 2 * layers * channels * tokens,
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
