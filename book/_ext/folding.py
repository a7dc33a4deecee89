"""Sphinx extension: what is not the idea is folded, under a label that names it.

A code cell's tag says what its code is for, and so how the page folds it. Notebooks show the cell as any other. Of most
cells the code is folded and what it shows stays; a claim or a solution is folded as a whole. A claim's label says
whether it holds, in small type below its sentence.
"""

from collections import Counter

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

LABELS = {  # a cell's tag: what its folded code is called
    "set-up": "Set-up",
    "proof": "Proof",
    "table-code": "The code for the table below",
    "figure-code": "The code for the figure below",
    "sentence-code": "The code for the sentence below",
    "block-code": "The block in code",
    "check": "The check",
    "claim": "The claim",
    "solution": "Solution",
}
WHOLE = {"claim", "solution"}  # folded with what they show


def label(app: Sphinx, page: nodes.document) -> None:
    """Fold the cells with these tags, and give each its label."""
    for cell in page.findall(nodes.container):
        for tag in LABELS.keys() & {name.removeprefix("tag_") for name in cell["classes"]}:
            words = claim_label(cell) if tag == "claim" else LABELS[tag]
            cell["hide_mode"] = "all" if tag in WHOLE else "input"
            cell["prompt_show"] = cell["prompt_hide"] = words


def claim_label(cell: nodes.container) -> str:
    """What is said of the claims that a cell shows, which `Claim.to_html` marks."""
    shown = "".join(part.astext() for part in cell.findall(nodes.raw))
    holding, failing = (shown.count(f'data-claim="{kind}"') for kind in ("holds", "fails"))
    if failing:
        return f"✗ Not true here: {failing} of {holding + failing} claims" if holding else "✗ Not true here"
    few = {0: LABELS["claim"], 1: "✓ The claim holds", 2: "✓ Both claims hold"}
    return few.get(holding, f"✓ The {holding} claims hold")


def place(page: HTML5Translator, fold: HideCodeCellNode) -> str:
    """Where a fold stands, for those who hear its label among others of the same words."""
    above: nodes.Node = fold
    while above.parent and not isinstance(above, nodes.section):
        above = above.parent
    title = above.next_node(nodes.title)
    heading = f", in “{title.astext()}”" if title else ""
    seen = page.__dict__.setdefault("folds", Counter())  # a page has a translator of its own
    seen[fold["prompt_show"] + heading] += 1
    count = seen[fold["prompt_show"] + heading]
    return heading + (f", {count}" if count > 1 else "")


def open_fold(page: HTML5Translator, fold: HideCodeCellNode) -> None:
    """A fold is called what is written on it, and where; MyST-NB's own tells readers "Toggle hidden content"."""
    where = f'<span class="visually-hidden">{page.encode(place(page, fold))}</span>'
    words = f'<p class="admonition-title">{page.encode(fold["prompt_show"])}{where}</p>'
    page.body.append(f'<details class="admonition hide {" ".join(fold["classes"])}"><summary>{words}</summary>')


def close_fold(page: HTML5Translator, fold: HideCodeCellNode) -> None:
    page.body.append("</details>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("myst_nb")
    app.add_node(HideCodeCellNode, override=True, html=(open_fold, close_fold))
    app.connect("doctree-read", label)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
