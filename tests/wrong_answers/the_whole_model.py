"""Answers to the exercises of chapter "The whole model"."""


def spliced_in_place(one, other, layers):
    for layer in layers:
        for name in other:
            if name.startswith(f"blocks.{layer}."):
                one[name] = other[name]
    return one


def by_prefix(one, other, layers):
    return {name: other[name] if name.startswith(tuple(f"blocks.{n}" for n in layers)) else one[name] for name in one}


ANSWERS = {
    "size-of-memory": ([lambda layers, channels, tokens: float(layers * channels * 4)], {
        "length of the text": lambda layers, channels, tokens: 4 * layers * channels * tokens,
        "Mixers remember too": lambda layers, channels, tokens: 2 * channels * layers,
        "share one copy": lambda layers, channels, tokens: 7 * channels * layers,
    }),
    "count-parameters": ([lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 11 * c)], {
        "matrix of its own": lambda v, c, n: v * c + 4 * c + n * (13 * c * c + 11 * c),
        "four times as wide": lambda v, c, n: 2 * v * c + 4 * c + n * (7 * c * c + 11 * c),
        "decay and a gain": lambda v, c, n: 2 * v * c + 4 * c + n * (13 * c * c + 9 * c),
    }),
    "splice": ([spliced_in_place], {
        "compare the whole number": by_prefix,
        "missing": lambda one, other, layers: {n: x for n, x in other.items() if int(n.split(".")[1]) in layers},
        "wrong way round": lambda one, other, layers: spliced_in_place(other, one, layers),
    }),
}
