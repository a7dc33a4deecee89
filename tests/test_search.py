"""The book's search in a real browser: it finds sections, chapters first, and marks the words where one lands."""

import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from playwright.sync_api import Browser, Page

from browser import visit
from trees import tree_of

ROOT = Path(__file__).resolve().parents[1]
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
CHAPTERS = [chapter["file"] for part in PARTS[:-1] for chapter in part["chapters"]]
BACK_MATTER = [page["file"] for page in PARTS[-1]["chapters"]]
LARGEST = 420_000  # bytes that the index may have

FIRST = {  # what one seeks: where it is, as the headings of the chapters have it
    "attention": "attention-and-memory.html#attention-and-memory",
    "memory": "attention-and-memory.html#attention-and-memory",
    "memories": "attention-and-memory.html#attention-and-memory",
    "wkv": "time-parallel-mode.html#the-gradient-of-wkv",
    "WKVMemory": "attention-and-memory.html#wkvmemory-written-by-you",
    "top-p": "strings-tokens-probabilities.html#from-probabilities-to-a-token",
    "temperature": "strings-tokens-probabilities.html#from-probabilities-to-a-token",
    "receptance": "attention-and-memory.html#the-attention-block",
    "layernorm": "embedding-and-unembedding.html#layernorm-on-four-numbers",
    "layer norm": "embedding-and-unembedding.html#layernorm-on-four-numbers",
    "softmax": "embedding-and-unembedding.html#logits-and-softmax",
    "online softmax": "numerical-stability.html#a-running-maximum-the-online-softmax",
    "time mixing": "attention-and-memory.html#the-attention-block",
    "channel mixing": "the-gated-mlp.html#channel-mixing-in-three-lines",
    "token shift": "the-gated-mlp.html#two-tokens-at-once-the-mixer",
    "half-life": "time-decay.html#time-decay",
    "half-lives": "time-decay.html#time-decay",
    "training": "training.html#training",
    "logit lens": "blocks-and-the-residual-stream.html#what-the-model-would-say-if-it-stopped-here",
    "causal trace": "causal-trace.html#causal-trace",
    "perplexity": "the-zero-layer-model.html#what-perplexity-does-not-say",
    "scan": "time-parallel-mode.html#a-scan",
    "delta rule": "where-rwkv-went-next.html#goose-a-memory-that-corrects-itself",
    "state tracking": "where-rwkv-went-next.html#what-tells-them-apart-learned",
    "decay": "time-decay.html#time-decay",
    "zero-lay": "the-zero-layer-model.html#the-zero-layer-model",
}
NAMES = {  # what one seeks of the package: its entry
    "load_pretrained": "rwkv_explainer.checkpoints.load_pretrained",
    "rwkv.load_pretrained": "rwkv_explainer.checkpoints.load_pretrained",
    "StableWKVMemory": "rwkv_explainer.model.StableWKVMemory",
    "stablewkvmemory": "rwkv_explainer.model.StableWKVMemory",
    "rwkv_explainer.model.WKVMemory": "rwkv_explainer.model.WKVMemory",
    "half_lives": "rwkv_explainer.lab.decay.half_lives",
    "log_decay": "rwkv_explainer.lab.decay.log_decay_rates",
}

# The addresses and snippets of the results, without the words to mark.
RESULTS = """query => {
    document.querySelector("#search-results").replaceChildren();
    Search.performSearch(query);
    return [...document.querySelectorAll("#search-results li")].map(item =>
        [item.querySelector("a").getAttribute("href"), item.querySelector("p").textContent]);
}"""

# What is marked in the window, where no bar of the theme lies over it, and can be seen.
MARKED = """() => [...(CSS.highlights.get("sought") ?? [])].filter(range => {
    const {top, bottom, left, width} = range.getClientRects()[0] ?? {};  // a long word may go on in the next line
    return width && top >= 0 && bottom <= innerHeight && range.startContainer.parentElement.checkVisibility() &&
        range.startContainer.parentElement.contains(document.elementFromPoint(left + width / 2, (top + bottom) / 2));
}).map(String)"""


@pytest.fixture(scope="module")
def results(browser: Browser, site: str):
    """A function that searches, and gives the address and the snippet of each result."""
    with visit(browser, f"{site}/search.html") as page:
        yield lambda query: [(plain(link), snippet) for link, snippet in page.evaluate(RESULTS, query)]


@pytest.fixture(scope="module")
def index(built_book: Path) -> dict:
    """What the search knows."""
    script = (built_book / "_static/sections.js").read_text("utf-8")
    return json.loads(script.removeprefix("Search.setIndex(").removesuffix(");\n"))


def plain(address: str) -> str:
    return re.sub(r"\?highlight=[^#]*", "", address)


def page_of(address: str) -> str:
    return address.partition(".html")[0]


# ---------------------------------------------------------------------------------------------------------------------
# what is found


@pytest.mark.parametrize("query", FIRST)
def test_the_right_section_comes_first(results, query):
    assert [address for address, _ in results(query)][:1] == [FIRST[query]]


def test_a_word_of_two_chapters_leads_to_both(results):
    first = {page_of(address) for address, _ in results("receptance")[:5]}
    assert {"the-gated-mlp", "attention-and-memory"} <= first


@pytest.mark.parametrize("query", [*FIRST, "model", "read", "check", "tokens"])
def test_the_reference_comes_last(results, query):
    """And of pages whose headings have the word, as of those whose text has it, the chapters come first."""
    found = [page_of(address) for address, _ in results(query)]
    assert found[0] in CHAPTERS
    reference = [name == "api" for name in found]
    assert reference == sorted(reference)


@pytest.mark.parametrize("query", NAMES)
def test_names_of_the_package_are_found(results, query):
    in_reference = [address for address, _ in results(query) if page_of(address) == "api"]
    assert in_reference[:1] == [f"api.html#{NAMES[query]}"]


def test_a_name_of_the_glossary_follows_the_chapters_that_introduce_it(results):
    found = [address for address, _ in results("receptance")]
    entry = found.index("glossary.html#term-receptance")
    assert {page_of(address) for address in found[:entry]} <= set(CHAPTERS)
    assert any(page_of(address) in CHAPTERS for address in found[entry:])


def test_all_words_or_else_the_most(browser, site):
    with visit(browser, f"{site}/search.html?q=receptance+xylophone") as page:
        page.locator("#search-results li").first.wait_for()
        said = page.locator(".search-summary").inner_text()
        assert said.startswith("No section has all of these words.") and "pages" in said
        assert page.evaluate(RESULTS, "xylophone") == []
        assert page.locator(".search-summary").inner_text().startswith("No page has these words in its text.")


@cache
def words_of_its_own(built_book: Path) -> dict[str, str]:
    """For each chapter, a long word of its text that the fewest other chapters have."""
    texts = {}
    for chapter in CHAPTERS:
        said = tree_of(built_book / f"{chapter}.html").select("article p")
        prose = " ".join(p.get_text(" ") for p in said if not p.css.closest("details, .cell"))
        texts[chapter] = set(re.findall(r"\b[a-z]{7,12}\b", prose))
    return {
        chapter: min(sorted(words), key=lambda word: sum(word in other for other in texts.values()))
        for chapter, words in texts.items()
    }


@pytest.mark.parametrize("how", ["http", "file"])
def test_search_finds_a_word_of_each_chapter(browser: Browser, site: str, built_book: Path, how: str):
    book = site if how == "http" else built_book.as_uri()
    with visit(browser, f"{book}/search.html") as page:
        found = {chapter: page.evaluate(RESULTS, word) for chapter, word in words_of_its_own(built_book).items()}
        assert [chapter for chapter, all_ in found.items() if chapter not in {page_of(link) for link, _ in all_}] == []


# ---------------------------------------------------------------------------------------------------------------------
# how it is told


def test_snippets_are_prose(results):
    """No buttons of the page, no TeX, no code, and no more than three lines."""
    for query in [*FIRST, *NAMES]:
        for address, snippet in results(query):
            assert not re.search(r"(^|\s)\.(ipynb|pdf)|\\|^Contents|\x00|\$|def ", snippet), (query, address, snippet)
            assert len(snippet) <= 250


def test_results_show_the_word_and_mark_it(browser, site):
    with visit(browser, f"{site}/search.html?q=receptance") as page:
        page.locator("#search-results li").first.wait_for()
        told = page.locator("#search-results li").all_inner_texts()
        assert told and all("receptance" in text.lower() for text in told)
        marked = {word.lower() for word in page.evaluate(MARKED)}
        assert marked and marked <= {"receptance", "receptances"}


def test_every_section_has_its_place(index, built_book):
    """Each page of the book is in the index, and each anchor is on its page."""
    names = [name for name, _ in index["pages"]]
    assert sorted(names) == sorted(["index", *CHAPTERS, *BACK_MATTER])
    assert [name for name, rank in index["pages"] if rank == 0] == CHAPTERS
    anchors = {
        name: set(re.findall(r'\sid="([^"]+)"', (built_book / f"{name}.html").read_text("utf-8"))) for name in names
    }
    for page, _, anchor, *_ in index["sections"]:
        assert anchor in anchors[names[page]], names[page]
    assert {names[page] for page, *_ in index["sections"]} == set(names)


def test_answers_stay_folded(index):
    """Neither solutions and their reasons, nor the votes on what chapters ask, are read out by the search."""
    names = [name for name, _ in index["pages"]]
    assert [depth for page, depth, *_ in index["sections"] if names[page] == "votes"] == [0]
    told = {title: text for page, _, _, title, text in index["sections"] if names[page] == "attention-and-memory"}
    hint, why = "Set this to ½ and solve for", "So what the memory reads is always a weighted average"
    exercise = told["Exercise: The half-life of a weight"]
    assert exercise.startswith("After how many tokens") and hint not in exercise and why not in " ".join(told.values())


def test_only_the_search_loads_the_index(built_book):
    assert (built_book / "_static/sections.js").stat().st_size < LARGEST
    own = re.compile(r'src="[^"]*\b(searchtools|language_data|sphinx_highlight|searchindex|marks|search|sections)\.js')
    loaded = {page.name: own.findall(page.read_text("utf-8")) for page in built_book.glob("*.html")}
    assert loaded.pop("search.html") == ["searchtools", "language_data", "marks", "search", "sections"]
    assert {name for name, scripts in loaded.items() if scripts} == set()


# ---------------------------------------------------------------------------------------------------------------------
# where one lands


def land(page: Page) -> list[str]:
    """Wait for the page that a result led to, and give the marked words that can be seen."""
    page.wait_for_url("**highlight=**")
    page.wait_for_function("CSS.highlights?.has('sought')")
    page.wait_for_timeout(300)
    return page.evaluate(MARKED)


@pytest.mark.parametrize(
    ("query", "how"),
    [("receptance", "http"), ("memories", "file"), ("top-p", "file"), ("StableWKVMemory", "http"), ("softm", "http")],
)
def test_a_hit_shows_the_word(browser, site, built_book, query, how):
    """The first one and the last one: chapters, and the reference or the pages around them."""
    book = site if how == "http" else built_book.as_uri()
    beginning = lambda word: re.sub(r"[\W_]", "", word.lower())[:4]
    with visit(browser, f"{book}/search.html?q={query}") as page:
        links = page.locator("#search-results a")
        links.first.wait_for()
        for link in (links.first, links.last):
            address = link.get_attribute("href")
            link.click()
            assert {beginning(word) for word in land(page)} == {beginning(query)}, address
            page.go_back()
            links.first.wait_for()


def test_a_hit_by_keyboard(browser, site):
    with visit(browser, f"{site}/index.html") as page:
        page.keyboard.press("Control+k")
        page.keyboard.type("residual stream")
        page.keyboard.press("Enter")
        page.locator("#search-results a").first.wait_for()
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('#search-results a')"):
                break
        page.keyboard.press("Enter")
        assert {word.lower() for word in land(page)} & {"residual", "stream"}
        page.keyboard.press("Escape")
        assert not page.evaluate("CSS.highlights.has('sought')")


@pytest.mark.parametrize("how", ["http", "file"])
def test_a_hit_in_a_closed_answer_opens_it(browser, site, built_book, how):
    """A word that its section says only behind a question."""
    book = site if how == "http" else built_book.as_uri()
    chapter, anchor, word = word_behind_a_question(built_book)
    with visit(browser, f"{book}/{chapter}.html?highlight={word}#{anchor}") as page:
        assert word in [seen.lower() for seen in land(page)]
        assert page.locator(".predict-answer:not([hidden])").count() == 1
        assert page.locator("style").evaluate_all("all => all.every(style => !style.children.length)")


@cache
def word_behind_a_question(built_book: Path) -> tuple[str, str, str]:
    """A chapter, a section of it, and a word that the section has in its answer alone."""
    for chapter in CHAPTERS:
        page = tree_of(built_book / f"{chapter}.html")
        for answer in page.select("section > .predict-answer"):
            whole = answer.parent.get_text(" ").lower()
            for paragraph in answer.find_all("p", recursive=False):
                for word in re.findall(r"\b[a-z]{8,12}\b", paragraph.get_text(" ")):
                    if whole.count(word[:5]) == 1:
                        return chapter, answer.parent["id"], word
    raise AssertionError("expected a word that stands in an answer alone, found none")


def test_no_marks_where_nothing_was_sought(browser, site):
    """A page that one opens otherwise loads nothing of the search, and the playground's addresses keep their text."""
    with visit(browser, f"{site}/playground.html#text={'The Eiffel Tower'}") as page:
        asked = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
        assert not [name for name in asked if re.search(r"marks\.js|language_data|sections\.js|searchindex", name)]
        assert not page.evaluate("CSS.highlights.has('sought')")
        assert "text=" in unquote(page.url)
