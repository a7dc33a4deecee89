"""The book's own speed: from a clean checkout to its pages, again after a change, chapter by chapter.

    python benchmarks/book.py                       clones the repository, as committed, and builds it there
    python benchmarks/book.py --quick               two short chapters alone, in the environment that runs this
    python benchmarks/book.py --folder F            works in F and keeps it: stages that are behind it are not repeated

Execution is what the first build takes longer than one that finds all chapters executed. Needs git and make.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare_implementations import processor_name

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("attention-and-memory", "the-gated-mlp")
CHANGED = "the-gated-mlp"  # the chapter that gets one more comment


class Checkout:
    """A clone of the repository, and what was measured in it so far, on the disk after every stage."""

    def __init__(self, folder: Path, quick: bool):
        self.folder, self.quick, self.notes = folder, quick, folder / "stages.json"
        self.repository = folder / "repository"
        if not self.repository.exists():
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.repository)], check=True)
        if quick:
            self.cut_down()
        self.stages = json.loads(self.notes.read_text()) if self.notes.exists() else {}

    def cut_down(self) -> None:
        """Leave two chapters, and the pages that are no chapters out."""
        root, *others = QUICK
        chapters = "".join(f"  - file: {name}\n" for name in others)
        (self.repository / "_toc.yml").write_text(f"format: jb-book\nroot: {root}\nchapters:\n{chapters}")

    def stage(self, name: str, *command: str) -> None:
        """Run and time a command in the clone, unless that has been done."""
        if name in self.stages:
            return
        start = time.perf_counter()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        environment["PYTHONPATH"] = str(self.repository)
        subprocess.run(command, cwd=self.repository, check=True, env=environment)
        self.stages[name] = time.perf_counter() - start
        self.notes.write_text(json.dumps(self.stages, indent=1))
        print(f"{name}: {self.stages[name]:.0f} s", flush=True)

    def make(self, name: str, target: str, *variables: str) -> None:
        """A stage that is a target of the Makefile; a quick run builds with the environment that runs this."""
        environment = [f"VENV={Path(sys.prefix)}"] if self.quick else []
        self.stage(name, "make", target, *environment, *variables)

    def forget_pages(self) -> None:
        """Leave of a build what was executed, and nothing else."""
        for part in ("html", ".doctrees"):
            shutil.rmtree(self.repository / "_build" / part, ignore_errors=True)

    def change_a_chapter(self) -> None:
        """One more comment in a code cell: enough to run the chapter again."""
        path = self.repository / "book" / f"{CHANGED}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]
        cell["source"] = ["# changed\n", *"".join(cell["source"]).splitlines(keepends=True)]
        path.write_text(json.dumps(notebook), encoding="utf-8")

    def chapters(self) -> list[dict[str, str | float | int]]:
        """The chapters in their order: title, seconds to run, and the bytes of the page with the images it shows."""
        from jupyter_cache import get_cache

        html, found = self.repository / "_build" / "html", {}
        for folder in sorted((self.repository / "_build" / ".jupyter_cache").iterdir(), key=os.path.getmtime):
            for record in get_cache(folder).list_cache_records():
                page = html / f"{Path(record.uri).stem}.html"
                if page.exists():
                    text = page.read_text(encoding="utf-8")
                    images = {name for name in re.findall(r'src="_images/([^"]+)"', text)}
                    size = page.stat().st_size + sum((html / "_images" / name).stat().st_size for name in images)
                    title = re.search(r"<title>(.*?)\s*(?:—|&#8212;|</title>)", text, re.DOTALL)[1]
                    title = re.sub(r"^[\d. ]+", "", title)
                    found[page.name] = {"title": title, "seconds": record.data["execution_seconds"], "bytes": size}
        order = re.findall(r"(?:root|file): (\S+)", (self.repository / "_toc.yml").read_text())
        return [found[f"{name}.html"] for name in order if f"{name}.html" in found]


def measure(folder: Path, quick: bool, install: list[str]) -> dict:
    """All stages, and the chapters."""
    checkout = Checkout(folder, quick)
    if not quick:
        checkout.make("install", "install", *install)
    checkout.make("first build", "html")
    if "second build" not in checkout.stages:
        checkout.forget_pages()
    checkout.make("second build", "html")
    chapters = checkout.chapters()
    if "rebuild" not in checkout.stages:
        checkout.change_a_chapter()
    checkout.make("rebuild", "html")
    s = checkout.stages
    stages = {"execute": s["first build"] - s["second build"], "render": s["second build"], "rebuild": s["rebuild"]}
    machine = {"processor": processor_name(), "cores": os.cpu_count()}
    return machine | {"stages": {k: s[k] for k in ("install",) if k in s} | stages, "chapters": chapters}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="work here, keep it, and go on where an earlier run stopped")
    parser.add_argument("--torch-index", help="as make's TORCH_INDEX")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "book.json")
    args = parser.parse_args()
    install = [f"TORCH_INDEX={args.torch_index}"] if args.torch_index else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = measure(folder.resolve(), args.quick, install)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
