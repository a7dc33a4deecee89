"""Sphinx extension: the cover, a memory of the bundled model that fills and fades while it reads a sentence.

The directive `cover` has a sentence a line, and shows the first. It runs the model over all of them when the book is
built (cover_picture.py).
"""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Cover(SphinxDirective):
    """The moving picture, over the sentences that are the directive's lines."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        import cover_picture  # needs PyTorch: seconds, which a build that leaves the cover as it was does not spend
        import rwkv_explainer.checkpoints

        bundled = Path(rwkv_explainer.checkpoints.__file__).parent.glob("bundled/*")
        for path in (*bundled, __file__, cover_picture.__file__):
            self.env.note_dependency(str(path))
        return [nodes.raw("", cover_picture.picture(list(self.content)), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("cover", Cover)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
