"""Products of a matrix and vectors, as fast as the machine allows: behind `parallel.py`, where the speed is.

Nearly all of the model's time goes into its `nn.Linear` layers. In float32, PyTorch computes them with one library and
carries another one, oneDNN, which is often faster; where no gradients are asked for, `linear` takes that one. A single
vector's product can be compiled, too: see `compile_steps`.
"""

import shutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
compiled: Callable[[Tensor, Tensor], Tensor] | None = None  # the product of a matrix and one vector, once asked for


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """What `layer(x)` gives: (*batch, in) to (*batch, out). A layer with hooks on it is called as ever."""
    plain = type(layer) is nn.Linear and layer.bias is None and not (layer._forward_hooks or layer._forward_pre_hooks)
    if not plain or torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != layer.weight.dtype:
        return layer(x)
    if compiled is not None and x.numel() == x.shape[-1]:
        return compiled(layer.weight, x.view(-1)).view(*x.shape[:-1], -1)
    if HAS_ONEDNN and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, None, "none", [], "")
    return layer(x)


def compile_steps() -> None:
    """From now on, multiply single vectors by code that torch.compile makes for this machine: for long generations.

    Each shape of matrix takes some seconds at its first use. An option: nothing in the book needs it.

    Raises:
        RuntimeError: if this machine has no C++ compiler.
    """
    global compiled
    if not any(map(shutil.which, ("g++", "clang++", "cl"))):
        raise RuntimeError(
            "compile_steps: expected a C++ compiler (g++ or clang++) on the path, found none; install "
            "one, or go on without: everything works uncompiled"
        )
    compiled = torch.compile(matrix_vector, dynamic=False)


def matrix_vector(matrix: Tensor, vector: Tensor) -> Tensor:
    """(out, in) and (in,) to (out,), as a sum over columns: compiled, it reads the matrix once."""
    return (matrix * vector).sum(dim=-1)
