"""Sphinx extension: a card for each chapter, with its question, a picture and the minutes that it takes.

    ```{chapter-cards}
    time-decay | How long does each part of the memory hold on?
    ```

A line names a chapter's document and asks its question. Number and title come from the book, the minutes from the
chapter's own sentence "**It takes** about half an hour to read", the picture from card_pictures.py.
"""

import json
import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

import card_pictures

MARK = "has_chapter_cards"  # in the metadata of a page that has cards
TAKES = re.compile(r"\*\*It takes\*\* (.*)")
PHRASES = {"half an hour": 30, "a quarter of an hour": 15, "three quarters of an hour": 45, "an hour": 60}
TENS = {word: 10 * n for n, word in enumerate(("ten", "twenty", "thirty", "forty", "fifty", "sixty"), 1)}
ONES = {"": 0, "five": 5}


class Cards(nodes.Element):
    """Where the cards will stand, once the titles and numbers of all chapters are known."""


class ChapterCards(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.metadata[self.env.docname][MARK] = True
        self.env.note_dependency(card_pictures.__file__)
        cards = []
        for line in filter(None, map(str.strip, self.content)):
            document, _, question = (part.strip() for part in line.partition("|"))
            path = Path(self.env.doc2path(document))
            self.env.note_dependency(str(path))
            if not question or not path.exists() or document not in card_pictures.PICTURES:
                raise self.error(
                    f"{line!r}: expected a chapter of card_pictures.PICTURES, a bar and its question, such as "
                    "'time-decay | How long does it hold on?'"
                )
            cards.append((document, question, minutes(path)))
        return [Cards(cards=cards)]


def minutes(path: Path) -> int:
    """How long a chapter takes to read, by its own words.

    Raises:
        ValueError: if it does not say so in words that are known here.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    said = TAKES.search(text)
    found = minutes_in(said[1]) if said else None
    if found is None:
        raise ValueError(
            f"{path.name}: expected how long it takes to read, such as '**It takes** about half an hour to read', got "
            f"{said[0] if said else 'nothing'!r}; known are numbers, tens in words, and {', '.join(PHRASES)}"
        )
    return found


def minutes_in(sentence: str) -> int | None:
    """The minutes of reading that a sentence names; None if it names none. What comes after *to read* is not asked."""
    sentence = sentence.partition(" to read")[0]
    if found := re.search(r"\b(\d+) minutes", sentence):
        return int(found[1])
    if found := re.search(rf"\b({'|'.join(TENS)})(?:-(five))? minutes", sentence):
        return TENS[found[1]] + ONES[found[2] or ""]
    longest_first = sorted(PHRASES, key=len, reverse=True)
    return next((PHRASES[phrase] for phrase in longest_first if phrase in sentence), None)


def card(app: Sphinx, page: str, document: str, question: str, takes: int) -> str:
    """One card, which is a link."""
    title = app.env.titles[document].astext()
    number = ".".join(map(str, app.env.toc_secnumbers.get(document, {}).get("", ())))
    return (
        f'<li><a href="{escape(app.builder.get_relative_uri(page, document))}">{card_pictures.picture(document)}'
        f'<strong><span class="card-number">{number}</span> {escape(title)}</strong> '
        f'<span class="card-question">{escape(question)}</span> <small>{takes} minutes</small></a></li>'
    )


def fill(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put the cards in their place."""
    from rwkv_explainer.drawing.palette import css_colors

    for place in list(doctree.findall(Cards)):
        if app.builder.format != "html":
            place.replace_self([])
            continue
        cards = "".join(card(app, page, *entry) for entry in place["cards"])
        html = f'<style>{css_colors(".chapter-cards")}</style><ol class="chapter-cards">{cards}</ol>'
        place.replace_self(nodes.raw("", html, format="html"))


def stale(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The pages to write anew, whichever titles have changed."""
    return [name for name, told in env.metadata.items() if MARK in told]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(Cards)
    app.add_directive("chapter-cards", ChapterCards)
    app.connect("env-updated", stale)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
