"""The courses' editions of the chapters, made of the same cells as the book.

    python tools/editions.py student FOLDER        chapters without solutions
    python tools/editions.py assignments FOLDER    an nbgrader course, each chapter's exercises as an assignment, and
                                                   an examination, whose answers are on no page

`make student` and `make assignments` call them. How an exercise stands in a chapter: exercises.py.
"""

import argparse
import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parents[1] / "book"
EXAMINATION = Path(__file__).with_name("examination.md")  # no page of the book: it has the answers
sys.path.append(str(BOOK / "_ext"))  # how an exercise stands in a chapter is known there

from exercises import BLANK, FOLDED, FORM, Exercise, exercises_of, source, tags  # noqa: E402
from rwkv_explainer.exercises.running import MARKING  # noqa: E402

SETUP = "exercises-setup"  # the cell that sets the seed
INTRODUCTION = """## Exercises

Replace the three dots in a cell by your answer and run it: the check compares with the package, and when something is \
off, it says what. "Run all" stops at the first exercise without a right answer. What stands below a cell already is \
what a right answer brings."""
CONFIG = f"""import os

from nbgrader.nbgraderformat import SCHEMA_VERSION
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, DeduplicateIds, OverwriteCells, OverwriteKernelspec


class DropCopies(DeduplicateIds):
    # Of a cell that was copied the last one counts. nbgrader empties the metadata of the others. Of such, and of a cell
    # whose metadata some program has cut, it would refuse the notebook, and every student's after it.
    def preprocess_cell(self, cell, resources, cell_index):
        if cell.metadata.get("nbgrader", {{}}).get("grade_id"):
            cell.metadata["nbgrader"]["schema_version"] = SCHEMA_VERSION
            cell, resources = super().preprocess_cell(cell, resources, cell_index)
        if not cell.metadata.get("nbgrader", {{}}).get("grade_id"):
            cell.metadata.pop("nbgrader", None)
        return cell, resources


os.environ[{MARKING!r}] = "1"  # each answer in a process of its own, with limits
c = get_config()  # noqa: F821: nbgrader gives it
c.CourseDirectory.course_id = "rwkv"
c.ClearSolutions.code_stub = {{"python": {BLANK!r}}}
c.Autograde.sanitize_preprocessors = [ClearOutput, DropCopies, OverwriteKernelspec, OverwriteCells, CheckCellMetadata]
c.ExecutePreprocessor.timeout = 120  # seconds a cell may take, such as the set-up; a check ends an answer before that
"""
STAY = "\nexit = quit = lambda *code: None  # who leaves the notebook leaves what is below it unmarked"
BESIDE = " Some statements speak of what their chapter builds: open it beside this notebook."
IMPORTS = (  # of the set-up: what answers are made of
    r"^ *(import (?:math|numpy as np|torch|rwkv_explainer as rwkv)|from (?:torch|rwkv_explainer\.shapes) import .*)$"
)
PLACE_FOR_WORDS = "*Your answer: what you expected, what you tried, what came out.*"


def student_edition(chapter: dict, seed: int, targets: dict[str, list]) -> dict:
    """A chapter without solutions, which stops at the first blank.

    Args:
        chapter: the notebook as it is in the book.
        seed: chooses the exercises' numbers.
        targets: outputs of the cells that show what a right answer brings, by the cells' ids.
    """
    notebook = with_seed(chapter, seed)
    for exercise in exercises_of(notebook):
        for cell in (exercise.solution, exercise.why):
            if cell:
                notebook["cells"].remove(cell)
        if exercise.answer:
            exercise.answer["source"] = stopping(source(exercise.answer))
        else:
            place_below(notebook, exercise, PLACE_FOR_WORDS)
        if exercise.target and "predict" not in tags(exercise.target):
            exercise.target["outputs"] = targets[exercise.target["id"]]
    cell_by_id(notebook, "exercises")["source"] = INTRODUCTION
    return notebook


def assignment(chapter: dict, seed: int) -> dict:
    """A chapter's exercises alone, with solutions, as nbgrader wants its sources."""
    notebook = essentials(with_seed(chapter, seed))
    cell_by_id(notebook, SETUP)["source"] += STAY
    for name in ("setup", SETUP):
        mark(cell_by_id(notebook, name), name, locked=True)
    for exercise in exercises_of(notebook):
        mark(exercise.statement, f"exercise-{exercise.name}", locked=True)
        if exercise.answer:
            into_marked_cells(notebook, exercise, seed)
        else:
            cell = place_below(notebook, exercise, PLACE_FOR_WORDS)
            mark(cell, f"{exercise.name}-words", grade=True, solution=True, points=exercise.points)
    cell_by_id(notebook, "exercises")["source"] = INTRODUCTION.partition(" What stands")[0] + BESIDE
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = without_links_to_chapters(cell["source"])
    return notebook


def into_marked_cells(notebook: dict, exercise: Exercise, seed: int) -> None:
    """Put a checked exercise's cells into nbgrader's order: what is given, the place to answer, the check.

    All but the answer is locked, and needs nothing of the cells above it: neither a changed seed nor a deleted set-up
    nor a function of the name `check` changes what a check does.
    """
    cells, answer = notebook["cells"], exercise.solution
    *code, call = source(answer).removeprefix(FORM).rstrip().splitlines()
    start, _, rest = "\n".join(code).rstrip().partition("\n\n")
    numbers = [start] if "given(" in start else []
    answer["source"] = rest if numbers else "\n".join(code).rstrip()
    answer["metadata"] = {key: value for key, value in answer["metadata"].items() if key not in {*FOLDED, "tags"}}
    names = re.findall(IMPORTS, cell_by_id(notebook, "setup")["source"], flags=re.MULTILINE)
    is_class = answer["source"].startswith("class ")  # it needs its base and its annotations when it is defined
    before = [alone("given", *numbers, seed=seed)] if numbers else names if is_class else []
    cells[cells.index(exercise.answer)] = given = code_cell(
        f"{exercise.name}-{'given' if numbers else 'names'}", "\n".join(before)
    )
    mark(given, given["id"], locked=True)
    if not before:
        cells.remove(given)
    check = code_cell(f"{exercise.name}-check", "\n".join([*names, alone("check", stopping(call), seed=seed)]))
    mark(check, check["id"], grade=True, locked=True, points=exercise.points)
    cells.insert(cells.index(answer) + 1, check)
    if exercise.target:  # it calls the answer as ordinary code, which could end the notebook that is being marked
        exercise.target["metadata"]["tags"].append("skip-execution")  # nbclient's word
    if exercise.why:
        cells.remove(exercise.why)


def alone(name: str, *code: str, seed: int) -> str:
    """Code that imports `name` of the exercises itself, and has the seed written into it."""
    return "\n".join([f"from rwkv_explainer.exercises import {name}", "", *code]).replace("seed=seed", f"seed={seed}")


def code_cell(name: str, code: str) -> dict:
    return {
        "cell_type": "code",
        "id": name,
        "metadata": {},
        "source": code,
        "execution_count": None,
        "outputs": [],
    }


def place_below(notebook: dict, exercise: Exercise, words: str) -> dict:
    """Put a Markdown cell for the answer below the statement of an open question."""
    cell = {"cell_type": "markdown", "id": f"{exercise.name}-words", "metadata": {}, "source": words}
    notebook["cells"].insert(notebook["cells"].index(exercise.statement) + 1, cell)
    return cell


def without_links_to_chapters(text: str) -> str:
    """The same with chapters' titles in place of links to them: an assignment lies in a folder without them."""
    return re.sub(r"\[([^]]+)\]\([a-z-]+\.ipynb[^)]*\)", r"*\1*", text)


def essentials(chapter: dict) -> dict:
    """What the exercises of a chapter need to run: its title, the cells that set it up, and the exercises."""
    notebook = copy.deepcopy(chapter)
    ids = [cell["id"] for cell in notebook["cells"]]
    start, end = ids.index("setup") + 1, ids.index("exercises")
    title, *rest = notebook["cells"][:start]
    title["source"] = source(title).partition("\n")[0]
    parts = {"exercise", "answer", "solution", "target", "why"}  # an exercise may stand where its class is built
    above = [cell for cell in notebook["cells"][start:end] if cell["id"] == SETUP or parts & set(tags(cell))]
    setup = [cell for cell in above if cell["id"] == SETUP]
    above = [cell for cell in above if cell["id"] != SETUP]
    heading, *below = notebook["cells"][end:]
    notebook["cells"] = [title, *rest, heading, *setup, *above, *below]
    for exercise in exercises_of(notebook):
        if not exercise.answer:  # an open question: what we did with it is not for those who are asked
            for cell in filter(None, (exercise.solution, exercise.why)):
                notebook["cells"].remove(cell)
    return notebook


def solve(chapter: dict, seed: int) -> dict[str, list]:
    """Run the solutions of a chapter that has targets, and return the targets' outputs by the cells' ids."""
    if not any(exercise.target for exercise in exercises_of(chapter)):
        return {}
    notebook = nbformat.from_dict(essentials(with_seed(chapter, seed)))
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(BOOK))
    return {cell.id: cell.outputs for cell in notebook.cells if "target" in cell.metadata.get("tags", [])}


def with_seed(chapter: dict, seed: int) -> dict:
    """A copy of the chapter whose exercises have this seed, each cell's source in one string."""
    notebook = copy.deepcopy(chapter)
    for cell in notebook["cells"]:
        cell["source"] = source(cell)
    cell = cell_by_id(notebook, SETUP)
    cell["source"], changed = re.subn(r"^seed = \d+.*$", f"seed = {seed}", source(cell), flags=re.MULTILINE)
    if changed != 1:
        raise ValueError(f"cell {SETUP}: expected one line 'seed = 0', found {changed}")
    return notebook


def stopping(code: str) -> str:
    """The same code; where its check is not satisfied, it stops "run all"."""
    return re.sub(r"^(check\(.*)\)$", r"\1, stop=True)", code, flags=re.MULTILINE)


def mark(cell: dict, name: str, grade=False, locked=False, solution=False, **points: int) -> None:
    """Give a cell nbgrader's metadata."""
    cell["metadata"]["nbgrader"] = {
        "schema_version": 3,
        "grade_id": name,
        "grade": grade,
        "locked": locked,
        "solution": solution,
        "task": False,
        **points,
    }


def cell_by_id(notebook: dict, name: str) -> dict:
    """The cell of that id, which every chapter has."""
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def chapters(names: list[str]) -> dict[str, dict]:
    """The chapters with exercises, by name; of these names, or all."""
    every = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(BOOK.glob("*.ipynb"))}
    found = {name: notebook for name, notebook in every.items() if any(e.answer for e in exercises_of(notebook))}
    if unknown := set(names) - found.keys():
        raise SystemExit(f"no chapter with exercises: {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return {name: notebook for name, notebook in found.items() if not names or name in names}


def write(notebook: dict, path: Path) -> None:
    """Write a notebook, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.from_dict(notebook), path)


def write_students(folder: Path, names: list[str], seed: int) -> None:
    """The students' edition of these chapters in `folder`."""
    for name, chapter in chapters(names).items():
        print(name, flush=True)
        write(student_edition(chapter, seed, solve(chapter, seed)), folder / f"{name}.ipynb")
    print(f"The chapters without solutions are in {folder}")


def write_course(folder: Path, names: list[str], seed: int) -> None:
    """An nbgrader course in `folder`: sources, and what nbgrader releases of them. Submissions and grades stay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    for name, chapter in chapters(names).items():
        write(assignment(chapter, seed), folder / "source" / name / f"{name}.ipynb")
        nbgrader(folder, "generate_assignment", name, "--force")
    write_examination(folder / "teachers")
    print(
        f"The course is in {folder}: hand out release/, put what comes back into submitted/STUDENT/CHAPTER/, then "
        "run "
        "nbgrader autograde CHAPTER and nbgrader generate_feedback CHAPTER there; an examination is in teachers/"
    )


def write_examination(folder: Path) -> None:
    """The examination in `folder`: the questions alone, and with model answers and marking points."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = EXAMINATION.read_text(encoding="utf-8")
    (folder / "examination-answers.md").write_text(whole, encoding="utf-8")
    (folder / "examination.md").write_text(questions_alone(whole), encoding="utf-8")


def questions_alone(examination: str) -> str:
    """The examination without what stands between the marks `for teachers` and `for all`."""
    return re.sub(r"<!-- for teachers -->.*?<!-- for all -->\n*", "", examination, flags=re.DOTALL)


def nbgrader(folder: Path, *command: str) -> None:
    """Run nbgrader in a course's folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # nbgrader calls alembic
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *command],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"nbgrader {' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("edition", choices=["student", "assignments"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("chapters", nargs="*", help="names of chapters; all, if none is given")
    parser.add_argument("--seed", type=int, default=0, help="other numbers in the exercises, from the same source")
    arguments = parser.parse_args()
    make = write_students if arguments.edition == "student" else write_course
    make(arguments.folder, arguments.chapters, arguments.seed)


if __name__ == "__main__":
    main()
