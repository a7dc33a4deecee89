"""The exercises of chapter "The whole model"."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, exp, relu, sigmoid
from torch.nn.functional import layer_norm

from rwkv_explainer.checkpoints import keys_of
from rwkv_explainer.exercises.cases import normal, randint
from rwkv_explainer.exercises.exercise import Exercise
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.piece import RWKVConfig

__all__ = ["EXERCISES"]

State = dict[str, Tensor]


def parameters(vocabulary: int, channels: int, layers: int) -> int:
    attention = 4 * channels**2 + 5 * channels  # four matrices; three mixers, decay and gain
    mlp = 2 * 4 * channels**2 + channels**2 + 2 * channels
    norms = 2 * channels
    return 2 * vocabulary * channels + 2 * norms + layers * (attention + mlp + 2 * norms)


def without(left_out: Callable) -> Callable:
    """The count with something left out, which is a function of vocabulary, channels and layers like itself."""
    return lambda v, c, n: parameters(v, c, n) - left_out(v, c, n)


COUNT = Exercise(
    name="count-parameters",
    cases=lambda random: [(randint(random, 50, 99), randint(random, 12, 19), layers) for layers in (2, 5)],
    reference=lambda vocabulary, channels, layers: sum(
        parameter.numel()
        for parameter in RWKVLM.from_config(RWKVConfig(vocabulary, channels, layers, 4 * channels)).parameters()
    ),
    result_name="the number of parameters",
    success_message="For two sizes of model it is what counting every parameter gives.",
    mistakes={
        "The unembedding has a matrix of its own, as large as the embedding's table.": without(lambda v, c, n: v * c),
        "Two LayerNorms are missing: the one behind the embedding and the one before the unembedding.": without(
            lambda v, c, n: 4 * c
        ),
        "The LayerNorms are missing: two in each block, one at either end.": without(lambda v, c, n: 4 * c + n * 4 * c),
        "The mixers' weights are missing: three mixers in the attention, two in the gated MLP.": without(
            lambda v, c, n: n * 5 * c
        ),
        "Two numbers for each channel of each layer are missing: the memory's decay and gain, or two of the five mixers.": without(
            lambda v, c, n: n * 2 * c
        ),
        "The middle of the gated MLP is four times as wide as the stream.": without(lambda v, c, n: n * 6 * c**2),
        "A LayerNorm has two numbers for each channel, a scale and a bias.": without(lambda v, c, n: 2 * c + n * 2 * c),
        "One matrix of channels × channels is missing in each block: the attention has four, the gated MLP has one, its receptance.": without(
            lambda v, c, n: n * c**2
        ),
        "That is one layer's share, not all layers'.": lambda v, c, n: parameters(v, c, 1),
    },
)

STATE_SIZE = Exercise(
    name="size-of-memory",
    is_value=True,
    cases=lambda random: [(randint(random, 3, 9), 16 * randint(random, 3, 19), 100 * randint(random, 3, 9))],
    reference=lambda layers, channels, tokens: 4 * layers * channels,
    result_name="numbers",
    success_message="Two sums and two last inputs, for each channel of each layer, however long the text.",
    mistakes={
        "The length of the text does not matter: a memory is as large after the first token as after the last.": lambda layers, channels, tokens: (
            4 * layers * channels * tokens
        ),
        "That is a Transformer's cache, a key and a value of every token. This memory does not grow with the text.": lambda layers, channels, tokens: (
            2 * layers * channels * tokens
        ),
        "Mixers remember too: the last input of the attention, and that of the gated MLP.": lambda layers, channels, tokens: (
            2 * layers * channels
        ),
        "Mixers that saw the same input remember the same: three of them share one copy, the two others another.": lambda layers, channels, tokens: (
            7 * layers * channels
        ),
        "The gated MLP's mixers remember its last input: that is a number more for each channel.": lambda layers, channels, tokens: (
            3 * layers * channels
        ),
        "That is one number too many: the logarithm of a scale is remembered by the stable memory of *Numerical stability* alone.": lambda layers, channels, tokens: (
            5 * layers * channels
        ),
        "Each layer has a memory of its own.": lambda layers, channels, tokens: 4 * channels,
        "Four numbers for each channel: two sums, and two last inputs.": lambda layers, channels, tokens: (
            layers * channels
        ),
    },
)


def snapshots(random: Generator) -> list[tuple]:
    """Two snapshots of a model of 12 layers, and which layers to take from the second."""
    names = RWKVLM.from_config(RWKVConfig(vocab_size=5, channels=2, n_layer=12, intermediate_size=4)).state_buffers()

    def bookmark() -> State:
        return {name: normal(random, 2) for name in names}

    return [(bookmark(), bookmark(), layers) for layers in ([1], [0, 3, 10])]


def layer_of(name: str) -> int:
    return int(name.split(".")[1])


def splice(
    one: State, other: State, layers: list[int], taken: Callable = lambda name, layers: layer_of(name) in layers
) -> State:
    return {name: (other if taken(name, layers) else one)[name] for name in one}


def splice_by(taken: Callable) -> Callable:
    """A splice that takes something else from the second snapshot."""
    return lambda one, other, layers: splice(one, other, layers, taken)


SPLICE = Exercise(
    name="splice",
    cases=snapshots,
    reference=lambda one, other, layers: splice(one, other, layers),
    result_name="the state",
    success_message="Layer 1, and then 0, 3 and 10, remember the second text, all others the first, in mixers and memories.",
    mistakes={
        "The wrong way round: these layers come from the first snapshot, all others from the second.": lambda one, other, layers: (
            splice(other, one, layers)
        ),
        "Names that *begin* with `blocks.1` are those of layers 10 and 11 too: compare the whole number.": splice_by(
            lambda name, layers: any(name.startswith(f"blocks.{layer}") for layer in layers)
        ),
        "Only the first of the layers is spliced: does `return` stand inside of the loop?": lambda one, other, layers: (
            splice(one, other, layers[:1])
        ),
        "One digit of the name is not yet the number of the layer: 10 and 11 have two.": splice_by(
            lambda name, layers: int(name[7]) in layers
        ),
        "All but these layers are missing: `restore` wants the state of every layer.": lambda one, other, layers: {
            name: other[name] for name in other if layer_of(name) in layers
        },
        "The mixers' last inputs still come from the first snapshot.": splice_by(
            lambda name, layers: layer_of(name) in layers and ".memory." in name
        ),
        "The memories' sums still come from the first snapshot.": splice_by(
            lambda name, layers: layer_of(name) in layers and ".memory." not in name
        ),
        "Layers count from 0: these are the layers one lower.": splice_by(
            lambda name, layers: layer_of(name) + 1 in layers
        ),
        "That is the first snapshot unchanged.": lambda one, other, layers: one,
        "That is the second snapshot unchanged.": lambda one, other, layers: other,
    },
)


def multiplications(vocabulary: int, channels: int, layers: int) -> int:
    return layers * 13 * channels**2 + vocabulary * channels


COST = Exercise(
    name="cost-of-a-token",
    cases=lambda random: [(randint(random, 300, 900), randint(random, 12, 19), layers) for layers in (2, 5)],
    reference=multiplications,
    result_name="the number of multiplications",
    success_message="Thirteen squares of the channels in each layer, and the unembedding's table: as many as there are weights in these matrices.",
    mistakes={
        "The embedding multiplies nothing: it looks a row up.": lambda v, c, n: multiplications(v, c, n) + v * c,
        "The unembedding is missing: each token of the vocabulary gets its logit by one row.": lambda v, c, n: (
            multiplications(v, c, n) - v * c
        ),
        "One matrix of channels × channels is missing in each layer: four in the attention, one in the gated MLP.": lambda v, c, n: (
            multiplications(v, c, n) - n * c**2
        ),
        "The two large matrices of the gated MLP are four times as long as wide.": lambda v, c, n: (
            multiplications(v, c, n) - n * 6 * c**2
        ),
        "The gated MLP has two large matrices, one to its middle and one back.": lambda v, c, n: (
            multiplications(v, c, n) - n * 4 * c**2
        ),
        "The gated MLP is missing.": lambda v, c, n: multiplications(v, c, n) - n * 9 * c**2,
        "That is one layer's share, not all layers'.": lambda v, c, n: multiplications(v, c, 1),
        "A multiplication and the addition after it count once.": lambda v, c, n: 2 * multiplications(v, c, n),
        "The unembedding is there once, not in each layer.": lambda v, c, n: n * multiplications(v, c, 1),
    },
)

LAYERS, SIZES = 2, {"vocab_size": 6, "channels": 4, "intermediate_size": 7}


def checkpoint(random: Generator) -> list[tuple]:
    """Random tensors of a small model under upstream's names, without axes of length 1, and two texts' ids."""
    weights = {
        key.upstream_name.format(i=i): 0.8 * normal(random, *(SIZES[axis] for axis in key.shape))
        for key, i in keys_of(LAYERS)
    }
    return [(weights, torch.randint(6, (length,), generator=random).tolist()) for length in (1, 7)]


def logits_of_package(weights: State, ids: list[int]) -> Tensor:
    """The package's model with these tensors, stepped through the text: (time, vocab_size)."""
    model = RWKVLM.from_weights({key.name.format(i=i): weights[key.upstream_name.format(i=i)] for key, i in keys_of(2)})
    return torch.stack([model.logits(token) for token in ids]).detach()  # (time, vocab_size)


def written_with(slip: str) -> Callable:
    """RWKV-4 from its formulas, plain sums and all, with one slip."""

    def logits(weights: State, ids: list[int]) -> Tensor:
        def norm(x: Tensor, name: str) -> Tensor:
            if slip == f"without {name}":
                return x
            return layer_norm(x, x.shape, weights[name + ".weight"], weights[name + ".bias"])

        def mixed(now: Tensor, last: Tensor, name: str) -> Tensor:
            now, last = (last, now) if slip == "mixes swapped" else (now, last)
            return weights[name] * now + (1 - weights[name]) * last

        def time_mixing(x: Tensor, last: Tensor, sums: list[Tensor], name: str) -> Tensor:
            r, k, v = (
                weights[f"{name}.{what}.weight"] @ mixed(x, last, f"{name}.time_mix_{what[0]}")
                for what in ("receptance", "key", "value")
            )
            w, u = weights[name + ".time_decay"], weights[name + ".time_first"]
            keep = exp(-w if slip == "one exponential" else -exp(w))
            gain = 0 if slip == "no gain" else u
            old = [keep * part for part in sums] if slip == "fades first" else sums
            wkv = (old[0] + exp(gain + k) * v) / (old[1] + exp(gain + k))
            sums[:] = keep * sums[0] + exp(k) * v, keep * sums[1] + exp(k)
            gates = r if slip == "no sigmoid" else sigmoid(r)
            return weights[name + ".output.weight"] @ (gates * wkv)

        def channel_mixing(x: Tensor, last: Tensor, name: str) -> Tensor:
            r = weights[name + ".receptance.weight"] @ mixed(x, last, name + ".time_mix_r")
            k = weights[name + ".key.weight"] @ mixed(x, last, name + ".time_mix_k")
            latents = relu(k) if slip == "no square" else relu(k) ** 2
            return (r if slip == "no sigmoid" else sigmoid(r)) * (weights[name + ".value.weight"] @ latents)

        def nothing() -> list[Tensor]:
            return [torch.zeros(SIZES["channels"], dtype=torch.float64) for _ in range(4)]

        memories = [nothing()] * LAYERS if slip == "one memory" else [nothing() for _ in range(LAYERS)]
        rows = []
        for token in ids:
            x = norm(weights["emb.weight"][token], "blocks.0.ln0")
            for i, memory in enumerate(memories):
                before, sums = x, memory[2:]
                seen = norm(x, f"blocks.{i}.ln1")
                x = x + time_mixing(seen, memory[0], sums, f"blocks.{i}.att")
                middle = before if slip == "side by side" else x
                read = norm(middle, f"blocks.{i}.ln2")
                x = x + channel_mixing(read, memory[1], f"blocks.{i}.ffn")
                memory[:] = nothing() if slip == "forgets" else [seen, read, *sums]
                if slip == "raw input":
                    memory[:2] = before, middle
            rows.append(weights["head.weight"] @ norm(x, "ln_out"))
        return torch.stack(rows)

    return logits


FROM_FORMULAS = Exercise(
    name="from-the-formulas",
    cases=checkpoint,
    reference=logits_of_package,
    result_name="the logits",
    success_message="After one token and after seven they are the package's logits: this is RWKV-4.",
    mistakes={
        "The first token is right, and nothing of it is remembered: mixers and memories start anew with each token.": written_with(
            "forgets"
        ),
        "Each layer has a memory and mixers of its own; yours share them.": written_with("one memory"),
        "The past fades before it is read. Read first, then let it fade and add the token.": written_with(
            "fades first"
        ),
        "The gain is without effect: either $u$ is missing, or it is written too, and then it cancels.": written_with(
            "no gain"
        ),
        "`time_decay` is the logarithm of $w$: what is kept is exp(−exp(time_decay)).": written_with("one exponential"),
        "The mixes are swapped: μ belongs to the current token, 1 − μ to the one before.": written_with(
            "mixes swapped"
        ),
        "A mixer remembers what it was given, the normalized stream, and not the stream itself.": written_with(
            "raw input"
        ),
        "Channel mixing reads the stream to which time mixing has been added already.": written_with("side by side"),
        "The ReLU of channel mixing is squared.": written_with("no square"),
        "The receptances go through a sigmoid before they multiply anything.": written_with("no sigmoid"),
        "`ln0` is missing, the LayerNorm right behind the embedding.": written_with("without blocks.0.ln0"),
        "`ln_out` is missing, the LayerNorm before the head.": written_with("without ln_out"),
    },
)

EXERCISES = [STATE_SIZE, COUNT, SPLICE, COST, FROM_FORMULAS]
