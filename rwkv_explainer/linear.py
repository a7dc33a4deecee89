"""`nn.Linear`, computed by whichever of PyTorch's libraries is the fastest on this processor.

Nearly all of a large model's time goes into products of a matrix with one vector, or with all vectors of a text.
PyTorch has several libraries for them, and which is the fastest depends on the processor's maker, the dtype and the
threads. So the first large product of each kind times them. On an AMD EPYC, with one thread in float32, oneDNN needs
0.77 of the processor time of `F.linear` for 256 vectors, and 0.88 for one (matrices of 3072 × 768).
"""

import time
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Linear"]

LARGE = 2**19  # entries of a matrix from which the library matters
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """A matrix: `nn.Linear` without a bias. Forward: (*batch, inputs) to (*batch, outputs)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight  # (outputs, inputs)
        learns = torch.is_grad_enabled() and (matrix.requires_grad or x.requires_grad)
        if learns or matrix.numel() < LARGE or x.dtype != matrix.dtype or torch.compiler.is_compiling():
            return F.linear(x, matrix)  # (*batch, outputs)
        return _fastest(x.device.type, x.dtype, x.numel() == x.shape[-1], torch.get_num_threads())(x, matrix)


def _by_vector(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.mv(matrix, x.reshape(-1)).view(*x.shape[:-1], -1)  # (*batch, outputs)


def _by_onednn(x: Tensor, matrix: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])  # (runs, inputs)
    return torch.ops.mkldnn._linear_pointwise(rows, matrix, None, "none", [], "").view(*x.shape[:-1], -1)


@cache
def _fastest(device: str, dtype: torch.dtype, single: bool, threads: int):
    """The fastest way to multiply a matrix with a single vector, or with many, timed on matrices of its own."""
    ways = [F.linear] + [_by_vector] * single + [_by_onednn] * (HAS_ONEDNN and dtype == torch.float32)
    if device != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return F.linear
    with torch.no_grad():
        matrices = torch.ones(4, 2048, 1024, dtype=dtype)  # together more than a core's cache holds
        x = torch.ones(1 if single else 32, 1024, dtype=dtype)  # (vectors, 1024)
        for way in ways:  # once without the clock: a library prepares itself
            way(x, matrices[0])
        return min(ways, key=lambda way: min(_seconds(way, x, matrices) for _ in range(2)))


def _seconds(way, x: Tensor, matrices: Tensor) -> float:
    start = time.perf_counter()
    for matrix in matrices:
        way(x, matrix)
    return time.perf_counter() - start
