"""The benchmarks run, compare equals with equals, and end with a table."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


report = script("report")


def times(decode, prefill=1.0):
    """What `compare_implementations.py` writes about one contestant, two rounds long."""
    slow = {"load": [1.0, 3.0], "first token": [2.0, 2.0], "peak memory": [1e9, 1e9]}
    return slow | {"decode": decode, "prefill 256": [prefill] * 2, "prefill 1024": [prefill] * 2}


@pytest.fixture
def measured():
    versions = dict.fromkeys(("python", "torch", "rwkv", "transformers"), "1")
    return {
        "machine": {"processor": "abacus", "cores": 2, "threads": 1, "load": 0.4, **versions},
        "rounds": 2,
        "sizes": {"layers": 12, "channels": 768, "vocabulary": 50277},
        "failed": {"rwkv bfloat16": "KeyError: 'x'"},
        "measured": {
            "ours float32": times([0.01, 0.04]),
            "rwkv float32": times([0.03, 0.05]),
            "transformers float32": times([0.02, 0.10]),
            "ours bfloat16": times([0.01, 0.01]),
            "transformers bfloat16": times([0.03, 0.03]),
            "limits float32": {"bandwidth": [522e8, 522e8], "matrix rate": [131e9, 131e9]},
        },
    }


def test_a_quick_run_ends_with_a_table(tmp_path):
    """All three, in processes of their own, on a small checkpoint: the run refuses to compare models that differ."""
    names = ["ours float32", "ours float64", "rwkv float32", "transformers float32"]
    command = [sys.executable, BENCHMARKS / "compare_implementations.py", "--quick", "--rounds", "1", "--threads", "1"]
    command += ["--out", tmp_path / "abacus.json", "--only", *names]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "abacus.json").read_text())
    assert found["failed"] == {}
    for name in names:
        assert found["measured"][name].keys() == report.ROWS.keys(), name
        assert all(value > 0 for values in found["measured"][name].values() for value in values)
    assert max(found["distance"].values()) < 1e-3
    report.write_page(tmp_path, tmp_path)
    page = (tmp_path / "performance.md").read_text()
    for row, *_ in report.ROWS.values():
        cells = re.search(rf"^\| {re.escape(row)}, .*$", page, re.MULTILINE)[0].strip("| ").split(" | ")
        assert len(cells) >= 6 and all(re.match(r"[\d,.]+", cell) for cell in cells[1:6]), cells


def test_ratios_are_taken_round_by_round_to_the_better_of_the_others(measured):
    found = measured["measured"]
    assert report.ratios(found, "decode", "ours float32", "float32") == pytest.approx([2.0, 1.25])
    assert report.ratios(found, "load", "ours float32", "float32") == [1.0, 1.0]
    assert report.ratios(found, "decode", "ours bfloat16", "bfloat16") == pytest.approx([3.0, 3.0])
    assert report.ratios(found, "decode", "ours float64", "float32") == []


def test_limits_are_those_of_the_matrices_that_a_token_passes(measured):
    matrices = 12 * (4 * 768**2 + 2 * 768 * 3072 + 768**2)
    limits = report.limits(measured, "float32")
    assert limits["decode"] == pytest.approx(522e8 / (4 * (matrices + 50277 * 768)))
    assert limits["prefill 1024"] == pytest.approx(131e9 / (matrices + 50277 * 768 / 1024))
    assert report.limits(measured, "bfloat16") == {}


def test_the_page_has_a_section_for_each_processor_and_says_what_did_not_run(measured, tmp_path):
    other = measured | {"machine": measured["machine"] | {"processor": "sundial"}}
    (tmp_path / "sundial.json").write_text(json.dumps(other))
    (tmp_path / "abacus.json").write_text(json.dumps(measured))
    (tmp_path / "book.json").write_text(
        json.dumps(
            {
                "processor": "quipu",
                "cores": 2,
                "stages": {"install": 61.0, "execute": 300.4, "render": 40.0, "rebuild": 50.0},
                "chapters": [{"title": "Training", "seconds": 120.5, "bytes": 345678}],
            }
        )
    )
    report.write_page(tmp_path, tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert page.index("## abacus") < page.index("### float32") < page.index("### bfloat16") < page.index("## sundial")
    assert "rwkv bfloat16 did not run: `KeyError: 'x'`" in page
    assert "abacus with 2 cores, threads for each: 1, load average before the start: 0.4" in page
    assert "1.62 (1.25 to 2.00) | 100 |" in page
    assert "Measured on quipu with 2 cores" in page
    assert "| execute all chapters | 300 |" in page and "| Training | 120.5 | 346 |" in page
    assert page.count('<figure class="rwkv-figure">') == 2 and page.count("<svg") == 4  # for desk and phone, in place
    blocks = [block for block in page.split("\n\n") if "<svg" in block]
    assert all("<style>" in block and "</figure>" in block for block in blocks)  # HTML ends at a blank line


def test_without_measurements_the_page_says_so(tmp_path):
    report.write_page(tmp_path, tmp_path)
    assert (tmp_path / "performance.md").read_text().count("*Not measured yet.*") == 3


def test_the_training_benchmark_trains_all_ways_alike(tmp_path, monkeypatch, capsys):
    out = tmp_path / "training.json"
    sizes = "--turns 2 --layers 1 --channels 16 --rows 2 --length 32".split()
    monkeypatch.setattr(sys, "argv", ["training.py", "--out", str(out), *sizes])
    script("training").main()
    ways = json.loads(out.read_text())["measured"]
    losses = [way["last loss"] for way in ways.values()]
    assert len(losses) == 3 and max(losses) - min(losses) < 0.01
    assert ways["parallel.py under autograd"]["times as fast, median of the turns"] == 1
    assert all(way["tokens a second, wall"] > 0 for way in ways.values())
