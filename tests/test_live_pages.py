"""What moves on a page, in Chromium, on a book of one chapter that is built here and opened from the disk.

No weights are there: all that moves has its numbers in the page.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from tokenizers import Tokenizer

import playground
from browser import visit
from rwkv_explainer import tokens
from rwkv_explainer.drawing.palette import DARK, LIGHT
from trees import tree_of

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = ROOT / "rwkv_explainer/bundled/tokenizer.json"
MOVES = """
from rwkv_explainer.drawing.figure import draw
from rwkv_explainer.drawing.live import live_bars, live_heatmap, live_lines
from rwkv_explainer.drawing.sliders import slide


def halves(half_life: float = 2.0, key: int = 1):
    left = [key * 0.5 ** (age / half_life) for age in range(4)]
    return live_bars(left, ["The", " tower", "$$", "\\x07"], limits=(0, 3), digits=2, caption=f"{left[1]:.2f} of tower")


slide(halves, half_life=(0.5, 4.0, 0.5), key=(0, 3))
"""
PICTURES = """
def rises(to: int = 1):
    return draw(lambda figure, theme: figure.subplots().plot([0, to]), f"a line up to {to}", caption=f"up to {to}")


slide(rises, to=(1, 3))
"""
LINES = """
live_lines([0, 1, 2], {"loss": [3.0, 2.0, 1.5]}, xlabel="step", ylabel="loss", caption="It falls.")
"""
TOKENS = """
from tokenizers import Tokenizer

from rwkv_explainer.tokens import show_tokens

show_tokens("A text", Tokenizer.from_file(PATH))
"""
MAP = """
live_heatmap([[0.1, 0.9], [0.4, 0.5]], ["a", "b"], ["c", "d"], label="shares in percent")
"""
CELLS = [
    ("markdown", "# A chapter\n\nWords, and $x^2$."),
    ("code", MOVES),
    ("markdown", "## A section\n\n> **Predict.** What comes?\n\nFirst, a cell without an output."),
    ("code", "answer = 42"),
    ("code", "print('the answer', answer)"),
    ("markdown", "Because the answer is [known](#behind).\n\n(behind)=\nA place to link to."),
    ("code", "print('after the answer')"),
    ("markdown", "> **Predict.** And then?\n\nThis, at the end of the section.\n\n## Figures"),
    ("code", PICTURES),
    ("code", LINES),
    ("code", MAP),
    ("code", TOKENS.replace("PATH", repr(str(TOKENIZER)))),
    ("markdown", "<details><summary>A hint</summary>\n\nIt is folded.\n\n</details>"),
    ("code", "40 + 2", "set-up"),
    ("code", "assert answer == 42", "proof"),
    ("markdown", "|  | one | two |\n|---|---|---|\n| a | 1 | 2 |"),
]


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """The folder of the built pages."""
    root = tmp_path_factory.mktemp("small")
    for name in ("book/_ext", "book/_static"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "requirements.txt", root)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    del config["bibtex_bibfiles"]
    (root / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    chapters = {"root": "index", "parts": [{"caption": "Chapters", "chapters": [{"file": "chapter"}]}]}
    (root / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book"} | chapters), encoding="utf-8")
    (root / "book/index.md").write_text("# A book\n\nWithout a formula.\n", encoding="utf-8")
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](source.strip(), metadata={"tags": tags}) for kind, source, *tags in CELLS]
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": python}), root / "book/chapter.ipynb")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "--config", "_config.yml"]
    command += ["--toc", str(root / "_toc.yml"), "--path-output", "."]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return root / "_build/html"


@pytest.fixture
def chapter(book) -> str:
    return (book / "chapter.html").as_uri()


def text_of(page, selector: str) -> str:
    return page.locator(selector).first.inner_text()


# ---------------------------------------------------------------------------------------------------------------------
# sliders


def test_a_slider_moves_on_the_page(browser, chapter):
    with visit(browser, chapter) as page:
        figure = page.locator(".rwkv-live").first
        half_life = figure.get_by_label("half life")
        assert half_life.get_attribute("aria-valuetext") == "2" and text_of(figure, "figcaption") == "0.71 of tower"
        half_life.press("End")
        assert half_life.get_attribute("aria-valuetext") == "4" == text_of(figure, ".lv-value")
        assert text_of(figure, "figcaption") == f"{0.5**0.25:.2f} of tower"
        figure.get_by_label("key").fill("3")
        assert figure.locator(".lv-number").all_inner_texts() == [f"{3 * 0.5 ** (age / 4):.2f}" for age in range(4)]
        assert figure.locator(".lv-track i").first.evaluate("bar => bar.style.width") == "100%"
        assert (
            figure.locator(".lv-picture").get_attribute("aria-label").startswith("A bar for each of 4 names. The has")
        )


def test_a_slider_moves_pictures_too(browser, chapter):
    with visit(browser, chapter) as page:
        figure = page.locator(".rwkv-live").nth(1)
        before = figure.locator("svg").first.inner_html()
        figure.get_by_role("slider").press("ArrowRight")
        assert text_of(figure, "figcaption") == "up to 2" and figure.locator("svg").first.inner_html() != before
        figure.get_by_role("slider").press("Home")
        ids = re.compile(r'href="#[^"]*"|id="[^"]*"|url\([^)]*\)')
        assert ids.sub("", figure.locator("svg").first.inner_html()) == ids.sub("", before)


def test_values_are_read_by_keyboard_and_finger(browser, chapter):
    with visit(browser, chapter, has_touch=True) as page:
        lines, cells = page.locator(".rwkv-live").nth(2), page.locator(".rwkv-live").nth(3)
        lines.locator(".lv-picture").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert text_of(lines, ".lv-read") == "step: 2 → loss 1.50"
        assert lines.locator(".lv-mark").evaluate("mark => mark.style.left") == "100%"
        box = lines.locator(".lv-area").bounding_box()
        page.touchscreen.tap(box["x"] + 0.45 * box["width"], box["y"] + 5)
        assert text_of(lines, ".lv-read") == "step: 1 → loss 2.00"
        cells.locator("tbody td").nth(1).hover()
        assert text_of(cells, ".lv-read") == "a, d: 90%"
        cells.locator(".lv-picture").press("ArrowDown")
        assert text_of(cells, ".lv-read") == "b, d: 50%" and cells.locator(".lv-chosen").inner_text() == "50"


# ---------------------------------------------------------------------------------------------------------------------
# questions


def test_an_answer_waits_for_the_reader(browser, chapter):
    with visit(browser, chapter) as page:
        first, second = page.locator(".predict-answer").all()
        assert not first.is_visible() and not second.is_visible()
        assert page.get_by_text("after the answer", exact=True).is_visible()
        button = page.locator(".predict-open").first
        assert button.get_attribute("aria-expanded") == "false"
        button.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        said = first.inner_text()
        assert "the answer 42" in said and "Because the answer is" in said and "after the answer" not in said
        assert not second.is_visible()
        page.locator(".predict-all").click()
        assert second.is_visible() and not page.locator(".predict-all").is_visible()
        button.click()
        assert not first.is_visible()


def test_a_link_into_an_answer_opens_it(browser, chapter):
    with visit(browser, f"{chapter}#behind") as page:
        first, second = page.locator(".predict-answer").all()
        assert first.is_visible() and not second.is_visible()
        assert page.locator(".predict-open").first.get_attribute("aria-expanded") == "true"


# ---------------------------------------------------------------------------------------------------------------------
# without a script, on paper, on a phone


def test_without_a_script_all_is_there(browser, chapter):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(chapter)
    assert all(answer.is_visible() for answer in page.locator(".predict-answer").all())
    assert all(picture.is_visible() for picture in page.locator(".lv-picture").all())
    assert not any(controls.is_visible() for controls in page.locator(".lv-controls").all())
    assert page.locator(".predict-open").count() == 0
    context.close()


def test_paper_is_light_and_all_is_open(browser, chapter):
    with visit(browser, chapter, scheme="dark") as page:
        ink = "getComputedStyle(document.querySelector('.rwkv-live')).getPropertyValue('--rwkv-ink')"
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(ink), page.evaluate(ground)
        page.emulate_media(media="print")
        page.wait_for_function("document.documentElement.dataset.theme === 'light'")
        assert page.evaluate(ink) == LIGHT.ink and page.evaluate(ground) == "rgb(255, 255, 255)"
        assert all(answer.is_visible() for answer in page.locator(".predict-answer").all())
        assert page.get_by_text("It is folded.").is_visible()
        for screen in (".predict-open", ".lv-controls", ".lv-read"):
            assert not page.locator(screen).first.is_visible(), screen
        page.emulate_media(media="screen")
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        assert (page.evaluate(ink), page.evaluate(ground)) == dark and dark[0] == DARK.ink
        assert not page.locator(".predict-answer").first.is_visible()
        assert not page.get_by_text("It is folded.").is_visible()


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_scrolls_in_a_figure(browser, chapter, width):
    too_wide = """() => [...document.querySelectorAll(".rwkv-live, .rwkv-live *, .rwkv-figure, .text_html")]
        .filter(e => !e.closest("svg *") && e.getBoundingClientRect().right > innerWidth + 1 ||
            (["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1))
        .map(e => e.outerHTML.slice(0, 100))"""
    with visit(browser, chapter, width=width) as page:
        assert page.evaluate(too_wide) == []
        shown = page.locator(".rwkv-figure svg:visible")
        assert shown.count() == 1 and ("rwkv-narrow" in shown.get_attribute("class")) == (width == 360)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(browser, chapter, scheme):
    with visit(browser, chapter, scheme=scheme) as page:
        page.locator(".predict-all").click()
        found = (
            Axe()
            .run(page, {"exclude": [["mjx-container"]]}, {"resultTypes": ["violations"], "preload": False})
            .response["violations"]
        )
        wrong = [(f["id"], node["html"][:160]) for f in found for node in f["nodes"] if f["impact"] != "minor"]
        assert [(name, html) for name, html in wrong if "lv-" in html or "rwkv" in html or "predict" in html] == []


def test_a_folds_title_stays_where_it_is(browser, chapter):
    place = """fold => {
        const words = document.createRange();
        words.selectNodeContents(fold.querySelector("p") ?? fold);
        const { x, y } = words.getBoundingClientRect();
        return [x, y + scrollY];
    }"""
    with visit(browser, chapter) as page:
        folds = page.locator("article details > summary:visible").all()
        assert len(folds) >= 3
        for fold in folds:
            before = fold.evaluate(place)
            fold.click()
            assert fold.locator("xpath=..").get_attribute("open") is not None and fold.evaluate(place) == before
            fold.click()


def test_a_finger_leaves_no_tooltip_behind(browser, chapter):
    with visit(browser, chapter, width=390, has_touch=True, is_mobile=True) as page:
        button = page.locator(".theme-switch-button:visible").first
        button.tap()
        button.hover()  # what a tap says of a mouse, where a browser without a window has none of its own
        page.locator("body > .tooltip").first.wait_for(state="attached")  # where none comes any more, drop its rule
        assert not page.locator("body > .tooltip").first.is_visible()


def test_an_empty_corner_is_no_header(book):
    page = tree_of(book / "chapter.html")
    tables = [table for table in page.select("article table") if not table.find_parent(class_="rwkv-live")]
    assert tables and [cell for table in tables for cell in table.select("th") if not cell.get_text(strip=True)] == []
    assert tables[0].select_one("thead td") is not None


# ---------------------------------------------------------------------------------------------------------------------
# what a page weighs


def test_a_page_loads_what_it_uses(book):
    pages = {path.name: path.read_text("utf-8") for path in book.glob("*.html")}
    assert {name for name, html in pages.items() if "mathjax/tex" in html} == {"chapter.html"}
    assert [name for name, html in pages.items() if "fontawesome.js" in html] == []
    assert list(book.rglob("fontawesome.js*")) == []


def test_icons_come_from_the_font(browser, chapter):
    with visit(browser, chapter) as page:
        page.wait_for_function("document.fonts.check('900 16px \"Font Awesome 7 Free\"')")
        icons = page.locator("header i, .bd-header i, .theme-switch-button i, .theme-switch-button span").all()
        assert any(icon.is_visible() and icon.bounding_box()["width"] > 8 for icon in icons)
        sizes = page.evaluate(
            """() => [...document.querySelectorAll(".article-header-buttons button")]
                .map(button => button.getBoundingClientRect()).filter(box => box.width)
                .map(box => Math.round(box.height))"""
        )
        assert len(sizes) >= 2 and max(sizes) - min(sizes) <= 6


def test_moving_figures_are_small(book):
    page = tree_of(book / "chapter.html")
    weights = [len(gzip.compress(str(figure).encode())) for figure in page.select(".rwkv-live")]
    assert len(weights) == 4 and sum(weights) < 20_000


# ---------------------------------------------------------------------------------------------------------------------
# a text of the reader's own


@pytest.mark.skipif(not playground.PACKAGES.is_dir(), reason="needs the tokenizer from npm")
def test_a_text_is_cut_up_as_it_is_typed(browser, book, chapter):
    (book / "playground").mkdir(exist_ok=True)
    (book / "playground/tokenizer.js").write_text(playground.tokenizer_script(), encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    typed = "  Ünïcode 🦜, 語 and\ttabs"
    with visit(browser, chapter) as page:
        assert page.locator(".rwkv-tokens > span").count() == len(tokenizer.encode("A text").ids)
        page.get_by_label("Your own text").fill(typed)
        ids = tokenizer.encode(typed).ids
        page.wait_for_function(
            "count => document.querySelectorAll('.rwkv-tokens > span').length === count", arg=len(ids)
        )
        names = page.locator(".rwkv-tokens code").evaluate_all("codes => codes.map(code => code.textContent)")
        assert names == [tokens.token_name(token_id, tokenizer) for token_id in ids]
        assert f"{len(typed)} characters, {len(ids)} tokens" in text_of(page, ".rwkv-tokens-told")
