"""Sphinx extension: a term of the glossary explains itself where a chapter uses it.

The first time that a page uses a term in running text, the word becomes a link to its entry in glossary.md, and carries
the entry's first paragraph along: book/_static/glossary.js shows it under the pointer and on keyboard focus. Without
scripts it is a link like any other. The chapter that introduces a term, which its entry names, does so in its own
words: nothing is marked there.
"""

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PAGE = "glossary"
# Marked, they would be wrong too often: everyday words, a decay that may be one of weights, a weight of either kind.
ORDINARY = {"batch", "decay", "gain", "key", "layer", "rate", "step", "value", "weight"}
UNTOUCHED = (  # what is inside of these stays as it is: names of chapters, words being defined, code, links, tables
    nodes.emphasis,
    nodes.strong,
    nodes.literal,
    nodes.math,
    nodes.reference,
    nodes.title,
    nodes.table,
    nodes.caption,
    nodes.footnote,
    nodes.raw,
    addnodes.pending_xref,
)


@dataclass(frozen=True)
class Entry:
    """One term of the glossary."""

    term: str
    place: str  # the entry's id on its page
    note: str  # its first paragraph
    chapter: str  # where it is introduced, as a document's name


def entries(env: BuildEnvironment) -> list[Entry]:
    """The glossary's entries, the longest terms first: "residual stream" before "stream"."""
    if PAGE not in env.found_docs:
        return []
    found = []
    for item in env.get_doctree(PAGE).findall(nodes.definition_list_item):
        term, definition = item[0], item[-1]
        chapters = [link["reftarget"].lstrip("/") for link in definition.findall(addnodes.pending_xref)]
        note = definition[0].astext().replace("\n", " ")
        found.append(Entry(term.astext(), term["ids"][0], note, chapters[0] if chapters else ""))
    return sorted(found, key=lambda entry: -len(entry.term))


def pattern(term: str) -> re.Pattern[str]:
    """The term as a word of its own, in the singular or the plural, at the beginning of a sentence or not."""
    stem = re.escape(term[:-1]) + "(?:y|ies)" if term.endswith("y") else re.escape(term) + "(?:s|es)?"
    first, rest = (stem[0], stem[1:]) if term[0].islower() else ("", stem)
    return re.compile(rf"(?<![\w-])(?:{f'[{first}{first.upper()}]' if first else ''}{rest})(?![\w-])")


def mark(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Mark each term where the page first uses it."""
    if app.builder.format != "html" or docname == PAGE or not is_chapter(app.env, docname):
        return
    link = app.builder.get_relative_uri(docname, PAGE)
    for entry in entries(app.env):
        if entry.term in ORDINARY or entry.chapter == docname:
            continue
        for text in running_text(doctree):
            if use := pattern(entry.term).search(text):
                before, after = text[: use.start()], text[use.end() :]
                html = (
                    f'<a class="term" href="{link}#{entry.place}" data-note="{escape(entry.note)}">{escape(use[0])}</a>'
                )
                text.parent.replace(text, [nodes.Text(before), nodes.raw("", html, format="html"), nodes.Text(after)])
                break


def is_chapter(env: BuildEnvironment, docname: str) -> bool:
    """Whether the page is a notebook: the pages around the chapters are looked up, not read."""
    return Path(env.doc2path(docname)).suffix == ".ipynb"


def running_text(doctree: nodes.document) -> list[nodes.Text]:
    """The texts of paragraphs that are the author's, not a cell's output."""
    return [
        text
        for paragraph in doctree.findall(nodes.paragraph)
        if not is_output(paragraph)
        for text in paragraph.findall(nodes.Text)
        if not inside(text, UNTOUCHED)
    ]


def is_output(node: nodes.Node) -> bool:
    """Whether a cell made it."""
    while node := node.parent:
        if "cell" in node.get("classes", []):
            return True
    return False


def inside(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    """Whether a node of this kind stands anywhere around it."""
    while node := node.parent:
        if isinstance(node, kinds):
            return True
    return False


def depend(app: Sphinx, doctree: nodes.document) -> None:
    """A changed glossary changes every page that quotes it."""
    if is_chapter(app.env, app.env.docname) and PAGE in app.env.found_docs:
        app.env.note_dependency(str(app.env.doc2path(PAGE, base=False)))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", depend)
    app.connect("doctree-resolved", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
