"""The loss of a batch, read as fast as two cores allow: the model of `model.py`, laid out for training.

It computes what `parallel.read_logits` and a cross-entropy would, from an empty memory. Four things are different, each
for speed alone: time is the first axis, so that a shift by one token is a view; the memory has a derived gradient
(`wkv_gradient.py`); the matrices take part in half precision, the rest in float32; and the logits exist for a few
hundred tokens at a time. The parts that only add, multiply and normalize can be compiled into one pass each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn, sigmoid
from torch.nn.functional import layer_norm, linear, pad

from rwkv_explainer.lab.wkv_gradient import wkv
from rwkv_explainer.model import RWKVLM, RWKVBlock

__all__ = ["CrossEntropy", "Parts", "compiled_parts", "loss_of", "read_blocks"]

TOGETHER = 256  # tokens whose logits exist together


@dataclass(frozen=True)
class Parts:
    """The elementwise parts of the model: each reads its inputs once and writes its outputs once, if compiled."""

    mix: Callable
    gate: Callable
    square: Callable
    add: Callable


def loss_of(model: RWKVLM, ids: Tensor, precision: torch.dtype = torch.float32, parts: Parts | None = None) -> Tensor:
    """Mean negative log-probability of each next token, in nats: ids (rows, length + 1) to a scalar.

    Args:
        precision: of the matrix products; everything else is computed in the dtype of the parameters.
        parts: `compiled_parts()`, or None for the plain ones.
    """
    inputs, targets = ids.T[:-1], ids.T[1:]  # (length, rows) each
    x = read_blocks(model, inputs, precision, parts)  # (length, rows, channels)
    x = model.unembedding.normalize_unemb(x).flatten(0, 1)  # (length rows, channels)
    matrix = model.unembedding.unembedding.weight  # (vocabulary, channels)
    return CrossEntropy.apply(x.to(precision), matrix.to(precision), targets.flatten())


def read_blocks(model: RWKVLM, ids: Tensor, precision: torch.dtype, parts: Parts | None = None) -> Tensor:
    """Every token's vector after the last block, from an empty memory: ids (time, rows) to (time, rows, channels)."""
    model.clear_buffers()
    x = model.embedding(ids)  # (time, rows, channels)
    for block in model.blocks:
        x = read_block(block, x, precision, parts or PLAIN)  # (time, rows, channels)
    return x


def read_block(block: RWKVBlock, x: Tensor, precision: torch.dtype, parts: Parts) -> Tensor:
    """An `RWKVBlock` with an empty memory, at every moment of (time, rows, channels)."""

    def product(layer: nn.Linear, x: Tensor) -> Tensor:
        return linear(x, layer.weight.to(precision))

    attention, mlp = block.attention, block.gated_mlp
    mixes = [mixer.weight for mixer in (attention.key_mixer, attention.value_mixer, attention.receptance_mixer)]
    for_keys, for_values, for_gates = parts.mix(x, block.ln1.weight, block.ln1.bias, mixes, precision)
    averages = wkv(attention.memory, product(attention.key, for_keys), product(attention.value, for_values))
    x = x + product(attention.output, parts.gate(product(attention.receptance, for_gates), averages, precision))

    mixes = [mlp.mlp_mixer.weight, mlp.receptance_mixer.weight]
    for_latents, for_gates = parts.mix(x, block.ln2.weight, block.ln2.bias, mixes, precision)
    latents = parts.square(product(mlp.key, for_latents))  # (time, rows, hidden)
    return parts.add(x, product(mlp.receptance, for_gates), product(mlp.value, latents))  # (time, rows, channels)


# ---------------------------------------------------------------------------------------------------------------------
# the parts that a compiler can fuse


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


PLAIN = Parts(normalize_and_mix, gate, square, add_gated)


def compiled_parts() -> Parts:
    """The parts as one pass over memory each, made by `torch.compile`: half a minute the first time on a machine.

    Without a C++ compiler it says so, and gives the plain ones.
    """
    try:
        torch.compile(square)(torch.zeros(8))
    except Exception as error:  # whatever the compiler's driver raises, training goes on without it
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        print(f"the elementwise parts stay uncompiled: {reason}", flush=True)
        return PLAIN
    return Parts(*(torch.compile(part, dynamic=False) for part in (normalize_and_mix, gate, square, add_gated)))


# ---------------------------------------------------------------------------------------------------------------------
# the loss


class CrossEntropy(torch.autograd.Function):
    """The last matrix and the mean cross-entropy as one function that makes its gradient as it goes.

    A token's logits, as many as the vocabulary has entries, are by far the largest things that training makes: the
    gradient of the logits is softmax - one-hot, which is known as soon as they are, so they need not be kept.
    """

    @staticmethod
    def forward(ctx, x: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
        """x (tokens, channels), matrix (vocabulary, channels), targets (tokens,) to a scalar."""
        wide = torch.promote_types(x.dtype, torch.float32)
        loss, by_x, by_matrix = x.new_zeros((), dtype=wide), torch.empty_like(x), torch.zeros_like(matrix, dtype=wide)
        wanted = any(ctx.needs_input_grad)
        for some, target, by_some in zip(x.split(TOGETHER), targets[:, None].split(TOGETHER), by_x.split(TOGETHER)):
            logs = torch.log_softmax((some @ matrix.T).to(wide), dim=-1)  # (some, vocabulary)
            loss -= logs.gather(1, target).sum()
            if wanted:
                by_logits = logs.exp_()  # (some, vocabulary)
                by_logits.scatter_add_(1, target, by_logits.new_full(target.shape, -1.0))
                by_logits = by_logits.to(x.dtype)  # of the losses' sum; `backward` makes it their mean's
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
