"""What an exercise is to its check, and how an answer is judged."""

import copy
import inspect
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from types import FunctionType
from typing import Any

import torch

from rwkv_explainer.exercises.comparing import difference, kind, plain
from rwkv_explainer.exercises.running import Stopped, run, undisturbed

Case = tuple  # what one run of an answer starts from


def call(answer: Callable, *case: Any) -> Any:
    """The plainest way to use an answer: it is a function of the case."""
    return answer(*case)


@dataclass(frozen=True)
class Exercise:
    """An exercise, as its check knows it.

    A learner's answer meets random cases, and so does the reference. Where their results differ, the mistakes are
    tried: wrong answers that we know, each with a sentence about it. The one that errs as the learner does is named.
    """

    name: str
    reference: Callable  # a right answer; of a value, the function that gets it from the case
    cases: Callable[[torch.Generator], list[Case]]  # by random numbers
    mistakes: dict[str, Callable]  # what is probably wrong, in the learner's world: a wrong answer like `reference`
    verified: str  # what a right answer has been found to do
    value: bool = False  # the answer is a value, not a function; there is one case, and `given` returns it
    use: Callable = call  # how an answer meets a case
    result: str = "the result"  # what the answer comes to, in words
    tolerance: float = 1e-6
    seconds: float = 10.0  # until an answer is cut off

    def cases_for(self, seed: int) -> list[Case]:
        """The cases of one seed. Another exercise gets others for the same seed.

        The numbers behind a value are drawn until each mistake leads to another value, or it could not be told.
        """
        random = torch.Generator().manual_seed(zlib.crc32(f"{self.name} {seed}".encode()))
        cases = self.cases(random)
        while self.value and not self.tells_mistakes_apart(cases):
            cases = self.cases(random)
        return cases

    def tells_mistakes_apart(self, cases: list[Case]) -> bool:
        """Whether the reference and all mistakes come to different results."""
        every = [self.results(answer, cases) for answer in (self.reference, *self.mistakes.values())]
        return all(first_difference(self, one, other) for one, other in combinations(every, 2))

    def results(self, answer: Callable, cases: list[Case]) -> list[Any]:
        """What an answer of ours comes to in each case, from a copy that it may change."""
        return [self.use(answer, *copy.deepcopy(case)) for case in cases]


@dataclass(frozen=True)
class Verdict:
    """What a check found: `bool(verdict)` is whether the answer is right."""

    status: str  # "right", "wrong" or "blank"
    message: str
    detail: str = ""  # the first difference, in a sentence of its own

    def __bool__(self) -> bool:
        return self.status == "right"

    def __str__(self) -> str:
        mark = {"right": "✓ Right.", "wrong": "✗ Not yet.", "blank": "○ Still blank."}[self.status]
        return " ".join(filter(None, [mark, self.message, self.detail]))

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        mark, _, rest = str(self).partition(". ")
        return f"**{mark}.** {rest}"


class NotYet(Exception):
    """An exercise is not solved yet. In a notebook it shows its verdict, without a traceback."""

    def __init__(self, verdict: Verdict):
        super().__init__(str(verdict))

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def judge(exercise: Exercise, answer: Any, seed: int) -> Verdict:
    """Compare an answer with the reference, and say what was found."""
    if is_blank(answer):
        return Verdict("blank", "Replace the three dots by your answer, then run this cell again.")
    if not exercise.value and not callable(answer):
        return Verdict("wrong", f"The check needs the function itself, by its name alone; this is {kind(answer)}.")
    with undisturbed():
        cases = exercise.cases_for(seed)
        expected = exercise.results(exercise.reference, cases)
        try:
            got = run(lambda: attempt(exercise, answer, cases), exercise.seconds)
        except Stopped as stopped:
            return Verdict("wrong", str(stopped))
        return compare(exercise, cases, expected, got)


def attempt(exercise: Exercise, answer: Any, cases: list[Case]) -> list[Any]:
    """What a learner's answer comes to in each case, as plain data: no code of the learner's is left to run."""
    if exercise.value:
        return [plain(answer)]
    return [plain(exercise.use(answer, *copy.deepcopy(case))) for case in cases]


def compare(exercise: Exercise, cases: list[Case], expected: list[Any], got: list[Any]) -> Verdict:
    """The verdict on these results, one for each case."""
    found = first_difference(exercise, expected, got)
    if found is None:
        return Verdict("right", exercise.verified)
    if not exercise.value and all(result is None for result in got):
        return Verdict("wrong", "It returns nothing, `None`: is there a `return`?")
    alike = (words for words, wrong in exercise.mistakes.items() if errs_alike(exercise, wrong, cases, got))
    return Verdict("wrong", next(alike, ""), f"First difference: {found}.")


def first_difference(exercise: Exercise, expected: list[Any], got: list[Any]) -> str | None:
    """Where the results of some case differ first, or None."""
    reveal = not exercise.value
    found = (difference(e, g, exercise.result, exercise.tolerance, reveal) for e, g in zip(expected, got))
    return next(filter(None, found), None)


def errs_alike(exercise: Exercise, mistake: Callable, cases: list[Case], got: list[Any]) -> bool:
    """Whether a known mistake comes to these same results."""
    try:
        return first_difference(exercise, exercise.results(mistake, cases), got) is None
    except Exception:  # some mistakes cannot be made in every case
        return False


def is_blank(answer: Any) -> bool:
    """Whether a blank has not been filled: three dots, or a function or a class's method that holds nothing else."""
    if type(answer) in (list, tuple):
        return any(part is ... for part in answer)
    if isinstance(answer, type):
        return any(is_blank(part) for part in vars(answer).values() if isinstance(part, FunctionType))
    if isinstance(answer, FunctionType):
        return any(body(answer) == body(blank) for blank in (blank_function, documented_blank_function))
    return answer is ...


def blank_function(): ...


def documented_blank_function():
    """Says what it would do."""
    ...


def body(function: FunctionType) -> tuple:
    """What a function does, whatever its documentation says and whichever type checker stands in front of it."""
    code = inspect.unwrap(function).__code__
    return code.co_code, tuple(constant for constant in code.co_consts if constant is not function.__doc__)
