"""Where two results differ first, in words: by kind, by shape, or by number."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from types import BuiltinFunctionType, FunctionType, GeneratorType, MethodType
from typing import Any, no_type_check

import numpy as np
import torch
from torch import Tensor

from rwkv_explainer.exercises.running import AnswerFailed

__all__ = ["describe_kind", "difference", "to_plain_data", "unpack"]


@no_type_check  # here and below: called for each part of each result, and of any kind
def difference(expected: Any, got: Any, name: str, tolerance: float, reveal: bool = True) -> str | None:
    """The first difference between two results, or None.

    Args:
        expected: a number, a bool, a string, a tensor, or a tuple, list or dict of these.
        got: a result made plain by `to_plain_data`. Lists of numbers may stand for tensors, and a tensor of one number
            for the number.
        name: what to call the result. A number's indices stand behind it in brackets, or where it has `{0}`, `{1}`.
        tolerance: numbers are equal if they differ by no more than this, or by this part of the expected one.
        reveal: whether to say what was expected.
    """
    if isinstance(expected, dict):
        return dict_difference(expected, got, name, tolerance, reveal)
    if isinstance(expected, (tuple, list)):
        return row_difference(expected, got, name, tolerance, reveal)
    if isinstance(expected, (bool, str)):
        got = got.item() if isinstance(got, Tensor) and got.numel() == 1 else got
        if type(got) is not type(expected):
            return f"{name} should be {describe_kind(expected)}, yours is {describe_kind(got)}"
        same = got == expected if isinstance(expected, bool) else got.strip() == expected.strip()
        if same:
            return None
        return f"{name} should be {expected!r}, yours is {got!r:.80}" if reveal else f"{name} is another"
    return number_difference(expected, got, name, tolerance, reveal)


def dict_difference(expected: dict, got: Any, name: str, tolerance: float, reveal: bool) -> str | None:
    if not isinstance(got, dict):
        return f"{name} should be a dict, yours is {describe_kind(got)}"
    if got.keys() != expected.keys():
        first = next(iter(expected))
        return f"{name} should have {len(expected)} keys such as {first!r}, yours has {str(list(got)):.80}"
    names = {key: key if " " in key else f"`{key}`" for key in expected}  # a key of several words is no code
    found = (difference(value, got[key], names[key], tolerance, reveal) for key, value in expected.items())
    return next(filter(None, found), None)


def row_difference(expected: tuple | list, got: Any, name: str, tolerance: float, reveal: bool) -> str | None:
    if isinstance(got, Tensor) and got.dim():
        got = got.flatten() if got.numel() == len(expected) else got  # a row or a column of a matrix will do
        got = list(got) if len(got) == len(expected) else got
    if not isinstance(got, (tuple, list)):
        return f"{name} should be {len(expected)} things in a row, yours is {describe_kind(got)}"
    if len(got) != len(expected):
        return f"{name} should be {len(expected)} things in a row, yours are {len(got)}"
    names = [f"{name}[{i}]" for i in range(len(expected))]
    found = (difference(e, g, n, tolerance, reveal) for e, g, n in zip(expected, got, names))
    return next(filter(None, found), None)


@no_type_check
def number_difference(expected: Any, got: Any, name: str, tolerance: float, reveal: bool) -> str | None:
    right, yours = numbers(expected), numbers(got)
    if yours is None:
        return f"{name} should be {describe_kind(expected)}, yours is {describe_kind(got)}"
    if right.dim() == 0 and yours.numel() == 1:
        yours = yours.reshape(())
    if yours.shape != right.shape:
        return f"{name} should have the shape {tuple(right.shape)}, yours has {tuple(yours.shape)}"
    close = torch.isclose(yours, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    if close.all():
        return None
    place = tuple((~close).nonzero()[0].tolist())
    where = name.format(*place) if "{0}" in name else f"{name}[{', '.join(map(str, place))}]" if place else name
    should = f"should be {short(right[place])}" if reveal else "is off"
    return f"{where} {should}, yours is {short(yours[place])}" if reveal else f"{where} {should}: {short(yours[place])}"


@no_type_check
def numbers(value: Any) -> Tensor | None:
    """A number, an array, or a nest of lists of numbers, as a float64 tensor; None if it is nothing of the kind."""
    try:
        if isinstance(value, Tensor):
            return value.to(torch.float64)
        if isinstance(value, Real):
            return torch.tensor(float(value), dtype=torch.float64)
        if isinstance(value, (list, tuple)) and value:
            rows = [numbers(row) for row in value]
            return None if any(row is None for row in rows) else torch.stack(rows)
    except Exception:  # a nest of unequal lists, or of itself: whatever it is, it is no tensor
        pass
    return None


@dataclass(frozen=True)
class Incomparable:
    """Stands in plain data for a value that a check cannot compare."""

    words: str  # what it is


@no_type_check
def to_plain_data(value: Any, depth: int = 4) -> Any:
    """The same as numbers, strings, tensors, lists and dicts alone: no code of the learner's is left in it."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in ("fiub" if value.shape else "fiubU"):
        value = torch.as_tensor(np.array(value)) if value.shape else value.item()
    if isinstance(value, Tensor):
        if value.is_nested or value.layout != torch.strided or value.is_complex():
            return Incomparable("a tensor of another sort")
        small = value.numel() <= 1_000_000
        return value.detach().as_subclass(Tensor).cpu().clone() if small else Incomparable(describe_kind(value))
    if isinstance(value, list | tuple) and depth:
        return (
            [to_plain_data(part, depth - 1) for part in value]
            if len(value) <= 1_000
            else Incomparable(f"{len(value):,} things")
        )
    if isinstance(value, Mapping) and depth:
        return {str(key): to_plain_data(part, depth - 1) for key, part in value.items()}
    if value is None or type(value) in (bool, int, float, str):
        return value
    return float(value) if isinstance(value, Real) else Incomparable(describe_kind(value))


def unpack(returned: Any, **shapes: tuple) -> list[Tensor]:
    """What an answer returned in a row, by names and shapes, as float64; a single number may stand for many.

    Raises:
        AnswerFailed: if it is something else, with what came instead.
    """
    is_row = isinstance(returned, Tensor) and returned.dim() and len(returned) == len(shapes)
    row = list(returned) if is_row else returned
    if not isinstance(row, (list, tuple)) or len(row) != len(shapes):
        came = f"{len(row)} in a row" if isinstance(row, (list, tuple)) else describe_kind(row)
        raise AnswerFailed(f"It should return {len(shapes)} things, `{'`, `'.join(shapes)}`; yours returns {came}.")
    tensors = []
    for (name, shape), part in zip(shapes.items(), row):
        try:
            tensors.append(numbers(to_plain_data(part)).expand(shape).clone())
        except (AttributeError, RuntimeError):  # nothing of numbers, or of another shape
            raise AnswerFailed(
                f"`{name}` should be a tensor of shape {tuple(shape)}, yours is {describe_kind(part)}."
            ) from None
    return tensors


def describe_kind(value: Any) -> str:
    """What something is, in a learner's words."""
    if isinstance(value, Incomparable):
        return value.words
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if value.dim() else "a number"
    if isinstance(value, Real) and not isinstance(value, bool):
        return "a number"
    if isinstance(value, type):
        return "a class"
    if isinstance(value, FunctionType | BuiltinFunctionType | MethodType):
        return "a function (call it, with parentheses)"
    words = {
        type(None): "None",
        bool: "True or False",
        str: "a string",
        dict: "a dict",
        list: "a list",
        tuple: "a tuple",
        np.ndarray: "an array",
        GeneratorType: "a generator (use `return`, not `yield`)",
        type(...): "three dots",
    }
    kind = type(value).__name__
    return words.get(type(value), f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}")


def short(number: Tensor) -> str:
    value = number.item()
    return f"{value:.6g}" if math.isfinite(value) else str(value)
