"""The model's anatomy: one drawing of the whole model, made from its sizes, in which each chapter lights its own part.

    anatomy(model, "memory")                # lights the memory, dims the rest
    anatomy(RWKVConfig(50277, 768, 12, 3072))   # a model of which only the sizes are known, all of it lit

Three panels, from outside to inside: the model in its loop, one block, one channel of the memory. `PARTS` says what
each part is; the picture (`anatomy_panels.py`), its names for screen readers and the list in words come from it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import torch

from rwkv_explainer.drawing.anatomy_panels import draw_panels
from rwkv_explainer.drawing.anatomy_parts import GROUPS, KINDS, PANELS, PARTS, Example, Part
from rwkv_explainer.drawing.palette import DARK, LIGHT, Theme, on_dark
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.piece import RWKVConfig

__all__ = ["Anatomy", "anatomy", "link_chapters"]

LEGEND = {"remembered": "kept for the next token", "learned": "learned, then fixed", "computed": "computed anew"}
SHOWN = 4  # of the likeliest next tokens


@dataclass(frozen=True)
class Anatomy:
    """The drawing. Notebooks show it by themselves; `print` gives it in words."""

    html: str = field(repr=False)
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __str__(self) -> str:
        return self.text


def anatomy(model: RWKVLM | RWKVConfig, *lit: str, text: str = "The Earth moves around the") -> Anatomy:
    """Draw the model, with one part or several lit and the rest dimmed.

    Args:
        model: whose sizes to write into the drawing. One with a tokenizer, as `load_pretrained` gives it, also reads
            `text`: the tokens, ids and probabilities in the drawing are then its own. What it remembers stays as it is.
        lit: names of parts, or of groups of them, such as "loop", "embedding", "stream", "block", "attention",
            "gated_mlp", "mixer", "memory", "decay", "unembedding"; "learned" and "remembered" light all that is. With
            none, everything is lit.
        text: what has been written so far.

    Raises:
        ValueError: if a name is none of these, and then the message lists them, or if `text` has no token.
    """
    names = {*PARTS, *GROUPS, *KINDS}
    if unknown := [name for name in lit if name not in names]:
        raise ValueError(f"lit: expected names out of {', '.join(sorted(names))}, got {', '.join(map(repr, unknown))}")
    example = read_example(model, text) if getattr(model, "tokenizer", None) else None
    config = model if isinstance(model, RWKVConfig) else model.config
    values = sizes_in_words(config) | example_in_words(example)
    headings = {panel: heading.format(**values) for panel, (heading, _) in PANELS.items()}
    parts = {name: fill_in(part, values) for name, part in PARTS.items()}
    panels = draw_panels(config, example, headings, parts, lit_parts(lit))
    caption = f"{parts['model'].title.capitalize()}: {parts['model'].words}"
    if lit:
        caption += f" Lit: {', '.join(parts[name].title if name in parts else KINDS.get(name, name) for name in lit)}."
    kinds = [f"light-{kind}" for kind in KINDS if kind in lit]
    html = (
        f'{STYLE}<figure class="{" ".join(["rwkv-anatomy", *["some"][: len(lit)], *kinds])}">'
        f'<div class="panels">{"".join(panels)}</div>'
        f"<figcaption>{legend()}<span>{escape(caption)}</span> "
        '<span class="leads">Each part leads to its chapter.</span></figcaption>'
        f"<details><summary>The drawing in words</summary>{html_list(headings, parts)}</details></figure>"
    )
    return Anatomy(html, f"{caption}\n{text_list(headings, parts)}")


def lit_parts(lit: Sequence[str]) -> set[str]:
    """The names of the parts that light up."""
    return {name for name, part in PARTS.items() if not lit or {name, *part.groups} & {*lit}}


def read_example(model: RWKVLM, text: str) -> Example:
    """Let the model read a text from the start. What it remembered before is put back."""
    from rwkv_explainer.tokens import token_name

    ids = model.tokenizer.encode(text).ids
    if not ids:
        raise ValueError(f"text: expected at least one token, got {text!r}")
    before = model.snapshot()
    model.clear_buffers()
    with torch.no_grad():
        for token_id in ids:
            probabilities = model(token_id)  # (vocab_size,)
    model.restore(before)
    top = probabilities.topk(min(SHOWN, len(probabilities)))
    names = {n: token_name(n, model.tokenizer, " ").strip() or "␣" for n in (*ids, *top.indices.tolist())}
    likeliest = zip(top.indices.tolist(), top.values.tolist())
    return Example(text, tuple((names[n], n) for n in ids), tuple((names[n], p) for n, p in likeliest))


# ---------------------------------------------------------------------------------------------------------------------
# in words


def sizes_in_words(config: RWKVConfig) -> dict[str, str]:
    """The model's sizes as the parts' words name them."""
    with torch.device("meta"):
        parameters = sum(tensor.numel() for tensor in RWKVLM.from_config(config).parameters())
    per_block = 4 * config.channels  # contents, normalizer, the last inputs of attention and of gated MLP
    numbers = vars(config) | {"parameters": parameters, "per_block": per_block, "state": per_block * config.n_layer}
    return {name: f"{number:,}" for name, number in numbers.items()}


def example_in_words(example: Example | None) -> dict[str, str]:
    """What the parts' words say of the example; nothing where there is none."""
    if example is None:
        return dict.fromkeys(("text", "tokens", "ids", "top", "drawn"), "")
    return {
        "text": f": “{example.text}”",
        "tokens": ": " + ", ".join(f"“{token}”" for token, _ in example.tokens),
        "ids": ", here " + " and then ".join(str(token_id) for _, token_id in example.tokens[-2:]),
        "top": ": " + ", ".join(f"“{token}” {probability:.3f}" for token, probability in example.top),
        "drawn": f", most likely “{example.top[0][0]}”",
    }


def fill_in(part: Part, values: Mapping[str, str]) -> Part:
    """A part with numbers and example in its words."""
    texts = {name: text.format(**values) for name, text in vars(part).items() if name != "groups"}
    return Part(**texts, groups=part.groups)


def describe(part: Part) -> str:
    """A part in words: what it does, what it has learned, what it remembers."""
    learned = f" Learned: {part.learned}." if part.learned else ""
    remembers = f" Remembers: {part.remembers}." if part.remembers else ""
    return part.words + learned + remembers


def html_list(headings: Mapping[str, str], parts: Mapping[str, Part]) -> str:
    """The whole drawing as lists, one for each panel."""

    def item(part: Part) -> str:
        return f'<li><span data-chapter="{part.chapter}">{escape(part.title)}</span>. {escape(describe(part))}</li>'

    return "".join(
        f"<p>{escape(headings[panel])}</p><ul>{''.join(item(parts[name]) for name in names)}</ul>"
        for panel, (_, names) in PANELS.items()
    )


def text_list(headings: Mapping[str, str], parts: Mapping[str, Part]) -> str:
    """The same for the console."""
    lines = []
    for panel, (_, names) in PANELS.items():
        lines += [headings[panel], *(f"  {parts[name].title}: {describe(parts[name])}" for name in names)]
    return "\n".join(lines)


def legend() -> str:
    """What the colors mean."""
    return "".join(f'<span class="key {kind}"><i></i>{meaning}</span> ' for kind, meaning in LEGEND.items())


IN_DRAWING = re.compile(r'tabindex="0" role="img" data-chapter="(?P<chapter>[^"]+)" aria-label="(?P<label>[^"]*)"')
IN_LIST = re.compile(r'<span data-chapter="(?P<chapter>[^"]+)">(?P<title>[^<]*)</span>')


def link_chapters(html: str, addresses: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """Make every part a link to its chapter, in all the drawings of a page.

    Args:
        html: of the page.
        addresses: where each chapter lies as seen from the page, by its file's name without the ending. A part whose
            chapter is not among them stays without a link.
        titles: the chapters' titles, by the same names.
    """

    def link_shape(found: re.Match) -> str:
        if found["chapter"] not in addresses:
            return found[0]
        address, title = escape(addresses[found["chapter"]]), escape(titles[found["chapter"]])
        return f'href="{address}" aria-label="{found["label"]} Chapter: {title}"'

    def link_item(found: re.Match) -> str:
        if found["chapter"] not in addresses:
            return found[0]
        address, title = escape(addresses[found["chapter"]]), escape(titles[found["chapter"]])
        return f'<a href="{address}" title="{title}">{found["title"]}</a>'

    return IN_LIST.sub(link_item, IN_DRAWING.sub(link_shape, html))


# ---------------------------------------------------------------------------------------------------------------------
# what it looks like


def blend(color: str, ground: str, share: float) -> str:
    """A color, mixed by hand into the one behind it."""
    mixed = (round(share * int(color[n : n + 2], 16) + (1 - share) * int(ground[n : n + 2], 16)) for n in (1, 3, 5))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def colors(theme: Theme) -> dict[str, str]:
    """The drawing's colors on a light or a dark page, by the names that its style gives them."""
    learned, remembered = theme.hues[:2]
    return {
        "ink": theme.ink,
        "quiet": blend(theme.ink, theme.ground, 0.8),  # small text, and all text that is dimmed
        "line": blend(theme.ink, theme.ground, 0.56),
        "faint": theme.faint,
        "ground": theme.ground,
        "learned": learned,
        "learned-wash": blend(learned, theme.ground, 0.14),
        "remembered": remembered,
        "remembered-wash": blend(remembered, theme.ground, 0.14),
        "remembered-fill": blend(remembered, theme.ground, 0.32),
        "stream": blend(theme.ink, theme.ground, 0.24),
        "panel": blend(theme.ink, theme.ground, 0.035),
    }


def css_colors(selector: str, theme: Theme) -> str:
    """CSS that names the colors --rwkv-ink, --rwkv-learned and so on for what a selector finds."""
    return f"{selector} {{ {' '.join(f'--rwkv-{name}: {color};' for name, color in colors(theme).items())} }}"


STYLE = (
    f"""<style>
{css_colors(".rwkv-anatomy", LIGHT)}
{css_colors(on_dark(".rwkv-anatomy"), DARK)}
@media print {{ {css_colors("html .rwkv-anatomy.rwkv-anatomy.rwkv-anatomy", LIGHT)} }}
"""
    + """
.rwkv-anatomy { margin: 1rem auto; max-width: 54rem; container-type: inline-size; color: var(--rwkv-ink);
  break-inside: avoid; print-color-adjust: exact; }
.rwkv-anatomy .panels { display: grid; gap: 1.2rem; max-width: 28rem; margin: 0 auto; }
.rwkv-anatomy svg { display: block; width: 100%; height: auto; overflow: visible; background: none;
  font-family: Arial, Helvetica, "Liberation Sans", sans-serif; }
.rwkv-anatomy .wide { display: none; }
@container (min-width: 38rem) {
  .rwkv-anatomy .panels { max-width: none; grid: auto auto / 1fr 1fr; gap: 2.7%; row-gap: 0; }
  .rwkv-anatomy .panel-model { grid-row: 1 / 3; }
  .rwkv-anatomy .wide { display: inline; }
}
.rwkv-anatomy svg a, .rwkv-anatomy svg a:hover { color: inherit; text-decoration: none; }
.rwkv-anatomy text { font-size: 13px; fill: var(--rwkv-ink); text-anchor: middle; }
.rwkv-anatomy text.start { text-anchor: start; } .rwkv-anatomy text.end { text-anchor: end; }
.rwkv-anatomy text.name { font-size: 12px; }
.rwkv-anatomy text.bold { font-weight: bold; }
.rwkv-anatomy text.small { font-size: 10.5px; fill: var(--rwkv-quiet); }
.rwkv-anatomy :is(rect, circle, path) { fill: var(--rwkv-ground); stroke: var(--rwkv-line); stroke-width: 1.2; }
.rwkv-anatomy .flow { fill: none; stroke-width: 1.4; stroke-linejoin: round; }
.rwkv-anatomy .tip { fill: var(--rwkv-line); stroke: none; }
.rwkv-anatomy .river { fill: var(--rwkv-stream); stroke: none; }
.rwkv-anatomy .frame { fill: none; stroke: var(--rwkv-faint); pointer-events: all; }
.rwkv-anatomy .panel { fill: var(--rwkv-panel); stroke: none; }
.rwkv-anatomy .learned { fill: var(--rwkv-learned-wash); stroke: var(--rwkv-learned); }
.rwkv-anatomy .learned.flow { fill: none; }
.rwkv-anatomy .remembered { fill: var(--rwkv-remembered-wash); stroke: var(--rwkv-remembered); }
.rwkv-anatomy .remembered.full { fill: var(--rwkv-remembered-fill); }
.rwkv-anatomy .remembered.flow { fill: none; stroke-dasharray: 3 3; } .rwkv-anatomy .wall { fill: none; }
.rwkv-anatomy .dot.remembered { fill: var(--rwkv-remembered); stroke: none; }
.rwkv-anatomy .bar { fill: var(--rwkv-line); stroke: none; } .rwkv-anatomy .pip { fill: var(--rwkv-ink); stroke: none; }
.rwkv-anatomy.some .lit .face:not(.remembered) { stroke: var(--rwkv-ink); stroke-width: 1.7; }
.rwkv-anatomy .zoomed { stroke: var(--rwkv-ink); stroke-width: 1.8; }
.rwkv-anatomy .wedge { fill: var(--rwkv-panel); stroke: none; }
.rwkv-anatomy .dim :is(rect, circle, path) { opacity: .4; }
.rwkv-anatomy .dim text { fill: var(--rwkv-quiet); }
.rwkv-anatomy.light-learned .learned, .rwkv-anatomy.light-remembered .remembered { opacity: 1; }
.rwkv-anatomy a:is(:hover, :focus-visible) .face { stroke-width: 2.6; }
.rwkv-anatomy a:focus-visible { outline: 2px solid var(--rwkv-ink); outline-offset: 2px; border-radius: 4px; }
.rwkv-anatomy figcaption { margin-top: .8rem; text-align: left; font-size: .9em; line-height: 1.5;
  color: var(--rwkv-ink); }
.rwkv-anatomy .key { white-space: nowrap; margin-right: 1em; }
.rwkv-anatomy .key i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em;
  border: 1.5px solid var(--rwkv-line); border-radius: 3px; }
.rwkv-anatomy .key.learned i { border-color: var(--rwkv-learned); background: var(--rwkv-learned-wash); }
.rwkv-anatomy .key.remembered i { border-color: var(--rwkv-remembered); background: var(--rwkv-remembered-fill); }
.rwkv-anatomy .leads { display: none; } .rwkv-anatomy:has(svg a[href]) .leads { display: inline; }
.rwkv-anatomy summary { margin-top: .4rem; cursor: pointer; font-size: .9em; }
.rwkv-anatomy details :is(p, li) { font-size: .9em; margin: .2rem 0; }
</style>"""
)
