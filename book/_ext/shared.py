"""Sphinx extension: what is told of a page where it is found or shared, in a browser's tab, a search or a message.

Each page is described by its first paragraph, unless its source has a description of its own (`html_meta`). The first
page is titled as the book, once.
"""

import re
from html import escape, unescape

from docutils import nodes
from sphinx.application import Sphinx

LONGEST = 160  # characters of a description, about as many as are shown
MADE = {  # pages that no source is for
    "genindex": (
        "Index",
        "The documented names of the package and the terms of the glossary, each with the page that has it.",
    ),
    "py-modindex": ("Python Module Index", "The modules of the package, each with the page that describes it."),
    "search": ("Search", "Search the book’s prose, in your browser, with no server behind it."),
}
TAG = re.compile("<[^>]*>")
TOLD = re.compile(r'<meta content="([^"]*)" name="description" ?/?>')


def shorten(text: str) -> str:
    """The text on one line; its beginning, up to the end of a word, where it is too long."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else words[: LONGEST - 1].rpartition(" ")[0].rstrip(",;:–—-") + " …"


def describe(page: nodes.document | None) -> str:
    """The first paragraph of a page's text that holds no TeX command; "" where there is none."""
    for paragraph in page.findall(nodes.paragraph) if page else ():
        parts = paragraph.findall(nodes.Text)
        text = "".join(unescape(TAG.sub("", part)) if isinstance(part.parent, nodes.raw) else part for part in parts)
        if isinstance(paragraph.parent, nodes.section) and text.strip() and "\\" not in text:
            return shorten(text)
    return ""


def tell(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Add the tags, in the words of the Open Graph protocol."""
    book, first = context["docstitle"], page == app.config.root_doc
    title, words = MADE.get(page) or (book if first else unescape(TAG.sub("", context["title"])), describe(doctree))
    tags = context.get("metatags") or ""
    own = TOLD.search(tags)
    words = unescape(own[1]) if own else words or title
    told = {"og:title": title, "og:description": words, "og:type": "website" if first else "article"}
    told["og:site_name"] = book
    if not own:
        tags += f'\n<meta name="description" content="{escape(words)}" />'
    context["metatags"] = tags + "".join(
        f'\n<meta property="{name}" content="{escape(said)}" />' for name, said in told.items()
    )
    if first:  # a title is followed by the book's, and the logo shows that too
        context["theme_logo"] = {**(context.get("theme_logo") or {}), "text": book}
        context["docstitle"] = ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", tell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
