"""What extensions do to pages that are written already, where the theme leaves no other way."""

from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx


def rewrite_pages(app: Sphinx, change: Callable[[Path, str], str]) -> None:
    """Give every built page the HTML that `change` makes of its path and its HTML; the others keep their time."""
    for page in Path(app.outdir).rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        if (changed := change(page, html)) != html:
            page.write_text(changed, encoding="utf-8")
