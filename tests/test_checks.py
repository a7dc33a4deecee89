"""The exercises' checks: each wrong answer gets its own words, right ones pass however written, nothing breaks them."""

import builtins
import ctypes
import importlib
import itertools
import json
import multiprocessing
import os
import pkgutil
import random
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import wrong_answers
from exercises import exercises_of, source, stub_of
from rwkv_explainer.exercises import NotYet, check, exercises, find, given
from rwkv_explainer.exercises.exercise import judge

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(3)
BANKS = {
    name: answers
    for module in pkgutil.iter_modules(wrong_answers.__path__)
    for name, answers in importlib.import_module(f"wrong_answers.{module.name}").ANSWERS.items()
}
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))  # each has exercises
each_exercise = pytest.mark.parametrize("name", sorted(exercises()))
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def answer_for(name: str, answer, seed: int):
    """What a learner hands in: a value is computed from what was given."""
    exercise = find(name)
    return answer(*exercise.cases_for(seed)[0]) if exercise.value else answer


@pytest.fixture
def threads(monkeypatch):
    """A system on which answers run in threads; that is quicker, too."""
    monkeypatch.setattr(sys, "platform", "darwin")


# ---------------------------------------------------------------------------------------------------------------------
# right and wrong answers


@each_exercise
def test_right_answers_pass_however_they_are_written(name, threads):
    right, _ = BANKS[name]
    assert right, "there is no second right answer"
    for seed in SEEDS:
        for answer in (find(name).reference, *right):
            verdict = check(name, answer_for(name, answer, seed), seed)
            assert verdict, verdict
            assert verdict.message == find(name).verified


@each_exercise
def test_each_wrong_answer_fails_with_its_own_words(name, threads):
    _, wrong = BANKS[name]
    assert len(wrong) >= 5
    said = {}
    for seed in SEEDS:
        for words, answer in wrong.items():
            verdict = check(name, answer_for(name, answer, seed), seed)
            assert verdict.status == "wrong" and words in verdict.message, f"{words!r}: {verdict}"
            said.setdefault(verdict.message, words)
            assert said[verdict.message] == words
            assert "First difference: " in verdict.detail


@each_exercise
def test_a_check_knows_at_least_five_mistakes_and_tells_them_apart(name, threads):
    exercise = find(name)
    assert len(exercise.mistakes) >= 5
    for seed in SEEDS:
        for words, answer in exercise.mistakes.items():
            verdict = check(name, answer_for(name, answer, seed), seed)
            assert verdict.status == "wrong" and verdict.message == words, f"{words!r}: {verdict}"


@each_exercise
def test_another_seed_gives_other_numbers_and_the_same_seed_the_same(name):
    shown = [repr(find(name).cases_for(seed)) for seed in (0, 1, 2, 3)]
    if "function" in shown[0] or "RWKVLM" in shown[0]:  # a black box shows nothing of its numbers
        return
    assert len(set(shown)) > 1
    assert shown[1] == repr(find(name).cases_for(1))


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="half-life"):
        check("half-live", None)


# ---------------------------------------------------------------------------------------------------------------------
# whatever a learner passes


class Broken:
    """Whatever is done with it raises."""

    def __repr__(self):
        raise RuntimeError("broken")

    __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __format__ = __reduce__ = __repr__


class BrokenTensor(torch.Tensor):
    """A tensor that cannot be compared or shown."""

    __repr__ = __str__ = __eq__ = __bool__ = __format__ = Broken.__repr__


class BrokenError(Exception):
    __str__ = Broken.__repr__


def raises(*x):
    raise BrokenError


def deletes_its_name(*x):
    del x
    return x


def deletes_what_all_use(*x):
    del torch.softmax, torch.exp, torch.cat


def yields(*x):
    yield 1


def calls_itself(*x):
    return calls_itself(*x)


def digs_deep(*x):
    sys.setrecursionlimit(10**7)
    return calls_itself(*x)


def asks(*x):
    return input("What is it? ")


def leaves(*x):
    sys.exit()


def leaves_at_once(*x):
    os._exit(0)


def crashes(*x):
    ctypes.string_at(0)


def takes_all_memory(*x):
    return [0] * 10**12


VALUES = [
    None,
    3.5,
    "seven",
    [],
    {},
    object(),
    torch.zeros(0),
    [[1], [2, 3]],
    torch.ones(10**7),
    Broken(),
    BrokenTensor(torch.ones(2)),
    [Broken()],
    yields(),
    10**400,
    itertools.count(),
    int,
]
FUNCTIONS = [
    int,
    Broken,
    lambda *x: [None],
    lambda *x: 1 / 0,
    lambda *x: "words",
    lambda *x: {1: 2},
    lambda *x: object(),
    lambda *x: Broken(),
    lambda *x: [Broken()],
    lambda *x: {"a": Broken()},
    lambda *x: Broken,
    lambda *x: BrokenTensor(torch.ones(2)),
    lambda *x: torch.ones(2).to_sparse(),
    lambda *x: torch.ones(2) * 1j,
    lambda *x: torch.zeros(1).expand(10**12),
    lambda *x: 10**400,
    raises,
    deletes_its_name,
    yields,
    calls_itself,
    asks,
    leaves,
]
DANGEROUS = [deletes_what_all_use, leaves_at_once, takes_all_memory, lambda *x: torch.zeros(10**12)]


def assert_all_wrong(name: str, answers: list) -> None:
    for answer in answers:
        verdict = check(name, answer)
        assert verdict.status == "wrong" and len(str(verdict)) < 600, verdict


@each_exercise
def test_any_answer_gets_a_verdict(name, threads):
    assert_all_wrong(name, VALUES if find(name).value else FUNCTIONS)


@each_exercise
def test_a_dangerous_answer_gets_a_verdict(name):
    assert_all_wrong(name, DANGEROUS)


@pytest.mark.parametrize("name", ["half-life", "memory-step", "two-ones"])
def test_any_answer_gets_a_verdict_in_a_process_too(name):
    assert_all_wrong(name, [*VALUES, *FUNCTIONS])
    assert not multiprocessing.active_children()


@each_exercise
def test_a_blank_is_told_kindly(name):
    def blank(x):
        """Words."""
        ...

    for answer in [..., [...]] if find(name).value else [..., blank]:
        assert check(name, answer).status == "blank"


def test_an_error_is_shown_with_its_line():
    def broken(log_decay):
        return log_decay / nothing_of_that_name  # noqa: F821

    said = str(check("half-life", broken))
    assert "NameError" in said and "return log_decay / nothing_of_that_name" in said


def endless(*x):
    while True:
        print("again")


let_go = threading.Event()  # ends the stubborn loop, which would take half of the processor from all tests after it


def stubborn(*x):
    while not let_go.is_set():
        try:
            sum(range(1000))
        except:  # noqa: E722
            pass


def endless_in_c(*x):
    return sum(itertools.count())  # Python never gets to look whether time is up


@each_exercise
def test_an_endless_loop_is_cut_off_and_ends(name):
    if not find(name).value:
        for answer in (endless, stubborn, endless_in_c):
            verdict = judge(replace(find(name), seconds=0.1), answer, 0)
            assert "still running after 0.1 seconds and was cut off" in verdict.message
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("answer", [digs_deep, crashes])
def test_what_would_end_python_ends_the_answer_alone(answer):
    assert "brought all of Python to an end" in str(check("half-life", answer))


def test_words_for_what_cannot_be_compared():
    """A learner reads what came instead, and what to do about it."""
    said = {answer: str(check("half-life", answer)) for answer in (yields, asks, leaves, takes_all_memory)}
    assert "a generator (use `return`, not `yield`)" in said[yields]
    assert "nobody who could type" in said[asks] and 'return input("What is it? ")' in said[asks]
    assert "left by `exit`, at `sys.exit()`" in said[leaves]
    assert "more memory than a check gives, at `return [0] * 10**12`" in said[takes_all_memory]
    assert "a function (call it, with parentheses)" in str(check("half-life", lambda log_decay: log_decay.exp().log))


def test_words_for_a_row_that_is_not_what_was_asked_for():
    right = find("memory-step").reference
    asked = "It should return 3 things, `read`, `contents`, `normalizer`; yours returns "
    assert asked + "None." in str(check("memory-step", lambda *x: print(x)))
    assert asked + "2 in a row." in str(check("memory-step", lambda *x: right(*x)[:2]))
    said = str(check("memory-step", lambda *x: (*right(*x)[:2], torch.ones(2, 2))))
    assert "`normalizer` should be a tensor of shape (3,), yours is a tensor of shape (2, 2)." in said
    said = str(check("memory-step", lambda *x: ["a"] * 3))
    assert "`read` should be a tensor of shape (3,), yours is a string." in said
    assert check("memory-step", lambda *x: torch.stack(right(*x)))


def test_threads_do_the_same_where_processes_cannot_be_copied(threads):
    assert check("half-life", find("half-life").reference)
    assert "NameError" in str(check("half-life", lambda log_decay: nothing_of_that_name))  # noqa: F821
    assert "left by `exit`" in str(check("half-life", leaves))
    assert "nobody who could type" in str(check("half-life", asks))
    assert "RecursionError" in str(check("half-life", calls_itself))
    let_go.clear()
    try:
        for answer in (endless, stubborn):
            assert "cut off" in judge(replace(find("half-life"), seconds=0.3), answer, 0).message
    finally:
        let_go.set()


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_nothing_that_an_answer_does_outlives_the_check(system, capsys, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)

    def vandal(log_decay):
        print("noise")
        print("noise", file=sys.stderr)
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(not torch.is_grad_enabled())
        sys.setrecursionlimit(2000)
        log_decay.fill_(0)
        sys.exit("bye")

    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            sys.getrecursionlimit(),
            sys.stdout,
            builtins.input,
        )

    before = state()
    assert "left by `exit`" in str(check("half-life", vandal))
    for now, then in zip(state(), before, strict=True):
        assert now == then
    assert capsys.readouterr() == ("", "")


def test_an_answer_may_change_what_it_is_given():
    def in_place(log_decay):
        return log_decay.exp_().pow_(-1).mul_(np.log(2))

    assert check("half-life", in_place) and check("half-life", in_place)


def test_stop_raises_what_shows_itself_without_a_traceback():
    assert check("half-life", find("half-life").reference, stop=True)
    with pytest.raises(NotYet, match="Still blank") as caught:
        check("half-life", ..., stop=True)
    assert caught.value._render_traceback_() == [str(caught.value)]


# ---------------------------------------------------------------------------------------------------------------------
# exercises as they stand in the chapters


def test_chapters_checks_and_answers_are_about_the_same_exercises():
    in_chapters = [
        exercise.name
        for path in CHAPTERS
        for exercise in exercises_of(json.loads(path.read_text("utf-8")))
        if exercise.answer
    ]
    assert sorted(in_chapters) == sorted(exercises()) == sorted(BANKS)


@each_chapter
def test_stub_and_solution_agree_outside_the_blanks(chapter):
    for exercise in exercises_of(json.loads(chapter.read_text(encoding="utf-8"))):
        if exercise.answer:
            assert stub_of(source(exercise.solution)) == source(exercise.answer)
            assert f'check("{exercise.name}", ' in source(exercise.answer)
            assert exercise.solution["metadata"]["nbgrader"]["grade_id"] == exercise.name


@each_chapter
@pytest.mark.parametrize("seed", SEEDS[1:])
def test_solutions_hold_for_other_seeds(chapter, seed):
    """From the set-up cells alone: an exercise asks for nothing that a chapter builds on its way."""
    notebook = json.loads(chapter.read_text(encoding="utf-8"))
    cells = {cell["id"]: source(cell) for cell in notebook["cells"]}
    names: dict = {}
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        for code in (cells["setup"], cells["exercises-setup"].replace("seed = 0", f"seed = {seed}")):
            exec("\n".join(line for line in code.splitlines() if not line.startswith("%")), names)
        for exercise in exercises_of(notebook):
            if exercise.answer:
                *code, last = source(exercise.solution).splitlines()
                exec("\n".join(code), names)
                assert eval(last, names), exercise.name
    finally:
        torch.set_grad_enabled(grad), torch.set_default_dtype(dtype)


@each_chapter
def test_every_chapter_ends_with_three_to_five_rated_exercises(chapter):
    found = exercises_of(json.loads(chapter.read_text(encoding="utf-8")))
    assert 3 <= len(found) <= 5
    for number, exercise in enumerate(found, start=1):
        assert source(exercise.statement).startswith(f"**{number}. ") and 1 <= exercise.points <= 3
        assert "<summary>Hint</summary>" in source(exercise.statement)
        assert exercise.why and exercise.why["id"] == f"{exercise.name}-why"


def test_given_returns_what_the_check_uses():
    for name, exercise in exercises().items():
        if exercise.value:
            assert check(name, exercise.reference(*exercise.cases_for(5)[0]), seed=5)
            assert repr(given(name, seed=5)) in repr(exercise.cases_for(5))


def test_a_class_is_judged_as_its_functions_are():
    """A class that is still blank, or that errs, is told so in the same words."""

    class Blank(wrong_answers.attention_and_memory.OwnMemory):
        def read(self, keys, values):
            """What it would do."""
            ...

    memories = wrong_answers.attention_and_memory
    assert check("memory-step", Blank).status == "blank"
    assert "gain got into the memory" in check("memory-step", memories.GainInMemory).message
    assert "tempting mistake" in check("memory-step", memories.WritesFirst).message
    assert "gates come too late" in check("attention-block", memories.GatesTooLate).message
