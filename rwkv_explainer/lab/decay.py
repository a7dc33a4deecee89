"""What a model's channels remember, and for how long: the paper's Figure 10.

Chapter "Time decay".
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, exp

from rwkv_explainer.model import RWKVLM
from rwkv_explainer.piece import Piece

__all__ = [
    "decay_rates",
    "half_lives",
    "kept_per_token",
    "log_decay_rates",
    "log_gains",
    "parameters_of",
    "put_in",
    "written_keys",
]

PerChannel = Float[Tensor, "layers channels"]


def parameters_of(model: RWKVLM, name: str) -> PerChannel:
    """A copy of one vector of every block, such as "attention.memory.log_decay": (layers, channels)."""
    return torch.stack([block.get_parameter(name).detach() for block in model.blocks])


def log_decay_rates(model: RWKVLM) -> PerChannel:
    """The parameter `log_decay` of every layer's memory, the logarithm of `decay_rates`: (layers, channels)."""
    return parameters_of(model, "attention.memory.log_decay")


def log_gains(model: RWKVLM) -> PerChannel:
    """The parameter `log_gain` of every layer's memory: (layers, channels). The paper's u."""
    return parameters_of(model, "attention.memory.log_gain")


def decay_rates(model: RWKVLM) -> PerChannel:
    """The rate at which weights fade, above 0, per token: (layers, channels). The paper's w."""
    return exp(log_decay_rates(model))


def kept_per_token(model: RWKVLM) -> PerChannel:
    """The share of a weight that is left after a token, between 0 and 1: (layers, channels). The paper's e^-w."""
    return exp(-decay_rates(model))


def half_lives(model: RWKVLM) -> PerChannel:
    """The number of tokens after which half of a weight is left: (layers, channels), in tokens.

    Chapter "Time decay". Computed from the rate: where the share that is kept rounds to 1, it no longer tells the
    half-life.
    """
    return math.log(2) / decay_rates(model)


@contextmanager
def put_in(model: RWKVLM, values: dict[str, PerChannel]) -> Iterator[None]:
    """Give every block other vectors for a while: by a parameter's name below the block, (layers, channels).

    with put_in(model, {"attention.memory.log_decay": before}): ...
    """
    own = {name: parameters_of(model, name) for name in values}
    try:
        write(model, values)
        yield
    finally:
        write(model, own)


@torch.no_grad()
def write(model: RWKVLM, values: dict[str, PerChannel]) -> None:
    for name, rows in values.items():
        for block, row in zip(model.blocks, rows, strict=True):
            block.get_parameter(name).copy_(row)


@torch.no_grad()
def written_keys(model: RWKVLM, ids: Sequence[int]) -> Float[Tensor, "layers time channels"]:
    """The keys that every layer's memory writes while the model reads a text, from an empty memory."""
    memories: list[Piece] = [block.attention.memory for block in model.blocks]
    seen: dict[Piece, list[Tensor]] = {memory: [] for memory in memories}
    watches = [memory.register_forward_pre_hook(lambda m, inputs: seen[m].append(inputs[0])) for memory in memories]
    try:
        model.clear_buffers()
        for token_id in ids:
            model(token_id)
    finally:
        for watch in watches:
            watch.remove()
    return torch.stack([torch.stack(keys) for keys in seen.values()])
