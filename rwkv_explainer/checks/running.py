"""Runs code that may do anything: raise, print, change settings, never end."""

import contextlib
import ctypes
import io
import linecache
import random
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch


class TooLong(BaseException):
    """Thrown into code that does not come to an end. No `Exception`, so that few handlers catch it."""


class Nowhere(io.TextIOBase):
    """A file that forgets what is printed to it."""

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Quiet, with float64 as torch's default; afterwards, random states and settings are what they were before."""
    dtype, threads, errors = torch.get_default_dtype(), torch.get_num_threads(), np.geterr()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    grad = torch.is_grad_enabled()
    try:
        with contextlib.redirect_stdout(Nowhere()), contextlib.redirect_stderr(Nowhere()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.set_default_dtype(torch.float64)
            yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        np.seterr(**errors)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def run(function: Callable[[], Any], seconds: float) -> Any:
    """What `function` returns, if it does so in time. It runs in a thread, which is stopped when time is up.

    Raises:
        TooLong: if time was up.
        BaseException: whatever the function raises.
    """
    outcome: dict[str, Any] = {}
    grad = torch.is_grad_enabled()  # a thread begins with torch's own setting

    def work() -> None:
        with contextlib.suppress(TooLong):  # one that comes late, when the work is done
            try:
                torch.set_grad_enabled(grad)
                outcome["value"] = function()
            except BaseException as error:  # a learner may call sys.exit, too
                outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    late = thread.is_alive()
    for _ in range(40):  # an `except:` without a name catches some of them
        if not thread.is_alive():
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TooLong))
        thread.join(0.05)
    if late:
        raise TooLong
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def describe(error: BaseException) -> str:
    """An exception in one line, with the line of the learner's code that it came from."""
    words = str(error).strip().splitlines()
    said = f"`{type(error).__name__}{': ' + words[0][:160] if words else ''}`"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_ours(frame.filename)]
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip() if own else ""
    return f"{said}, at `{line}`" if line else said


def is_ours(filename: str) -> bool:
    """Whether a file belongs to the package, to another package or to Python."""
    places = (sys.prefix, sys.base_prefix, __file__.rpartition("checks")[0], "<")
    return filename.startswith(places)
