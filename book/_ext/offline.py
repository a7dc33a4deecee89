"""Sphinx extension: the built book is whole, and carries nothing that could ask another host for anything.

Jupyter Book puts sphinx-thebe on every page, which runs cells on a public server after fetching a script from a third
party. This book offers no such button, so none of it stays. Of MathJax, the one bundle stays that pages use, on the
pages that have formulas. The theme loads its icons twice, as a font and as a script of 1.5 MB: the font stays.
"""

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

from built_pages import rewrite_pages

UNWANTED = "sphinx_thebe"
MATHJAX = "tex-chtml.js"  # reads TeX, sets it with fonts of its own
TEX = re.compile(
    rf'<script[^>]*src="[^"]*{re.escape(MATHJAX)}[^"]*"[^>]*></script>\s*|<script>window\.MathJax.*?</script>\s*'
)
ICONS = re.compile(r'<script[^>]*src="[^"]*scripts/fontawesome\.js[^"]*"[^>]*></script>\s*')


def remove_thebe(app: Sphinx) -> None:
    """Undo what the extension did when it was set up: its listeners, and its style sheet."""
    for listeners in app.events.listeners.values():
        for listener in [known for known in listeners if known.handler.__module__ == UNWANTED]:
            app.disconnect(listener.id)
    app.registry.css_files[:] = [(name, rest) for name, rest in app.registry.css_files if "thebe" not in name]


def keep_one_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Remove MathJax' other bundles, for other notations and outputs: two thirds of its 24 MB."""
    folder = Path(app.outdir, "_static", "mathjax")
    for bundle in folder.glob("*.js"):
        if bundle.name != MATHJAX:
            bundle.unlink()
    for part in ("adaptors", "output/svg"):
        shutil.rmtree(folder / part, ignore_errors=True)


def tidy_pages(app: Sphinx, error: Exception | None) -> None:
    """Take the icons' script out of all pages, and away, and MathJax out of those without a formula.

    Sphinx gives it to every page that leads to one with formulas, so to the first page too. The attribute that holds
    the theme says light, as pages without scripts will be.
    """

    def tidy(page: Path, html: str) -> str:
        html = ICONS.sub("", html).replace(' data-theme="auto">', ' data-theme="light">', 1)
        return html if 'class="math' in html else TEX.sub("", html)

    rewrite_pages(app, tidy)
    for script in Path(app.outdir, "_static", "scripts").glob("fontawesome.js*"):
        script.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    remove_thebe(app)
    app.connect("build-finished", tidy_pages)
    app.connect("build-finished", keep_one_mathjax, priority=900)  # after MathJax was copied
    return {"parallel_read_safe": True, "parallel_write_safe": True}
