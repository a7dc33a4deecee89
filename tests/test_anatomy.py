"""The drawing of the model's anatomy: whole, true to the model's sizes, with one part lit, and the same in words."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from browser import visit
from rwkv_explainer.drawing.anatomy import STYLE, anatomy, colors, link_chapters
from rwkv_explainer.drawing.anatomy_parts import GROUPS, KINDS, PANELS, PARTS
from rwkv_explainer.drawing.palette import DARK, LIGHT
from rwkv_explainer.piece import RWKVConfig
from test_palette import contrast

BOOK = Path(__file__).resolve().parents[1] / "book"
CONFIG = RWKVConfig(vocab_size=5003, channels=48, n_layer=7, intermediate_size=211)
SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawing) -> ElementTree.Element:
    """The figure: fails where it is not well formed."""
    return ElementTree.fromstring(drawing.html.removeprefix(STYLE))


def drawn(drawing) -> list[tuple[str, ElementTree.Element]]:
    """Everything that belongs to a part, with the part's name."""
    return [(element.get("data-part"), element) for element in parsed(drawing).iter() if element.get("data-part")]


@pytest.fixture
def model(random_model):
    """A model that can read and write a few words, in the middle of a text."""
    model = random_model(vocabulary=300, dtype=torch.float32)
    words = {chr(97 + n % 26) * (1 + n // 26): n for n in range(300)}
    model.tokenizer = Tokenizer(WordLevel(words))
    model.tokenizer.pre_tokenizer = Whitespace()
    model(7)
    return model


def test_every_part_is_drawn_named_and_in_reach_of_the_keyboard():
    named = [
        (name, element)
        for name, element in drawn(anatomy(CONFIG))
        if element.get("tabindex") == "0" and element.get("role") == "img"
    ]
    assert [name for name, _ in named] and sorted(name for name, _ in named) == sorted(PARTS)
    for name, element in named:
        assert element.get("aria-label") == element.find(f"{SVG}title").text
        assert len([*element]) > 1, f"{name} has no shape"
    rest = [element for _, element in drawn(anatomy(CONFIG)) if element.get("tabindex") is None]
    assert all(element.get("aria-hidden") == "true" for element in rest)


@pytest.mark.parametrize("lit", [*PARTS, *sorted(GROUPS)])
def test_what_is_asked_for_is_lit_and_the_rest_is_dim(lit):
    states = {(name, element.get("class")) for name, element in drawn(anatomy(CONFIG, lit))}
    expected = {name for name, part in PARTS.items() if lit == name or lit in part.groups}
    assert expected and states == {(name, "lit" if name in expected else "dim") for name in PARTS}
    assert "Lit: " in anatomy(CONFIG, lit).text


def test_several_parts_light_up_together_and_all_without_a_name():
    lit = {
        name for name, element in drawn(anatomy(CONFIG, "embedding", "unembedding")) if element.get("class") == "lit"
    }
    assert lit == {"embedding", "unembedding"}
    assert {element.get("class") for _, element in drawn(anatomy(CONFIG))} == {"lit"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_or_remembered_lights_up_wherever_it_is(kind):
    figure = parsed(anatomy(CONFIG, kind))
    assert f"light-{kind}" in figure.get("class").split()
    assert f".rwkv-anatomy.light-{kind} .{kind}" in STYLE
    assert {element.get("class") for _, element in drawn(anatomy(CONFIG, kind))} == {"dim"}


def test_what_is_learned_is_blue_and_what_remembers_is_orange():
    """A part that says so in words is drawn so, and no other."""
    found = {"learned": set(), "remembered": set()}
    for name, element in drawn(anatomy(CONFIG)):
        for shape in element.iter():
            for kind in found.keys() & {*(shape.get("class") or "").split()}:
                found[kind].add(name)
    assert found["learned"] == {name for name, part in PARTS.items() if part.learned} | {"blocks"}
    assert found["remembered"] == {name for name, part in PARTS.items() if part.remembers} | {"decay"}  # it drips
    style = {theme: colors(theme) for theme in (LIGHT, DARK)}
    assert all((style[t]["learned"], style[t]["remembered"]) == t.hues[:2] for t in style)
    for name, inputs in (("decay", ["decay"]), ("gain", ["gain"]), ("attention.memory", ["decay", "gain"])):
        texts = {
            text.text for part, element in drawn(anatomy(CONFIG)) if part == name for text in element.iter(f"{SVG}text")
        }
        assert {*inputs} <= texts


def test_every_part_is_of_an_existing_chapter_and_leads_there():
    toc = yaml.safe_load((BOOK.parent / "_toc.yml").read_text(encoding="utf-8"))
    chapters = {entry["file"] for part in toc["parts"] for entry in part["chapters"]}
    assert {part.chapter for part in PARTS.values()} <= {name for name in chapters if (BOOK / f"{name}.ipynb").exists()}
    titles = {name: f"<{name}> & more" for name in chapters}
    html = anatomy(CONFIG, "memory").html
    linked = link_chapters(html, {name: f"{name}.html" for name in chapters}, titles)
    figure = ElementTree.fromstring(linked.removeprefix(STYLE))
    for element in figure.iter(f"{SVG}a"):
        chapter = PARTS[element.get("data-part")].chapter
        assert element.get("href") == f"{chapter}.html" and element.get("aria-label").endswith(titles[chapter])
        assert element.get("role") is None and element.get("tabindex") is None
    assert len([*figure.iter(f"{SVG}a")]) == len([*figure.iter("a")]) == len(PARTS)
    assert link_chapters(html, {}, {}) == html and not [*parsed(anatomy(CONFIG)).iter("a")]


def test_the_words_name_every_part_in_the_order_of_the_drawing():
    drawing = anatomy(CONFIG)
    items = ["".join(item.itertext()) for item in parsed(drawing).iter("li")]
    listed = [part for _, parts in PANELS.values() for part in parts.values()]
    assert len(items) == len(listed)
    for item, part in zip(items, listed):
        title, said = part.title.format(n_layer="7"), item.partition(". ")[2]
        assert item.startswith(f"{title}. ") and f"  {title}: {said}" in drawing.text.splitlines()
        assert not part.learned or "Learned: " in item
        assert not part.remembers or "Remembers: " in item
    for svg in parsed(drawing).iter(f"{SVG}svg"):
        assert svg.get("role") == "group" and svg.get("aria-label") and svg.find(f"{SVG}desc").text


def test_sizes_are_the_models(random_model):
    html = anatomy(CONFIG).html
    model = random_model(7, 48, 5003, 211, dtype=torch.float32)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    model(0)
    different = {tuple(buffer.tolist()) for buffer in model.state_buffers().values()}  # mixers may remember the same
    state = sum(map(len, different))
    for words in (
        f"7 layers × 48 channels, {parameters:,} learned numbers",
        f"keep {state:,} different numbers",
        f">{state:,} numbers kept",
    ):
        assert words in html, words
    texts = {text.text for _, element in drawn(anatomy(CONFIG)) for text in element.iter(f"{SVG}text")}
    assert {"7 layers", "48 channels", "a row of 5,003 × 48", "48 → 5,003", "48 × 48", "48 → 211", "211 → 48"} <= texts
    assert "one of the 7 blocks<" in html and "one of 48 channels<" in html
    assert not re.search(r"[{}]", html.removeprefix(STYLE))


@pytest.mark.parametrize(("layers", "rows"), [(0, []), (1, [1]), (10, [*range(1, 11)]), (40, [*range(1, 8), 39, 40])])
def test_blocks_are_drawn_one_by_one_where_there_is_room(layers, rows):
    drawing = anatomy(RWKVConfig(vocab_size=11, channels=8, n_layer=layers, intermediate_size=32))
    blocks = next(element for name, element in drawn(drawing) if name == "blocks")
    assert [int(text.text) for text in blocks.iter(f"{SVG}text")] == rows


def test_a_model_reads_the_text_and_goes_on_with_its_own(model):
    before = model.snapshot()
    drawing = anatomy(model, text="b c d")
    assert all(torch.equal(before[name], buffer) for name, buffer in model.state_buffers().items())
    model.clear_buffers()
    for token_id in (1, 2, 3):
        probabilities = model(token_id)
    top = probabilities.topk(4)
    texts = {text.text for _, element in drawn(drawing) for text in element.iter(f"{SVG}text")}
    assert {"b c d", "1", "2", "3", "b", "c", "d"} <= texts
    assert {f"{float(p):.3f}" for p in top.values} <= texts
    assert {model.tokenizer.id_to_token(n)[:10] for n in top.indices.tolist()} <= texts


def test_an_empty_text_or_an_unknown_part_is_refused_in_words(model):
    with pytest.raises(ValueError, match="at least one token"):
        anatomy(model, text="")
    with pytest.raises(ValueError, match="'memry'") as error:
        anatomy(CONFIG, "memry")
    assert "memory" in str(error.value) and "loop" in str(error.value)


def test_the_same_sizes_give_the_same_bytes():
    assert anatomy(CONFIG, "memory").html == anatomy(RWKVConfig(5003, 48, 7, 211), "memory").html


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_words_and_outlines_stand_out(theme):
    style = colors(theme)
    grounds = [style[name] for name in ("ground", "panel", "learned-wash", "remembered-wash", "remembered-fill")]
    assert min(contrast(style["ink"], ground) for ground in grounds) > 7
    assert min(contrast(style["quiet"], ground) for ground in grounds) > 4.5
    for name in ("learned", "remembered", "line"):
        assert min(contrast(style[name], style[ground]) for ground in ("ground", "panel")) >= 3, name


def test_colors_come_from_the_palette_alone():
    body = anatomy(CONFIG).html.removeprefix(STYLE)
    assert not re.search(r"#[0-9a-f]{3,6}|fill=|stroke=", body)
    allowed = {color for theme in (LIGHT, DARK) for color in colors(theme).values()}
    assert {*re.findall(r"#[0-9a-f]{6}", STYLE)} == allowed


@pytest.mark.parametrize(
    "config", [CONFIG, RWKVConfig(vocab_size=50277, channels=5120, n_layer=40, intermediate_size=20480)]
)
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_it_fits_and_can_be_read(browser, tmp_path, config, width, scheme):
    page_file = tmp_path / "page.html"
    page_file.write_text(
        f'<!doctype html><html data-theme="{scheme}"><body style="margin: 16px">'
        '<main style="max-width: 46rem; margin: auto">'
        f"{anatomy(config, 'memory').html}</main></body></html>",
        encoding="utf-8",
    )
    with visit(browser, page_file.as_uri(), width=width) as page:
        measured = page.evaluate(
            """() => [...document.querySelectorAll("svg")].map(svg => {
                const frame = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
                const scale = frame.width / svg.viewBox.baseVal.width;
                return {
                    smallest: Math.min(...texts.map(t => parseFloat(getComputedStyle(t).fontSize) * scale)),
                    outside: texts.filter(t => {
                        const r = t.getBoundingClientRect();
                        return r.left < frame.left - 1 || r.right > frame.right + 1;
                    }).map(t => t.textContent),
                    left: frame.left, top: frame.top, right: frame.right,
                };
            })"""
        )
        assert all(panel["smallest"] > 9 and panel["outside"] == [] for panel in measured), measured
        assert all(panel["right"] <= width for panel in measured)
        lefts = {round(panel["left"]) for panel in measured}
        assert len(lefts) == (1 if width == 360 else 2)  # below each other, or side by side
        color = "getComputedStyle(document.querySelector('.rwkv-anatomy')).color"
        on_screen = page.evaluate(color)
        page.emulate_media(media="print")
        printed = page.evaluate(color)
        assert printed == f"rgb({', '.join(str(int(LIGHT.ink[n : n + 2], 16)) for n in (1, 3, 5))})"
        assert (on_screen == printed) == (scheme == "light")


def test_a_page_shows_it_with_links_to_the_chapters(tmp_path):
    """The directive, and a drawing that a cell made; titles are those that the pages have."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    from rwkv_explainer import load_pretrained

    made = anatomy(CONFIG, "memory").html
    (tmp_path / "index.md").write_text(
        f"# Home\n\n```{{anatomy}} gated_mlp, mixer\n```\n\n```{{raw}} html\n{made}\n```\n\n"
        "```{toctree}\nthe-gated-mlp\n```\n",
        encoding="utf-8",
    )
    (tmp_path / "the-gated-mlp.md").write_text("# The title & more\n", encoding="utf-8")
    with docutils_namespace():
        app = Sphinx(
            tmp_path,
            None,
            tmp_path / "out",
            tmp_path / "doctrees",
            "html",
            confoverrides={"extensions": ["myst_parser", "anatomy"], "html_theme": "basic"},
            status=None,
            warningiserror=True,
        )
        app.build()
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    links = re.findall(
        r'<a class="(lit|dim)" data-part="([\w.]+)" href="the-gated-mlp.html" aria-label="([^"]*)"', page
    )
    parts = [name for name, part in PARTS.items() if part.chapter == "the-gated-mlp"]
    assert sorted(name for _, name, _ in links) == sorted(2 * parts)
    assert all(spoken.endswith("Chapter: The title &amp; more") for _, _, spoken in links)
    assert [state for state, _, _ in links] == len(parts) * ["lit"] + len(parts) * ["dim"]
    config = load_pretrained()[0].config
    assert f"a row of {config.vocab_size:,} × {config.channels:,}" in page  # the book's model, for the directive
