"""Sphinx extension: text that a cell prints piece by piece stays on its line.

The model's words are printed as they come, and each piece is an output of its own. MyST-NB's own way to merge such
outputs starts a new line with every piece, and moves all that was printed in front of all that was displayed.
"""

import myst_nb.core.render
from nbformat import NotebookNode
from sphinx.application import Sphinx


def join_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring outputs of one stream become one; everything else stays as it is, where it is."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == "stream" and output.get("name") == joined[-1].get("name"):
            joined[-1] = NotebookNode(joined[-1], text=joined[-1].text + output.text)
        else:
            joined.append(output)
    return joined


def setup(app: Sphinx) -> dict[str, bool]:
    myst_nb.core.render.coalesce_streams = join_streams
    return {"parallel_read_safe": True, "parallel_write_safe": True}
