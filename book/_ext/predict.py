"""Sphinx extension: what follows a question waits until the reader has an answer.

A chapter asks with a quotation that begins with **Predict.** What answers it is put into a box of its own: the cells up
to the first one that shows something, and the text after it, as far as the next cell, the next question or the end of
the section. book/_static/predict.js closes the box and gives the question a button. Without a script, in print, and in
the notebook itself, all is open.
"""

from docutils import nodes
from sphinx.application import Sphinx

MARK = "Predict."
QUESTION, ANSWER = "predict-question", "predict-answer"


def is_question(node: nodes.Node) -> bool:
    """Whether a quotation asks for a prediction."""
    first = next(iter(node.findall(nodes.strong)), None) if isinstance(node, nodes.block_quote) else None
    return first is not None and first.astext() == MARK and node.astext().startswith(MARK)


def is_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and "cell" in node["classes"]


def shows_something(cell: nodes.Node) -> bool:
    """Whether a cell has an output."""
    return any("cell_output" in part["classes"] for part in cell.findall(nodes.container))


def is_playground(node: nodes.Node) -> bool:
    """Whether a node is the whole playground: what the reader tries an answer with, and no answer."""
    return isinstance(node, nodes.raw) and '<div class="rwkv-playground">' in node.astext()


def is_end(node: nodes.Node) -> bool:
    """What no answer reaches beyond: a heading's section, the next question, an exercise, the playground."""
    exercise = "exercise" in node.get("classes", [])
    return isinstance(node, nodes.section) or is_question(node) or exercise or is_playground(node)


def answer_to(question: nodes.Node) -> list[nodes.Node]:
    """The nodes after a question that answer it."""
    siblings = question.parent.children
    answer: list[nodes.Node] = []
    shown = False
    for node in siblings[siblings.index(question) + 1 :]:
        if not isinstance(node, nodes.Element):
            continue
        if is_end(node) or (shown and is_cell(node)):
            break
        answer.append(node)
        shown = shown or (is_cell(node) and shows_something(node))
    return answer


def close(app: Sphinx, page: nodes.document) -> None:
    """Box every answer. The questions' names tell their buttons what they open."""
    for n, question in enumerate([quote for quote in page.findall(nodes.block_quote) if is_question(quote)], 1):
        question["classes"].append(QUESTION)
        if answer := answer_to(question):
            box = nodes.container("", classes=[ANSWER], ids=[f"answer-{n}"])
            place = question.parent.index(answer[0])
            for node in answer:
                question.parent.remove(node)
            box += answer
            question.parent.insert(place, box)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", close)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
