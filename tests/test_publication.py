"""What those who publish the book start from: the workflow, and the paper for a journal, agree with the repository."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = (ROOT / ".github/workflows/book.yml").read_text("utf-8")
JOBS = yaml.safe_load(WORKFLOW)["jobs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PAPER = (ROOT / "paper/paper.md").read_text("utf-8")


def test_the_workflow_calls_targets_that_there_are():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    called = set(re.findall(r"run: make ([a-z-]+)", WORKFLOW))
    assert {"book", "test"} <= called <= targets


@pytest.mark.parametrize(
    "pattern", sorted(set(re.findall(r"'([^']+)'", " ".join(re.findall(r"hashFiles\((.*?)\)", WORKFLOW)))))
)
def test_a_cache_hangs_on_files_that_there_are(pattern):
    """Where no file fits, the forge's `hashFiles` gives an empty string, and a cache is never renewed."""
    listed = subprocess.run(["git", "ls-files", "--", f":(glob){pattern}"], cwd=ROOT, capture_output=True, text=True)
    assert listed.stdout, listed.stderr


def test_the_workflow_keeps_and_publishes_what_the_build_writes():
    steps = {step.get("name"): step for step in JOBS["test"]["steps"]}
    assert steps["Keep executed chapters"]["with"]["path"] == "_build/.jupyter_cache"
    assert '".jupyter_cache"' in (ROOT / "book/_ext/execution_cache.py").read_text("utf-8")
    book = re.search(r"^BOOK := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.M)[1]
    assert steps["Hand the pages over"]["with"]["path"] == book


def test_the_workflow_tests_the_oldest_python():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    versions = JOBS["test"]["strategy"]["matrix"]["python"]
    assert oldest == versions[0] == JOBS["package"]["steps"][1]["with"]["python-version"]
    assert f"matrix.python == '{oldest}'" in WORKFLOW, "the pages come from another version"


def test_the_paper_cites_what_its_bibliography_has():
    """Each entry as the book has it, and none that the paper does not cite."""
    cited = set(re.findall(r"@([a-z]+\d{4}[a-z]+)", PAPER))
    paper, book = parse_file(ROOT / "paper/paper.bib").entries, parse_file(ROOT / "book/references.bib").entries
    assert set(paper) == cited
    assert {key: paper[key] for key in cited} == {key: book[key] for key in cited}


def test_the_paper_has_what_the_journal_asks_for():
    headings = re.findall(r"^# (.+)$", PAPER, re.M)
    asked = [
        "Summary",
        "Statement of need",
        "Learning objectives",
        "Content",
        "Instructional design",
        "How to adopt it",
    ]
    asked += ["Experience of use", "The story of the project", "References"]
    assert headings == asked
    assert len(PAPER.partition("\n# Summary")[2].split()) <= 1000


def test_the_paper_names_files_that_there_are():
    names = set(re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:md|cff|toml))`", PAPER))
    assert names and [name for name in names if not (ROOT / name).exists()] == []


def test_the_paper_counts_the_chapters():
    words = ["twelve", "thirteen", "fourteen", "fifteen", "sixteen"]
    number = words[len(list((ROOT / "book").glob("*.ipynb"))) - 12]
    assert re.findall(r"\b(\w+) chapters", PAPER)[0].lower() == number
