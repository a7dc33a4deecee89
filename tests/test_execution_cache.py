"""Chapters run ahead of Sphinx, in parallel: only those that MyST-NB will look for, and each of them once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache

ROOT = Path(__file__).resolve().parents[1]

# In a process of its own: nbclient leaves the event loop of a thread open, which pytest would take for our mistake.
RUN = """
import json, sys
from types import SimpleNamespace
from execution_cache import run_chapters

folder, mode, *names = json.loads(sys.argv[1])
config = SimpleNamespace(
    nb_execution_mode=mode, nb_execution_cache_path=folder + "/cache", nb_execution_timeout=60
)
run_chapters(SimpleNamespace(config=config), SimpleNamespace(doc2path=lambda name: f"{folder}/{name}.ipynb"), names)
"""


@pytest.fixture
def book(tmp_path):
    """A function that runs notebooks of one cell each, in the given execution mode, and counts how many it cached."""

    def build(codes: dict[str, str], mode: str = "cache") -> int:
        for name, code in codes.items():
            cells = [nbformat.v4.new_code_cell(code, id="cell")]
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / f"{name}.ipynb")
        arguments = json.dumps([str(tmp_path), mode, *codes])
        path = os.pathsep.join(map(str, (ROOT / "book/_ext", ROOT)))
        subprocess.run([sys.executable, "-c", RUN, arguments], env=os.environ | {"PYTHONPATH": path}, check=True)
        return len(get_cache(str(tmp_path / "cache")).list_cache_records())

    return build


def runs(log: Path) -> list[str]:
    return sorted(log.read_text().split())


def test_each_chapter_runs_and_is_kept(book, tmp_path):
    codes = {name: f"open('log', 'a').write('{name} ')" for name in ("one", "two", "three")}
    assert book(codes) == 3
    assert runs(tmp_path / "log") == ["one", "three", "two"]
    assert book(codes) == 3, "nothing has changed"
    assert runs(tmp_path / "log") == ["one", "three", "two"], "nothing ran again"


def test_two_chapters_with_the_same_cells_run_once(book, tmp_path):
    """The cache knows a chapter by its cells: two at a time would write to the same place."""
    assert book(dict.fromkeys(("first", "second"), "open('log', 'a').write('same ')")) == 1
    assert runs(tmp_path / "log") == ["same"]


def test_nothing_runs_where_execution_is_off(book, tmp_path):
    book({"one": "open('log', 'a').write('one ')"}, mode="off")
    assert not (tmp_path / "log").exists()
