"""The whole book on another model: `make test-other-model`, about ten minutes.

A checkpoint of random numbers with four layers, as many tokens as the Pile family has, and its tokenizer, where
RWKV_EXPLAINER_20B_TOKENIZER names a copy; else the bundled one, which has fewer. No network, no failing cell.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup
from test_book import CHAPTERS, ROOT, code_cells, make_html, source

from rwkv_explainer.checkpoints import BUNDLED, upstream_weights
from rwkv_explainer.hub import PILE_VOCABULARY

NAME = "four-random-layers"


@pytest.fixture
def checkpoint(tmp_path, random_model) -> Path:
    weights = upstream_weights(random_model(4, 64, PILE_VOCABULARY, 256, dtype=torch.bfloat16))
    path = tmp_path / f"{NAME}.pth"
    torch.save({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    named = os.environ.get("RWKV_EXPLAINER_20B_TOKENIZER")
    shutil.copy(named or BUNDLED / "tokenizer.json", path.with_name("20B_tokenizer.json"))
    return path


@pytest.mark.other_model
def test_the_book_builds_on_another_model(checkpoint, tmp_path):
    root = tmp_path / "the book"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    make_html(root, RWKV_EXPLAINER_MODEL=str(checkpoint), HF_HUB_OFFLINE="1")
    for chapter in CHAPTERS:
        if "load_pretrained(" in "".join("".join(cell["source"]) for cell in code_cells(source(chapter))):
            page = BeautifulSoup((root / "_build" / "html" / f"{chapter}.html").read_text("utf-8"), "html.parser")
            assert any(NAME in output.get_text() for output in page.select(".cell_output")), chapter
