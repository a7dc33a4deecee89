"""Built pages as trees of elements. To read a chapter's takes a second: all tests of a process share one of each."""

import gc
from functools import cache
from pathlib import Path

from bs4 import BeautifulSoup


def tree_of(page: Path) -> BeautifulSoup:
    """A page's tree, for looking only."""
    return parse(page.read_text(encoding="utf-8"))


@cache
def parse(html: str) -> BeautifulSoup:
    tree = BeautifulSoup(html, "html.parser")
    gc.freeze()  # it stays: Python need not ask again and again whether it is still needed
    return tree
