"""Sphinx extension: how an exercise stands in a chapter, and how it gets onto the page.

At the end of a chapter, below the heading "Exercises", a code cell `exercises-setup` imports the checks and sets the
seed. Then, for each exercise, with NAME the name that its check has:

    exercise-NAME   Markdown, tag `exercise`: title and rating in its first line, the statement, a folded hint
    NAME            code, tag `answer`: the place for the learner's answer, and the call of its check
    NAME-solution   code, tag `solution`: the same with the blank filled, between nbgrader's markers; folded
    NAME-target     code, tag `target`, not in all: what a right answer brings, such as a figure; with the tag `predict`
                    too, the statement asks for a prediction, and students see the outcome when they run it
    NAME-why        Markdown, tag `why`: the reason, folded

An open question has no place to answer and no check. Its solution is what we did; it may use all of the chapter.

In a notebook all of this is plain. On the page the statement becomes sphinx-exercise's directive. The courses' editions
are made of the same cells (editions.py).
"""

import json
import re
from dataclasses import dataclass

from docutils import nodes
from sphinx.application import Sphinx

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
BLANK = "...  # your answer"
FORM = "#@title Solution\n"  # Colab folds a cell with a title
# folded in JupyterLab, in Colab and on the page
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}
TITLE = re.compile(
    r"\*\*(?P<number>\d+)\. (?P<title>.+?)\*\* · difficulty (?P<difficulty>[●○]{3})"
    r" · importance (?P<importance>[●○]{3}) · (?P<minutes>\d+) minutes\n"
)


def source(cell: dict) -> str:
    """A cell's text, which notebooks keep as one string or as lines."""
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    """A cell's tags, which tell this book's machinery what it is for."""
    return cell["metadata"].get("tags", [])


@dataclass
class Exercise:
    """The cells of one exercise."""

    name: str
    statement: dict
    answer: dict | None = None
    solution: dict | None = None
    target: dict | None = None
    why: dict | None = None

    @property
    def points(self) -> int:
        """What it is worth in class: its difficulty."""
        return TITLE.match(source(self.statement))["difficulty"].count("●")


def exercises_of(notebook: dict) -> list[Exercise]:
    """The exercises of a chapter, in their order.

    Raises:
        ValueError: if a cell belongs to an exercise, by its tag, and no statement stands before it.
    """
    found: list[Exercise] = []
    for cell in notebook["cells"]:
        kind = next((tag for tag in tags(cell) if tag in ("exercise", "answer", "solution", "target", "why")), None)
        if kind == "exercise":
            found.append(Exercise(cell["id"].removeprefix("exercise-"), cell))
        elif kind and not found:
            raise ValueError(
                f"cell {cell['id']}, tag {kind}: expected a cell with the tag exercise, the statement, "
                "before it, found none"
            )
        elif kind:
            setattr(found[-1], kind, cell)
    return found


def stub_of(solution: str) -> str:
    """A solution with its blanks empty, as nbgrader empties them."""
    blank = rf"^([ \t]*){BEGIN}\n.*?^[ \t]*{END}$"
    return re.sub(blank, rf"\1{BLANK}", solution.removeprefix(FORM), flags=re.DOTALL | re.MULTILINE)


def to_directive(name: str, statement: str) -> str:
    """The statement of an exercise as MyST: the directive with the title, below it the rating, then the rest."""
    if not (head := TITLE.match(statement)):
        raise ValueError(
            f"exercise-{name}: expected a first line such as '**1. A title** · difficulty ●○○ · "
            f"importance ●●○ · 5 minutes', got {statement.partition(chr(10))[0]!r}"
        )
    dots = " · ".join(
        f'<span>{what} <span role="img" aria-label="{head[what].count("●")} of 3">{head[what]}</span></span>'
        for what in ("difficulty", "importance")
    )
    rating = f'<p class="exercise-rating">{dots} · <span>{head["minutes"]} minutes</span></p>'
    rest = statement[head.end() :].strip()
    return f"::::::{{exercise}} {head['title']}\n:label: {name}\n\n{rating}\n\n{rest}\n::::::\n"


def rewrite(app: Sphinx, docname: str, text: list[str]) -> None:
    """Give a chapter's statements to the parser as directives. The file, and what is executed, stay as they are."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(text[0])
    for exercise in exercises_of(notebook):
        exercise.statement["source"] = to_directive(exercise.name, source(exercise.statement))
    text[0] = json.dumps(notebook)


def clean(app: Sphinx, page: nodes.document) -> None:
    """On the page a solution stands without the marks that Colab and nbgrader read."""
    for cell in page.findall(nodes.container):
        if "tag_solution" in cell["classes"]:
            code = next(cell.findall(nodes.literal_block))
            lines = [line for line in code.astext().splitlines() if line.strip() not in (FORM.strip(), BEGIN, END)]
            code.rawsource = "\n".join(lines)  # what is highlighted
            code[:] = [nodes.Text(code.rawsource)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", rewrite)
    app.connect("doctree-read", clean)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
