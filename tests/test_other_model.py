"""The whole book on another model: `make test-other-model`, about ten minutes.

The model is one of random numbers, of four layers and as many tokens as the Pile family has. It lies in the hub's cache
as if it had been downloaded under a name of that family, and there is no network.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup

from rwkv_explainer.checkpoints import upstream_weights
from rwkv_explainer.hub import PILE, PILE_VOCABULARY, TOKENIZER_FILE
from test_book import CHAPTERS, ROOT, code_cells, make_html, source
from test_checkpoints import find_20b_tokenizer

MODEL = PILE["rwkv-4-pile-169m"]


@pytest.fixture
def cache(tmp_path, random_model) -> Path:
    """A folder for HF_HOME, in which the model and its tokenizer are."""
    weights = upstream_weights(random_model(4, 64, PILE_VOCABULARY, 256, dtype=torch.bfloat16))
    repository = tmp_path / "hub" / f"models--{MODEL.repository.replace('/', '--')}"
    commit, blob = "0" * 40, repository / "blobs" / MODEL.sha256
    for folder in (blob.parent, repository / "refs", repository / "snapshots" / commit):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    torch.save({name: tensor.contiguous() for name, tensor in weights.items()}, blob)
    (repository / "snapshots" / commit / MODEL.file).symlink_to(blob)
    about = blob.stat()  # it cannot have the real file's sha256, so it is marked as one that was found right
    blob.with_name(f"{blob.name}.verified").write_text(f"{MODEL.sha256} {about.st_size} {about.st_mtime_ns}\n")
    tokenizer = tmp_path / "assets" / "rwkv-explainer" / TOKENIZER_FILE
    tokenizer.parent.mkdir(parents=True)
    shutil.copy(find_20b_tokenizer(), tokenizer)
    return tmp_path


@pytest.mark.other_model
def test_the_book_builds_on_another_model(cache, tmp_path):
    root = tmp_path / "the book"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    make_html(root, RWKV_EXPLAINER_MODEL=MODEL.name, HF_HOME=str(cache), HF_HUB_OFFLINE="1")
    for chapter in CHAPTERS:
        if "load_pretrained(" in "".join("".join(cell["source"]) for cell in code_cells(source(chapter))):
            page = BeautifulSoup((root / "_build" / "html" / f"{chapter}.html").read_text("utf-8"), "html.parser")
            assert any(MODEL.name in output.get_text() for output in page.select(".cell_output")), chapter
