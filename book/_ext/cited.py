"""Sphinx extension: each entry of the bibliography says which pages cite it.

Chapters are notebooks, so they cite by a link that works anywhere; pages in Markdown cite by an entry's key. Both are
found in the pages' sources, and in the reference of the package, where a docstring names authors and year.
"""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from docutils import nodes
from pybtex.database import Entry, parse_file
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from package_reference import groups, modules

PAGE = "bibliography"


def in_words(entry: Entry) -> str:
    """Authors and year as running text has them, such as "Kneser and Ney 1995"; of more than two authors, nothing."""
    names = [" ".join(person.last_names) for person in entry.persons.get("author", ())]
    return f"{' and '.join(names)} {entry.fields['year']}" if len(names) <= 2 else ""


def cites(text: str, key: str, entry: Entry) -> bool:
    """Whether a source cites an entry: by its key in a role, by its address in a link, or by authors and year."""
    by_key = re.search(rf"{{cite:\w}}`[^`]*\b{key}\b", text)
    address = entry.fields.get("url", "")
    by_link = address and re.search(re.escape(address) + r"(?![\w./])", text)
    return bool(by_key or by_link or (words := in_words(entry)) and words in text)


def pages_by_entry(bibliography: Path, sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """For each entry's key the names of the pages that cite it, in the order of `sources`: name and text of each."""
    entries, sources = parse_file(bibliography).entries, list(sources)
    return {key: [name for name, text in sources if cites(text, key, entry)] for key, entry in entries.items()}


def sources(env: BuildEnvironment) -> list[tuple[str, str]]:
    """Every page's name and source in the book's order; of the package's reference, the docstrings."""
    root = env.config.root_doc
    names = [root, *env.toctree_includes.get(root, ())]
    return [(name, Path(env.doc2path(name)).read_text(encoding="utf-8") + docstrings(name)) for name in names]


def docstrings(page: str) -> str:
    """What the reference of the package prints: the docstrings of the names that it lists."""
    if page != "api":
        return ""
    names = ((modules()[module], name) for group in groups() for module, some in group.items() for name in some)
    return "\n".join(inspect.getdoc(getattr(module, name)) or "" for module, name in names)


def tell(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Add to each entry a line with the pages that cite it."""
    if docname != PAGE:
        return
    folder = Path(app.srcdir)
    found = pages_by_entry(folder / app.config.bibtex_bibfiles[0], sources(app.env))
    keys = {citation.citation_id: citation.key for citation in app.env.get_domain("cite").citations}
    for entry in doctree.findall(nodes.citation):
        pages = found.get(next((keys[place] for place in entry["ids"] if place in keys), ""), [])
        line = nodes.paragraph("", "Cited in ")
        for n, page in enumerate(pages):
            address = app.builder.get_relative_uri(docname, page)
            title = app.env.titles[page].astext()
            line += [nodes.Text(", ")] * (n > 0) + [nodes.reference("", title, internal=True, refuri=address)]
        if pages:
            entry += line


def stale(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Any page may cite, so this one is written anew with each build."""
    return [PAGE] if PAGE in env.found_docs else []


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-updated", stale)
    app.connect("doctree-resolved", tell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
