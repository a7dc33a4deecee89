"""The playground: the browser's model is PyTorch's, its tokenizer the book's, its page whole, alive and light."""

import base64
import json
import random
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import TimeoutError as PlaywrightTimeout

import playground
from browser import STILL, choose_theme, serve, visit, what_is_serious
from rwkv_explainer.checkpoints import load_pretrained
from rwkv_explainer.generation import adjust_probabilities
from rwkv_explainer.lab import tracing
from rwkv_explainer.lab.atlas import load_atlas, questions
from rwkv_explainer.lab.decay import half_lives

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not playground.PACKAGES.is_dir(), reason="needs what `make install` gets from npm, which it could not reach"
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The playground's files: the book's own where it is built, else made here."""
    kept = playground.ROOT / "_build" / ".playground" / playground.version()
    if not kept.exists():
        kept = tmp_path_factory.mktemp("playground") / "made"
        playground.make(kept)
    return kept


@pytest.fixture(scope="module")
def lonely(folder, tmp_path_factory) -> Path:
    """A page with the playground and nothing else, in a folder of its own."""
    root = tmp_path_factory.mktemp("a page")
    shutil.copytree(folder, root / "playground")
    head = '<!doctype html><html lang=en><meta charset=utf-8><link rel=icon href="data:,">'
    head += "<meta name=viewport content='width=device-width'>"
    (root / "page.html").write_text(head + playground.whole("playground/", folder), encoding="utf-8")
    return root / "page.html"


@pytest.fixture(scope="module")
def served(lonely) -> Iterator[str]:
    """Its address on a server, where a test can hold requests up."""
    with serve(lonely.parent) as address:
        yield f"{address}/{lonely.name}"


@pytest.fixture(scope="session")
def numbers():
    """The module that needs PyTorch, imported when the type checker is on."""
    import playground_numbers

    return playground_numbers


@pytest.fixture(scope="session")
def model(numbers):
    """PyTorch's model with the same int8 weights, in float64."""
    return numbers.quantized_model(numbers.bundled_weights())


@pytest.fixture(scope="session")
def tokenizer():
    return load_pretrained("textbook")[1]


@pytest.fixture(scope="session")
def ids(tokenizer) -> list[int]:
    """200 tokens of sentences from the atlas, of every relation in turn."""
    asked = zip(*(questions(relation.name, "forward", "seen")[:10] for relation in load_atlas()))
    says = [question.prompt + question.answer for row in asked for question in row]
    ids = tokenizer.encode(". ".join(says)).ids[:200]
    assert len(ids) == 200
    return ids


@pytest.fixture(scope="session")
def expected(model, ids) -> tuple[torch.Tensor, list[dict]]:
    """PyTorch's logits at each of these tokens, and what each block remembers in the end."""
    return read_all(model, ids)


@pytest.fixture(scope="session")
def node(folder):
    """A function that gives the playground's scripts something to do, without a page."""
    environment = playground.environment()

    def ask(how: str, **job) -> dict:
        command = ["node", str(HERE / "playground.cjs"), str(folder), how]
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


# ---------------------------------------------------------------------------------------------------------------------
# the numbers, without a page


def read_all(model, ids: list[int]) -> tuple[torch.Tensor, list[dict]]:
    """The logits after each token, and what each block remembers in the end."""
    model.clear_buffers()
    logits = torch.stack([model.logits(token) for token in ids])
    state = [
        {
            "attentionLastX": block.attention.key_mixer.last_x,
            "mlpLastX": block.gated_mlp.mlp_mixer.last_x,
            "average": block.attention.memory.average,
            "logNormalizer": block.attention.memory.log_normalizer,
        }
        for block in model.blocks
    ]
    return logits, state


def close(got, expected, atol: float) -> None:
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), expected.double(), rtol=0, atol=atol)


@pytest.mark.parametrize("how", ["plain", "kernel"])
def test_scripts_are_pytorch(node, ids, expected, how):
    """Logits at each of 200 tokens and the state after them."""
    told = node(how, runs=[ids])
    assert told["how"] == {"plain": "plain JavaScript", "kernel": "WebAssembly"}[how]
    assert told["bytes"][0] == told["bytes"][1]
    close(told["runs"][0]["logits"], expected[0], 1e-3)
    same_state(told["runs"][0]["state"], expected[1])


def same_state(got: list[dict], expected: list[dict]) -> None:
    for block, buffers in zip(got, expected, strict=True):
        for name, buffer in buffers.items():
            close(block[name], buffer, 1e-3)


def test_int8_keeps_the_answers(ids, expected):
    """The rounded model says what the whole one says, but for close calls."""
    whole, _ = read_all(load_pretrained("textbook")[0], ids[:80])
    rounded = expected[0][:80]
    assert (whole.argmax(dim=1) == rounded.argmax(dim=1)).float().mean() > 0.9
    divergence = (whole.softmax(1) * (whole.log_softmax(1) - rounded.log_softmax(1))).sum(dim=1).mean()
    assert divergence < 0.05


@pytest.mark.parametrize("restore", get_args(tracing.PatchKind))
def test_causal_trace_is_tracing_py(node, numbers, model, tokenizer, restore):
    """With the same noise, of which the page's generator makes the same in both languages."""
    ids, _, span = tracing.find_subject(tokenizer, "The Eiffel Tower is in", "Eiffel")
    answer = tracing.greedy_answer(model, tokenizer, ids, None)[0]
    shape = 2, len(span), model.config.channels
    drawn = torch.tensor(numbers.normals(7, 2 * len(span) * model.config.channels), dtype=torch.float64).view(shape)
    noise = 3 * tracing.embedding_std(model, tokenizer) * drawn
    asked = {"tokens": ids, "subject": [span.start, span.stop - 1], "answer": answer, "restore": restore}
    told = node("kernel", traces=[asked | {"noise": noise.tolist()}])["traces"][0]
    clean, corrupted, grid = numbers.trace_with(model, ids, span, answer, noise, restore)
    assert told["clean"] == pytest.approx(clean, abs=1e-3)
    close(told["corrupted"], corrupted, 2e-3)
    close(told["grid"], grid, 2e-3)


def test_chance_is_the_same_in_both_languages(node, numbers):
    told = node("plain", normals=[[1, 500], [12345, 50]])["normals"]
    close(told[0], torch.tensor(numbers.normals(1, 500), dtype=torch.float64), 1e-12)
    close(told[1], torch.tensor(numbers.normals(12345, 50), dtype=torch.float64), 1e-12)
    drawn = torch.tensor(numbers.normals(3, 20_000))
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.03


def test_temperature_and_top_p_are_generation_py(node):
    p = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = p / p.sum()
    settings = [(1.0, 1.0), (0.5, 0.9), (1.7, 0.3), (0.8, 0.01)]
    told = node("plain", reshaped=[[p.tolist(), *setting] for setting in settings])["reshaped"]
    for got, setting in zip(told, settings, strict=True):
        close(got, adjust_probabilities(p, *setting), 1e-9)


def test_characters_stay_whole(node, numbers, tokenizer):
    """Bytes token by token, as they come: whole characters are text, and the bytes of one that is not whole wait."""
    whole = "Jean-François, 漢字 and 🧠: naïve ".encode()
    pieces = [whole[:end] for end in range(len(whole))] + [b"\x80 \xff", b"a\xc3", b"\xe6\xbc", b"\xc3(", b""]
    told = node("plain", decoded=[list(piece) for piece in pieces])["decoded"]
    assert [(said["text"], bytes(said["waiting"]), said["name"]) for said in told] == [
        numbers.decode_bytes(piece) for piece in pieces
    ]
    assert numbers.decode_bytes("Franç".encode()[:-1]) == ("Fran", b"\xc3", "FranC3")
    ids = tokenizer.encode(whole.decode()).ids
    assert node("plain", pieces=[ids])["bytesOf"] == [list(whole)]


def strings() -> list[str]:
    """3,000 texts of every kind that a reader may paste."""
    chance = random.Random(0)
    kinds = [
        "abcdefghij ABC'",
        "0123456789,. -",
        "  \t\n\r\u00a0\u3000",
        "éèüñçßøåÀ",
        "αβγδεЖщъяאבגدעربي",
        "漢字仮名交じり文中文한국어",
        "😀👩‍👩‍👧‍👦🇫🇷👍🏽❤️🧠",
        "e\u0301a\u0308o\u0302\u0323\u200d\ufe0f\u0e33\u0e34",
        '!?"#$%&()*+-/:;<=>@[]^_`{|}~',
        "'s 't 're 've 'm 'll 'd 'S",
        "\u2028\ufeff\u200b𝔘𝔫𝔦\U0010ffff",
        "١٢٣४५६½²",
    ]
    words = [
        "<|endoftext|>",
        "The Eiffel Tower",
        " is",
        " located",
        "<|",
        "|>",
        "endoftext",
        "\n\n",
        "don't",
        "  ",
        "🧠",
    ]
    made = ["".join(chance.choices(kinds[i % len(kinds)], k=chance.randint(1, 30))) for i in range(1000)]
    made += ["".join(chance.choices("".join(kinds), k=chance.randint(1, 40))) for _ in range(800)]
    made += ["".join(chance.choices(words, k=chance.randint(1, 8))) for _ in range(400)]
    made += [unicodedata.normalize(chance.choice(["NFC", "NFD"]), text) for text in made[:400]]
    facts = [fact for relation in load_atlas() for fact in relation.facts]
    made += [f"{fact.subject} {fact.object}." for fact in facts]
    return ["", *made][:3000]


def test_tokenizer_is_the_books(node, tokenizer):
    texts = strings()
    assert len(texts) == 3000
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    told = node("plain", texts=texts, pieces=[ids for ids in expected if ids])
    assert [text for text, got, want in zip(texts, told["texts"], expected) if got != want] == []
    decoded = [tokenizer.decode(ids, skip_special_tokens=False) for ids in expected if ids]
    assert [(got, want) for got, want in zip(told["pieces"], decoded, strict=True) if got != want] == []


# ---------------------------------------------------------------------------------------------------------------------
# the page

PAGE = "playground.html"
PROMPT = "The Eiffel Tower is located in the city of"
SAYS = "(document.querySelector('.rwkv-playground .pg-status')?.textContent ?? '')"


def test_other_pages_gain_no_weight(built_book):
    pages = {path.name: path.read_text(encoding="utf-8") for path in built_book.glob("*.html")}
    assert {name for name, text in pages.items() if re.search(r"""(src|href)=["']playground/""", text)} == {PAGE}


def test_page_is_light_until_the_model_is_asked_for(built_book):
    """All that the page's own scripts, styles and first example weigh, in bytes."""
    page = (built_book / PAGE).read_text(encoding="utf-8")
    names = set(re.findall(r"""(?:src|href)=["']playground/([\w.-]+)""", page))
    assert names == {*playground.ALL_SCRIPTS, "playground.css"}
    weight = sum((built_book / "playground" / name).stat().st_size for name in {*names, "example-0.js"})
    assert weight + len(page.encode()) < 1_500_000


def test_page_without_scripts_has_the_examples(browser, built_book, numbers):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((built_book / PAGE).as_uri())
    told = page.locator(".rwkv-playground-words").inner_text()
    context.close()
    assert "this browser runs none" in told
    for text, *_ in numbers.EXAMPLES:
        assert text in told


def test_without_npm_the_examples_remain(browser, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(playground, "PACKAGES", tmp_path / "none")
    shutil.copy(next(folder.parent.glob("numbers-*.pickle")), tmp_path)
    playground.make(tmp_path / "playground")
    assert not list((tmp_path / "playground").glob("weights-*"))
    made = "playground/", tmp_path / "playground"
    panels = {
        "whole": playground.whole(*made),
        "figure": playground.figure(*made, f' data-panels="text tokens lens" data-texts="{PROMPT}"'),
    }
    for name, panel in panels.items():
        text = f"<!doctype html><html lang=en><meta charset=utf-8>{panel}"
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
        with visit(browser, (tmp_path / f"{name}.html").as_uri()) as page:
            if name == "figure":
                page.locator(".rwkv-playground").scroll_into_view_if_needed()
            page.locator(".pg-lens tbody tr").first.wait_for()
            assert "without a connection to npm" in page.evaluate(SAYS)
            assert page.locator(".pg-main").is_disabled()


@pytest.fixture(scope="module")
def loaded(browser, built_book):
    """The page from the disk, with the model loaded."""
    with visit(browser, (built_book / PAGE).as_uri(), permissions=["clipboard-read", "clipboard-write"]) as page:
        read(page, PROMPT)
        yield page


@pytest.fixture
def page(loaded):
    """The same, its controls as they were at first, and the first example read."""
    read(loaded, PROMPT)
    slider(loaded, "Temperature").fill("1")
    slider(loaded, "Top-p").fill("1")
    set_seed(loaded, 1)
    loaded.get_by_label("Put back").select_option("both")
    loaded.get_by_label("Draws of noise").select_option("3")
    return loaded


def read(page, text: str) -> None:
    """Type a text and have it read, by a model that is loaded if need be, however slow the machine is."""
    page.set_default_timeout(300_000)
    page.get_by_label("Text", exact=True).fill(text)
    page.evaluate("document.querySelector('.rwkv-playground .pg-status').textContent = ''")
    page.locator(".rwkv-playground .pg-main").click()
    has_read(page)


def has_read(page) -> None:
    page.wait_for_function(f"{SAYS}.includes('ms each')")


def idle(page) -> None:
    page.wait_for_function("document.querySelector('.rwkv-playground .pg-main').ariaDisabled === 'false'")


def tokens(page) -> list[str]:
    return page.locator(".rwkv-playground .pg-tokens .pg-chip").all_inner_texts()


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    idle(page)


def set_seed(page, seed: int) -> None:
    page.get_by_label("Seed").fill(str(seed))
    page.get_by_label("Seed").blur()


def slider(page, name: str):
    return page.get_by_role("slider", name=re.compile(f"^{name}"))


def rested(page) -> None:
    """Wait until all is drawn after a slider's step."""
    page.evaluate("new Promise(done => setTimeout(() => requestAnimationFrame(done), 250))")


def test_browser_is_pytorch(page, ids, expected):
    """The same numbers in a real browser: every logit of 200 tokens, and the state."""
    assert page.locator(".rwkv-playground").get_attribute("data-how") == "WebAssembly"
    told = page.evaluate(
        """ids => {
        const { model } = rwkvPlayground, state = model.emptyState();
        const bytes = new Uint8Array(new Float32Array(ids.flatMap(id => Array.from(model.step(id, state)))).buffer);
        let text = "";
        for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
        const names = ["attentionLastX", "mlpLastX", "average", "logNormalizer"];
        return [btoa(text), state.map(m => Object.fromEntries(names.map(name => [name, Array.from(m[name])])))];
    }""",
        ids,
    )
    logits = np.frombuffer(base64.b64decode(told[0]), dtype=np.float32).reshape(len(ids), -1)
    close(logits.astype(np.float64), expected[0], 1e-3)
    same_state(told[1], expected[1])


def test_browser_tokenizes_as_the_book(page, tokenizer):
    texts = strings()
    told = page.evaluate("texts => texts.map(text => rwkvPlayground.tokenizer.encode(text).ids)", texts)
    assert [text for text, got, want in zip(texts, told, tokenizer.encode_batch(texts)) if got != want.ids] == []


def test_reading_shows_what_the_model_says(page, model, tokenizer):
    """The first row of each table is PyTorch's first choice."""
    text = "The chemical symbol of gold is"
    read(page, text)
    ids = tokenizer.encode(text).ids
    assert len(tokens(page)) == len(ids)
    logits, _ = read_all(model, ids)
    best = tokenizer.decode([int(logits[-1].argmax())]).strip()
    assert page.locator(".pg-next tbody tr").first.inner_text().split()[0].strip("·") == best
    assert page.locator(".pg-lens tbody tr").count() == model.config.n_layer + 1
    assert page.locator(".pg-lens tbody tr").last.inner_text().split()[2].strip("·") == best


def test_every_control_does_something(page):
    """Each is pressed, and the page is another one afterwards; none is forgotten."""
    shown = """() => {
        const root = document.querySelector('.rwkv-playground'), canvas = root.querySelector('canvas');
        const controls = [...root.querySelectorAll('input, select')].map(c => c.type === 'radio' ? c.checked : c.value);
        return [root.innerText, controls.join(), canvas.toDataURL(), location.hash].join();
    }"""
    pressed = set()

    def change(name: str, act) -> None:
        before = page.evaluate(shown)
        act()
        idle(page)
        try:
            page.wait_for_function(f"before => ({shown})() !== before", arg=before, timeout=60_000)
        except PlaywrightTimeout:
            pytest.fail(f"{name} changes nothing")
        pressed.add(name)

    button = lambda name: page.get_by_role("button", name=name, exact=True)
    change("Write a token", lambda: button("Write a token").click())
    change("Take one back", lambda: button("Take one back").click())
    change("Temperature", lambda: slider(page, "Temperature").fill("1.5"))
    change("Top-p", lambda: slider(page, "Top-p").fill("0.5"))
    change("Seed", lambda: set_seed(page, 5))
    change("Roll another", lambda: button("⚄ Roll another").click())
    change("Write twenty", lambda: button("Write twenty").click())
    change("a token of the table", lambda: page.locator(".pg-next button").nth(1).click())
    change("Moment", lambda: page.locator(".pg-tokens input").nth(5).check(force=True))
    change("Layer", lambda: page.get_by_role("radio", name="2", exact=True).check(force=True))
    change("the map", lambda: page.locator(".pg-map").click(position={"x": 20, "y": 10}))
    change("Copy the link", lambda: button("Copy the link").click())
    change("Channel", lambda: slider(page, "Channel").fill("200"))
    change("Channel’s index", lambda: (page.get_by_label("Channel’s index").fill("7"), page.keyboard.press("Tab")))
    assert page.evaluate("document.querySelector('.pg-sliders input[type=number]').value") == "7"
    change("Hide from", lambda: page.get_by_label("Hide from").select_option("1"))
    change("to", lambda: page.get_by_label("Hide up to").select_option("3"))
    change("Put back", lambda: page.get_by_label("Put back").select_option("state"))
    change("Draws of noise", lambda: page.get_by_label("Draws of noise").select_option("1"))
    change("Trace", lambda: button("Trace").click())
    assert page.locator(".pg-heat-table tbody tr").count() == 6
    for i in range(page.locator("[data-example]").count()):
        change(f"example {i}", lambda: page.locator("[data-example]").nth((i + 1) % 6).click())
    for i in range(page.locator(".rwkv-playground summary").count()):
        change(f"table {i}", lambda: page.locator(".rwkv-playground summary").nth(i).click())
    change("Text and Read", lambda: read(page, "Supply"))
    change("Start over", lambda: button("Start over").click())
    kinds = "button, select, textarea, summary, input:not([type=radio])"
    controls = page.locator(".rwkv-playground").locator(kinds).count() - page.locator(".pg-own").locator(kinds).count()
    tokens_of_table = page.locator(".pg-next button").count()
    radio_groups, the_map, token_row = 2, 1, 1
    assert len(pressed) == controls - tokens_of_table - 1 + radio_groups + the_map + token_row  # Text with Read


def test_start_over_is_the_first_page(page):
    """The first example, read to its end, and every control as it was."""
    slider(page, "Temperature").fill("1.5")
    page.get_by_label("Put back").select_option("state")
    page.get_by_role("radio", name="2", exact=True).check(force=True)
    press(page, "Start over")
    has_read(page)
    assert page.get_by_label("Text", exact=True).input_value() == "The cell membrane"
    assert slider(page, "Temperature").input_value() == "1"
    assert page.get_by_label("Put back").input_value() == "both"
    assert page.get_by_role("radio", name="4", exact=True).is_checked()


def test_a_character_of_several_tokens_is_one_piece(page, tokenizer):
    """It has one chip, for the moment after its last token, and stands whole in what was written."""
    text = "The son of Jean-François said 漢字 and"
    read(page, text)
    pieces = [piece.replace("·", " ").replace("\u00a0", " ") for piece in tokens(page)]
    assert "".join(pieces) == text and "\ufffd" not in page.locator(".rwkv-playground").inner_text()
    ids = tokenizer.encode(text).ids
    assert len(pieces) < len(ids)
    assert page.locator(".pg-tokens input").last.get_attribute("value") == str(len(ids) - 1)
    written = tokenizer.encode("ç").ids
    assert len(written) > 1
    page.goto(page.url.partition("#")[0] + f"#text=Fran&wrote={'.'.join(map(str, written))}")
    has_read(page)
    assert tokens(page)[-1] == "ç"


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (1280, 600)])
def test_the_bar_stays_in_view(page, width, height):
    """With any panel in the window, tokens and what was written are in it too, whole; in a large one also the text."""
    press(page, "Write twenty")
    usual = page.viewport_size
    page.set_viewport_size({"width": width, "height": height})
    parts = ["button:has-text('Write twenty')", ".pg-tokens", ".pg-status"]
    if (width, height) == (1280, 900):
        parts.append("textarea")
    for panel in page.locator(".pg-board > .pg-panel").all():
        panel.evaluate("panel => panel.scrollIntoView({behavior: 'instant'})")
        for part in parts:
            place = page.locator(f".pg-bench {part}")
            box = place.bounding_box()
            assert 0 <= box["y"] and box["y"] + box["height"] < height, (part, box)
            assert place.evaluate("""place => {
                const {left, right, top, bottom} = place.getBoundingClientRect();
                const seen = y => place.contains(document.elementFromPoint((left + right) / 2, y));
                return seen(top + 3) && seen(bottom - 3);
            }"""), part
        assert page.locator(".pg-reading").bounding_box()["height"] < height / 3  # and leaves room for the panel
    assert "After the text" in page.locator(".pg-bench .pg-status").inner_text()
    page.set_viewport_size(usual)


def test_every_picture_has_a_table(page):
    pictures = page.locator(".rwkv-playground [role=img]")
    assert pictures.count() == 3
    for i in range(3):
        assert len(pictures.nth(i).get_attribute("aria-label")) > 40
    for folded in page.locator(".rwkv-playground details").all():
        folded.evaluate("folded => { folded.open = true; }")
        folded.locator("tbody tr").first.wait_for()
    assert page.locator(".rwkv-playground details").count() == pictures.count()


def test_writing_can_be_stopped(page):
    """It says what is going on and how far it is; what was written until then stays."""
    said, value, hidden = page.evaluate("""async () => {
        const button = [...document.querySelectorAll("button")].find(button => button.textContent === "Write twenty");
        const progress = document.querySelector("progress[aria-label=Progress]");
        button.click();
        while (!progress.value) await new Promise(done => setTimeout(done));
        const seen = [document.querySelector(".pg-status").textContent, progress.value, progress.hidden];
        button.click();  // it says "Stop" now
        return seen;
    }""")
    idle(page)
    assert said == "Writing 20 tokens…" and 0 < value < 1 and not hidden
    assert 9 < len(tokens(page)) < 29
    assert page.evaluate(SAYS).startswith("After the text: ")
    assert not page.locator("progress[aria-label=Progress]").is_visible()


def test_reading_can_be_stopped(page):
    """The button that began it ends it, and the page says so."""
    page.get_by_label("Text", exact=True).fill("word " * 390)
    page.get_by_label("Text", exact=True).press("Enter")
    page.wait_for_function(f"{SAYS}.includes('Reading')")
    assert page.locator("progress[aria-label=Progress]").is_visible()
    page.get_by_role("button", name="Stop").first.click()
    page.wait_for_function(f"{SAYS} === 'Stopped.'")
    assert page.locator(".rwkv-playground .pg-main").inner_text() == "Read" and len(tokens(page)) == 9


def test_loading_can_be_stopped_and_begun_again(browser, served):
    """At once, on a slow line, and what is on its way is not asked for twice."""
    with visit(browser, served) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        asked, held, slow = [], [], [True]
        page.on("request", lambda request: asked.append(request.url.rpartition("/")[2].partition("?")[0]))
        page.route("**/weights-*.js*", lambda route: held.append(route) if slow else route.continue_())
        main = page.locator(".rwkv-playground .pg-main")
        for _ in range(2):
            main.click()
            while len(held) < 6:
                page.wait_for_timeout(20)
            assert page.locator("progress[aria-label=Progress]").is_visible()
            main.click()
            page.wait_for_function(f"{SAYS} === 'Stopped.'", timeout=5_000)  # nothing has come yet
            assert "Load the model" in main.inner_text()
        main.click()
        slow.clear()
        for route in held:
            route.continue_()
        has_read(page)
        idle(page)
        weights = [name for name in asked if name.startswith("weights-")]
        assert len(weights) == len(set(weights)) > 6
        assert main.inner_text() == "Read"


def test_what_fails_to_load_is_asked_for_again(browser, served):
    context = browser.new_context()
    page = context.new_page()
    page.goto(served)
    page.locator(".pg-lens tbody tr").first.wait_for()
    page.route("**/weights-3.js*", lambda route: route.abort())
    page.locator(".rwkv-playground .pg-main").click()
    page.wait_for_function(f"{SAYS}.includes('weights-3.js could not be loaded')")
    page.unroute("**/weights-3.js*")
    page.locator(".rwkv-playground .pg-main").click()
    has_read(page)
    context.close()


def test_tracing_can_be_stopped(page):
    """And begun again; what was stopped leaves no picture."""
    page.get_by_label("Draws of noise").select_option("10")
    page.get_by_role("button", name="Trace", exact=True).click()
    progress = page.get_by_label("Progress of the trace")
    progress.wait_for()
    page.wait_for_function("progress => progress.value > 0", arg=progress.element_handle())
    page.locator(".pg-panel", has=progress).get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_function(f"{SAYS} === 'Stopped.'")
    idle(page)
    assert not progress.is_visible() and page.locator(".pg-heat-table").count() == 0
    page.get_by_label("Draws of noise").select_option("1")
    press(page, "Trace")
    assert page.locator(".pg-heat-table tbody tr").count() == 9


def test_only_what_is_in_view_is_drawn_while_the_model_writes(page):
    """A table far above the window changes once, when all is written."""
    page.evaluate("""() => {
        const watch = place => new MutationObserver(() => place.drawn = (place.drawn ?? 0) + 1)
            .observe(place, {childList: true});
        const above = document.querySelector(".pg-next").parentElement;
        const map = document.querySelector(".pg-memory ol");
        [above, map].forEach(watch);
        map.scrollIntoView();
        Object.assign(window, {above, map});
    }""")
    page.evaluate("[...document.querySelectorAll('button')].find(b => b.textContent === 'Write twenty').click()")
    page.wait_for_function(f"{SAYS}.includes('After the text')")
    idle(page)
    page.wait_for_function("above.drawn > 0")
    assert page.evaluate("above.drawn") == 1 < page.evaluate("map.drawn")


def test_only_what_is_in_view_follows_a_slider(page):
    """Once a frame; the rest is drawn once, when the slider rests."""
    drawn = page.evaluate("""async () => {
        const count = place => {
            const counted = {drawn: 0};
            new MutationObserver(() => counted.drawn++).observe(place, {childList: true});
            return counted;
        };
        const near = count(document.querySelector(".pg-next").parentElement);
        const far = count(document.querySelector(".pg-memory ol"));
        const temperature = document.querySelector(".pg-sliders input");
        temperature.scrollIntoView();
        const frame = () => new Promise(requestAnimationFrame);
        const step = value => {
            temperature.value = value;
            temperature.dispatchEvent(new Event("input", {bubbles: true}));
        };
        await frame();
        for (let i = 1; i <= 10; i++) {
            step(1 + i / 20);
            step(1 + i / 10);
            await frame();
        }
        await frame();
        const during = [near.drawn, far.drawn];
        await new Promise(done => setTimeout(done, 300));
        return [during, [near.drawn, far.drawn]];
    }""")
    (near, far), (_, after) = drawn
    assert 5 <= near <= 11 and far == 0 and after == 1
    assert page.locator(".pg-sliders").first.inner_text().startswith("Temperature: 2.0")


def test_greedy_writing_is_generate(page, model, tokenizer):
    read(page, "The cell membrane")
    slider(page, "Temperature").fill("0")
    press(page, "Write twenty")
    model.tokenizer = tokenizer
    whole = model.generate("The cell membrane", N=20, temperature=0.0)
    assert page.evaluate(SAYS) == f"After the text: {whole.removeprefix('The cell membrane')}"


def test_trace_on_the_page_is_tracing_py(page, numbers, model, tokenizer):
    traced_as_in_tracing_py(page, numbers, model, tokenizer, PROMPT, 1, 2)


def traced_as_in_tracing_py(page, numbers, model, tokenizer, text: str, first: int, last: int) -> None:
    """Hide these tokens of the text that the page has read; percentages in its table, with the page's own noise."""
    page.get_by_label("Hide from").select_option(str(first))
    page.get_by_label("Hide up to").select_option(str(last))
    page.get_by_label("Draws of noise").select_option("1")
    press(page, "Trace")
    rows = page.locator(".pg-heat-table tbody tr").all()
    cells = [[int(text) for text in row.locator("td").all_inner_texts()] for row in rows]
    ids, length, channels = tokenizer.encode(text).ids, last - first + 1, model.config.channels
    noise = torch.tensor(numbers.normals(1, length * channels), dtype=torch.float64).view(1, length, channels)
    noise = numbers.TRACE["noise"] * tracing.embedding_std(model, tokenizer) * noise
    answer = tracing.greedy_answer(model, tokenizer, ids, None)[0]
    grid = numbers.trace_with(model, ids, range(first, last + 1), answer, noise)[2]
    close(cells, 100 * grid[..., 0].exp(), 0.7)


def test_address_holds_what_is_chosen(page, browser, built_book):
    read(page, "Drosophila is a genus")
    page.get_by_role("radio", name="3", exact=True).check(force=True)
    slider(page, "Channel").fill("40")
    page.get_by_label("Draws of noise").select_option("10")
    press(page, "Write a token")
    page.locator(".pg-tokens input").nth(2).check(force=True)
    shown = tokens(page), page.locator(".pg-next").inner_text()
    with visit(browser, page.url) as other:
        has_read(other)  # without a press: the link asks for it
        idle(other)
        box = other.locator(".pg-bench").bounding_box()
        assert box["y"] + box["height"] < 900  # in the window
        assert (tokens(other), other.locator(".pg-next").inner_text()) == shown
        assert other.get_by_role("radio", name="3", exact=True).is_checked()
        assert slider(other, "Channel").input_value() == "40"
        assert other.get_by_label("Draws of noise").input_value() == "10"
        assert other.locator(".pg-tokens input").nth(2).is_checked()
        assert other.url == page.url


def test_address_of_what_goes_on_from_the_middle(page, browser):
    """Where one goes on from an earlier token, the rest of the text is no part of what was read, here or there."""
    read(page, "Drosophila is a genus of flies")
    page.locator(".pg-tokens input").nth(3).check(force=True)
    press(page, "Write a token")
    shown = tokens(page), page.locator(".pg-next").inner_text()
    assert page.evaluate(SAYS).startswith("After the text’s first 4 tokens: ")
    with visit(browser, page.url) as other:
        has_read(other)
        idle(other)
        assert (tokens(other), other.locator(".pg-next").inner_text()) == shown
        assert other.url == page.url
    press(page, "Take one back")
    assert tokens(page) == shown[0][:-1]


def test_the_link_is_copied(browser, served):
    """What is copied is the address with all that is chosen, also right after the page came."""
    with visit(browser, served, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        page.get_by_role("button", name="Copy the link").click()
        page.wait_for_function(f"{SAYS}.startsWith('The link is copied.')")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.url and "#text=The+cell+membrane&at=2" in copied
        assert page.locator(".pg-link").count() == 0


@pytest.mark.parametrize("clipboard", ["undefined", "{ writeText: async () => { throw new Error('no'); } }"])
def test_a_link_that_cannot_be_copied_stands_there(browser, served, clipboard):
    """Chosen, so that a key copies it; once."""
    with visit(browser, served) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        page.evaluate(f"Object.defineProperty(navigator, 'clipboard', {{ value: {clipboard} }})")
        for _ in range(2):
            page.get_by_role("button", name="Copy the link").click()
            page.wait_for_function(f"{SAYS}.includes('Here is the link')")
            assert page.get_by_label("The link").input_value() == page.url
            assert page.evaluate("getSelection().toString()") == page.url
            assert page.evaluate("document.activeElement.className") == "pg-link"


DEAD = ".rwkv-playground [aria-disabled=true]"
CHOSEN = """() => [...document.querySelectorAll(".rwkv-playground :is(input, select)")]
    .map(control => control.type === "radio" ? control.checked : control.value).join()"""


def test_controls_that_need_the_model_say_so_to_keys(browser, served):
    """Each can be reached, its description can be seen, and what is tried on it changes nothing and is answered."""
    with visit(browser, served) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        line = page.locator("#pg-needs")
        assert line.is_visible() and "need the model: it is loaded" in line.inner_text()
        assert page.locator(".rwkv-playground :disabled").count() == 0
        dead = page.locator(f"{DEAD}[aria-describedby=pg-needs]")
        assert dead.count() >= 19
        before = page.evaluate(CHOSEN), tokens(page), page.url
        for control in dead.all():
            page.evaluate("document.querySelector('.pg-status').textContent = ''")
            control.focus()
            assert control.evaluate("control => control === document.activeElement")
            for key in ("ArrowUp", "ArrowDown", "Enter", "1"):
                page.keyboard.press(key)
            assert page.evaluate(SAYS) == line.inner_text(), control.evaluate("control => control.outerHTML")
            assert (page.evaluate(CHOSEN), tokens(page), page.url) == before
        rested(page)
        assert (page.evaluate(CHOSEN), tokens(page), page.url) == before
        read(page, PROMPT)
        assert not line.is_visible() and page.locator("[aria-describedby=pg-needs]").count() == 0


def test_controls_that_need_the_model_say_so_to_a_finger(browser, served):
    with visit(browser, served, width=390, height=844, has_touch=True, is_mobile=True) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        before = page.evaluate(CHOSEN), tokens(page), page.url
        dead = page.locator(f"{DEAD}[aria-describedby=pg-needs]")
        assert dead.count() >= 19
        for control in dead.all():
            page.evaluate("document.querySelector('.pg-status').textContent = ''")
            control.evaluate("control => control.scrollIntoView({block: 'end', behavior: 'instant'})")
            control.tap(force=True)
            page.wait_for_function(f"{SAYS}.includes('need the model')")
            assert page.locator(".pg-status").bounding_box()["y"] < 844
            assert (page.evaluate(CHOSEN), tokens(page), page.url) == before
        rested(page)
        assert (page.evaluate(CHOSEN), tokens(page), page.url) == before


def test_address_on_a_line_that_is_paid_for_asks_first(browser, built_book):
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(navigator, 'connection', { value: { saveData: true } })")
    page = context.new_page()
    page.goto((built_book / PAGE).as_uri() + "#text=Hello+world")
    page.wait_for_function(f"{SAYS}.includes('address asks')")
    assert page.evaluate("performance.getEntriesByType('resource').every(e => !e.name.includes('weights-'))")
    context.close()


WHOLE_CHARACTERS = ("The painter of the Gleaners is", "日本", "Dvořák")


@pytest.mark.parametrize("text", WHOLE_CHARACTERS)
def test_what_is_written_has_whole_characters(page, model, tokenizer, text):
    """The status line is `generate`'s text."""
    read(page, text)
    slider(page, "Temperature").fill("0")
    press(page, "Write twenty")
    model.tokenizer = tokenizer
    whole = model.generate(text, N=20, temperature=0.0)
    assert page.evaluate(SAYS) == f"After the text: {whole.removeprefix(text)}"
    assert "\ufffd" not in page.locator(".rwkv-playground").inner_text()


@given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=10))  # a browser knows newer signs than Python
@settings(deadline=None, max_examples=50, derandomize=True)
def test_any_token_can_be_seen(loaded, text):
    shown = loaded.evaluate("text => rwkvPlayground.visible(text)", text).replace("\u00a0", " ")
    assert shown.isprintable() and "\n" not in shown
    if text.isprintable():
        assert shown == re.sub("^ | $", "·", text)


def test_address_of_a_heading_is_left_alone(browser, built_book):
    with visit(browser, (built_book / PAGE).as_uri() + "#takeaways") as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        assert page.url.endswith("#takeaways")


def test_keys_alone_suffice(page):
    """Arrows go through the tokens, Enter presses buttons, and the focus stays where it was."""
    page.locator(".pg-tokens input:checked").focus()
    at = "document.querySelector('.pg-tokens input:checked').value"
    before = int(page.evaluate(at))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert int(page.evaluate(at)) == before - 2
    assert page.evaluate("document.activeElement.closest('.pg-tokens') !== null")
    page.locator(".pg-next button").first.focus()
    page.keyboard.press("Enter")
    assert int(page.evaluate(at)) == before - 1
    assert page.evaluate("document.activeElement.closest('.pg-next') !== null")


def test_page_fits_a_phone_and_is_for_all(browser, site):
    """From a server under a sub-path, before and after loading; nothing is asked for before the click."""
    asked, icon = [], f"{site}/_static/favicon.svg"  # the page's own; browsers ask for it when they like
    with visit(browser, f"{site}/{PAGE}", width=360) as page:
        page.on("request", lambda request: request.url == icon or asked.append(request.url))
        assert page.locator(".pg-lens tbody tr").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert asked == []
        page.locator("[data-example]").nth(1).click()  # its trace was worked out beforehand
        page.locator(".pg-heat-table tbody tr").first.wait_for()
        assert not any("weights-" in url for url in asked)
        nothing_serious(page)
        read(page, PROMPT)
        assert sum("weights-" in url for url in asked) > 5
        press(page, "Trace")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        nothing_serious(page)


def nothing_serious(page) -> None:
    """For all readers, light and dark."""
    page.add_style_tag(content=STILL)
    for scheme in ("dark", "light"):
        choose_theme(page, scheme)
        assert what_is_serious(page, ".rwkv-playground") == [], scheme


def test_browser_without_webassembly_computes_the_same(browser, built_book, page):
    shown = page.locator(".pg-next").inner_text()
    context = browser.new_context()
    other = context.new_page()
    other.add_init_script("delete globalThis.WebAssembly")
    other.goto((built_book / PAGE).as_uri())
    read(other, PROMPT)
    assert other.locator(".rwkv-playground").get_attribute("data-how") == "plain JavaScript"
    assert other.locator(".pg-next").inner_text() == shown
    context.close()


def test_colors_are_the_books():
    """Those of the palette and of the theme, by name; black and white are ink on a cell of any color."""
    own = [
        color
        for path in playground.SOURCES.glob("*.[cj]s*")
        for color in re.findall(r"#[0-9a-f]{3,8}\b|rgba?\(\d|hsl", path.read_text(encoding="utf-8"))
    ]
    assert sorted(own) == ["#000000", "#ffffff"]


# ---------------------------------------------------------------------------------------------------------------------
# the figures in chapters

FIGURES = "the-zero-layer-model", "attention-and-memory", "time-decay", "causal-trace"
TEXT = "The novel Moby-Dick was written by the"


@contextmanager
def live(browser, address: str, **window):
    """A chapter's page, its figure made live."""
    with visit(browser, address, **window) as page:
        page.set_default_timeout(300_000)
        near(page)
        page.locator(".rwkv-playground .pg-main").press("Enter")
        has_read(page)
        yield page


def near(page) -> None:
    """Scroll to a chapter's figure, which may answer a question: it shows an example that was worked out beforehand."""
    if (show_all := page.locator(".predict-all")).is_visible():
        show_all.click()
    page.locator(".rwkv-playground").scroll_into_view_if_needed()
    page.wait_for_function(f"{SAYS}.includes('Worked out')")


def test_figures_are_where_they_belong(built_book):
    """In these chapters and no other, and each says what it loads, to a tenth of a megabyte."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in built_book.glob("*.html")}
    assert {name for name, text in pages.items() if 'class="rwkv-start"' in text} == set(FIGURES)
    loads = [
        path
        for path in (built_book / "playground").iterdir()
        if path.suffix in (".js", ".css")
        and not path.name.startswith("example")
        and path.name not in ("start.js", "checkpoint.js")
    ]
    said = f"loads {sum(path.stat().st_size for path in loads) / 1e6:.1f} MB"
    assert all(said in pages[name] for name in FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_waits_and_is_for_all(browser, site, name):
    """From a server under a sub-path, on a phone, by keyboard: nothing is asked for before the reader is near, and the
    model not before it is wanted."""
    asked = "performance.getEntriesByType('resource').map(e => e.name).filter(n => n.includes('/playground/'))"
    with visit(browser, f"{site}/{name}.html", width=360) as page:
        assert page.evaluate(asked) == []
        page.set_default_timeout(300_000)
        near(page)
        if name == "causal-trace":
            page.locator(".pg-heat-table tbody tr").first.wait_for()  # its stored trace, without a press
        assert not any("weights-" in url or "tokenizer" in url for url in page.evaluate(asked))
        page.locator(".rwkv-playground .pg-main").focus()
        page.keyboard.press("Enter")
        has_read(page)
        assert sum("weights-" in url for url in page.evaluate(asked)) > 5
        if name == "causal-trace":
            press(page, "Trace")
        for folded in page.locator(".rwkv-playground details").all():
            folded.evaluate("folded => { folded.open = true; }")
            folded.locator("tbody tr").first.wait_for()
        assert page.locator(".rwkv-playground details").count() == page.locator(".rwkv-playground [role=img]").count()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        nothing_serious(page)


def test_making_a_figure_live_can_be_stopped(browser, folder, tmp_path):
    """Where no text of it was worked out beforehand: from the press on it says how far it is, until it is live."""
    shutil.copytree(folder, tmp_path / "playground")
    body = playground.figure("playground/", folder, ' data-panels="text tokens ends" data-texts="Hello world"')
    head = '<!doctype html><html lang=en><meta charset=utf-8><link rel=icon href="data:,">'
    (tmp_path / "page.html").write_text(head + body, encoding="utf-8")
    held, slow = [], [True]
    with serve(tmp_path) as address, visit(browser, f"{address}/page.html") as page:
        for name in ("app", "weights-*"):
            page.route(f"**/{name}.js*", lambda route: held.append(route) if slow else route.continue_())
        page.locator(".rwkv-start").click()
        page.wait_for_function("document.querySelector('.rwkv-start').textContent === 'Loading…'")
        while not held:
            page.wait_for_timeout(20)
        held.pop().continue_()
        main = page.locator(".pg-main")
        main.wait_for()
        while len(held) < 6:
            page.wait_for_timeout(20)
        held.pop().continue_()
        page.wait_for_function("document.querySelector('progress').value > 0")
        assert page.evaluate(SAYS) == "Loading the model…" and page.locator("progress").first.is_visible()
        assert main.inner_text() == "Stop"
        main.click()
        page.wait_for_function(f"{SAYS} === 'Stopped.'")
        slow.clear()
        main.click()
        for route in held:
            route.continue_()
        has_read(page)
        assert page.locator(".pg-next").count() == 2


@pytest.mark.parametrize("name", FIGURES)
def test_figure_without_scripts_says_so(browser, built_book, name):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((built_book / f"{name}.html").as_uri())
    assert "this browser runs none" in page.locator(".rwkv-playground").inner_text()
    assert not page.locator(".rwkv-start").is_visible()
    context.close()


def share(said: str) -> float:
    """A percentage on the page, as a number between 0 and 1."""
    return 0.0 if said.startswith("<") else float(said.removesuffix("%")) / 100


def number(said: str) -> float:
    """A number on the page, whose minus is one."""
    return float(said.replace("−", "-"))


def cells(page, table: str) -> list[list[str]]:
    """What stands in a table's rows."""
    return [row.locator("th, td").all_inner_texts() for row in page.locator(f"{table} tbody tr").all()]


def writing(model, tokenizer, text: str, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a layer of PyTorch's model writes: keys, values (time, channels) and rates (channels,), quick ones first."""
    memory = model.blocks[layer - 1].attention.memory
    wrote = []
    watch = memory.register_forward_pre_hook(lambda _, given: wrote.append(torch.stack(given)))
    read_all(model, tokenizer.encode(text).ids)
    watch.remove()
    order = memory.log_decay.argsort(descending=True, stable=True)
    keys, values = torch.stack(wrote)[..., order].unbind(dim=1)  # (time, channels) each
    return keys, values, memory.log_decay[order].exp()


def weights_left(keys: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """The weight of each token at each moment: (moments, tokens, channels)."""
    age = (torch.arange(len(keys))[:, None] - torch.arange(len(keys)))[..., None]  # (moments, tokens, 1)
    return torch.where(age >= 0, (keys - age * rates).exp(), 0)


def test_two_ends_are_pytorchs(browser, built_book, model, tokenizer):
    """The list without blocks knows the last token alone, also after a step; the other one is the whole model's."""
    with live(browser, (built_book / "the-zero-layer-model.html").as_uri()) as page:
        read(page, TEXT)
        for _ in range(2):
            texts = [text.replace("·", " ").replace("\u00a0", " ") for text in tokens(page)]
            ids = tokenizer.encode("".join(texts)).ids
            assert [tokenizer.decode([i]) for i in ids] == texts
            alone = model.unembedding(model.embedding(ids[-1]))
            whole = read_all(model, ids)[0][-1].softmax(dim=-1)
            for place, expected in zip(page.locator(".pg-next").all(), (alone, whole), strict=True):
                *rows, others = [row.locator("th, td").all_inner_texts() for row in place.locator("tbody tr").all()]
                best = expected.topk(5)
                assert others[0] == "all others"
                close(share(others[-1]), 1 - best.values.sum(), 0.006)
                assert [row[0].strip("·") for row in rows] == [tokenizer.decode([i]).strip() for i in best.indices]
                close([share(row[-1]) for row in rows], best.values, 0.006)
            page.locator(".pg-next button").first.click()


def test_memory_is_pytorchs(browser, built_book, model, tokenizer):
    """The map's table after a token in the middle; the channel's table and the blocks drawn for it."""
    with live(browser, (built_book / "attention-and-memory.html").as_uri()) as page:
        read(page, TEXT)
        page.get_by_role("radio", name="2", exact=True).check(force=True)
        slider(page, "Channel").fill("199")
        for folded in page.locator(".rwkv-playground details").all():
            folded.evaluate("folded => { folded.open = true; }")
        page.locator(".pg-tokens input").nth(7).check(force=True)
        keys, values, rates = writing(model, tokenizer, TEXT, 2)
        weights = weights_left(keys, rates)  # (moments, tokens, channels)
        then = weights[7, :8]  # (tokens, channels)
        groups = (then / then.sum(dim=0)).unflatten(1, (8, -1)).mean(dim=2)  # (tokens, groups)
        shown = cells(page, "details:has-text('averaged') table")
        close([[share(cell) for cell in row[1:]] for row in shown], groups, 0.006)

        weights, values = weights[..., 199], values[:, 199]  # (moments, tokens), (time,)
        held = weights.sum(dim=1)  # (moments,)
        shown = cells(page, "details:has-text('value written') table")
        close([number(row[1]) for row in shown], values, 2e-3)
        close([number(row[2]) for row in shown], weights @ values / held, 2e-3)
        close([share(row[3]) for row in shown], held / held.max(), 0.006)
        same_blocks(page, weights)


def same_blocks(page, weights: torch.Tensor) -> None:
    """The blocks drawn for a channel are as high, in each column, as its weights are large: the largest is half."""
    drawn = page.evaluate("""() => {
        const columns = {};
        for (const block of document.querySelectorAll(".pg-weight")) {
            const x = block.getAttribute("x");
            columns[x] = (columns[x] ?? 0) + Number(block.getAttribute("height"));
        }
        return Object.entries(columns).sort((a, b) => a[0] - b[0]).map(([_, height]) => height);
    }""")
    sums = weights.sum(dim=1)
    assert len(drawn) == len(sums)
    close([height / max(drawn) for height in drawn], sums / sums.max(), 0.02)


def test_decays_are_pytorchs(browser, built_book, model, tokenizer):
    """Half-lives in the table and at the slider, the curve drawn, and how long what was written stays."""
    lives = half_lives(model).sort(dim=1).values  # (layers, channels)
    middle = lives.shape[1] // 2
    with live(browser, (built_book / "time-decay.html").as_uri()) as page:
        read(page, TEXT)
        page.locator(".rwkv-playground details").first.evaluate("folded => { folded.open = true; }")
        shown = cells(page, "details:has-text('half-life') table")
        for row, life in zip(shown, lives[:, middle].tolist(), strict=True):
            assert float(row[1]) == pytest.approx(life, abs=0.06 if life < 9.95 else 0.51)  # 9.9 tokens, 10 tokens
        close([share(row[-1]) for row in shown], (lives >= 100).double().mean(dim=1), 0.006)
        page.get_by_role("radio", name="6", exact=True).check(force=True)
        slider(page, "Channel").fill("120")
        rested(page)
        said = re.search(r"121 of \d+, half is gone after ([\d.]+) tokens", page.locator(".pg-sliders").inner_text())
        assert float(said[1]) == pytest.approx(lives[5, 120].item(), abs=0.06)
        line = page.locator(".rwkv-playground svg path:not(.pg-other)").first.get_attribute("d")
        heights = [float(point.split()[1]) for point in re.split("[ML]", line)[1:]]
        ups = lives[5].clamp(0.01, 1_000).log10()
        scale = (heights[-1] - heights[60]) / (ups[-1] - ups[60])  # pixels for a factor of ten
        close(heights, heights[60] + scale * (ups - ups[60]), 0.3)
        keys, _, rates = writing(model, tokenizer, TEXT, 6)
        same_blocks(page, weights_left(keys, rates)[..., 120])


def test_trace_in_a_figure_is_tracing_py(browser, built_book, numbers, model, tokenizer):
    with live(browser, (built_book / "causal-trace.html").as_uri()) as page:
        read(page, TEXT)
        traced_as_in_tracing_py(page, numbers, model, tokenizer, TEXT, 2, 4)
        assert page.url.endswith(".html")  # a chapter's address stays the chapter's
