"""The projects' notebooks: each runs from top to bottom, and leaves room for the student's own work."""

import json
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "projects"
PROJECTS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SMALL = {  # what takes the place of the cell `settings`, so that a run takes seconds
    "another-subject-for-noise": {"RELATION": "moon-planet", "TARGETS": 1, "OTHERS": 2},
    "recall-by-memory": {"ARCHITECTURES": ["RWKV-4", "Transformer"], "STEPS": 2, "SEEDS": [1], "RATE": 1e-2},
    "trace-a-pile-model": {
        "NAME": "rwkv-4-pile-169m",
        "DOWNLOAD": False,
        "RELATIONS": ["moon-planet"],
        "PER_RELATION": 1,
        "SAMPLES": 1,
    },
    "weight-decay-on-the-decays": {"STEPS": 5, "SEEDS": [0], "STRENGTH": 3.0},
}
OWN = ["own-hypothesis", "own-experiment", "own-code", "own-results", "own-limits"]  # for the student, at the end
WIDTH = 88  # characters of a line of code, as in chapters


def cells_of(name: str) -> list[dict]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def code_of(name: str) -> dict[str, str]:
    """The code of a project by its cells' ids."""
    return {cell["id"]: "".join(cell["source"]) for cell in cells_of(name) if cell["cell_type"] == "code"}


def run_small(name: str) -> dict:
    """All names that a project has defined at its end, with small numbers in its settings."""
    names: dict = {"__name__": name}
    with torch.random.fork_rng(devices=[]):
        for cell, code in code_of(name).items():
            exec(compile(code, f"{name}, cell {cell}", "exec"), names)
            if cell == "settings":
                assert SMALL[name].keys() == names.keys() - {"__name__", "__builtins__"}
                names |= SMALL[name]
    return names


@pytest.fixture(autouse=True)
def gradients():
    """A project may switch gradients off, for itself alone."""
    with torch.set_grad_enabled(True):
        yield


def test_there_are_four():
    assert PROJECTS == sorted(SMALL)


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_leaves_room(name):
    cells = cells_of(name)
    assert [cell["id"] for cell in cells][-len(OWN) :] == OWN
    assert code_of(name)["own-code"] == ""
    assert {"question", "known", "settings", "measure", "needs"} < {cell["id"] for cell in cells}
    needs = next("".join(cell["source"]) for cell in cells if cell["id"] == "needs")
    assert all(f"**{word}" in needs for word in ("Control.", "Chance.", "Number")) and "pread" in needs
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert [line for code in code_of(name).values() for line in code.splitlines() if len(line) > WIDTH] == []


def test_the_quickest_runs_as_it_stands(tmp_path):
    notebook = nbformat.read(FOLDER / "trace-a-pile-model.ipynb", as_version=4)
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute(cwd=str(tmp_path))
    said = {cell.id: json.dumps(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"}
    assert "12 facts" in said["trace"] and "layer 20 of 24" in said["by-relation"]
    assert list(tmp_path.iterdir()) == []


def test_a_pile_model_is_traced_fact_by_fact():
    found = run_small("trace-a-pile-model")
    assert found["every"].shape == (1, 6, found["model"].config.n_layer)
    assert found["column"].isfinite().all() and found["is_here"]("rwkv-4-pile-14b") is False


def test_weight_decay_pulls_the_decays_and_nothing_else():
    found = run_small("weight-decay-on-the-decays")
    (before, free, _), (same, held, _) = found["runs"][0]
    slow = before > 10
    assert torch.equal(before, same)
    torch.testing.assert_close(found["pulled"](before, 0.0), before)
    assert (held[slow] < free[slow]).all()
    ratio = held[slow] / free[slow] / (found["pulled"](before, 3.0) / before)[slow]
    assert 0.97 < ratio.median() < 1.03, "in so few steps, the pull on paper is nearly all that differs"


def test_a_subject_in_its_own_place_takes_nothing():
    found = run_small("another-subject-for-noise")
    fact = found["targets"][0]
    assert found["regained"](fact, found["behind"]([fact]))[1] == pytest.approx(0, abs=1e-4)
    assert found["maps"][fact]["other subjects"][1] > 1
    assert all(found["known"][other][3][0] != found["known"][fact][3][0] for other in found["others_of"](fact))


def test_recall_is_compared_with_guessing():
    found = run_small("recall-by-memory")
    assert {name: tuple(scores.shape) for name, scores in found["scores"].items()} == {
        "RWKV-4": (1, 6),
        "Transformer": (1, 6),
    }
    assert found["learned"] == [] and found["asked"] == [2, 4, 8, 16, 24, 32]
