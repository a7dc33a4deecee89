"""The front page: what its cover computes, its cards, and how it behaves in Chromium, on a book of empty chapters."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import card_pictures
import chapter_cards
import cover_picture
from browser import visit, what_is_serious
from rwkv_explainer import load_pretrained
from test_book import numbers, seems_measured
from trees import tree_of

ROOT = Path(__file__).resolve().parents[1]
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
NUMBERED = [chapter["file"] for part in PARTS if part.get("numbered") for chapter in part["chapters"]]
INDEX = (ROOT / "book/index.md").read_text(encoding="utf-8")
SENTENCES = re.search(r"```\{cover\}\n(.*?)\n```", INDEX, re.DOTALL)[1].splitlines()

# For each cell of the cover, how strong it is; column by column.
STRENGTHS = "cells => cells.map(cell => +cell.getAttribute('fill-opacity'))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The pages of a book with the real front page, and of each other page no more than its first lines."""
    root = tmp_path_factory.mktemp("front")
    for name in ("book/_ext", "book/_static"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("requirements.txt", "_toc.yml", "book/index.md", "book/references.bib"):
        shutil.copy(ROOT / name, root / name)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    (root / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for chapter in [chapter for part in PARTS for chapter in part["chapters"]]:
        shorten(next((ROOT / "book").glob(f"{chapter['file']}.*")), root / "book")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "--config", "_config.yml"]
    command += ["--toc", str(root / "_toc.yml"), "--path-output", ".", "-W", "-n", "--keep-going"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return root / "_build/html"


def shorten(source: Path, target: Path) -> None:
    """Of a chapter its first cell and how long it takes, without links or HTML; of any other page a title."""
    if source.suffix == ".md":
        (target / source.name).write_text(f"# {source.stem}\n", encoding="utf-8")
        return
    notebook = json.loads(source.read_text(encoding="utf-8"))
    first, *_ = notebook["cells"]
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    said = [cells[0], *(cell for cell in cells[1:] if "**It takes**" in cell)]
    said = [re.sub(r"<div.*?</div>", "", text, flags=re.DOTALL) for text in said]
    first["source"] = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", "\n\n".join(said))
    notebook["cells"] = [first]
    (target / source.name).write_text(json.dumps(notebook), encoding="utf-8")


@pytest.fixture
def front(folder) -> str:
    return (folder / "index.html").as_uri()


# ---------------------------------------------------------------------------------------------------------------------
# what the cover computes


@pytest.mark.parametrize(
    "pieces, words, ends",
    [
        (["The", " E", "iffel", " Tower"], ["The", "Eiffel", "Tower"], [0, 2, 3]),
        (["Mo", "by", "-", "Dick", ","], ["Moby-Dick,"], [4]),
        (["A", " ", "b"], ["A", "b"], [0, 2]),
    ],
)
def test_tokens_become_words(pieces, words, ends):
    assert cover_picture.words_of(pieces) == words and cover_picture.ends_of(pieces) == ends


@pytest.fixture(scope="module")
def model():
    with torch.no_grad():
        yield load_pretrained("textbook", dtype=torch.float32)


def test_a_next_word_is_whole_and_leaves_no_trace(model):
    """It is what the model would write, its probability is the product of its tokens', and the state is put back."""
    model, tokenizer = model
    model.clear_buffers()
    chances = model.read(tokenizer.encode("The novel Moby-Dick was written by").ids, last_only=True)
    before = model.snapshot()
    (word, p), *others = cover_picture.next_words(model, tokenizer, chances)
    assert all(torch.equal(part, before[name]) for name, part in model.state_buffers().items())
    tokens = tokenizer.encode(f" {word}").ids
    product = chances[tokens[0]]
    for last, token in zip(tokens, tokens[1:]):
        product = product * model(last)[token]
    assert p == pytest.approx(float(product)) and all(p >= other for _, other in others)


def test_shares_are_what_the_memory_holds(model):
    """The same as from the sums that the model keeps: exponentials of keys, each faded by its age."""
    model, tokenizer = model
    layer, channels, rates = cover_picture.choose_channels(model)
    assert (rates[:-1] >= rates[1:]).all()
    read = cover_picture.read_sentence(model, tokenizer, "The novel Moby-Dick was written by", layer, channels)
    shares = cover_picture.shares(read, rates)
    assert shares.shape == (len(channels), 6) == (cover_picture.CHANNELS, len(read["words"]))
    memory = model.blocks[layer].attention.memory
    total = memory.log_normalizer[channels]
    newest = torch.exp(torch.tensor(read["keys"][-1]) - total)  # (channels,), the last token's part of the sum
    assert torch.allclose(shares[:, -1], newest.float(), atol=0.02)
    assert torch.allclose(shares.sum(1), torch.ones(len(channels)))


# ---------------------------------------------------------------------------------------------------------------------
# cards


@pytest.mark.parametrize(
    "sentence, minutes",
    [
        ("about half an hour to read, and under a minute to run.", 30),
        ("about twenty minutes to read.", 20),
        ("about forty-five minutes to read. Its cells run in 2 minutes.", 45),
        ("35 minutes to read.", 35),
        ("as long as you like to play, and a quarter of an hour to read the rest.", 15),
        ("three quarters of an hour to read", 45),
        ("an hour to read", 60),
        ("a while to read. The cells need five minutes.", None),
    ],
)
def test_minutes_are_read_from_the_chapters_words(sentence, minutes):
    assert chapter_cards.minutes_in(sentence) == minutes


def test_a_chapter_without_minutes_is_named(tmp_path):
    (tmp_path / "new.ipynb").write_text(json.dumps({"cells": [{"source": ["**It takes** a while to read."]}]}))
    with pytest.raises(ValueError, match=r"new\.ipynb: expected .*half an hour.*got '\*\*It takes\*\* a while"):
        chapter_cards.minutes(tmp_path / "new.ipynb")


def test_every_chapter_has_a_card_a_picture_and_minutes():
    entries = re.search(r"```\{chapter-cards\}\n(.*?)```", INDEX, re.DOTALL)[1].strip().splitlines()
    asked = dict(line.split(" | ") for line in entries)
    assert list(asked) == NUMBERED == list(card_pictures.PICTURES) and len(NUMBERED) == 14
    assert all(question.endswith("?") for question in asked.values())
    assert all(5 <= chapter_cards.minutes(ROOT / f"book/{name}.ipynb") <= 90 for name in NUMBERED)
    pictures = [card_pictures.picture(name) for name in NUMBERED]
    assert len(set(pictures)) == 14 and max(map(len, pictures)) < 6000
    assert all("#" not in picture for picture in pictures), "colors are the palette's, by class"


def test_cards_lead_to_the_chapters(folder):
    page = tree_of(folder / "index.html")
    cards = page.select(".chapter-cards a")
    assert [card["href"] for card in cards] == [f"{name}.html" for name in NUMBERED]
    assert [card.select_one(".card-number").get_text() for card in cards] == [str(n) for n in range(1, 15)]
    titles = [re.search(r"# (.*)", (ROOT / f"book/{name}.ipynb").read_text("utf-8"))[1] for name in NUMBERED]
    shown = [card.strong.get_text() for card in cards]
    assert all(words.split(" ", 1)[1] in title for words, title in zip(shown, titles))
    buttons = [link["href"] for link in page.select(".front-buttons a")]
    assert buttons == [f"{NUMBERED[0]}.html", "playground.html"]


def test_the_page_says_what_it_is_where_it_is_linked(folder):
    page = tree_of(folder / "index.html")
    assert 80 < len(page.select_one("meta[name=description]")["content"]) < 300


# ---------------------------------------------------------------------------------------------------------------------
# in the browser


def cells(page) -> list[float]:
    return page.locator(".cover rect").evaluate_all(STRENGTHS)


def text_of(page, selector: str) -> str:
    return page.locator(selector).inner_text()


def test_without_a_script_it_stands_at_the_answer(browser, front):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(front)
    assert text_of(page, ".cover-text") == SENTENCES[0]
    assert page.locator(".cover-next li").first.inner_text().split()[0] == "Paris"
    assert len(cells(page)) == cover_picture.CHANNELS * len(SENTENCES[0].split())
    assert not page.locator(".cover-choice").is_visible() and not page.locator(".cover figcaption button").is_visible()
    assert page.locator(".chapter-cards a").count() == 14
    context.close()


def test_it_reads_once_and_ends_where_it_began(browser, front):
    """The script's shares are those that were computed when the page was made."""
    with visit(browser, front, reduced_motion="reduce") as page:
        before = cells(page)
        button = page.locator(".cover figcaption button")
        assert "Read again" in button.inner_text() and page.locator(".cover .new").count() == 0
        button.press("Enter")
        assert "Pause" in button.inner_text() and page.locator(".cover-text .new").inner_text() == "The"
        first = cover_picture.CHANNELS * [1]
        assert cells(page) == first + (len(before) - len(first)) * [0]  # all is the first word
        page.wait_for_function("document.querySelector('.cover figcaption button').textContent.includes('again')")
        assert cells(page) == pytest.approx(before, abs=0.011)


def test_pause_holds_it(browser, front):
    with visit(browser, front, reduced_motion="reduce") as page:
        button = page.locator(".cover figcaption button")
        button.press("Enter")
        page.locator(".cover-text span:nth-child(2).new").wait_for()
        button.press("Enter")
        held = cells(page)
        page.wait_for_timeout(1500)  # two steps of the picture
        assert "Go on" in button.inner_text() and cells(page) == held


def test_it_begins_by_itself_for_who_likes_motion(browser, front):
    with visit(browser, front, reduced_motion="no-preference") as page:
        page.locator(".cover-text span:nth-child(2).new").wait_for()


def test_a_sentence_is_chosen(browser, front):
    """Words, guesses and cells are the new sentence's."""
    with visit(browser, front, reduced_motion="reduce") as page:
        assert page.locator(".cover-choice label").count() == len(SENTENCES)
        for n in (1, len(SENTENCES) - 1):
            page.locator(".cover-choice input").nth(n).check(force=True)
            assert text_of(page, ".cover-text") == SENTENCES[n]
            assert page.locator(".cover-words span").all_inner_texts() == SENTENCES[n].split()
            assert len(cells(page)) == cover_picture.CHANNELS * len(SENTENCES[n].split())
            assert SENTENCES[n] in page.locator("#cover-alt").text_content()
            assert page.locator(".cover-next li").count() == cover_picture.GUESSES


def test_a_row_says_how_fast_it_forgets(browser, front):
    with visit(browser, front, reduced_motion="reduce", has_touch=True) as page:
        page.locator(".cover-picture").focus()
        page.keyboard.press("ArrowDown")
        fast = text_of(page, ".cover-read")
        assert re.match(r"Row 1: half of a word's weight is gone within one token. Its largest share is “of”", fast)
        box = page.locator(".cover svg").bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + box["height"] - 2)
        assert re.match(rf"Row {cover_picture.CHANNELS}: .* is gone after [\d,]+ tokens", text_of(page, ".cover-read"))


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 360)])
def test_words_can_be_read_and_nothing_is_cut_off(browser, front, scheme, width):
    """For every sentence: each word above its column, within the picture, none over another; axe finds nothing."""
    with visit(browser, front, width=width, scheme=scheme, reduced_motion="reduce") as page:
        for n in range(len(SENTENCES)):
            page.locator(".cover-choice input").nth(n).check(force=True)
            boxes = page.locator(".cover-words span").evaluate_all(
                "words => words.map(word => { const range = document.createRange(); range.selectNodeContents(word);"
                "const r = range.getBoundingClientRect(); return [r.left, r.right, r.top, r.bottom]; })"
            )
            picture = page.locator(".cover svg").bounding_box()
            assert all(right <= next_left + 0.5 for (_, right, *_), (next_left, *_) in zip(boxes, boxes[1:])), n
            end = picture["x"] + picture["width"]
            assert all(bottom <= picture["y"] + 1 and right <= end for _, right, _, bottom in boxes)
            top = page.locator(".cover-words").bounding_box()["y"]
            assert all(above >= top - 1 for _, _, above, _ in boxes), SENTENCES[n]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.wait_for_timeout(500)  # colors change gradually
        assert what_is_serious(page, {"exclude": [["article svg"]]}) == []


def test_paper_has_the_picture_and_no_buttons(browser, front):
    with visit(browser, front, scheme="dark", reduced_motion="reduce") as page:
        page.emulate_media(media="print")
        for gone in (".cover-choice", ".cover figcaption button", ".front-buttons", ".cover-read"):
            assert not page.locator(gone).is_visible(), gone
        fill = page.locator(".chapter-cards .one").first.evaluate("part => getComputedStyle(part).fill")
        assert fill == "rgb(0, 114, 178)", "light colors"


# ---------------------------------------------------------------------------------------------------------------------
# Why RWKV


def test_why_rwkv_types_no_measured_number_and_counts_its_claims():
    """What was measured is computed when the page is made; sizes of the model stand in its code."""
    source = (ROOT / "book/why-rwkv.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    cells = re.findall(r"```\{code-cell\} ipython3\n(?::tags: \[([\w-]+)\]\n)?(.*?)```", source, re.DOTALL)
    prose = re.sub(r"```.*?```|\$\$.*?\$\$", "", source, flags=re.DOTALL)
    typed = {number for number in numbers(prose) if seems_measured(number)}
    assert typed - numbers("".join(code for _, code in cells)) == set()
    claiming = [tag for tag, code in cells if re.search(r"^(claim|theorem)\(", code, re.MULTILINE)]
    assert len(claiming) >= 5 and set(claiming) == {"claim"}
    assert [tag for tag, code in cells if code.strip() == "tally()"] == ["remove-input"] == [cells[-1][0]]


def test_what_why_rwkv_cites_is_in_the_bibliography():
    cited = re.findall(r"\{cite:\w\}`(\w+)`", (ROOT / "book/why-rwkv.md").read_text(encoding="utf-8"))
    listed = re.findall(r"^@\w+\{(\w+),", (ROOT / "book/references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert "kaplan2020scaling" in cited and set(cited) <= set(listed) and len(set(listed)) == len(listed)
