"""The loss of a batch, read as fast as two cores allow: the model of `model.py`, laid out for training.

It computes what `parallel.read_logits` and a cross-entropy would, from an empty memory. Four things are different, each
for speed alone: time is the first axis, so that a shift by one token is a view; the memory has a derived gradient
(`wkv_gradient.py`); the matrices take part in half precision, the rest in float32; and the logits exist for a few
hundred tokens at a time. The parts that only add, multiply and normalize can be compiled into one pass each.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn, sigmoid
from torch.nn.functional import layer_norm, linear, pad

from rwkv_explainer.model import RWKVLM, RWKVBlock, at_least_float32
from rwkv_explainer.wkv_gradient import wkv

TOGETHER = 256  # tokens whose logits exist together


def loss_of(model: RWKVLM, ids: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Mean negative log-probability of each next token, in nats: ids (rows, length + 1) to a scalar.

    Args:
        precision: of the matrix products; everything else is computed in the dtype of the parameters.
    """
    model.clear_buffers()
    inputs, targets = ids.T[:-1], ids.T[1:]  # (length, rows) each
    x = model.embedding(inputs)  # (length, rows, channels)
    for block in model.blocks:
        x = read_block(block, x, precision)  # (length, rows, channels)
    x = model.unembedding.normalize_unemb(x).flatten(0, 1)  # (length rows, channels)
    matrix = model.unembedding.unembedding.weight  # (vocabulary, channels)
    return CrossEntropy.apply(x.to(precision), matrix.to(precision), targets.flatten())


def read_block(block: RWKVBlock, x: Tensor, precision: torch.dtype) -> Tensor:
    """An `RWKVBlock` with an empty memory, at every moment of (time, rows, channels)."""
    def product(layer: nn.Linear, x: Tensor) -> Tensor:
        return linear(x, layer.weight.to(precision))

    attention, mlp = block.attention, block.gated_mlp
    mixers = attention.key_mixer, attention.value_mixer, attention.receptance_mixer
    for_keys, for_values, for_gates = PARTS["mix"](x, *scales_of(block.ln1, *mixers), precision)
    keys, values = product(attention.key, for_keys), product(attention.value, for_values)
    gated = PARTS["gate"](product(attention.receptance, for_gates), wkv(attention.memory, keys, values), precision)
    x = x + product(attention.output, gated)  # (time, rows, channels)
    for_latents, for_gates = PARTS["mix"](x, *scales_of(block.ln2, mlp.mlp_mixer, mlp.receptance_mixer), precision)
    latents = PARTS["square"](product(mlp.key, for_latents))  # (time, rows, hidden)
    return PARTS["add"](x, product(mlp.receptance, for_gates), product(mlp.value, latents))


def scales_of(norm: nn.LayerNorm, *mixers: nn.Module) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The vectors with which a half of a block begins: (channels,) each."""
    return norm.weight, norm.bias, [mixer.weight for mixer in mixers]


def normalize_and_mix(x: Tensor, scale: Tensor, shift: Tensor, mixes: list[Tensor], precision: torch.dtype) -> tuple:
    """A LayerNorm, and what each `Mixer` makes of it: x (time, rows, channels) to as many as there are mixes."""
    x = layer_norm(x, x.shape[-1:], scale, shift)  # (time, rows, channels)
    previous = pad(x[:-1], (0, 0, 0, 0, 1, 0))  # (time, rows, channels), zeros before the first token
    return tuple(torch.lerp(previous, x, mix).to(precision) for mix in mixes)


def gate(gates: Tensor, averages: Tensor, precision: torch.dtype) -> Tensor:
    """What the attention's gates let through of the memory's averages."""
    return (sigmoid(gates.to(averages.dtype)) * averages).to(precision)


def square(latents: Tensor) -> Tensor:
    """The squared ReLU of the gated MLP."""
    return torch.relu(latents) ** 2


def add_gated(x: Tensor, gates: Tensor, update: Tensor) -> Tensor:
    """The residual stream with the gated MLP's update."""
    return x + sigmoid(gates.to(x.dtype)) * update


def log_softmax(logits: Tensor, wide: torch.dtype) -> Tensor:
    """Logarithms of probabilities, in no less than float32."""
    return torch.log_softmax(logits.to(wide), dim=-1)


PARTS: dict[str, Callable] = {"mix": normalize_and_mix, "gate": gate, "square": square, "add": add_gated,
                               "log_softmax": log_softmax}


def compile_parts() -> None:
    PARTS.update({name: torch.compile(part, dynamic=False) for name, part in PARTS.items()})


class CrossEntropy(torch.autograd.Function):
    """The last matrix and the mean cross-entropy as one function that makes its gradient as it goes.

    A token's logits, as many as the vocabulary has entries, are by far the largest things that training makes: the
    gradient of the logits is softmax - one-hot, which is known as soon as they are, so they need not be kept.
    """

    @staticmethod
    def forward(ctx, x: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
        """x (tokens, channels), matrix (vocabulary, channels), targets (tokens,) to a scalar."""
        wide = at_least_float32(x)
        loss, by_x, by_matrix = x.new_zeros((), dtype=wide), torch.empty_like(x), torch.zeros_like(matrix, dtype=wide)
        wanted = any(ctx.needs_input_grad)
        for some, target, by_some in zip(x.split(TOGETHER), targets[:, None].split(TOGETHER), by_x.split(TOGETHER)):
            logs = PARTS["log_softmax"](some @ matrix.T, wide)  # (some, vocabulary)
            loss -= logs.gather(1, target).sum()
            if wanted:
                by_logits = logs.exp_()  # (some, vocabulary)
                by_logits.scatter_add_(1, target, by_logits.new_full(target.shape, -1.0))
                by_logits = by_logits.to(x.dtype)  # of the sum; of the mean it is as many times smaller as there are tokens
                torch.mm(by_logits, matrix, out=by_some)  # (some, channels)
                by_matrix += by_logits.T @ some  # (vocabulary, channels)
        if wanted:
            ctx.save_for_backward(by_x, by_matrix)
        return loss / len(x)

    @staticmethod
    def backward(ctx, by_loss: Tensor):
        by_x, by_matrix = ctx.saved_tensors
        share = by_loss / len(by_x)
        return by_x * share.to(by_x.dtype), (by_matrix * share).to(by_x.dtype), None
