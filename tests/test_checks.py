"""The exercises' checks: wrong answers get their own words, right ones pass however written, code runs as code."""

import ast
import importlib
import itertools
import json
import multiprocessing
import os
import pdb
import pkgutil
import random
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

import answers
from exercises import exercises_of, source, stub_of
from rwkv_explainer.exercises import NotYet, check, exercises, find, given
from rwkv_explainer.exercises.exercise import compare, judge, known
from rwkv_explainer.exercises.running import MARKING, isolated

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 7)
MANY_SEEDS = range(60)
BANKS = {
    name: bank
    for module in pkgutil.iter_modules(answers.__path__)
    for name, bank in importlib.import_module(f"answers.{module.name}").ANSWERS.items()
}
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))  # each has exercises
each_exercise = pytest.mark.parametrize("name", sorted(exercises()))
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def answer_for(name: str, answer, seed: int):
    """What a learner hands in: a value is computed from what was given."""
    exercise = find(name)
    return answer(*exercise.cases_for(seed)[0]) if exercise.is_value else answer


@pytest.fixture
def marking(monkeypatch):
    """As a course is marked: each answer in a process of its own."""
    monkeypatch.setenv(MARKING, "1")
    yield
    assert not multiprocessing.active_children()


# ---------------------------------------------------------------------------------------------------------------------
# right and wrong answers


@each_exercise
def test_right_answers_pass_however_they_are_written(name):
    right, _ = BANKS[name]
    assert len(right) >= 3, "there should be three right answers beside the reference"
    for seed in SEEDS:
        for answer in right:
            verdict = check(name, answer_for(name, answer, seed), seed)
            assert verdict, verdict
            assert verdict.message == find(name).success_message


@each_exercise
def test_each_wrong_answer_fails_with_its_own_words(name):
    _, wrong = BANKS[name]
    assert len(wrong) >= 5
    said = {}
    for seed in SEEDS:
        for words, answer in wrong.items():
            verdict = check(name, answer_for(name, answer, seed), seed)
            assert verdict.status == "wrong" and words in verdict.message, f"seed {seed}, {words!r}: {verdict}"
            said.setdefault(verdict.message, words)
            assert said[verdict.message] == words


@pytest.fixture
def without_type_checker(monkeypatch):
    """Five times as fast; every other test runs with it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@each_exercise
def test_every_mistake_differs_from_the_reference_and_from_all_others_at_many_seeds(name, without_type_checker):
    """So at each of these seeds the check refuses every listed mistake, and names that one."""
    exercise = find(name)
    assert len(exercise.mistakes) >= 5
    with isolated():
        for seed in MANY_SEEDS:
            assert not exercise.confused(exercise.cases_for(seed)), f"seed {seed}"


@each_exercise
def test_a_mistake_is_named_and_its_inputs_too(name):
    exercise = find(name)
    with isolated():
        right = known(exercise, 7)
        assert compare(right, right.results(exercise.reference))
        for words, mistake in exercise.mistakes.items():
            verdict = compare(right, right.results(mistake))
            assert verdict.status == "wrong" and verdict.message == words
            assert verdict.detail.startswith("First difference: ")
            assert exercise.is_value or f'are `given("{name}", seed=7' in verdict.detail
            assert "{" not in verdict.detail


def test_the_inputs_that_a_verdict_names_show_the_difference():
    def wrong_for_large(a, b):
        return torch.log(torch.exp(a) + torch.exp(b))

    verdict = check("log-add", wrong_for_large, seed=3)
    assert 'The inputs (a, b) are `given("log-add", seed=3, case=1)`.' in verdict.detail
    inputs = given("log-add", seed=3, case=1)
    assert not torch.allclose(wrong_for_large(*inputs), torch.logaddexp(*inputs))
    with pytest.raises(IndexError, match="case: log-add has . cases, counted from 0, got 99"):
        given("log-add", case=99)


@each_chapter
def test_the_inputs_have_the_names_that_they_have_in_the_chapter(chapter):
    """A verdict may call `given` "the inputs" where it can be passed to the learner's function as it is."""
    for exercise in exercises_of(json.loads(chapter.read_text(encoding="utf-8"))):
        if exercise.answer and not (checked := find(exercise.name)).is_value:
            function = next(part for part in ast.parse(source(exercise.answer)).body if hasattr(part, "name"))
            takes = [part.arg for part in getattr(function, "args", ast.arguments(args=[])).args]
            assert len(checked.inputs()) == len(checked.cases_for(0)[0]), exercise.name
            assert (checked.inputs() == takes) == (checked.inputs_are == "The inputs"), exercise.name


def test_a_difference_is_told_in_what_the_function_sees():
    """Where the check steps through a run, the function gets neither the run nor a table of all results."""
    right = find("share-step").reference

    def never_moved(average, log_normalizer, key, value, log_decay):
        return average, right(average, log_normalizer, key, value, log_decay)[1]

    said = check("share-step", never_moved, seed=2).detail
    assert said.startswith("First difference: `average[0]` after `keys[0]` should be ")
    run = "The parts of the run that the check steps through (keys, values, log_decay) are"
    assert f'{run} `given("share-step", seed=2)`.' in said
    said = check("memory-step", answers.attention_and_memory.WritesFirst).detail
    assert said.startswith("First difference: what is read for `keys[1]`, in channel 0, should be ")
    said = check("last-of-its-kind", lambda kinds, wanted: [torch.zeros(len(kinds), 2)] * 2).detail
    assert said.startswith("First difference: what comes through for `wanted[2]` should be ")
    said = check("swap", lambda i, j, size: (torch.zeros(size), 2)).detail
    assert said.startswith("First difference: the table after the write, in row 0 and column 0, should be ")
    assert "The table and its rows to swap (table, i, j) are `given" in said


def test_what_is_given_as_a_function_says_what_it_wants():
    read, time = given("last-shares")
    assert torch.equal(read([1, 0, 0, 0]), read(torch.eye(time)[0]))
    for few in (torch.ones(time - 1), [1.0], 1.0, torch.tensor([])):
        with pytest.raises(ValueError, match="values: expected 4 values, one for each token, got "):
            read(few)
    block = given("patch-channels")[0][0]
    with pytest.raises(ValueError, match=r"x: expected a tensor of shape \(6,\), got one of shape \(3,\)"):
        block(torch.ones(3))


@each_exercise
def test_another_seed_gives_other_numbers_and_the_same_seed_the_same(name):
    shown = [repr(find(name).cases_for(seed)) for seed in (0, 1, 2, 3)]
    if "function" in shown[0] or "RWKVLM" in shown[0]:  # a black box shows nothing of its numbers
        return
    assert len(set(shown)) > 1
    assert shown[1] == repr(find(name).cases_for(1))


@pytest.mark.parametrize("name", [name for name in exercises() if exercises()[name].is_value])
def test_a_copied_value_is_rarely_right_for_another_seed(name):
    exercise = find(name)
    answers = [repr(exercise.reference(*exercise.cases_for(seed)[0])) for seed in MANY_SEEDS]
    assert max(map(answers.count, answers)) <= 6


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="half-life"):
        check("half-live", None)


@pytest.mark.parametrize("name, called", [("safe-softmax", "softmax"), ("layer-norm", "layer_norm")])
def test_what_an_exercise_asks_to_write_must_not_be_called(name, called):
    verdict = check(name, find(name).reference)
    assert verdict.status == "wrong" and f"torch's own `{called}`" in verdict.message


# ---------------------------------------------------------------------------------------------------------------------
# in a notebook, an answer is ordinary code


def right_half_life(log_decay):
    return np.log(2) / log_decay.exp()


def test_a_right_answer_prints_in_place_and_passes(capsys):
    def talkative(contents, normalizer, key, value, log_decay, log_gain):
        print("key", key)
        log_gain += key
        read = (contents + log_gain.exp() * value) / (normalizer + log_gain.exp())
        log_decay.exp_().neg_().exp_()
        contents *= log_decay
        normalizer *= log_decay
        key.exp_()
        contents += key * value
        normalizer += key
        return read, contents, normalizer

    assert check("memory-step", talkative)
    assert capsys.readouterr().out.count("key tensor") == sum(len(case[0]) for case in find("memory-step").cases_for(0))


def test_an_answer_keeps_what_it_remembers_between_calls():
    calls = []
    assert check("half-life", lambda log_decay: calls.append(1) or right_half_life(log_decay))
    assert len(calls) == len(find("half-life").cases_for(0))


def test_breakpoint_stops(monkeypatch):
    stops = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(sys._getframe(1).f_code.co_name))

    def stopping(log_decay):
        breakpoint()
        return right_half_life(log_decay)

    assert check("half-life", stopping) and set(stops) == {"stopping"}


@pytest.mark.parametrize("stop", [False, True])
def test_an_error_comes_through_with_its_inputs_and_its_line_is_where_the_debugger_lands(stop):
    def broken(log_decay):
        return log_decay / nothing_of_that_name  # noqa: F821

    with pytest.raises(NameError) as caught:
        check("half-life", broken, seed=4, stop=stop)
    assert caught.value.__notes__ == ['The inputs (log_decay) are `given("half-life", seed=4)`.']
    stack, at = pdb.Pdb().get_stack(None, caught.value.__traceback__)
    assert stack[-1][0].f_code.co_name == "broken"
    ours = [frame for frame, _ in stack if "rwkv_explainer/exercises/" in frame.f_code.co_filename]
    assert all("__tracebackhide__" in frame.f_locals for frame in ours)


def test_the_stop_button_stops():
    """Jupyter's stop button sends SIGINT, which raises KeyboardInterrupt in the learner's loop."""

    def endless(log_decay):
        while True:
            pass

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background start by ignoring it
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    before = torch.get_default_dtype()
    try:
        with pytest.raises(KeyboardInterrupt):
            check("half-life", endless)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert torch.get_default_dtype() == before


def test_random_states_and_settings_are_what_they_were():
    def vandal(log_decay):
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(not torch.is_grad_enabled())
        return right_half_life(log_decay)

    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
        )

    before = state()
    assert check("half-life", vandal)
    for now, then in zip(state(), before, strict=True):
        assert now == then


@each_exercise
def test_a_blank_is_told_kindly(name):
    def blank(x):
        """Words."""
        ...

    for answer in [..., [...]] if find(name).is_value else [..., blank]:
        assert check(name, answer).status == "blank"


def test_stop_raises_what_shows_itself_without_a_traceback():
    assert check("half-life", right_half_life, stop=True)
    with pytest.raises(NotYet, match="Still blank") as caught:
        check("half-life", ..., stop=True)
    assert caught.value._render_traceback_() == [str(caught.value)]


# ---------------------------------------------------------------------------------------------------------------------
# whatever a learner returns


class Broken:
    """Whatever is done with it raises."""

    def __repr__(self):
        raise RuntimeError("broken")

    __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __format__ = __reduce__ = __repr__


class BrokenTensor(torch.Tensor):
    """A tensor that cannot be compared or shown."""

    __repr__ = __str__ = __eq__ = __bool__ = __format__ = Broken.__repr__


def numbers_one_by_one():
    yield 1


ODD_VALUES = [
    None,
    3.5,
    "seven",
    [],
    {},
    object(),
    torch.zeros(0),
    [[1], [2, 3]],
    torch.ones(10**7),
    torch.zeros(1).expand(10**12),
    torch.ones(2).to_sparse(),
    torch.ones(2) * 1j,
    Broken(),
    BrokenTensor(torch.ones(2)),
    [Broken()],
    {"a": Broken()},
    {1: 2},
    numbers_one_by_one(),
    10**400,
    itertools.count(),
    int,
]


@each_exercise
def test_any_value_gets_a_verdict(name):
    for value in ODD_VALUES:
        verdict = check(name, value if find(name).is_value else lambda *x: value)
        assert verdict.status == "wrong" and len(str(verdict)) < 700, verdict


def test_words_for_what_cannot_be_compared():
    """A learner reads what came instead, and what to do about it."""
    said = str(check("half-life", lambda log_decay: numbers_one_by_one()))
    assert "a generator (use `return`, not `yield`)" in said
    assert "a function (call it, with parentheses)" in str(check("half-life", lambda log_decay: log_decay.exp().log))
    assert "yours is three dots." in str(check("surprise", lambda logits, ids: [...][0]))
    assert "yours is an object." in str(check("surprise", lambda logits, ids: object()))


def test_words_for_a_row_that_is_not_what_was_asked_for():
    right = find("memory-step").reference
    asked = "It should return 3 things, `read`, `contents`, `normalizer`; yours returns "
    assert asked + "None." in str(check("memory-step", lambda *x: print()))
    assert asked + "2 in a row." in str(check("memory-step", lambda *x: right(*x)[:2]))
    said = str(check("memory-step", lambda *x: (*right(*x)[:2], torch.ones(2, 2))))
    assert "`normalizer` should be a tensor of shape (3,), yours is a tensor of shape (2, 2)." in said
    said = str(check("memory-step", lambda *x: ["a"] * 3))
    assert "`read` should be a tensor of shape (3,), yours is a string." in said
    assert check("memory-step", lambda *x: torch.stack(right(*x)))


# ---------------------------------------------------------------------------------------------------------------------
# while a course is marked, no answer ends or holds up more than itself


def endless(*x):
    while True:
        print("again")


def endless_in_c(*x):
    return sum(itertools.count())


def stubborn(*x):
    while True:
        try:
            sum(range(1000))
        except:  # noqa: E722
            pass


def calls_itself_without_limit(*x):
    sys.setrecursionlimit(10**9)

    def again():
        return [*map(lambda _: again(), [0])]

    return again()


def leaves_for_good(*x):
    os._exit(0)


def crashes(*x):
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(*x):
    sys.exit()


def takes_all_memory(*x):
    taken = []
    while True:
        taken.append(np.empty(10**8))


def deletes_what_all_use(*x):
    del torch.softmax, torch.exp, torch.cat


@pytest.mark.parametrize("answer", [endless, stubborn, endless_in_c])
def test_an_endless_loop_costs_its_points_alone(answer, marking):
    verdict = judge(replace(find("half-life"), seconds=0.3), answer, 0)
    assert "still running after 0.3 seconds" in verdict.message
    assert check("half-life", right_half_life)


@pytest.mark.parametrize(
    "answer, words",
    [
        (leaves, "left by `exit`, at `sys.exit()`"),
        (leaves_for_good, "ended Python itself"),
        (crashes, "ended Python itself"),
        (calls_itself_without_limit, ""),  # a crash or an error, as the version of Python has it
        (takes_all_memory, "MemoryError"),
        (deletes_what_all_use, ""),
        (lambda log_decay: input(), "EOFError"),
        (lambda log_decay: log_decay / nothing, "`NameError: name 'nothing' is not defined`, at `(lambda"),  # noqa: F821
    ],
)
def test_an_answer_that_fails_gets_words_and_the_next_is_marked(answer, words, marking, capfd):
    verdict = check("half-life", answer)
    assert verdict.status == "wrong" and words in verdict.message, verdict
    assert check("half-life", right_half_life)


def test_prints_and_breakpoints_do_not_disturb_the_marking(marking, capfd):
    def talkative(log_decay):
        print("noise " * 20_000)
        breakpoint()
        return right_half_life(log_decay)

    assert check("half-life", talkative)
    assert capfd.readouterr() == ("", "")


@each_exercise
def test_right_and_wrong_are_the_same_while_marking(name, marking):
    right, wrong = BANKS[name]
    assert check(name, answer_for(name, right[0], 7), 7)
    words, answer = next(iter(wrong.items()))
    assert words in check(name, answer_for(name, answer, 7), 7).message


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
@pytest.mark.parametrize("seed", [1, 7])
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
def test_every_chapter_ends_with_three_to_six_rated_exercises(chapter):
    found = exercises_of(json.loads(chapter.read_text(encoding="utf-8")))
    assert 3 <= len(found) <= 6
    for number, exercise in enumerate(found, start=1):
        assert source(exercise.statement).startswith(f"**{number}. ") and 1 <= exercise.points <= 3
        assert "<summary>Hint</summary>" in source(exercise.statement)
        assert exercise.why and exercise.why["id"] == f"{exercise.name}-why"


def test_given_returns_what_the_check_uses():
    for name, exercise in exercises().items():
        if exercise.is_value:
            assert check(name, exercise.reference(*exercise.cases_for(5)[0]), seed=5)
            assert repr(given(name, seed=5)) in repr(exercise.cases_for(5))


def test_a_class_is_judged_as_its_functions_are():
    """A class that is still blank, or that errs, is told so in the same words."""

    class Blank(answers.attention_and_memory.OwnMemory):
        def read(self, keys, values):
            """What it would do."""
            ...

    memories = answers.attention_and_memory
    assert check("memory-step", Blank).status == "blank"
    assert "gain got into the memory" in check("memory-step", memories.GainInMemory).message
    assert "You read after the write" in check("memory-step", memories.WritesFirst).message
    assert "gates come too late" in check("attention-block", memories.GatesTooLate).message
