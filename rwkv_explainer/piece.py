"""What all pieces of the model share: the sizes, a state, weights to load, and the checks of what comes in.

`model.py` has the pieces themselves. Read that first.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from rwkv_explainer.shapes import OneHot, State, TokenId

__all__ = ["Piece", "RWKVConfig", "any_weight", "infer_config", "require_same_batch", "require_token"]


@dataclass(frozen=True)
class RWKVConfig:
    """The four sizes that fix the shape of every tensor in the model."""

    vocab_size: int  # number of tokens
    channels: int  # width of an embedding
    n_layer: int  # number of blocks
    intermediate_size: int  # width of the gated MLP's middle: 4 x channels in every published model


class Piece(nn.Module):
    """A module that remembers: its buffers are its state, which every step replaces by new tensors.

    - *Gradients.* A step is differentiable, and the state keeps the graph of all steps so far. `detach()` cuts it:
      between two calls of `backward()`, and before `copy.deepcopy`.
    - *`torch.inference_mode`.* A state that was written under it cannot take part in gradients afterwards, until
      `detach()` or `clear_buffers()`. Under `torch.no_grad` there is no such restriction.
    - *`torch.vmap`.* It leaves its own tensors in the buffers. Call `clear_buffers()` after it; or step a batch, which
      needs no vmap.
    - *Threads.* There is one state, so two threads that step the same model mix their texts. Give each thread a copy of
      its own: `copy.deepcopy(model)`.
    - *Devices and dtypes.* `.to(...)` and `.half()` take the state along.
    """

    initial_state: Mapping[str, float] = {}  # a buffer's value before the first token, where it is not 0
    default_prefix = ""  # where the piece stands in a model, if a model has only one

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for method in vars(cls).values():
            if inspect.isfunction(method) and not hasattr(method, "__no_type_check__"):
                method.__no_type_check__ = _WHILE_COMPILING

    def clear_buffers(self) -> None:
        """Forget everything: each state buffer gets its initial value again, of shape (channels,), without batch."""
        like = any_weight(self)
        for module in self.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                initial = module.initial_state.get(name, 0.0) if isinstance(module, Piece) else 0.0
                setattr(module, name, like.new_full(buffer.shape[-1:], initial, dtype=_state_dtype(module, like)))

    def detach(self) -> None:
        """Keep the state, but forget how it was computed: gradients of later steps end here."""
        for module in self.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                setattr(module, name, buffer.detach().clone())

    def snapshot(self) -> State:
        """A copy of every state buffer, by name: what the model remembers at this moment."""
        return {name: buffer.clone() for name, buffer in self.state_buffers().items()}

    def restore(self, state: State) -> None:
        """Put a `snapshot` back, on the weights' device and in the state's dtype. The snapshot itself stays as it is.

        Raises:
            ValueError: if `state` is not of this piece: it names what is missing, left over or of another width.
        """
        buffers = self.state_buffers()
        if state.keys() != buffers.keys():
            raise ValueError(
                f"this is another module's state: missing {sorted(buffers.keys() - state.keys())}, "
                f"left over {sorted(state.keys() - buffers.keys())}; give what snapshot() returned"
            )
        for name, value in state.items():
            if value.shape[-1:] != buffers[name].shape[-1:]:
                raise ValueError(
                    f"state[{name!r}]: expected {buffers[name].shape[-1]} channels on the last axis, "
                    f"got shape {tuple(value.shape)}"
                )
        like = any_weight(self)
        for name, value in state.items():
            owner, _, buffer = name.rpartition(".")
            module = self.get_submodule(owner)
            setattr(module, buffer, value.to(like.device, _state_dtype(module, like), copy=True))

    def state_buffers(self) -> State:
        """Every state buffer by name, not copied: the next step replaces them."""
        return dict(self.named_buffers(remove_duplicate=False))

    def state_dtype(self, weights: torch.dtype) -> torch.dtype:
        """The dtype of this piece's own buffers, where its weights have the dtype `weights`."""
        return weights

    @classmethod
    def from_config(cls, config: RWKVConfig, **options: Any) -> "Piece":
        """Build the piece with the sizes of `config`, its parameters not yet trained.

        Args:
            options: further arguments of its constructor, such as `memory_class`.
        """
        names = inspect.signature(cls).parameters.keys() & {field.name for field in fields(RWKVConfig)}
        return cls(**{name: getattr(config, name) for name in names}, **options)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], prefix: str = "", **options: Any) -> "Piece":
        """Build the piece from a whole model's `weights`. Its parameters are those tensors themselves, not copies.

        Args:
            weights: every tensor of a model by its name here, as `checkpoints.load_weights` returns them.
            prefix: where the piece stands in the model, such as "blocks.0.attention"; optional for the embedding, the
                stack of blocks, the unembedding and the model itself.
            options: further arguments of its constructor, such as `memory_class`.

        Raises:
            ValueError: if a tensor of the piece is missing or has another shape.
        """
        prefix = prefix or cls.default_prefix
        piece = cls.from_config(infer_config(weights), **options)
        names = {name: f"{prefix}.{name}".lstrip(".") for name in piece.state_dict()}
        own = {name: weights.get(names[name]) for name in names}
        for name, expected in piece.state_dict().items():
            if own[name] is None or own[name].shape != expected.shape:
                got = "no such tensor" if own[name] is None else f"shape {tuple(own[name].shape)}"
                raise ValueError(
                    f"weights[{names[name]!r}]: expected shape {tuple(expected.shape)}, got {got}; "
                    f"is {prefix!r} the place of a {cls.__name__}?"
                )
        piece.load_state_dict(own, assign=True)
        piece.clear_buffers()
        return piece


class _WhileCompiling:
    """As a function's `__no_type_check__`: the type checker, where one is on, skips it while torch.compile traces.

    Tracing runs on stand-ins for tensors, which jaxtyping takes for something else.
    """

    @no_type_check  # asked before every checked call: a check of its own would cost as much as the call's
    def __bool__(self) -> bool:
        return torch.compiler.is_compiling()


_WHILE_COMPILING = _WhileCompiling()


def _state_dtype(module: nn.Module, like: Tensor) -> torch.dtype:
    """The dtype of a module's state, in a model whose weights are like this one."""
    return module.state_dtype(like.dtype) if isinstance(module, Piece) else like.dtype


def infer_config(weights: Mapping[str, Tensor]) -> RWKVConfig:
    """The sizes of the model whose tensors these are, read off their shapes.

    Raises:
        ValueError: if the embedding table, or the first MLP's matrix, is missing or no matrix.
    """
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    table, middle = "embedding.embedding.weight", "blocks.0.gated_mlp.key.weight"
    for name in [table, middle] if blocks else [table]:
        if name not in weights or weights[name].dim() != 2:
            raise ValueError(
                f"weights[{name!r}]: expected a matrix, which says how large the model is, got "
                f"{'no such tensor' if name not in weights else tuple(weights[name].shape)}"
            )
    vocab_size, channels = weights[table].shape
    intermediate_size = weights[middle].shape[0] if blocks else 4 * channels
    return RWKVConfig(vocab_size, channels, len(blocks), intermediate_size)


def any_weight(module: nn.Module) -> Tensor:
    """One of the parameters, for their device and dtype; an empty tensor where there are none."""
    return next(module.parameters(), torch.empty(0))


def require_same_batch(piece: Piece, batch: tuple[int, ...]) -> None:
    """Refuse to continue a run with another batch shape. An empty state accepts any batch shape.

    Raises:
        ValueError: if the state of `piece` belongs to a run of another shape than `batch`.
    """
    name, buffer = next(piece.named_buffers(), ("", None))
    if buffer is None or buffer.shape[:-1] == batch:
        return
    if buffer.dim() > 1 or (buffer != 0).any():  # the first buffer of a block is a mixer's, which is 0 when empty
        raise ValueError(
            f"the memory belongs to a run of batch shape {tuple(buffer.shape[:-1])}, but this step has batch shape "
            f"{tuple(batch)}; call clear_buffers() to start a new run"
        )


@no_type_check  # a wrong token gets this message, whether or not a type checker is on
def require_token(token: TokenId | OneHot, vocab_size: int) -> tuple[int | Tensor, tuple[int, ...]]:
    """The token and its batch shape, which is () for an id. Refuse what is no token of a model with this many tokens.

    Raises:
        TypeError, ValueError: with what was expected and what came.
    """
    expected = (
        f"token: expected an id from 0 to {vocab_size - 1}, a tensor of such ids (int64 or int32), "
        f"or one-hots (*batch, {vocab_size})"
    )
    if isinstance(token, Integral) and not isinstance(token, bool):  # NumPy's integers too
        if not 0 <= token < vocab_size:
            raise ValueError(f"{expected}, got {token}")
        return int(token), ()
    if not isinstance(token, Tensor) or not (token.is_floating_point() or token.dtype in (torch.int64, torch.int32)):
        got = f"a tensor of {token.dtype}" if isinstance(token, Tensor) else f"{type(token).__name__} {token!r:.40}"
        raise TypeError(f"{expected}, got {got}")
    if token.is_floating_point():
        if token.shape[-1:] != (vocab_size,):
            raise ValueError(f"{expected}, got floats of shape {tuple(token.shape)}")
        return token, token.shape[:-1]
    if token.numel() and not (0 <= token.min() and token.max() < vocab_size):
        raise ValueError(f"{expected}, got a tensor with ids from {token.min()} to {token.max()}")
    return token, token.shape
