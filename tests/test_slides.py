"""Slides: what of a page stands on which, and what they do in Chromium, opened from the disk."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

import slides
from browser import visit
from trees import tree_of

PAGE = """<article class="bd-article"><section id="a-chapter">
<h1><span class="section-number">6. </span>A chapter<a class="headerlink" href="#a-chapter">#</a></h1>
<p>It opens with words.</p>
<div class="cell tag_set-up"><details class="above-input"><div class="cell_input">import torch</div></details></div>
<p>They go on, and refer to <a href="glossary.html#key">keys</a> and to <a href="time-decay.html#half">decays</a>.</p>
<section id="one"><h2><span class="section-number">6.1. </span>One</h2>
<p>What to look for.</p>
<div class="cell tag_figure-code">
 <details class="hide above-input"><div class="cell_input">draw()</div></details>
 <div class="cell_output"><div class="output text_html">
 <figure class="rwkv-live"><figcaption>It falls.</figcaption></figure></div>
 <div class="output text_markdown"><p>A computed sentence.</p></div></div></div>
<p>What it means.</p>
<div class="cell tag_proof"><div class="cell_input">assert it</div></div>
<div class="cell"><div class="cell_input">the_idea()</div>
 <div class="cell_output"><div class="output stream">42</div></div></div>
</section>
<section id="takeaways"><h2>Takeaways</h2><ul><li>It falls.</li></ul></section>
<section id="two"><h2>Two</h2>
<blockquote class="predict-question"><p><strong>Predict.</strong> How far?</p></blockquote>
<div class="predict-answer" id="answer-1"><div class="cell tag_table-code"><div class="cell_output">
 <div class="output text_markdown"><table><tr><td>7</td></tr></table></div></div></div>
 <p>Because it must.</p>
 <div class="rwkv-playground" data-folder="playground/">press</div><script>start()</script></div>
<section id="words"><h3>Only words</h3><p>First.</p><p>Second.</p></section>
</section>
<section id="exercises"><h2>Exercises</h2>
<div class="cell"><div class="cell_output"><div class="output"><img src="x"></div></div></div>
</section></section></article>"""


@pytest.fixture
def small() -> list[slides.Slide]:
    return slides.slides_of(BeautifulSoup(PAGE, "html.parser"), "What falls?")


def words(tags: list) -> str:
    return " ".join(" ".join(tag.get_text() for tag in tags).split())


def test_a_page_becomes_slides(small):
    found = [(slide.heading, words(slide.shown), slide.kind) for slide in small]
    assert found == [
        ("A chapter", "What falls?", "title"),
        ("One", "It falls.", ""),
        ("One", "the_idea() 42", ""),
        ("Two", "Predict. How far? 7", "predict"),
        ("Two", "press start()", ""),
        ("Only words", "First.", "words"),
        ("Takeaways", "It falls.", "takeaways"),
    ]


def test_the_text_is_in_the_notes(small):
    assert [words(slide.notes) for slide in small] == [
        "It opens with words. They go on, and refer to keys and to decays.",
        "What to look for. A computed sentence. What it means.",
        "",
        "Because it must.",
        "",
        "Second.",
        "",
    ]


def test_links_lead_to_slides_or_nowhere(small):
    assert [link["href"] for tag in small[0].notes for link in tag.find_all("a")] == ["time-decay.html"]


def test_an_answer_waits_in_its_box(small):
    question, box = small[3].shown
    assert box["id"] == "answer-1" and box["class"] == ["predict-answer"] and not box.find("p")


def test_slides_need_a_built_book(tmp_path):
    with pytest.raises(FileNotFoundError, match="make book"):
        slides.write(tmp_path, tmp_path / "slides", [])


def test_slides_replace_nothing_but_slides(tmp_path):
    for name in ("site/index.html", "thesis/chapter.tex"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    with pytest.raises(SystemExit, match="something else than slides"):
        slides.write(tmp_path / "site", tmp_path / "thesis", [])
    assert (tmp_path / "thesis/chapter.tex").exists()


# ---------------------------------------------------------------------------------------------------------------------
# of the built book


@pytest.fixture(scope="module")
def folder_of_slides(built_book, tmp_path_factory) -> Path:
    """The slides of all chapters, in a folder of their own."""
    folder = tmp_path_factory.mktemp("away") / "my slides"
    slides.write(built_book, folder, [])
    return folder


def figures(page: BeautifulSoup, within: str, without: str = "") -> list[str]:
    """The captions of all figures in a part of a page, or their class where one has none."""
    found = page.select(f"{within} :is(figure, .rwkv-tokens, .rwkv-playground)")
    found = [one for one in found if not (without and one.css.closest(without))]
    return sorted(caption.get_text() if (caption := one.find("figcaption")) else str(one["class"]) for one in found)


def test_every_chapter_has_slides_with_all_its_figures(built_book, folder_of_slides):
    names = slides.chapters()
    assert {path.stem for path in folder_of_slides.glob("*.html")} == {*names, "index"}
    without = ["#exercises", *(f".cell.tag_{tag}" for tag in slides.LEFT_OUT)]
    for name in names:
        deck = tree_of(folder_of_slides / f"{name}.html")
        shown = figures(deck, ".slide .content")
        assert shown == figures(tree_of(built_book / f"{name}.html"), "article", ", ".join(without)), name
        assert len(deck.select(".slide")) > max(3, len(deck.select(".predict-question"))), name
        last = deck.select(".slide")[-1]
        assert "takeaways" in last["class"] and last.find("li") and not deck.select("#exercises"), name


def test_the_first_slide_asks_the_chapters_question(built_book, folder_of_slides):
    asked = slides.questions(built_book)
    for name in slides.chapters():
        deck = tree_of(folder_of_slides / f"{name}.html")
        first = deck.select_one(".slide")
        assert first.select_one(".content").get_text().strip() == asked[name] and asked[name].endswith("?")
        assert len(first.select_one(".notes").get_text().split()) > 30, name


def test_no_words_of_a_chapter_are_lost(built_book, folder_of_slides):
    """What is on no slide is in the notes for the speaker."""
    for name in slides.chapters():
        page = tree_of(built_book / f"{name}.html")
        deck = tree_of(folder_of_slides / f"{name}.html")
        told = {words([part]) for part in deck.select("p, blockquote")}
        asked = page.select("article :is(section > p, .predict-answer > p)")
        asked = [words([part]) for part in asked if not part.css.closest("#exercises")]
        assert [text[:60] for text in asked if text not in told] == [], name
        assert len(words(deck.select(".notes")).split()) > 300, name


ON = ".slide:not([hidden])"  # the slide that is to be seen
# Goes through all slides and answers, from the page itself, and gives those with a fault, and the last one's address.
FAULTS = """async () => {
    const cut = slide => {
        const [stage, sized] = [slide.querySelector(".stage"), slide.querySelector(".sized")];
        const [room, box] = [stage.getBoundingClientRect(), sized.getBoundingClientRect()];
        const scrolls = stage.scrollHeight > stage.clientHeight + 1;
        if (box.width < 100 || box.height < 20) return "empty";
        if (box.right > room.right + 1 || box.left < room.left - 1) return "too wide";
        if (!scrolls && (box.bottom > room.bottom + 1 || box.top < room.top - 1)) return "too high";
        return slide.querySelector("merror, mjx-merror") ? "a formula is wrong" : "";
    };
    const drawn = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const all = document.querySelectorAll(".slide").length, wrong = [];
    for (let turn = 0; turn < 3 * all; turn++) {
        const slide = document.querySelector(".slide:not([hidden])");
        let found = "";
        for (let patience = 50; patience; patience--) {  // a playground or a font may be loaded now
            await drawn();
            if (!(found = cut(slide))) break;
            await new Promise(done => setTimeout(done, 100));
        }
        if (found) wrong.push([slide.ariaLabel, found]);
        if (location.hash === `#${all}` && !slide.querySelector('.predict-open[aria-expanded="false"]')) break;
        slide.dispatchEvent(new KeyboardEvent("keydown", { key: "PageDown", bubbles: true }));
    }
    return [location.hash === `#${all}`, wrong];
}"""


@pytest.mark.parametrize("name", slides.chapters())
def test_every_slide_fits(browser, folder_of_slides, name):
    with visit(browser, (folder_of_slides / f"{name}.html").as_uri(), height=720) as page:
        assert page.evaluate(FAULTS) == [True, []]


@pytest.fixture
def deck(folder_of_slides) -> str:
    return (folder_of_slides / "attention-and-memory.html").as_uri()


def go_to(page, selector: str) -> None:
    """Turn to the first slide that has this on it."""
    page.evaluate("place => (location.hash = document.querySelector(place).closest('.slide').id)", selector)
    page.wait_for_function("place => document.querySelector(place).closest('.slide:not([hidden])')", arg=selector)


def test_a_slider_moves_on_a_slide(browser, deck):
    with visit(browser, deck, height=720) as page:
        go_to(page, ".predict-answer .rwkv-live input[type=range]")
        before = page.url
        page.keyboard.press(" ")
        figure = page.locator(f"{ON} .predict-answer .rwkv-live").first
        slider, caption = figure.get_by_role("slider").first, figure.locator("figcaption")
        said, drawn = caption.inner_text(), figure.locator(".lv-picture").inner_html()
        slider.press("ArrowRight")
        assert caption.inner_text() != said and figure.locator(".lv-picture").inner_html() != drawn
        assert page.url == before, "a slider's key is not a slide's"
        assert caption.bounding_box()["y"] < figure.locator(".lv-picture").bounding_box()["y"], "it is the headline"
        page.keyboard.press("PageDown")
        assert page.url != before, "a pointing device goes on from everywhere"


def test_an_answer_waits_on_its_slide(browser, deck):
    with visit(browser, deck, height=720) as page:
        go_to(page, ".predict-question")
        number = page.url
        answer = page.locator(f"{ON} .predict-answer")
        assert not answer.is_visible()
        page.keyboard.press("ArrowRight")
        assert answer.is_visible() and page.url == number
        page.keyboard.press("ArrowRight")
        assert page.url != number
        page.keyboard.press("ArrowLeft")
        assert page.url == number and answer.is_visible()


def test_notes_are_shown_below_and_in_a_window(browser, deck):
    with visit(browser, deck, height=720) as page:
        notes = page.locator(f"{ON} .notes")
        assert not notes.is_visible()
        page.keyboard.press("n")
        assert notes.is_visible() and "Ask a friend" in notes.inner_text()
        page.keyboard.press("n")
        assert not notes.is_visible()
        with page.expect_popup() as opened:
            page.keyboard.press("s")
        window = opened.value
        assert "Ask a friend" in window.locator(".notes").inner_text()
        window.keyboard.press("ArrowRight")
        assert page.url.endswith("#2") and "Ask a friend" not in window.locator("body").inner_text()
        window.close()


def test_paper_has_every_slide(browser, deck):
    with visit(browser, deck, height=720, scheme="dark") as page:
        page.emulate_media(media="print")
        page.wait_for_function("document.documentElement.classList.contains('printing')")
        assert all(slide.is_visible() for slide in page.locator(".slide").all())
        assert all(answer.is_visible() for answer in page.locator(".predict-answer").all())
        assert not page.locator(".slides-bar").is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.emulate_media(media="screen")
        page.wait_for_function("!document.documentElement.classList.contains('printing')")
        assert page.locator(".slide:visible").count() == 1
    with visit(browser, deck, height=720) as page:
        sheets = len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True)))
        assert sheets == page.locator(".slide").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_slides_are_accessible(browser, deck, scheme):
    with visit(browser, deck, height=720, scheme=scheme) as page:
        for place in (".slide", ".rwkv-live", ".predict-question", ".rwkv-anatomy"):
            go_to(page, place)
            page.keyboard.press("n")
            found = Axe().run(page, {"exclude": [["mjx-container"]]}, {"resultTypes": ["violations"], "preload": False})
            wrong = [(f["id"], node["html"][:160]) for f in found.response["violations"] for node in f["nodes"]]
            assert wrong == [], place


def test_without_a_script_all_is_there(browser, deck):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(deck)
    assert all(slide.is_visible() for slide in page.locator(".slide").all())
    assert page.locator(".notes").first.is_visible()
    context.close()
