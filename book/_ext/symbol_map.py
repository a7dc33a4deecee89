"""Sphinx extension: the tables of symbol-map.md, made from the package itself.

A row for every tensor of a model, from the table by which checkpoints are read (`rwkv_explainer.checkpoints.KEYS`). Its
chapter is the one that the docstring of the tensor's own piece names.
"""

import re

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from package_reference import chapters

PLACES = {  # where a tensor stands: the heading, and what all names there begin with (ours, upstream's, transformers')
    "Before the first block": ("embedding.", "", "rwkv."),
    "A block's norms": ("blocks.{i}.", "blocks.{i}.", "rwkv.blocks.{i}."),
    "A block's attention": ("blocks.{i}.attention.", "blocks.{i}.att.", "rwkv.blocks.{i}.attention."),
    "A block's gated MLP": ("blocks.{i}.gated_mlp.", "blocks.{i}.ffn.", "rwkv.blocks.{i}.feed_forward."),
    "After the last block": ("unembedding.", "", ""),
}
WHERE = "here", "in upstream checkpoints", "in transformers"
HEAD = ["here", "paper", "upstream checkpoint", "transformers", "shape", "chapter"]


def place_of(ours: str) -> str:
    """The heading under which a tensor stands: the longest beginning that fits."""
    fitting = (place for place, begins in PLACES.items() if ours.startswith(begins[0]))
    return max(fitting, key=lambda place: len(PLACES[place][0]))


def chapter_of(ours: str) -> str:
    """The title of the chapter that builds the innermost piece around a tensor, by that piece's docstring."""
    from rwkv_explainer.model import RWKVLM
    from rwkv_explainer.piece import RWKVConfig

    piece, title = RWKVLM.from_config(RWKVConfig(vocab_size=2, channels=2, n_layer=1, intermediate_size=2)), ""
    for part in ours.replace("{i}", "0").split(".")[:-1]:
        piece = getattr(piece, part)
        if found := re.search(r'[Cc]hapters? "([^"]+)"', type(piece).__doc__ or ""):
            title = found[1]
    return title


def in_math(letter: str) -> str:
    """The paper's letter as it is printed there: "mu'_k" as a primed Greek mu with the subscript k."""
    return f"${letter.replace('mu', chr(92) + 'mu')}$" if letter else "–"


def rows() -> dict[str, list[list[str]]]:
    """For each place, a row for each tensor in the order of `HEAD`; names without what all begin with."""
    from rwkv_explainer.checkpoints import KEYS

    tables: dict[str, list[list[str]]] = {place: [] for place in PLACES}
    for key in KEYS:
        place = place_of(key.name)
        whole = (key.name, key.upstream_name, key.hf_name)
        names = [name.removeprefix(begin) for name, begin in zip(whole, PLACES[place])]
        tables[place].append(
            [
                f"`{names[0]}`",
                in_math(key.paper_symbol),
                f"`{names[1]}`",
                f"`{names[2]}`",
                f"({', '.join(key.stored_shape)}{',' * (len(key.stored_shape) == 1)})",
                chapter_of(key.name),
            ]
        )
    return tables


def markdown(documents: dict[str, str]) -> str:
    """All tables, each below its heading. `documents` gives the chapters' documents by title."""
    lines = []
    for place, table in rows().items():
        begins = [f"with `{begin}` {where}" for where, begin in zip(WHERE, PLACES[place]) if begin]
        lines += ["", f"**{place}.** Names begin {', '.join(begins)}. Built in {built_in(table, documents)}.", ""]
        lines += [f"| {' | '.join(HEAD[:-1])} |", "|---" * (len(HEAD) - 1) + "|"]
        lines += [f"| {' | '.join(row[:-1])} |" for row in table]
    return "\n".join(lines)


def built_in(table: list[list[str]], documents: dict[str, str]) -> str:
    """The chapters of a table's rows; after the one that has most of them, the others with the rows that are theirs."""
    titles = [row[-1] for row in table]
    first = max(titles, key=titles.count)
    links = {title: f"{{doc}}`{documents[title]}`" if title in documents else f"*{title}*" for title in titles}
    of = {title: ", ".join(row[0] for row in table if row[-1] == title) for title in links}
    others = [f"{of[title]} in {links[title]}" for title in links if title != first]
    return "; ".join([links[first], *others])


class SymbolMap(Directive):
    """The tables, where the page says `{symbol-map}`."""

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        from rwkv_explainer import checkpoints, model

        for module in (checkpoints, model):
            env.note_dependency(module.__file__)
        container = nodes.container()
        lines = StringList(markdown(chapters(env)).splitlines(), source=__file__)
        self.state.nested_parse(lines, self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("symbol-map", SymbolMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
