"""The exercises' checks: they compare an answer with the package, and name the mistake.

    from rwkv_explainer.exercises import check, given

    check("half-life", half_life)  # a function, a class or a value, as the exercise asks
    check("half-life", half_life, seed=7)  # the same exercise with other numbers

Each chapter's exercises stand in its room, `rwkv_explainer/chapters/`, in `exercises.py`.
"""

import importlib
import pkgutil
from functools import cache
from typing import Any

from rwkv_explainer import chapters
from rwkv_explainer.exercises.exercise import Exercise, NotYet, Verdict, judge

__all__ = ["check", "given", "Verdict", "NotYet"]


def check(name: str, answer: Any, seed: int = 0, stop: bool = False) -> Verdict:
    """Say whether `answer` solves the exercise `name`, and if not, what is probably wrong.

    The answer runs as ordinary code: it may print, be debugged or interrupted, and what it raises comes through. Random
    states and torch's settings are left as they were. While a course is marked, it runs in a process of its own with
    limits, and what it raises is a wrong answer (`running.MARKING`).

    Args:
        name: the exercise's name, as the notebook's call has it.
        answer: whatever the exercise asks for.
        seed: chooses the exercise's numbers; the same as given to `given`.
        stop: raise `NotYet` instead of returning a verdict other than right, so that "run all" stops there.

    Raises:
        ValueError: for a name that no exercise has.
        NotYet: see `stop`.
    """
    __tracebackhide__ = True
    verdict = judge(find(name), answer, seed)
    if stop and not verdict:
        raise NotYet(verdict)
    return verdict


def given(name: str, seed: int = 0, case: int = 0) -> Any:
    """The inputs that the check of the exercise `name` uses: one, or a tuple of several.

    Args:
        name: the exercise's name.
        seed: chooses the numbers; the same seed gives the same ones.
        case: where a function is checked on several inputs, which of them. A verdict names the one that it speaks of.

    Raises:
        ValueError: for a name that no exercise has.
        IndexError: for a case that the exercise does not have.
    """
    cases = find(name).cases_for(seed)
    if not 0 <= case < len(cases):
        raise IndexError(f"case: {name} has {len(cases)} cases, counted from 0, got {case}")
    return cases[case][0] if len(cases[case]) == 1 else cases[case]


@cache
def exercises() -> dict[str, Exercise]:
    """All exercises by name, from the chapters' rooms."""
    rooms = pkgutil.iter_modules(chapters.__path__, chapters.__name__ + ".")
    modules = [importlib.import_module(f"{room.name}.exercises") for room in rooms]
    return {exercise.name: exercise for module in modules for exercise in getattr(module, "EXERCISES", [])}


def find(name: str) -> Exercise:
    if name not in exercises():
        raise ValueError(f"name: expected an exercise's name, got {name!r}; there are {', '.join(sorted(exercises()))}")
    return exercises()[name]
