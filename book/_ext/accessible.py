"""Sphinx extension: a bibliography is read out as the list that it is.

docutils gives the entries of its citation lists a role of their own, which ARIA 1.2 gave up: a list holds list items.
"""

from sphinx.application import Sphinx


def name_list_items(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    context["body"] = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", name_list_items)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
