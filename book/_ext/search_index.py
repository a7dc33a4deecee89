"""Sphinx extension: the book is searched by section.

When the pages are written, _static/sections.js gets the prose of each section, of each entry of the glossary, of each
exercise and of each name of the package: without code, output and formulas. A script, for pages opened from a file may
read nothing else. book/_static/search.js ranks these sections, and book/_static/marks.js marks the words where one
lands. Of Sphinx' own search the page of results keeps its frame and the stemmer; the theme gives its scripts and its
index to every page, where nothing uses them: they go.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_title

import glossary
from built_pages import rewrite_pages

BACK_MATTER = "Back matter"  # the part of _toc.yml that comes after all chapters
REFERENCE = "api"
VOTES = "votes"  # of it the lead alone: its sections answer the chapters' questions, under the chapters' names
UNREAD = (  # no prose, or said elsewhere
    nodes.comment,
    nodes.field_list,
    nodes.literal_block,
    nodes.math_block,
    nodes.title,
    addnodes.desc_signature,
    addnodes.index,
    addnodes.pending_xref_condition,
    addnodes.toctree,
    exercise_title,
)
OURS = ("marks", "search")  # that Jupyter Book gives to every page, as all of _static
THEIRS = ("searchtools", "language_data", "sphinx_highlight", "searchindex")
SCRIPT = re.compile(rf'\s*<script src="(?:_static/)?(?:{"|".join(THEIRS + OURS)})\.js[^"]*"></script>')
SCRIPTS = ("searchtools", "language_data", *OURS, "sections")


def ranked(env: BuildEnvironment) -> Iterator[tuple[str, int]]:
    """The pages in the book's order, each with its rank: 0 for chapters, 1 for what is around them, 2 for api.md."""
    root = env.config.root_doc
    yield root, 1
    for part in env.get_doctree(root).findall(addnodes.toctree):
        for page in part["includefiles"]:
            yield page, 2 if page == REFERENCE else int(part["caption"] == BACK_MATTER)


def heading(node: nodes.Node) -> tuple[str, str] | None:
    """The anchor and the words over a part that can be found by itself."""
    if isinstance(node, exercise_enumerable_node):
        return node["ids"][0], f"Exercise: {node[0][-1].astext()}"
    if isinstance(node, nodes.section) and isinstance(node[0], nodes.title):
        return node["ids"][0], node[0].astext()
    if isinstance(node, addnodes.desc) and node[0]["ids"]:
        return node[0]["ids"][0], node[0]["ids"][0]
    if isinstance(node, nodes.definition_list_item) and node[0]["ids"]:
        return node[0]["ids"][0], node[0].astext()
    return None


def sections(node: nodes.Node, env: BuildEnvironment, depth: int = 0) -> Iterator[list]:
    """Each part below a node that has a heading: how many headings are above it, its anchor, its heading, its prose."""
    for part in node.children:
        if found := heading(part):
            yield [depth, *found, " ".join("".join(prose(part, env)).split())]
        inner = depth + bool(found) * (not isinstance(part, addnodes.desc))  # a method's name has its class in it
        yield from sections(part, env, inner)


def prose(node: nodes.Node, env: BuildEnvironment) -> Iterator[str]:
    """The running text of a part, without the parts in it that have headings of their own, and without what is folded
    away in HTML: hints, and the reasons behind solutions."""
    folded = False
    for part in node.children:
        if isinstance(part, nodes.raw):
            folded = "<details" in part.astext() or (folded and "</details" not in part.astext())
        elif folded:
            continue
        elif isinstance(part, nodes.Text):
            yield part.astext()
        elif isinstance(part, nodes.math):
            yield part.astext() if re.fullmatch(r"\w+", part.astext()) else "…"
        elif isinstance(part, addnodes.pending_xref) and part["reftype"] == "doc" and not part["refexplicit"]:
            yield env.titles[part["reftarget"].lstrip("/")].astext()
        elif not (isinstance(part, (*UNREAD, nodes.term)) or heading(part) or "cell" in part.get("classes", [])):
            yield from prose(part, env)
            yield "" if isinstance(part, nodes.Inline) else " "


def homes(pages: dict[str, nodes.document], env: BuildEnvironment) -> dict[str, list[int]]:
    """Of each term of the glossary the chapters that introduce it: the one that its entry names, and those that set it
    in bold."""
    bold = {page: {word.astext() for word in tree.findall(nodes.strong)} for page, tree in pages.items()}
    return {
        entry.term: [
            place
            for place, (page, words) in enumerate(bold.items())
            if page == entry.chapter or any(map(glossary.pattern(entry.term).fullmatch, words))
        ]
        for entry in glossary.entries(env)
    }


def write_sections(app: Sphinx, error: Exception | None) -> None:
    """All that the search knows: the pages with their ranks, the sections, and where terms are introduced."""
    if error or app.builder.format != "html":
        return
    ranks = dict(ranked(app.env))
    pages = {page: app.env.get_doctree(page) for page in ranks}
    index = {
        "pages": list(ranks.items()),
        "sections": [
            [place, *section]
            for place, (page, tree) in enumerate(pages.items())
            for section in sections(tree, app.env)
            if page != VOTES or not section[0]
        ],
        "homes": homes(pages, app.env),
    }
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    Path(app.outdir, "_static", "sections.js").write_text(f"Search.setIndex({text});\n", encoding="utf-8")


def place_scripts(app: Sphinx, error: Exception | None) -> None:
    """The page of results gets what searches, in place of Sphinx' index. The other pages get none of it."""
    ours = "".join(f'\n<script defer src="_static/{name}.js"></script>' for name in SCRIPTS)

    def place(page: Path, html: str) -> str:
        html = SCRIPT.sub("", html)
        return html.replace("</head>", f"{ours}\n</head>", 1) if page.name == "search.html" else html

    rewrite_pages(app, place)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write_sections)
    app.connect("build-finished", place_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
