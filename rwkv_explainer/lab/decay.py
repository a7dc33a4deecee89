"""What a model's channels remember, and for how long: the paper's Figure 10.

Chapter "Time decay".
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, exp

from rwkv_explainer.model import RWKVLM

PerChannel = Float[Tensor, "layers channels"]


def log_decays(model: RWKVLM) -> PerChannel:
    """The parameter `log_decay` of every layer's memory: (layers, channels)."""
    return torch.stack([block.attention.memory.log_decay.detach() for block in model.blocks])


def time_decays(model: RWKVLM) -> PerChannel:
    """What is left of a weight after one more token, between 0 and 1: (layers, channels). `e^{-w}` in the paper."""
    return exp(-exp(log_decays(model)))


def half_lives(model: RWKVLM) -> PerChannel:
    """The number of tokens after which half of a weight is left: (layers, channels), in tokens.

    Computed from the rate itself: of a decay that rounds to 1 the half-life could no longer be told.
    """
    return math.log(2) / exp(log_decays(model))
