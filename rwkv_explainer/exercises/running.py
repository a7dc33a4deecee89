"""How an answer is run: as ordinary code in a notebook, in a process with limits where a course is marked."""

import contextlib
import faulthandler
import linecache
import multiprocessing
import os
import pickle
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

__all__ = ["AnswerFailed", "MARKING", "isolated", "run"]

MARKING = "RWKV_EXPLAINER_MARKING"  # environment variable; the nbgrader configuration of a course sets it
MEMORY = 2 * 1024**3  # bytes that an answer may take beyond what the process has already, where a course is marked


class AnswerFailed(Exception):
    """An answer came to nothing that can be compared. Says in a sentence why, for the learner."""


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """float64 as torch's default; afterwards random states and torch's settings are what they were before."""
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        torch.set_default_dtype(torch.float64)
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def run(function: Callable[[], Any], seconds: float) -> Any:
    """What `function` returns.

    It runs as ordinary code: it prints, it can be debugged and interrupted, and what it raises comes through. Where the
    environment variable `MARKING` is set, it runs in a process of its own with limits, so that one answer cannot end
    or hold up the marking of the others; on Linux alone, as other systems cannot fork a process that holds PyTorch.

    Raises:
        AnswerFailed: while marking, if time was up, if the function raised, or if it ended its process.
    """
    __tracebackhide__ = True
    if os.environ.get(MARKING) and sys.platform == "linux":
        return run_in_process(function, seconds)
    return function()


def run_in_process(function: Callable[[], Any], seconds: float) -> Any:
    """What `function` returns in a forked process, which is killed when time is up."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=send_outcome, args=(function, sender), daemon=True)
    with warnings.catch_warnings():  # from Python 3.12 on, of forks where there are threads; the child starts none
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise AnswerFailed(f"It was still running after {seconds:g} seconds: is there a loop that never ends?")
        value, error = pickle.loads(receiver.recv_bytes())
    except EOFError:
        value, error = None, "It ended Python itself: does it call itself without end, or take very much memory?"
    finally:
        child.kill()
        child.join()
        receiver.close()
    if error:
        raise AnswerFailed(error)
    return value


def send_outcome(function: Callable[[], Any], sender: Connection) -> None:
    """Runs in the forked process: sends what `function` returns, and in a sentence what it raised."""
    limit_memory()
    faulthandler.disable()  # the parent reports a crash
    torch.set_num_threads(1)  # a fork has one thread; OpenMP's others would be waited for without end
    sys.breakpointhook = lambda *args, **kwargs: None
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            try:
                outcome = function(), ""
            except AnswerFailed as failed:
                outcome = None, str(failed)
            except BaseException as error:  # a learner may call sys.exit, too
                outcome = None, describe(error)
    sender.send_bytes(pickle.dumps(outcome))


def limit_memory() -> None:
    import resource  # Linux and macOS alone have it

    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def describe(error: BaseException) -> str:
    """An exception in a sentence, with the line of the learner's code that it came from."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).strip() if own else ""
    where = f", at `{line:.160}`" if line else ""
    said = next(line for line in traceback.format_exception_only(error) if not line.startswith(" ")).splitlines()[0]
    if isinstance(error, SystemExit):
        return f"It left by `exit`{where}; what it found has to be returned."
    return f"It stopped with an error: `{said:.200}`{where}."


def is_library(filename: str) -> bool:
    """Whether a file belongs to this package, to another package or to Python."""
    places = (sys.prefix, sys.base_prefix, __file__.rpartition("exercises")[0], "<")
    return filename.startswith(places)
