"""Sphinx extension: what is read out is what one sees.

docutils gives the entries of its citation lists a role of their own, which ARIA 1.2 gave up: a list holds list items.
MyST-NB calls every folded cell "Toggle hidden content", whatever its summary says: the summary's words are its name.
A table's empty corner is no header. What the menu of downloads offers is called what it is, and a notebook is saved,
where the theme opens its source in a tab.
"""

import re

from sphinx.application import Sphinx

from built_pages import rewrite_pages

EMPTY_HEADER = re.compile(r"<th(?: scope=\"\w+\")?((?: class=\"[^\"]*\")?)>(?:\s|<p>\s*</p>)*</th>")


def name_parts(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    body = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')
    body = body.replace(' aria-label="Toggle hidden content"', "")
    context["body"] = EMPTY_HEADER.sub(r"<td\1></td>", body)


NAMES = {".ipynb": "Notebook", ".md": "Source", ".pdf": "Print or PDF"}
NOTEBOOK = re.compile(r'(<a href="[^"]*\.ipynb") target="_blank"(?=\s+class="btn btn-sm btn-download)')


def name_downloads(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """The theme names them by the ends of their files' names: ".ipynb", ".pdf"."""
    for group in context.get("header_buttons", []):
        for item in group.get("buttons", []):
            item["text"] = NAMES.get(item.get("text"), item.get("text"))


def save_notebooks(app: Sphinx, error: Exception | None) -> None:
    rewrite_pages(app, lambda page, html: NOTEBOOK.sub(r"\1 download", html))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", name_parts)
    app.connect("html-page-context", name_downloads, priority=900)  # after the theme
    app.connect("build-finished", save_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
