"""Code on pages: what looks like plain text is plain text, and nothing of it is lost."""

import re

import pytest
from bs4 import BeautifulSoup
from pygments import highlight
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES

from lean_code import PLAIN, LeanFormatter
from trees import tree_of

CODE = 'from math import exp\n\ndef kept(rate: float) -> str:  # of a weight\n    return f"{exp(-rate):.2f}"\n'
CLASSES = {STANDARD_TYPES[kind] for kind in PLAIN}


def test_code_is_whole_and_what_has_a_color_keeps_it():
    page = BeautifulSoup(highlight(CODE, PythonLexer(), LeanFormatter()), "html.parser")
    assert page.pre.get_text() == CODE
    found = {name: part.get_text() for part in page.select("pre span[class]") for name in part["class"]}
    assert not CLASSES & found.keys()
    assert found["k"] == "return" and found["nf"] == "kept" and found["c1"] == "# of a weight"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_left_out_has_the_color_of_plain_text(built_book, theme):
    styles = (built_book / "_static/pygments.css").read_text("utf-8")
    rule = rf'html\[data-theme="{theme}"\] \.highlight (?:\.(\w+) )?{{[^}}]*(?<![\w-])color: (#\w+)'
    colors = dict(re.findall(rule, styles))
    assert {colors[name] for name in CLASSES} == {colors[""]}


def test_pages_have_none_of_it(built_book):
    code = tree_of(built_book / "the-gated-mlp.html").select(".highlight pre span[class]")
    assert len(code) > 100 and not [part for part in code if CLASSES & set(part["class"])]
