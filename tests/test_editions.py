"""The courses' editions: a student's notebook that stops kindly, and a course that the real nbgrader marks."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Collection, Mapping

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import editions
from editions import BOOK, assignment, chapters, essentials, nbgrader, solve, student_edition, write, write_course
from exercises import BLANK, exercises_of, source

CHAPTER = "attention-and-memory"
ALL = chapters([])


@pytest.fixture(scope="module")
def chapter() -> dict:
    return ALL[CHAPTER]


@pytest.mark.parametrize("name", ALL)
def test_editions_hold_no_solution_and_all_exercises(name):
    notebook = ALL[name]
    targets = {exercise.target["id"]: [] for exercise in exercises_of(notebook) if exercise.target}
    student, graded = student_edition(notebook, 3, targets), assignment(notebook, 3)
    assert "BEGIN SOLUTION" not in json.dumps(student)
    for edition in (student, graded):
        assert "<summary>Why</summary>" not in json.dumps(edition)
        assert [exercise.name for exercise in exercises_of(edition) if exercise.solution] == []
        assert "seed = 3" in json.dumps(edition) and "seed = 0" not in json.dumps(edition)
        nbformat.validate(nbformat.from_dict(edition))
    asked = [exercise for exercise in exercises_of(notebook) if exercise.answer]
    assert [source(e.answer).count("stop=True") for e in exercises_of(student) if e.answer] == [1] * len(asked)
    marks = {
        cell["metadata"]["nbgrader"]["grade_id"]: cell["metadata"]["nbgrader"]
        for cell in graded["cells"]
        if "nbgrader" in cell["metadata"]
    }
    points = {name: mark.get("points") for name, mark in marks.items()}
    assert {f"{e.name}-check": e.points for e in asked}.items() <= points.items()
    assert all(marks[e.name]["solution"] for e in asked)
    opened = [exercise for exercise in exercises_of(notebook) if not exercise.answer]
    assert {f"{e.name}-words": e.points for e in opened}.items() <= points.items()
    for exercise in opened:
        assert sum(cell["id"] == f"{exercise.name}-words" for cell in student["cells"]) == 1
    locked = [cell for cell in graded["cells"] if cell["metadata"].get("nbgrader", {}).get("locked")]
    assert {"setup", "exercises-setup"} <= {cell["id"] for cell in locked}
    for cell in locked:
        if cell["id"].endswith(("-check", "-given")):
            assert "from rwkv_explainer.exercises import" in cell["source"] and "seed=3" in cell["source"]
    assert not any(".ipynb)" in source(cell) for cell in graded["cells"])
    shown = [cell for cell in graded["cells"] if "target" in cell["metadata"].get("tags", [])]
    assert all("skip-execution" in cell["metadata"]["tags"] for cell in shown)
    assert "### BEGIN SOLUTION" in json.dumps(graded)


def test_an_answer_without_a_question_is_refused():
    cell = {"cell_type": "code", "id": "lost", "metadata": {"tags": ["answer"]}, "source": "..."}
    with pytest.raises(ValueError, match="cell lost, tag answer: expected a cell with the tag exercise"):
        exercises_of({"cells": [cell]})


def test_a_chapter_without_exercises_has_no_edition(tmp_path, monkeypatch):
    monkeypatch.setattr(editions, "BOOK", tmp_path)
    (tmp_path / "bare.ipynb").write_text(json.dumps({"cells": []}))
    (tmp_path / f"{CHAPTER}.ipynb").write_text(json.dumps(ALL[CHAPTER]))
    assert list(chapters([])) == list(chapters([CHAPTER])) == [CHAPTER]
    with pytest.raises(SystemExit, match=f"no chapter with exercises: bare; there are {CHAPTER}"):
        chapters([CHAPTER, "bare"])


def test_a_student_edition_runs_up_to_the_first_blank_and_says_so(chapter):
    targets = solve(chapter, seed=1)
    student = student_edition(chapter, 1, targets)
    assert any("remembers longest" in json.dumps(cell.get("outputs", "")) for cell in student["cells"])
    # the chapter's own cells run in the book's tests; here, what its exercises need
    notebook = nbformat.from_dict(essentials(student))
    first, second, *_ = [exercise for exercise in exercises_of(student) if exercise.answer]
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook, kernel_name="python3").execute(cwd=str(BOOK))
    ran = {cell.id: cell for cell in notebook.cells}
    (error,) = [output for output in ran[first.name].outputs if output.output_type == "error"]
    assert error.ename == "NotYet" and error.evalue.startswith("○ Still blank.")
    assert error.traceback == [error.evalue]
    assert ran["exercises-setup"].execution_count and not ran[second.name].execution_count


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of one chapter, as `make assignments` makes it."""
    folder = tmp_path_factory.mktemp("course")
    write_course(folder, [CHAPTER], seed=2)
    return folder


def released(course) -> dict:
    return json.loads((course / "release" / CHAPTER / f"{CHAPTER}.ipynb").read_text(encoding="utf-8"))


def test_what_is_released_has_blanks_in_place_of_solutions(course, chapter):
    cells = {
        cell["metadata"]["nbgrader"]["grade_id"]: source(cell)
        for cell in released(course)["cells"]
        if "nbgrader" in cell["metadata"]
    }
    for exercise in exercises_of(chapter):
        stub = source(exercise.answer).partition("\ncheck(")[0].rstrip()
        assert cells[exercise.name] == stub and BLANK in stub


def test_nbgrader_gives_each_submission_its_share_and_says_why(course, chapter):
    """All answers right: all points. None given: none. Some right, one wrong: theirs, and the wrong one's own words."""
    solutions = {
        cell["metadata"]["nbgrader"]["grade_id"]: cell["source"]
        for cell in assignment(chapter, 2)["cells"]
        if cell["metadata"].get("nbgrader", {}).get("solution")
    }
    points = {exercise.name: exercise.points for exercise in exercises_of(chapter)}
    wrong = {"memory-step": solutions["memory-step"].replace("exp(self.log_gain + keys)", "exp(keys)")}
    some = {name: solutions[name] for name in ("last-shares", "last-of-its-kind")}

    def but(lines: Mapping[str, str]) -> dict:
        """All answers right, but for a line at the beginning of some functions."""
        changed = {}
        for name, line in lines.items():
            head, colon, body = solutions[name].partition('."""\n')
            changed[name] = f"{head}{colon}    {line}\n{body}"
        return solutions | changed

    def without(*names: str) -> int:
        return whole - sum(points[name] for name in names)

    whole = sum(points.values())
    half = sum(points[name] for name in some)
    three = "half-life", "last-shares", "last-of-its-kind"
    prints = but({"half-life": "print('much ' * 20_000); breakpoint()"})
    ends = dict.fromkeys(three, "raise SystemExit")
    ends |= {"half-life": "while True: pass", "last-shares": "import os; os.kill(os.getpid(), 11)"}
    leaves = {"half-life": "while True: pass", "last-shares": "exit()", "last-of-its-kind": "def last_of_its_kind(x:"}
    hers = some | {"half-life": "def check(*a, **k): return True\nhalf_life = print"}
    students = {  # each way to go wrong, several in one notebook: to start Python takes longest
        "perfect": (solutions, whole, {}),
        "empty": ({}, 0, {}),
        "half": (some | wrong, half, {}),
        "prints, other seed, copied answer": (
            prints | {"exercises-setup": "seed = 99"},
            whole,
            {"copied": ["half-life", "last-shares"]},
        ),
        "no set-up, saved by another program": (
            solutions,
            whole,
            {
                "without": ["setup", "exercises-setup"],
                "cut": {"half-life-check": "schema_version", "half-life": "points"},
            },
        ),
        "answers that loop, crash, leave": (
            but(ends),
            without(*three),
            {},
        ),
        "cells that loop, leave, do not parse": (solutions | leaves, without(*three), {}),
        "checks herself, copied check": (hers, half, {"copied": ["half-life-check"]}),
    }
    students = {name.replace(", ", "-").replace(" ", "-"): told for name, told in students.items()}
    for student, (answers, _, changes) in students.items():
        submit(course, student, answers, **changes)
    start = time.monotonic()
    nbgrader(course, "autograde", CHAPTER, "--student=perfect")
    # a cell has ten seconds more than all cells of this one took: the endless one costs no more than it has to
    patience = f"timeout = {10 + int(time.monotonic() - start)} "
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text(encoding="utf-8").replace("timeout = 120 ", patience), encoding="utf-8")
    assert patience in config.read_text(encoding="utf-8")
    nbgrader(course, "autograde", CHAPTER)
    nbgrader(course, "generate_feedback", CHAPTER)
    nbgrader(course, "export", "--to", "grades.csv")
    with (course / "grades.csv").open(encoding="utf-8") as file:
        scores = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    assert scores == {student: (score, whole) for student, (_, score, _) in students.items()}
    feedback = (course / "feedback" / "half" / CHAPTER / f"{CHAPTER}.html").read_text(encoding="utf-8")
    assert "The current token joins the read without its gain." in feedback


def submit(
    course,
    student: str,
    answers: dict[str, str],
    without: Collection[str] = (),
    copied: Collection[str] = (),
    cut: Mapping[str, str] | None = None,
) -> None:
    """Hand in the released notebook with these answers filled in.

    Args:
        without: cells that are not there any more.
        copied: cells that are there twice.
        cut: cells whose metadata lack an entry, and which.
    """
    notebook = released(course)
    there, notebook["cells"] = notebook["cells"], []
    for cell in there:
        if cell["id"] not in without:
            notebook["cells"].append(cell)
        if grade_id(cell) in copied:
            notebook["cells"].append(cell | {"id": f"copy-of-{cell['id']}"})
    for cell in notebook["cells"]:
        cell["metadata"].get("nbgrader", {}).pop((cut or {}).get(grade_id(cell)), None)
        cell["source"] = answers.get(grade_id(cell), cell["source"])
    write(notebook, course / "submitted" / student / CHAPTER / f"{CHAPTER}.ipynb")


def grade_id(cell: dict) -> str | None:
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def test_the_command_names_a_chapter_that_is_not_there(tmp_path):
    command = [sys.executable, str(BOOK.parent / "tools" / "editions.py"), "student", str(tmp_path), "no-such-chapter"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "no chapter with exercises: no-such-chapter" in done.stderr and CHAPTER in done.stderr
