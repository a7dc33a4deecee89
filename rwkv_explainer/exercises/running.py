"""Runs code that may do anything: raise, print, ask, change settings, take all memory, never end."""

import builtins
import contextlib
import ctypes
import faulthandler
import io
import linecache
import multiprocessing
import pickle
import random
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

MEMORY = 2 * 1024**3  # bytes that code may take beyond what Python has already


class Stopped(Exception):
    """Code did not come to a good end. Says in a sentence why, for whoever wrote it."""


class TooLong(BaseException):
    """Thrown into a thread that does not come to an end. No `Exception`, so that few handlers catch it."""


class Nowhere(io.TextIOBase):
    """A file that forgets what is printed to it."""

    def write(self, text: str) -> int:
        return len(text)


def nobody_types(prompt: object = "") -> str:
    raise EOFError("a check has nobody who could type an answer to `input`")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Quiet, with float64 as torch's default; afterwards, random states and settings are what they were before."""
    dtype, threads, errors, depth = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        np.geterr(),
        sys.getrecursionlimit(),
    )
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    grad = torch.is_grad_enabled()
    try:
        with (
            contextlib.redirect_stdout(Nowhere()),
            contextlib.redirect_stderr(Nowhere()),
            warnings.catch_warnings(),
            patch.object(builtins, "input", nobody_types),
        ):
            warnings.simplefilter("ignore")
            torch.set_default_dtype(torch.float64)
            yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        np.seterr(**errors)
        sys.setrecursionlimit(depth)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def run(function: Callable[[], Any], seconds: float) -> Any:
    """What `function` returns, if it does so in time: numbers, strings, tensors, and lists and dicts of these.

    On Linux it runs in a process of its own, which can be ended whatever it does, and takes its changes with it. Other
    systems cannot copy a process that holds PyTorch: there, it runs in a thread.

    Raises:
        Stopped: if time was up, or if the function raised.
    """
    value, error = (in_process if sys.platform == "linux" else in_thread)(function, seconds)
    if error:
        raise Stopped(error)
    return value


def in_process(function: Callable[[], Any], seconds: float) -> tuple[Any, str]:
    """The outcome of `function`, as `outcome` has it, in a copy of this process that is killed when time is up."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=send_outcome, args=(function, sender), daemon=True)
    child.start()
    sender.close()
    try:
        return pickle.loads(receiver.recv_bytes()) if receiver.poll(seconds) else (None, too_long(seconds))
    except EOFError:
        return None, "It brought all of Python to an end: does it call itself without end, or take very much memory?"
    finally:
        child.kill()
        child.join()
        receiver.close()


def send_outcome(function: Callable[[], Any], sender: Connection) -> None:
    """The copy's work. It has one thread, as the others are not copied."""
    import resource  # only some systems have it

    torch.set_num_threads(1)
    faulthandler.disable()  # who waits for the copy says what became of it
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    sender.send_bytes(pickle.dumps(outcome(function)))


def in_thread(function: Callable[[], Any], seconds: float) -> tuple[Any, str]:
    """The outcome of `function`, in a thread that is asked to stop when time is up. One that refuses goes on alone."""
    outcomes: list[tuple[Any, str]] = []
    grad = torch.is_grad_enabled()  # a thread begins with torch's own setting

    def work() -> None:
        with contextlib.suppress(TooLong):
            torch.set_grad_enabled(grad)
            outcomes.append(outcome(function))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    late = thread.is_alive()
    for _ in range(40):  # an `except:` without a name catches some of them
        if not thread.is_alive():
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TooLong))
        thread.join(0.05)
    return (None, too_long(seconds)) if late else outcomes[0]


def outcome(function: Callable[[], Any]) -> tuple[Any, str]:
    """What `function` returns, or in words what it raised."""
    try:
        return function(), ""
    except TooLong:
        raise
    except Stopped as stopped:
        return None, str(stopped)
    except BaseException as error:  # a learner may call sys.exit, too
        return None, describe(error)


def too_long(seconds: float) -> str:
    return f"It was still running after {seconds:g} seconds and was cut off: is there a loop that never ends?"


def describe(error: BaseException) -> str:
    """An exception in a sentence, with the line of the learner's code that it came from."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_ours(frame.filename)]
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip() if own else ""
    where = f", at `{line:.160}`" if line else ""
    said = traceback.format_exception_only(error)[-1].splitlines()[0]
    if isinstance(error, SystemExit):
        return f"It left by `exit`{where}; what it found has to be returned."
    if isinstance(error, MemoryError) or "can't allocate memory" in said:
        return f"It wants more memory than a check gives{where}: is something much larger than it should be?"
    return f"It stopped with an error: `{said:.200}`{where}."


def is_ours(filename: str) -> bool:
    """Whether a file belongs to the package, to another package or to Python."""
    places = (sys.prefix, sys.base_prefix, __file__.rpartition("exercises")[0], "<")
    return filename.startswith(places)
