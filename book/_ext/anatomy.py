"""Sphinx extension: the drawing of the model's anatomy in the book's pages, each part a link to its chapter.

In a page, with the names of the parts that light up, or none for the whole:

    ```{anatomy} memory
    ```

A chapter shows the drawing as the output of a cell, `anatomy(model, "memory")`. Links are made for both alike.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective


class AnatomyDirective(SphinxDirective):
    """The drawing of the book's model, with the parts lit that the argument names."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        from rwkv_explainer import checkpoints, load_pretrained
        from rwkv_explainer.drawing.anatomy import anatomy

        package = Path(checkpoints.__file__).parent
        for path in (*package.glob("bundled/*"), *package.glob("drawing/anatomy*.py")):
            self.env.note_dependency(str(path))
        model, _ = load_pretrained()
        lit = re.split(r"[ ,]+", self.arguments[0].strip()) if self.arguments else []
        try:
            drawing = anatomy(model, *lit)
        except ValueError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", drawing.html, format="html")]


def chapter_titles(env: BuildEnvironment) -> dict[str, str]:
    """The title of every page, by its document's name."""
    return {document: title.astext() for document, title in env.titles.items()}


def link_parts(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Lead from each part of a drawing to its chapter."""
    if "rwkv-anatomy" in context.get("body", ""):
        from rwkv_explainer.drawing.anatomy import link_chapters

        titles = chapter_titles(app.env)
        addresses = {document: app.builder.get_relative_uri(page, document) or "#" for document in titles}
        context["body"] = link_chapters(context["body"], addresses, titles)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("anatomy", AnatomyDirective)
    app.connect("html-page-context", link_parts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
