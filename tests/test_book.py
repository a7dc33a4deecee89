"""The book as built: every chapter ran, nothing is broken or hidden in its pages, and nothing in it is yesterday's."""

import ast
import copy
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from filelock import FileLock
from jupyter_cache import get_cache

import rwkv_explainer.model
from execution_cache import CHOSEN_MODEL, chosen_model, fingerprint
from rwkv_explainer import load_pretrained
from trees import tree_of

ROOT = Path(__file__).resolve().parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
ENTRIES = [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]
CHAPTERS = [name for name in ENTRIES if (ROOT / "book" / f"{name}.ipynb").exists()]
RUN = ["why-rwkv", *CHAPTERS]  # the pages that compute, in the book's order


def make_html(root: Path, **variables: str) -> str:
    """Build the book in `root` with the Python that runs this test, and return what the build said."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")} | variables
    command = ["make", "--no-print-directory", "html", f"VENV={sys.prefix}"]
    (root / "_build").mkdir(exist_ok=True)
    with FileLock(root / "_build/.lock"):  # nobody copies a book that is being built
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def source(chapter: str) -> dict:
    """A chapter as it is in the repository."""
    return json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))


def code_cells(notebook: dict) -> list[dict]:
    """The code cells that hold code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


@pytest.fixture(scope="session")
def build_said() -> str:
    """What was said when the book was built anew where it was out of date."""
    return make_html(ROOT)


@pytest.fixture(scope="session")
def html(build_said: str) -> Path:
    """The folder of the built book."""
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def pages(html: Path) -> dict[str, BeautifulSoup]:
    """The pages of the book by file name: those of `_toc.yml`, and those that Sphinx adds."""
    names = [TOC["root"], *ENTRIES, "genindex", "search"]
    return {f"{name}.html": tree_of(html / f"{name}.html") for name in names}


# ---------------------------------------------------------------------------------------------------------------------
# chapters as they are in the repository


def test_every_chapter_is_in_the_table_of_contents():
    assert CHAPTERS, "the book has no chapters"
    assert sorted(path.stem for path in (ROOT / "book").glob("*.ipynb")) == sorted(CHAPTERS)
    assert [name for name in ENTRIES if not list((ROOT / "book").glob(f"{name}.*"))] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_outputs_are_committed(chapter):
    cells = code_cells(source(chapter))
    kept = [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"] is not None]
    assert kept == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_cells_have_unique_ids(chapter):
    ids = [cell.get("id", "") for cell in source(chapter)["cells"]]
    assert [name for name in ids if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)] == []
    assert len(set(ids)) == len(ids)


BACKSLASH = re.compile(r"\\text\{[^{}]*\\_[^{}]*\}")  # an underscore in MathJax's \mathrm{}; shown as it is in \text{}


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "book").iterdir() if p.suffix in {".ipynb", ".md"}))
def test_formulas_show_no_backslash(name):
    written = (ROOT / "book" / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        written = "\n".join("".join(cell["source"]) for cell in json.loads(written)["cells"])
    assert BACKSLASH.findall(written) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapters_prove_what_they_build(chapter):
    """Each chapter has a proof, and each piece that it defines anew is named in one."""
    cells = code_cells(source(chapter))
    proofs = "\n".join("".join(cell["source"]) for cell in cells if "proof" in tags(cell))
    assert "assert" in proofs, "no code cell with the tag `proof` asserts anything"
    built = {name for cell in cells for name in defined_pieces("".join(cell["source"]))}
    assert {name for name in built if not re.search(rf"\b{name}\b", proofs)} == set()


def defined_pieces(code: str) -> set[str]:
    """The classes that a cell defines under the name of one of the package's pieces."""
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines())
    names = {node.name for node in ast.parse(plain).body if isinstance(node, ast.ClassDef)}
    return {name for name in names if hasattr(rwkv_explainer.model, name)}


def test_no_path_of_one_machine_is_tracked():
    homes = re.compile(rb"(?<![\w.:/])/(?:home|Users|root|tmp|work)/\w+|[A-Z]:\\\\?Users\\")
    own = str(ROOT).encode()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    found = {}
    for name in filter(None, tracked):
        path = ROOT / os.fsdecode(name)
        content = path.read_bytes() if path.is_file() and path != Path(__file__) else b""
        if hit := homes.search(content) or re.search(re.escape(own) + rb"\b", content):
            found[path.name] = hit[0]
    assert found == {}


# ---------------------------------------------------------------------------------------------------------------------
# chapters as they ran


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_cell_ran_without_error(html, chapter):
    """With this package, these weights, these pins and this model: in the cache that is named after them."""
    cache = get_cache(html.parent / ".jupyter_cache" / fingerprint(ROOT, chosen_model()))
    record = cache.match_cache_notebook(nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4))
    cells = code_cells(cache.get_cache_bundle(record.pk).nb)
    assert [cell["id"] for cell in cells if cell["execution_count"] is None] == []
    outputs = [(cell, output) for cell in cells for output in cell["outputs"]]
    failed = [cell["id"] for cell, output in outputs if output["output_type"] == "error"]
    assert [cell["id"] for cell in cells if cell["id"] in failed and "raises-exception" not in tags(cell)] == []
    warned = [(cell["id"], output["text"]) for cell, output in outputs if output.get("name") == "stderr"]
    assert [(name, text) for name, text in warned if "Warning" in "".join(text)] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_says_which_model_speaks(pages, chapter):
    """Sentences about *textbook* are then read for what they are, also in a book that was built on another model."""
    if "load_pretrained(" in "".join("".join(cell["source"]) for cell in code_cells(source(chapter))):
        said = [output.get_text() for output in pages[f"{chapter}.html"].select(".cell_output")]
        assert any(load_pretrained()[0].name in output for output in said)


def test_execution_times_lists_every_page_that_computes(pages):
    table = pages["execution-times.html"].select_one("article table")
    rows = [(row.select_one("a")["href"], float(row("td")[-1].get_text(strip=True))) for row in table("tr")[1:]]
    assert [page for page, _ in rows] == [f"{name}.html" for name in RUN]
    assert all(seconds > 0 for _, seconds in rows)


# ---------------------------------------------------------------------------------------------------------------------
# pages


def told_by_a_parent(svg) -> bool:
    """Whether a drawing is hidden from screen readers, inside an element that has the words for it."""
    return svg.get("aria-hidden") == "true" and svg.find_parent(attrs={"aria-label": True}) is not None


def test_every_picture_has_words(pages):
    images = [(page, image) for page, soup in pages.items() for image in soup("img")]
    assert [(page, str(image)[:200]) for page, image in images if not image.get("alt", "").strip()] == []
    drawings = [(page, svg) for page, soup in pages.items() for svg in soup.select("article svg")]
    drawings = [(page, svg) for page, svg in drawings if not told_by_a_parent(svg)]
    untold = [(page, svg) for page, svg in drawings if not svg.title or not svg.title.get_text(strip=True)]
    assert [(page, str(svg)[:200]) for page, svg in untold] == []


def test_no_link_is_dead(html, pages):
    """Links inside the book lead to a file that is there, and to a place in it that is there."""

    @cache
    def anchors(path: Path) -> set[str]:
        return {tag.get("id") or tag["name"] for tag in tree_of(path).select("[id], a[name]")}

    dead = []
    for page, soup in pages.items():
        for tag in soup.find_all(href=True) + soup.find_all(src=True):
            url = urlsplit(tag.get("href") or tag.get("src") or "")
            if url.scheme or url.netloc:
                continue
            target = html / page if not url.path else (html / page).parent / unquote(url.path)
            place = unquote(url.fragment) if target.suffix == ".html" else ""
            if not target.is_file() or (place and place not in anchors(target.resolve())):
                dead.append((page, url.geturl()))
    assert dead == []


def test_pages_need_no_network(pages):
    """Scripts, styles and pictures come with the book; only links that a reader follows lead out of it."""
    loaded = [
        (page, tag.get("src") or tag.get("href"))
        for page, soup in pages.items()
        for tag in soup.select("script[src], img[src], iframe[src], link[rel~=stylesheet], link[rel~=preload]")
    ]
    assert [(page, url) for page, url in loaded if urlsplit(url).netloc] == []


def test_formulas_on_pages_show_no_backslash(pages):
    formulas = {name: [math.get_text() for math in page.select(".math")] for name, page in pages.items()}
    assert {name: bad for name, all_ in formulas.items() if (bad := list(filter(BACKSLASH.search, all_)))} == {}


def test_no_traceback_on_a_page(pages):
    for page, soup in pages.items():
        traceback, asked_for = "Traceback (most recent call last)", ".cell.tag_raises-exception"
        wanted = sum(cell.get_text().count(traceback) for cell in soup.select(asked_for))
        assert soup.get_text().count(traceback) == wanted, page
        found = soup.select(".output.traceback, .system-message, .problematic")
        assert [tag for tag in found if not tag.css.closest(asked_for)] == [], page


# A number in prose, or one that a cell shows: percent signs count, signs and separators of thousands do not.
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:\s?%)?(?!\w)")


def numbers(text: str) -> set[str]:
    """The numbers in a text, as they are compared."""
    return {re.sub(r"[\s,]", "", number) for number in NUMBER.findall(text)}


def seems_measured(number: str) -> bool:
    """Decimals, shares and large numbers; small whole ones count layers and tokens, others are years."""
    if number.endswith("%") or "." in number:
        return True
    return int(number) >= 100 and not re.fullmatch("(19|20)..", number)


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.skipif(bool(chosen_model()), reason="prose tells what the bundled model does")
def test_numbers_in_prose_stand_in_a_cell(pages, chapter):
    """What prose says was measured can be read off a cell of the same page, which computed it when the page was made.

    What follows on paper stands in a formula, and what is typed as code.
    """
    article = copy.copy(pages[f"{chapter}.html"].article)
    shown = set()
    for cell in article.select(".cell, .rwkv-playground"):
        alternatives = [part.get("alt") or part["aria-label"] for part in cell.select("[alt], [aria-label]")]
        shown |= numbers(" ".join([cell.get_text(" "), *alternatives]))
        cell.decompose()
    for other in article.select(".math, code, .headerlink, .section-number, .caption-number, .exercise-rating"):
        other.decompose()
    told = {number for part in article.select("p, li, td") for number in numbers(part.get_text(""))}
    assert {number for number in told - shown if seems_measured(number)} == set()


# ---------------------------------------------------------------------------------------------------------------------
# what makes a chapter run again


@pytest.fixture
def tiny_book(tmp_path: Path) -> Path:
    """This book's machinery around one small chapter and one small package, in a folder whose name has a space."""
    root = tmp_path / "a book"
    root.mkdir()
    for name in ("Makefile", "_config.yml", "requirements.txt", "book/_ext", "book/_static", "book/references.bib"):
        (root / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, root / name)
    (root / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters: [{file: chapter}]\n")
    (root / "book" / "index.md").write_text("# Front\n")
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": "6 * 7"}
    title = {"cell_type": "markdown", "id": "t", "metadata": {}, "source": "# Chapter"}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": [title, cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (root / "book" / "chapter.ipynb").write_text(json.dumps(notebook))
    (root / "rwkv_explainer" / "bundled").mkdir(parents=True)
    (root / "rwkv_explainer" / "model.py").write_text("x = 1\n")
    (root / "rwkv_explainer" / "bundled" / "weights").write_bytes(b"\x00")
    return root


@pytest.mark.parametrize(
    "name", ["rwkv_explainer/model.py", "rwkv_explainer/bundled/weights", "requirements.txt", "rwkv_explainer/new.py"]
)
def test_fingerprint_changes_with_what_chapters_depend_on(tiny_book, name):
    before = fingerprint(tiny_book)
    with (tiny_book / name).open("a") as file:
        file.write("#")
    assert fingerprint(tiny_book) != before


def test_fingerprint_changes_with_the_chosen_model(tiny_book):
    model = tiny_book / "model.pth"
    model.write_bytes(b"1")
    names = [fingerprint(tiny_book), fingerprint(tiny_book, "other"), fingerprint(tiny_book, str(model))]
    model.write_bytes(b"12")
    names.append(fingerprint(tiny_book, str(model)))
    (tiny_book / "tokenizer.json").write_text("{}")  # load_pretrained takes the one beside the model
    names.append(fingerprint(tiny_book, str(model)))
    assert len(set(names)) == 5


def test_the_chosen_model_may_lie_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(CHOSEN_MODEL, "~/model.pth")
    (tmp_path / "model.pth").write_bytes(b"1")
    assert chosen_model() == str(tmp_path / "model.pth")


def test_the_chosen_model_may_be_a_link(tiny_book, tmp_path, monkeypatch):
    """As in the Hugging Face cache: the name and the tokenizer beside it are the link's, its time is the file's."""
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (tmp_path / "blob").write_bytes(b"1")
    (folder / "model.safetensors").symlink_to("../blob")
    monkeypatch.chdir(folder)
    monkeypatch.setenv(CHOSEN_MODEL, "model.safetensors")
    model = chosen_model()
    assert model == str(folder / "model.safetensors")
    before = fingerprint(tiny_book, model)
    (tmp_path / "blob").write_bytes(b"12")
    assert fingerprint(tiny_book, model) != before


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "~nobody-of-this-name/model.pth"])
def test_any_name_of_a_model_is_handed_on(tiny_book, monkeypatch, name):
    """`load_pretrained` has the words for it."""
    monkeypatch.setattr(os, "environ", {CHOSEN_MODEL: name})
    assert chosen_model() == name and fingerprint(tiny_book, name)


@pytest.mark.parametrize("name", ["book/chapter.ipynb", "rwkv_explainer/__pycache__/model.pyc", "rwkv_explainer/.swap"])
def test_fingerprint_ignores_the_rest(tiny_book, name):
    before = fingerprint(tiny_book)
    (tiny_book / name).parent.mkdir(exist_ok=True)
    (tiny_book / name).write_text("other")
    assert fingerprint(tiny_book) == before


def test_chapters_run_again_when_the_package_changed_and_only_then(tiny_book):
    runs = "Executing: "
    assert runs in make_html(tiny_book)
    assert runs not in make_html(tiny_book)
    (tiny_book / "rwkv_explainer" / "model.py").write_text("x = 2\n")
    assert runs in make_html(tiny_book)
    assert runs in make_html(tiny_book, **{CHOSEN_MODEL: "another"})


def test_outputs_look_as_in_jupyter(tiny_book):
    """Words that are printed one by one stay on their line and in their place, and a Markdown table is a table."""
    chapter = tiny_book / "book" / "chapter.ipynb"
    code = r"""from IPython.display import Markdown, display
print("one", end="", flush=True)
print(" two", flush=True)
display(Markdown("| a |\n|---|\n| $e^x$ |"))
print("three", flush=True)"""
    notebook = json.loads(chapter.read_text())
    notebook["cells"][1]["source"] = code
    chapter.write_text(json.dumps(notebook))
    make_html(tiny_book)
    page = tree_of(tiny_book / "_build" / "html" / "chapter.html")
    printed = [text.get_text().strip() for text in page.select(".cell_output .stream")]
    assert printed == ["one two", "three"]
    assert page.select_one(".cell_output .stream ~ * table .math, .cell_output .stream ~ table .math")


def test_a_failed_build_fails_until_it_is_mended(tiny_book):
    """Sphinx says a warning once only; the next build must not pass because nothing is new."""
    (tiny_book / "book" / "index.md").write_text("# Front\n\n[nowhere](nowhere.md)\n")
    for _ in range(2):
        with pytest.raises(AssertionError, match="nowhere"):
            make_html(tiny_book)
    (tiny_book / "book" / "index.md").write_text("# Front\n")
    make_html(tiny_book)


def test_building_twice_runs_nothing(build_said):
    nothing_new = r"updating environment:.*0 added, 0 changed, 0 removed"
    if not re.search(nothing_new, build_said):  # it was the first time
        build_said = make_html(ROOT)
    assert "Executing notebook" not in build_said
    assert re.search(nothing_new, build_said)
