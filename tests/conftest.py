"""What every test shares: the type checker, switched on for the whole package, random models, and a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from jaxtyping import install_import_hook
from playwright.sync_api import Browser, sync_playwright

from browser import find_chromium, launch, serve

install_import_hook("rwkv_explainer", "beartype.beartype")  # before anything imports the package
torch.set_num_threads(1)  # the fastest for tensors as small as these

# Fixtures that take a built book.
BUILT = {"built_book", "site", "build_said", "html", "pages", "book", "folder", "unzipped"}

# Files that take a minute or more. They begin first, so that no process is left alone with one at the end.
LONGEST = ("editions", "playground", "book", "accessible", "checks", "colab_lab_zip", "training", "slides", "for_all")
LONGEST += ("parity", "claims", "benchmarks", "search", "pages", "front", "atlas")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; and mark the tests that need a book, so that `make check` can do without."""
    turn = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turn.get(item.path.stem, len(turn)))
    for item in items:
        if BUILT & set(getattr(item, "fixturenames", ())):
            item.add_marker("built")


@pytest.fixture(scope="session")
def random_model():
    """A function that builds an `RWKVLM` of any size, its parameters random, keys within a few units, decays mixed."""
    from rwkv_explainer.model import RWKVLM
    from rwkv_explainer.piece import RWKVConfig

    def build(layers=2, channels=8, vocabulary=11, hidden=20, seed=0, dtype=torch.float64):
        model = RWKVLM.from_config(RWKVConfig(vocabulary, channels, layers, hidden))
        random = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "log_decay" in name:
                parameter.data.uniform_(-6, 0.7, generator=random)
            elif "mixer" in name:
                parameter.data.uniform_(0, 1, generator=random)
            elif "normalize" in name or ".ln" in name:
                parameter.data.normal_(name.endswith("weight"), 0.2, generator=random)
            else:
                parameter.data.normal_(0, parameter.shape[-1] ** -0.5, generator=random)
        return model.to(dtype).requires_grad_(False)

    return build


@pytest.fixture(scope="session")
def byte_tokenizer():
    """A token for each of the 256 bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium without a window, shared by all tests of a file: see `browser.py`."""
    path = find_chromium()
    if path is None:
        pytest.skip("needs Chromium or Chrome; `make test` says why it could not install one")
    with sync_playwright() as playwright:
        chromium = launch(playwright, path)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def built_book(tmp_path_factory) -> Path:
    """A copy of the built book, in a folder of its own, as a reader would get it."""
    root = Path(__file__).resolve().parents[1]
    assert (root / "_build/html/index.html").exists(), "there is no built book in _build/html: run `make book` first"
    copy = tmp_path_factory.mktemp("elsewhere") / "a book"
    with FileLock(root / "_build/.lock"):  # another test may be building
        shutil.copytree(root / "_build/html", copy)
    return copy


@pytest.fixture(scope="session")
def site(built_book) -> Iterator[str]:
    """The address of the built book behind a static web server, below a sub-path, as on many hosts."""
    with serve(built_book.parent) as address:
        yield f"{address}/a%20book"


def pytest_terminal_summary(terminalreporter) -> None:
    """Report how soon pages showed something: a figure of this machine, which no test judges."""
    kept = [
        value
        for report in terminalreporter.stats.get("passed", [])
        for key, value in report.user_properties
        if key == "first paint" and value[1]
    ]
    if kept:
        (first, soonest), (last, latest) = (choose(kept, key=lambda page: page[1]) for choose in (min, max))
        terminalreporter.write_line(
            f"First paint of {len(kept)} pages: from {soonest:.0f} ms ({first}) to {latest:.0f} ms ({last})."
        )
