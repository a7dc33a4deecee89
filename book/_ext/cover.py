"""Sphinx extension: the cover's picture, a memory of the bundled model that fills and fades while it reads a sentence.

The directive `cover` runs the model over its sentence when the book is built. What the page then moves are the model's
own numbers: the keys that each token wrote with, and the decay rates of the channels.
"""

import json
from html import escape
from pathlib import Path

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from torch import Tensor

HERE = Path(__file__).parent
CHANNELS = 24  # rows of the picture: channels from the fastest to the slowest, evenly spaced by rank
CELL = 20, 10  # across and down, in units of the picture


class Cover(SphinxDirective):
    """The moving picture, over the sentence that is the directive's content."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        import rwkv_explainer.checkpoints

        for path in Path(rwkv_explainer.checkpoints.__file__).parent.glob("bundled/*"):
            self.env.note_dependency(str(path))
        for path in HERE.glob("cover.*"):
            self.env.note_dependency(str(path))
        return [nodes.raw("", picture(" ".join(self.content)), format="html")]


def read_sentence(sentence: str) -> tuple[int, list[str], Tensor, Tensor]:
    """What one layer's memory does over a sentence.

    Returns:
        the layer, counted from 1, whose channels' half-lives differ most; the tokens; their keys, (time, channels); and
        the channels' decay rates per token, from the fastest to the slowest, (channels,).
    """
    from rwkv_explainer import load_pretrained
    from rwkv_explainer.lab.decay import log_decays

    model, tokenizer = load_pretrained("textbook", dtype=torch.float32)
    spread = log_decays(model).quantile(torch.tensor([0.1, 0.9]), dim=1)  # (2, layers)
    layer = int((spread[1] - spread[0]).argmax())
    log_rates, order = log_decays(model)[layer].sort(descending=True)  # (all channels,) each
    chosen = torch.linspace(0, len(order) - 1, CHANNELS).round().long()
    keys: list[Tensor] = []
    model.blocks[layer].attention.key.register_forward_hook(lambda *step: keys.append(step[2][order[chosen]]))
    tokens = tokenizer.encode(sentence).ids
    with torch.no_grad():
        for token in tokens:
            model(token)
    names = [tokenizer.decode([token]) for token in tokens]
    return layer + 1, names, torch.stack(keys), log_rates[chosen].exp()


def shares(keys: Tensor, rates: Tensor) -> Tensor:
    """How much of each channel's memory every token is, after the last one: (channels, time), each row sums to 1."""
    age = torch.arange(len(keys) - 1, -1, -1)  # (time,)
    return (keys - age[:, None] * rates).softmax(dim=0).T


def picture(sentence: str) -> str:
    """The figure as HTML: a drawing of the last moment, which stands on its own, and what moves it."""
    from rwkv_explainer.drawing.palette import css_hues

    layer, tokens, keys, rates = read_sentence(sentence)
    last = shares(keys, rates)  # (channels, time)
    half_lives = torch.log(torch.tensor(2.0)) / rates
    width, height = len(tokens) * CELL[0], CHANNELS * CELL[1]
    cells = "".join(
        f'<rect x="{t * CELL[0]}" y="{c * CELL[1]}" fill-opacity="{last[c, t]:.2f}"/>'
        for t in range(len(tokens))
        for c in range(CHANNELS)
    )
    first = int((last.cumsum(dim=1) > 0.5).float().argmax(dim=1).min())
    alt = (
        f"A memory of layer {layer} of the bundled model after it has read “{sentence}”: {CHANNELS} channels, one a "
        f"row, and {len(tokens)} tokens, one a column; the stronger a cell, the more of the channel's memory is that "
        f"token. In the top row, where half of a weight is gone after {half_lives[0]:.2g} tokens, {last[0].max():.0%} "
        f"is one token. In the bottom row, with {half_lives[-1]:,.0f} tokens to half, no token has more than "
        f"{last[-1].max():.0%}; the row that reaches back furthest has half of its memory from the first {first + 1} "
        "tokens."
    )
    rounded = [[round(key, 3) for key in row] for row in keys.tolist()]
    data = {"keys": rounded, "rates": [float(f"{rate:.4g}") for rate in rates.tolist()]}
    words = "".join(f'<span style="--at: {n}">{escape(token)}</span>' for n, token in enumerate(tokens))
    style, script = ((HERE / f"cover.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        f'<style>{css_hues(".cover", 2)}{style}</style><figure class="cover" id="cover">'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="cover-alt">'
        f'<title id="cover-alt">{escape(alt)}</title>'
        f'<g transform="translate(1 1)">{cells}</g></svg>'
        f'<p class="cover-text" aria-hidden="true">{words}</p>'
        f'<figcaption><button type="button" hidden></button>What layer {layer} of the bundled model remembers as it '
        "reads. Each row is one of its channels, a number that it keeps. Each column is a token; the stronger the "
        "color, the more that token counts in that number. Channels above forget fast, those below keep.</figcaption>"
        f'<script type="application/json">{json.dumps(data)}</script></figure><script>{script}</script>'
    )


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("cover", Cover)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
