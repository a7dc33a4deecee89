"""Answers to the exercises of chapter "The whole model"."""


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


ANSWERS = {
    "size-of-memory": (
        [lambda layers, channels, tokens: float(layers * channels * 4)],
        {
            "length of the text": lambda layers, channels, tokens: 4 * layers * channels * tokens,
            "Mixers remember too": lambda layers, channels, tokens: 2 * channels * layers,
            "share one copy": lambda layers, channels, tokens: 7 * channels * layers,
            "a number more for each channel": lambda layers, channels, tokens: 3 * layers * channels,
            "Each layer has": lambda layers, channels, tokens: 4 * channels,
            "two sums, and two last inputs": lambda layers, channels, tokens: layers * channels,
        },
    ),
    "count-parameters": (
        [lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 11 * c)],
        {
            "matrix of its own": lambda v, c, n: v * c + 4 * c + n * (13 * c * c + 11 * c),
            "four times as wide": lambda v, c, n: 2 * v * c + 4 * c + n * (7 * c * c + 11 * c),
            "decay and a gain": lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 9 * c),
            "before the unembedding": lambda v, c, n: 2 * v * c + n * (13 * c * c + 11 * c),
            "LayerNorms are missing: two": lambda v, c, n: 2 * v * c + n * (13 * c * c + 7 * c),
            "mixers' weights are missing": lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 6 * c),
            "a scale and a bias": lambda v, c, n: 2 * v * c + 2 * c + n * (13 * c * c + 9 * c),
            "receptance is missing": lambda v, c, n: 2 * v * c + 4 * c + n * (12 * c * c + 11 * c),
            "one layer's share": lambda v, c, n: 2 * v * c + 4 * c + 13 * c * c + 11 * c,
        },
    ),
    "splice": (
        [spliced_in_place],
        {
            "compare the whole number": by_prefix,
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
}
