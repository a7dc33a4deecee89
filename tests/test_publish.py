"""Where the book is published: settings, first cells and buttons agree, come and go together, and lead somewhere."""

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

import rwkv_explainer
from publish import (
    CELL,
    check_address,
    citation,
    first_cell,
    hub_links,
    package_version,
    published_at,
    settings,
    stamp,
    stamped,
)
from test_book import ROOT, make_html, tiny_book  # noqa: F401, a fixture

CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
ADDRESS = "https://github.com/someone/the-book"
VERSION = package_version()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A copy of what the stamp reads and writes."""
    for path in (ROOT / "_config.yml", ROOT / "CITATION.cff", ROOT / "rwkv_explainer/__init__.py", *CHAPTERS):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_version_is_the_packages():
    assert VERSION == rwkv_explainer.__version__


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_first_cell_is_up_to_date(chapter):
    """It belongs to this address and to this version, and comes before any other code."""
    text = chapter.read_text("utf-8")
    same = stamped(text, published_at(), VERSION) == text  # compared here: two notebooks make no readable difference
    assert same, f"{chapter.name}: its first code cell is not the one of all chapters; run `make publish-to`"


def test_settings_are_up_to_date():
    assert settings(published_at(), VERSION) in (ROOT / "_config.yml").read_text("utf-8"), "run `make publish-to`"


def test_citation_is_up_to_date():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert citation(text, published_at(), VERSION) == text, "run `make publish-to`"
    cited = yaml.safe_load(text)
    assert (cited["title"], str(cited["version"])) == (settings_of_the_book()["title"], rwkv_explainer.__version__)
    assert [author["name"] for author in cited["authors"]] == [settings_of_the_book()["author"]]


def settings_of_the_book() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))


def test_stamp_writes_settings_and_chapters_once(book):
    stamp(book, "")
    before = {path: path.read_bytes() for path in book.rglob("*.*")}
    assert {path.name for path in stamp(book, ADDRESS)} == {
        "_config.yml",
        "CITATION.cff",
        *(path.name for path in CHAPTERS),
    }
    assert published_at(book) == ADDRESS
    theme = yaml.safe_load((book / "_config.yml").read_text("utf-8"))["sphinx"]["config"]["html_theme_options"]
    assert (theme["repository_url"], theme["repository_branch"]) == (ADDRESS, f"v{VERSION}")
    for path in (book / "book").glob("*.ipynb"):
        first = next(cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code")
        assert first["id"] == CELL and f"git+{ADDRESS}@v{VERSION}" in "".join(first["source"])
    assert yaml.safe_load((book / "CITATION.cff").read_text("utf-8"))["repository-code"] == ADDRESS
    assert stamp(book, ADDRESS) == []
    stamp(book, "")
    assert {path: path.read_bytes() for path in book.rglob("*.*")} == before


def test_stamp_changes_nothing_but_its_cell(book):
    chapter = book / "book" / CHAPTERS[0].name
    notebook = json.loads(chapter.read_text("utf-8"))
    own = [cell for cell in notebook["cells"] if cell["id"] != CELL]
    chapter.write_text(json.dumps(notebook | {"cells": own}), "utf-8")  # as somebody's editor left it, without the cell
    stamp(book, ADDRESS)
    cells = json.loads(chapter.read_text("utf-8"))["cells"]
    assert [cell for cell in cells if cell["id"] != CELL] == own


@pytest.mark.parametrize("given", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_address_is_kept_in_one_form(given):
    assert check_address(given) == ADDRESS


@pytest.mark.parametrize(
    "address, problem",
    [
        ("", "https://"),
        ("http://github.com/someone/the-book", "https://"),
        ("git@github.com:someone/the-book.git", "https://"),
        ("https://key@github.com/someone/the-book", "user name"),
        ("https://github.com/someone", "server/owner/name"),
        ("https://github.com/someone/the-book/tree/main", "server/owner/name"),
        ("https://github.com/someone/the-book?tab=readme", "goes on after"),
        ("https://github.com/someone/the book", "characters"),
        ("https://github.com/someone/-book", "characters"),
        ("https://example.org/someone/the-book", "example.org"),
    ],
)
def test_bad_address_is_refused(address, problem):
    with pytest.raises(ValueError, match=problem):
        check_address(address)


def test_bad_address_leaves_the_book_alone():
    before = (ROOT / "_config.yml").read_bytes()
    command = [sys.executable, str(ROOT / "tools/publish.py"), "github.com/someone"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "Traceback" not in done.stderr and "https://github.com/someone" in done.stderr
    assert (ROOT / "_config.yml").read_bytes() == before


# ---------------------------------------------------------------------------------------------------------------------
# the first cell, as it runs


def run_cell(address: str) -> None:
    exec("".join(first_cell(address, VERSION)["source"]), {})


@pytest.fixture
def installed(monkeypatch):
    """A function that makes a version of the package seem installed, or, with None, no version at all."""

    def pretend(version: str | None) -> None:
        found = [] if version is None else [SimpleNamespace(version=version)]
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found[0] if found else None)
        monkeypatch.setattr(importlib.metadata, "distributions", lambda name: found)

    return pretend


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_first_cell_is_silent_where_all_is_well(address, installed, capfd):
    installed(VERSION)
    run_cell(address)
    assert capfd.readouterr() == ("", "")


def test_first_cell_installs_what_is_missing(installed, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append((command, check)))
    installed(None)
    run_cell(ADDRESS)
    source = f"rwkv-explainer[book] @ git+{ADDRESS}@v{VERSION}"
    assert calls == [([sys.executable, "-m", "pip", "install", "--quiet", source], True)]


def test_first_cell_says_where_a_missing_package_comes_from(installed):
    installed(None)
    with pytest.raises(ModuleNotFoundError, match=r'rwkv_explainer.*repository.*pip install "\.\[book\]"'):
        run_cell("")


@pytest.mark.parametrize("address, command", [(ADDRESS, f"git+{ADDRESS}@v{VERSION}"), ("", 'pip install ".[book]"')])
def test_first_cell_names_both_versions_and_the_command_that_mends(address, command, installed, capsys):
    installed("0.0.1")
    run_cell(address)
    said = capsys.readouterr().out
    assert VERSION in said and "0.0.1" in said and command in said and "restart the kernel" in said


# ---------------------------------------------------------------------------------------------------------------------
# buttons and links


def test_settings_offer_what_can_open_the_address():
    """Colab opens GitHub's repositories only; Binder opens all; without an address, neither does anything."""
    services = ("mybinder.org", "colab.research.google.com")
    offered = {
        address: [name in settings(address, VERSION) for name in services]
        for address in (ADDRESS, "https://gitlab.com/someone/the-book", "")
    }
    assert list(offered.values()) == [[True, True], [True, False], [False, False]]


def test_buttons_lead_to_the_published_chapter(tiny_book):  # noqa: F811
    config = tiny_book / "_config.yml"
    text = config.read_text("utf-8")
    config.write_text(text.replace(settings(published_at(), VERSION), settings(ADDRESS, VERSION)), "utf-8")
    make_html(tiny_book)
    assert buttons(tiny_book / "_build/html/chapter.html", "launch") == [
        f"https://mybinder.org/v2/gh/someone/the-book/v{VERSION}?urlpath=lab/tree/book/chapter.ipynb",
        f"https://colab.research.google.com/github/someone/the-book/blob/v{VERSION}/book/chapter.ipynb",
    ]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_no_button_points_nowhere(built_book, chapter):
    """The download button serves the notebook itself; launch buttons are there if the book is published."""
    page = built_book / f"{chapter.stem}.html"
    notebook = f"_sources/{chapter.name}"
    assert notebook in buttons(page, "download") and (built_book / notebook).read_bytes() == chapter.read_bytes()
    assert bool(buttons(page, "launch")) == bool(published_at())


def buttons(page: Path, group: str) -> list[str]:
    """Where the buttons of a group at the top of a page lead."""
    soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    return [link["href"] for link in soup.select(f".dropdown-{group}-buttons a")]


def test_hub_links_copy_the_book_and_open_a_chapter(book):
    stamp(book, ADDRESS)
    links = [urlsplit(link) for link in hub_links("https://hub.example.edu/", book)]
    assert {link.path for link in links} == {"/hub/user-redirect/git-pull"}
    queries = [parse_qs(link.query) for link in links]
    assert [query["urlpath"][0].rpartition("/")[2] for query in queries] == [path.name for path in CHAPTERS]
    assert all(query["repo"] == [ADDRESS] and "branch" not in query for query in queries)


def test_hub_links_need_an_address_and_a_hub(book):
    stamp(book, "")
    with pytest.raises(ValueError, match="publish-to"):
        hub_links("https://hub.example.edu", book)
    stamp(book, ADDRESS)
    with pytest.raises(ValueError, match="HUB="):
        hub_links("", book)
