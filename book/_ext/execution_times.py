"""Sphinx extension: how long each chapter ran, where a page says `{execution-times}`.

MyST-NB has such a table too, with the names of files in the order of the alphabet. Readers know the chapters by title.
Below the table stands the machine that made the pages.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

MARK = "has_execution_times"  # in the metadata of a page that has the table


class Placeholder(nodes.Element):
    """Where the table will stand, once all chapters have run."""


class ExecutionTimes(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname][MARK] = True
        return [Placeholder()]


def times(env: BuildEnvironment) -> dict[str, float]:
    """Every chapter's seconds, in the book's order."""
    told = NbMetadataCollector.get_doc_data(env)
    return {
        name: told[name]["exec_data"]["runtime"]
        for name in env.toctree_includes[env.config.root_doc]
        if "exec_data" in told.get(name, ())
    }


def fill(app: Sphinx, page: nodes.document, name: str) -> None:
    """Put the table in its place."""
    for place in list(page.findall(Placeholder)):
        body = nodes.tbody()
        for chapter, seconds in times(app.env).items():
            title = nodes.reference(
                "", app.env.titles[chapter].astext(), internal=True, refuri=app.builder.get_relative_uri(name, chapter)
            )
            body += row(title, nodes.Text(f"{seconds:.1f}"))
        head = nodes.thead("", row(nodes.Text("chapter"), nodes.Text("seconds")))
        columns = [nodes.colspec(colwidth=80), nodes.colspec(colwidth=20)]
        table = nodes.table("", nodes.tgroup("", *columns, head, body, cols=2), classes=["colwidths-auto"])
        place.replace_self([table, nodes.paragraph("", f"These pages were made on {machine()}.")])


def machine() -> str:
    """The processor and how many of its cores there are, Python and PyTorch, in words."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    processor = next(names, platform.processor() or platform.machine())
    return (
        f"{processor}, {os.cpu_count()} cores, with Python {platform.python_version()} and PyTorch {version('torch')}"
    )


def row(*cells: nodes.Node) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def stale(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The pages to write anew, whatever has run."""
    return [name for name, told in env.metadata.items() if MARK in told]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(Placeholder)
    app.add_directive("execution-times", ExecutionTimes)
    app.connect("env-updated", stale)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
