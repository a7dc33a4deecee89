"""Random numbers for the exercises' cases, always float64."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

__all__ = ["distribution", "machines", "normal", "randint", "uniform"]


def normal(random: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64)


def uniform(random: Generator, low: float | int, high: float | int, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float64).uniform_(low, high, generator=random)


def randint(random: Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=random))


def distribution(random: Generator, *shape: int) -> Tensor:
    """Probabilities that sum to 1 on the last axis."""
    return torch.softmax(2 * normal(random, *shape), dim=-1)


def machines(random: Generator, channels: int, count: int) -> list[Callable]:
    """Small functions of a vector, none of them linear. Each raises a ValueError for anything else."""

    def machine() -> Callable:
        matrix = normal(random, channels, channels)

        def apply(x: Any) -> Tensor:
            if not isinstance(x, Tensor) or x.shape != (channels,):
                came = f"one of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
                raise ValueError(f"x: expected a tensor of shape ({channels},), got {came}")
            return torch.tanh(matrix @ x)

        return apply

    return [machine() for _ in range(count)]
