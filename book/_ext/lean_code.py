"""Sphinx extension: in code, what looks like the rest is no element of its own.

Pygments wraps each word and each sign. Names, punctuation and spaces have the color of plain text in both of the
theme's styles, and were most of what a chapter's page consists of: without them a browser lays it out sooner.
"""

from collections.abc import Iterable
from typing import TextIO

from pygments.formatters import HtmlFormatter
from pygments.token import Token, _TokenType
from sphinx.application import Sphinx
from sphinx.highlighting import PygmentsBridge

PLAIN = {Token.Name, Token.Name.Namespace, Token.Punctuation, Token.Text.Whitespace}


class LeanFormatter(HtmlFormatter):
    """Pygments' own, but that tokens of these kinds are plain text."""

    def format_unencoded(self, tokensource: Iterable[tuple[_TokenType, str]], outfile: TextIO) -> None:
        super().format_unencoded(((Token.Text if kind in PLAIN else kind, text) for kind, text in tokensource), outfile)


def setup(app: Sphinx) -> dict[str, bool]:
    PygmentsBridge.html_formatter = LeanFormatter
    return {"parallel_read_safe": True, "parallel_write_safe": True}
