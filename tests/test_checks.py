"""The exercises' checks: each wrong answer gets its own words, right ones pass however written, and nothing breaks them."""

import importlib
import json
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

from rwkv_explainer.checks import NotYet, check, exercises, find, given
from rwkv_explainer.checks.exercise import judge

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(3)
BANKS = {
    name: answers
    for module in pkgutil.iter_modules(wrong_answers.__path__)
    for name, answers in importlib.import_module(f"wrong_answers.{module.name}").ANSWERS.items()
}
CHAPTERS = [path for path in sorted((ROOT / "book").glob("*.ipynb")) if exercises_of(json.loads(path.read_text("utf-8")))]
each_exercise = pytest.mark.parametrize("name", sorted(exercises()))
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def answer_for(name: str, answer, seed: int):
    """What a learner hands in: a value is computed from what was given."""
    exercise = find(name)
    return answer(*exercise.cases_for(seed)[0]) if exercise.value else answer


# ---------------------------------------------------------------------------------------------------------------------
# right and wrong answers


@each_exercise
def test_right_answers_pass_however_they_are_written(name):
    right, _ = BANKS[name]
    assert right, "there is no second right answer"
    for seed in SEEDS:
        for answer in (find(name).reference, *right):
            verdict = check(name, answer_for(name, answer, seed), seed)
            assert verdict, verdict
            assert verdict.message == find(name).verified


@each_exercise
def test_each_wrong_answer_fails_with_its_own_words(name):
    _, wrong = BANKS[name]
    said = {}
    for seed in SEEDS:
        for words, answer in wrong.items():
            verdict = check(name, answer_for(name, answer, seed), seed)
            assert verdict.status == "wrong" and words in verdict.message, f"{words!r}: {verdict}"
            said.setdefault(verdict.message, words)
            assert said[verdict.message] == words
            assert "First difference: " in verdict.detail


@each_exercise
def test_a_check_knows_at_least_five_mistakes_and_tells_them_apart(name):
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


ANYTHING = [None, 3.5, "seven", [], {}, object(), torch.zeros(0), [[1], [2, 3]], int, lambda *x: [None],
            lambda *x: 1 / 0, lambda *x: "words", lambda *x: {1: 2}, lambda *x: object()]


@each_exercise
def test_any_answer_gets_a_verdict(name):
    for answer in ANYTHING:
        verdict = check(name, answer)
        assert verdict.status == "wrong" and len(str(verdict)) < 600, answer


@each_exercise
def test_a_blank_is_told_kindly(name):
    def blank(x):
        """Words."""
        ...

    for answer in ([..., [...]] if find(name).value else [..., blank]):
        assert check(name, answer).status == "blank"


def test_an_error_is_shown_with_its_line():
    def broken(log_decay):
        return log_decay / nothing_of_that_name  # noqa: F821

    said = str(check("half-life", broken))
    assert "NameError" in said and "return log_decay / nothing_of_that_name" in said


def endless(log_decay):
    while True:
        print("again")


let_go = threading.Event()  # ends the stubborn loop, which would take half of the processor from all tests after it


def stubborn(log_decay):
    while not let_go.is_set():
        try:
            sum(range(1000))
        except:  # noqa: E722
            pass


@pytest.mark.parametrize("answer", [endless, stubborn])
def test_an_endless_loop_is_cut_off(answer):
    let_go.clear()
    try:
        verdict = judge(replace(find("half-life"), seconds=0.3), answer, 0)
    finally:
        let_go.set()
    assert "cut off" in verdict.message


def test_nothing_that_an_answer_does_outlives_the_check(capsys):
    def vandal(log_decay):
        print("noise")
        print("noise", file=sys.stderr)
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(not torch.is_grad_enabled())
        log_decay.fill_(0)
        sys.exit("bye")

    def state():
        return (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(),
                torch.get_default_dtype(), torch.is_grad_enabled(), sys.stdout)

    before = state()
    assert "SystemExit" in str(check("half-life", vandal))
    assert state() == before
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
    in_chapters = [exercise.name for path in CHAPTERS for exercise in exercises_of(json.loads(path.read_text("utf-8")))
                   if exercise.answer]
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
            if exercise.solution:
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
