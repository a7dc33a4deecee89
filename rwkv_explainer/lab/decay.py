"""What a model's channels remember, and for how long: the paper's Figure 10.

Chapter "Time decay".
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, exp

from rwkv_explainer.model import RWKVLM

__all__ = ["decay_rates", "half_lives", "kept_per_token", "log_decay_rates"]

PerChannel = Float[Tensor, "layers channels"]


def log_decay_rates(model: RWKVLM) -> PerChannel:
    """The parameter `log_decay` of every layer's memory, the logarithm of `decay_rates`: (layers, channels)."""
    return torch.stack([block.attention.memory.log_decay.detach() for block in model.blocks])


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
