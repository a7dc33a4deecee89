"""What an exercise is to its check, and how an answer is judged."""

import contextlib
import copy
import inspect
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations
from types import FunctionType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rwkv_explainer.exercises.comparing import describe_kind, difference, to_plain_data
from rwkv_explainer.exercises.running import AnswerFailed, isolated, run

__all__ = ["A_RUN", "Case", "Exercise", "NotYet", "Verdict", "judge"]

Case = tuple  # the inputs of one run of an answer
A_RUN = "The parts of the run that the check steps through"  # for `inputs_are`


def call(answer: Callable, *case: Any) -> Any:
    """The default of `Exercise.run`: the case holds the arguments of the answer."""
    __tracebackhide__ = True
    return answer(*case)


@dataclass(frozen=True, eq=False)  # each is itself alone: `known` remembers them
class Exercise:
    """An exercise, as its check knows it.

    An answer and the reference run on the same cases. Where their results differ, the mistakes run too: wrong
    implementations, each with the message for those who made it. The mistake with the answer's own results is named.
    """

    name: str
    reference: Callable  # a right answer; where the answer is a value, computes it from the case
    cases: Callable[[torch.Generator], list[Case]]  # from a seeded generator
    mistakes: dict[str, Callable]  # message -> a wrong implementation that leads to it, called like `reference`
    success_message: str
    is_value: bool = False  # the answer is a value and not a function; there is one case, which `given` returns
    run: Callable = call  # calls the answer on a case
    result_name: str = "the result"  # how messages name the result; see `difference`
    inputs_are: str = "The inputs"  # in messages, what a case holds; other words where it is not the arguments
    tolerance: float = 1e-6
    seconds: float = 10.0  # until an answer is cut off, where a course is marked
    forbidden: tuple[str, ...] = ()  # functions of torch that the answer must not call: they are what it should write

    def cases_for(self, seed: int) -> list[Case]:
        """The cases of one seed. Another exercise gets others for the same seed.

        The numbers behind a value are drawn until each mistake leads to another value, or it could not be named.
        """
        random = torch.Generator().manual_seed(zlib.crc32(f"{self.name} {seed}".encode()))
        cases = self.cases(random)
        while self.is_value and self.confused(cases):
            cases = self.cases(random)
        return cases

    def confused(self, cases: list[Case]) -> list[tuple[str, str]]:
        """The pairs of answers, by the mistakes' messages, whose results on these cases are the same."""
        answers = {"the reference": self.reference} | self.mistakes
        results = {words: self.results(answer, cases) for words, answer in answers.items()}
        pairs = combinations(results, 2)
        return [(one, other) for one, other in pairs if not first_difference(self, results[one], results[other])[1]]

    def results(self, answer: Callable, cases: list[Case]) -> list[Any]:
        """What an answer of ours returns in each case; None where it cannot be computed."""
        results = []
        for case in cases:
            try:
                results.append(to_plain_data(self.run(answer, *case)))
            except Exception:  # some mistakes cannot be made in every case
                results.append(None)
        return results

    def inputs(self) -> list[str]:
        """The names of a case's parts."""
        if self.run is call:
            return list(inspect.signature(self.reference).parameters)
        return list(inspect.signature(self.run).parameters)[1:]


class Known:
    """What a check knows of a seed: the cases, and what answers of ours return in them, run when first asked for."""

    def __init__(self, exercise: Exercise, seed: int):
        self.exercise, self.seed = exercise, seed
        self.cases = exercise.cases_for(seed)
        self._results: dict[Callable, list[Any]] = {}

    def results(self, answer: Callable) -> list[Any]:
        """What the reference or a mistake returns in each case; None where it cannot be computed."""
        if answer not in self._results:
            self._results[answer] = self.exercise.results(answer, copy.deepcopy(self.cases))
        return self._results[answer]


@lru_cache(maxsize=8)  # a learner tries one exercise again and again
def known(exercise: Exercise, seed: int) -> Known:
    return Known(exercise, seed)


@dataclass(frozen=True)
class Verdict:
    """What a check found: `bool(verdict)` is whether the answer is right."""

    status: str  # "right", "wrong" or "blank"
    message: str
    detail: str = ""  # the first difference, and the inputs for which it was found

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


class WithoutLibrary(TorchFunctionMode):
    """Refuses calls of the functions of torch that an exercise asks to write."""

    def __init__(self, forbidden: tuple[str, ...]):
        super().__init__()
        self.forbidden = forbidden

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if (name := getattr(function, "__name__", "")) in self.forbidden:
            raise AnswerFailed(f"It calls torch's own `{name}`: write what that function does without it.")
        return function(*args, **(kwargs or {}))


def judge(exercise: Exercise, answer: Any, seed: int) -> Verdict:
    """Compare an answer with the reference, and say what was found."""
    __tracebackhide__ = True
    if is_blank(answer):
        return Verdict("blank", "Replace the three dots by your answer, then run this cell again.")
    if not exercise.is_value and not callable(answer):
        return Verdict("wrong", f"The check needs the function itself, its name alone, not {describe_kind(answer)}.")
    with isolated():
        right = known(exercise, seed)
        try:
            got = run(partial(attempt, exercise, answer, right.cases, seed), exercise.seconds)
        except AnswerFailed as failed:
            return Verdict("wrong", str(failed))
        return compare(right, got)


def attempt(exercise: Exercise, answer: Any, cases: list[Case], seed: int) -> list[Any]:
    """What a learner's answer returns in each case, as plain data."""
    __tracebackhide__ = True
    if exercise.is_value:
        return [to_plain_data(answer)]
    results = []
    library = WithoutLibrary(exercise.forbidden) if exercise.forbidden else contextlib.nullcontext()

    def with_copies(*arguments: Any) -> Any:
        """An answer may change what it is given in place: no two of its arguments share memory."""
        __tracebackhide__ = True
        return answer(*map(copy.deepcopy, arguments))

    used = answer if isinstance(answer, type) else with_copies  # an exercise may want the class itself
    for number, case in enumerate(cases):
        try:
            with library:
                results.append(to_plain_data(exercise.run(used, *copy.deepcopy(case))))
        except Exception as error:
            error.add_note(inputs_in_words(exercise, seed, number))
            raise
    return results


def compare(right: Known, got: list[Any]) -> Verdict:
    """The verdict on these results, one for each case."""
    exercise = right.exercise
    number, found = first_difference(exercise, right.results(exercise.reference), got)
    if found is None:
        return Verdict("right", exercise.success_message)
    if not exercise.is_value and all(result is None for result in got):
        return Verdict("wrong", "It returns nothing, `None`: is there a `return`?")
    alike = (words for words, wrong in exercise.mistakes.items() if errs_alike(right, wrong, got))
    where = "" if exercise.is_value else " " + inputs_in_words(exercise, right.seed, number)
    return Verdict("wrong", next(alike, ""), f"First difference: {found}.{where}")


def first_difference(exercise: Exercise, expected: list[Any], got: list[Any]) -> tuple[int, str | None]:
    """The number of the first case in which results differ, and where they differ; (-1, None) if they do not."""
    for number, (right, yours) in enumerate(zip(expected, got)):
        if right is None or yours is None:
            found = None if right is yours else f"{exercise.result_name} should be something, yours is `None`"
        else:
            found = difference(right, yours, exercise.result_name, exercise.tolerance, reveal=not exercise.is_value)
        if found:
            return number, found
    return -1, None


def errs_alike(right: Known, mistake: Callable, got: list[Any]) -> bool:
    """Whether a known mistake has these same results."""
    return first_difference(right.exercise, right.results(mistake), got)[1] is None


def inputs_in_words(exercise: Exercise, seed: int, number: int) -> str:
    """How a learner gets the inputs of a case."""
    case = f", case={number}" if number else ""
    names = ", ".join(exercise.inputs())
    return f'{exercise.inputs_are} ({names}) are `given("{exercise.name}", seed={seed}{case})`.'


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
    """Bytecode and constants, with decorators unwrapped and the docstring ignored."""
    code = inspect.unwrap(function).__code__
    return code.co_code, tuple(constant for constant in code.co_consts if constant is not function.__doc__)
