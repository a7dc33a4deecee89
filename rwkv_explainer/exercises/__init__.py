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

    A learner's code may raise, print or never end: the check goes on without it, and leaves random states and torch's
    settings as they were.

    Args:
        name: the exercise's name, as the notebook's call has it.
        answer: whatever the exercise asks for.
        seed: chooses the exercise's numbers; the same as given to `given`.
        stop: raise `NotYet` instead of returning a verdict other than right, so that "run all" stops there.

    Raises:
        ValueError: for a name that no exercise has.
        NotYet: see `stop`.
    """
    verdict = judge(find(name), answer, seed)
    if stop and not verdict:
        raise NotYet(verdict)
    return verdict


def given(name: str, seed: int = 0) -> Any:
    """What the exercise `name` starts from: numbers that `seed` chooses, the same for the same seed."""
    case = find(name).cases_for(seed)[0]
    return case[0] if len(case) == 1 else case


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
