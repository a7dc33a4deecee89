"""Can each claim fail? The chapters run on the book's model, and on models that were altered on purpose.

    python tools/claims.py [CHAPTER ...] [--other RUN]    what `make claims` calls

A claim says something of the model only if some alteration breaks it. For each one it prints whether it holds and which
alterations break it, then one line a chapter, and at last what is to be mended: a claim that nothing breaks is to be
made precise, or its sentence taken out. A theorem is to hold on every model, and so is what a record shows: each has a
control of its own. All of it is also in _build/claims.json.
"""

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from safetensors.torch import load_file, save_file
from torch import Tensor

from rwkv_explainer.checkpoints import BUNDLED
from rwkv_explainer.claims import METADATA
from rwkv_explainer.generation import print_anywhere

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
TIMEOUT = 1200  # seconds a cell may take
CELL_THAT_CLAIMS = re.compile(r"^\s*(claim|theorem|recorded|measured)\(", re.MULTILINE)

Weights = dict[str, Tensor]  # as they lie in a checkpoint, under the names of the architecture's own code


# ---------------------------------------------------------------------------------------------------------------------
# the alterations


def layers_of(weights: Weights) -> int:
    """The number of blocks."""
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))


def silence(weights: Weights, matrix: str) -> Weights:
    """The middle layer's piece adds nothing: its last matrix is zero."""
    name = f"blocks.{(layers_of(weights) - 1) // 2}.{matrix}"
    return weights | {name: torch.zeros_like(weights[name])}


def shuffle_embedding(weights: Weights, random: torch.Generator) -> Weights:
    """Every token goes in as another one. What comes out keeps its names."""
    table = weights["emb.weight"]  # (vocabulary, channels)
    return weights | {"emb.weight": table[torch.randperm(len(table), generator=random)]}


def shift_memories(weights: Weights) -> Weights:
    """Each layer's memory decays and gains as the next layer's does, and the last layer's as the first's."""
    layers = layers_of(weights)
    places = [
        (f"blocks.{i}.att.{name}", f"blocks.{(i + 1) % layers}.att.{name}")
        for i in range(layers)
        for name in ("time_decay", "time_first")
    ]
    return weights | {own: weights[next_layers] for own, next_layers in places}


def draw_weights(weights: Weights, random: torch.Generator) -> Weights:
    """Nothing was learned: every tensor of the same shape, drawn at random, decays from slow to fast."""

    def draw(name: str, tensor: Tensor) -> Tensor:
        new = torch.empty(tensor.shape, dtype=torch.float32)
        if "time_decay" in name:
            return new.uniform_(-6, 0.7, generator=random)
        if "time_mix" in name:
            return new.uniform_(0, 1, generator=random)
        if "ln" in name:
            return new.normal_(name.endswith("weight"), 0.2, generator=random)
        return new.normal_(0, tensor.shape[-1] ** -0.5, generator=random)

    return {name: draw(name, tensor) for name, tensor in weights.items()}


ALTERATIONS: dict[str, Callable[[Weights, torch.Generator], Weights]] = {
    "attention silenced in a middle layer": lambda weights, random: silence(weights, "att.output.weight"),
    "gated MLP silenced in a middle layer": lambda weights, random: silence(weights, "ffn.value.weight"),
    "embedding rows shuffled": shuffle_embedding,
    "decays and gains of the next layer": lambda weights, random: shift_memories(weights),
    "random weights": draw_weights,
}


def write_models(folder: Path, others: list[Path]) -> dict[str, str]:
    """What RWKV_EXPLAINER_MODEL is for each model, by the model's name: the book's own, its alterations, others."""
    weights = load_file(BUNDLED / "model.safetensors")
    models = {"the book's model": ""}
    for name, alter in ALTERATIONS.items():
        path = folder / name.replace(" ", "-") / "model.safetensors"
        path.parent.mkdir()
        altered = alter(weights, torch.Generator().manual_seed(0))
        save_file({key: tensor.half().contiguous() for key, tensor in altered.items()}, path)
        shutil.copy(BUNDLED / "tokenizer.json", path.parent)
        models[name] = str(path)
    return models | {f"another training run, {run.name}": str((run / "model.safetensors").absolute()) for run in others}


# ---------------------------------------------------------------------------------------------------------------------
# running a chapter


@dataclass
class Run:
    """One chapter on one model."""

    claims: dict[tuple[str, int], dict] = field(default_factory=dict)  # by cell, and by place among the cell's claims
    stop: str = ""  # the first cell that did not run, and why


PRELUDE = """\
import os
os.environ["RWKV_EXPLAINER_MODEL"] = {model!r}
get_ipython().run_line_magic("reset", "-f")"""  # one kernel for all models of a chapter: imports take the longest


def up_to_last_claim(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells of a chapter up to the last one that claims something: the others need not run."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    claiming = [i for i, cell in enumerate(cells) if CELL_THAT_CLAIMS.search(cell.source)]
    return cells[: claiming[-1] + 1] if claiming else []


def run_chapter(notebook: NotebookNode, models: dict[str, str]) -> dict[str, Run]:
    """A chapter on each of the models, in one kernel."""
    cells = up_to_last_claim(notebook)
    if not cells:
        return {name: Run() for name in models}
    runs = {name: Run(stop="it did not start") for name in models}
    client = NotebookClient(
        NotebookNode(notebook, cells=[nbformat.v4.new_code_cell(), *cells]),  # the first one chooses the model
        timeout=TIMEOUT,
        interrupt_on_timeout=True,
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
    )
    try:
        with client.setup_kernel():
            for name, model in models.items():
                runs[name] = run_on(client, model)
    except DeadKernelError as error:  # then all the models that were still to come did not start
        print(f"  the kernel died: {error}", flush=True)
    return runs


def run_on(client: NotebookClient, model: str) -> Run:
    """The client's notebook on one model."""
    run = Run()
    client.nb.cells[0].source = PRELUDE.format(model=model)
    for index, cell in enumerate(client.nb.cells):
        try:
            client.execute_cell(cell, index)
        except CellTimeoutError as error:
            run.stop = run.stop or f"{cell.id}: {str(error).strip().splitlines()[0]}"
        for output in cell.outputs:
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
                run.stop = run.stop or f"{cell.id}: {output.ename}: {output.evalue.splitlines()[0]:.100}"
        shown = [output.metadata[METADATA] for output in cell.outputs if METADATA in output.get("metadata", {})]
        run.claims |= {(cell.id, place): dict(claim) for place, claim in enumerate(shown)}
    return run


# ---------------------------------------------------------------------------------------------------------------------
# what comes of it


@dataclass
class Finding:
    """What happened to one claim."""

    cell: str
    gist: str
    mathematics: bool
    holds: bool
    broken_by: dict[str, str]  # by the alteration: whether the statement or the control failed
    not_reached: list[str]  # alterations on which the chapter stops before

    @property
    def unbroken(self) -> bool:
        """Whether it is about the model and yet nothing breaks it."""
        return not self.mathematics and not self.broken_by

    def __str__(self) -> str:
        kind = "theorem, " if self.mathematics else ""
        words = [f"{'✓' if self.holds else '✗'} {self.gist}", f"      {kind}cell {self.cell}"]
        words += [f"      broken by {name} ({what})" for name, what in self.broken_by.items()]
        if self.broken_by and "the statement" not in self.broken_by.values():
            words.append("      its condition never failed, only its control: does it say all that the sentence says?")
        words += [f"      not reached with {', '.join(self.not_reached)}"] * bool(self.not_reached)
        return "\n".join(words)


def compare(runs: dict[str, Run]) -> list[Finding]:
    """One finding for each claim of the first run, which is the book's own model."""
    own, *altered = runs
    return [
        Finding(
            cell=place[0],
            gist=claim["gist"],
            mathematics=any(claim[kind] for kind in ("mathematics", "of_record", "of_measurement")),  # not of the model
            holds=claim["holds"],
            broken_by={
                name: "the statement" if not runs[name].claims[place]["statement"] else "the control"
                for name in altered
                if place in runs[name].claims and not runs[name].claims[place]["holds"]
            },
            not_reached=[name for name in altered if place not in runs[name].claims],
        )
        for place, claim in runs[own].claims.items()
    ]


def summary(chapter: str, findings: list[Finding]) -> str:
    """The chapter's line."""
    holding, unbroken = (sum(map(what, findings)) for what in (lambda f: f.holds, lambda f: f.unbroken))
    return f"{chapter}: {len(findings)} claims, {holding} hold, {unbroken} that no alteration breaks"


def problems(findings: list[Finding], runs: dict[str, Run]) -> list[str]:
    """What is to be mended in a chapter."""
    own = next(iter(runs.values()))
    found = [f"stops on the book's model at {own.stop}"] if own.stop else []
    found += [f"does not hold: {f.gist}" for f in findings if not f.holds]
    found += [f"no alteration breaks it: {f.gist}" for f in findings if f.unbroken]
    found += [
        f"a theorem, and yet {next(iter(f.broken_by))} breaks it: {f.gist}"
        for f in findings
        if f.mathematics and f.broken_by
    ]
    return found


def chapters(names: list[str]) -> dict[str, NotebookNode]:
    """The chapters of these names, or all, as notebooks."""
    every = {path.stem: path for path in sorted(BOOK.glob("*.ipynb"))}
    if unknown := set(names) - every.keys():
        raise SystemExit(f"no chapter {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    return {name: nbformat.read(every[name], as_version=4) for name in names or every}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapters", nargs="*", help="names of chapters; all, if none is given")
    parser.add_argument(
        "--other",
        type=Path,
        action="append",
        default=[],
        help="the folder of a training run with the same recipe and another seed",
    )
    arguments = parser.parse_args()
    lines, to_mend, report = [], [], {}
    with TemporaryDirectory() as folder:
        models = write_models(Path(folder), arguments.other)
        for name, notebook in chapters(arguments.chapters).items():
            begin = time.perf_counter()
            runs = run_chapter(notebook, models)
            seconds = time.perf_counter() - begin
            findings = compare(runs)
            print_anywhere("\n  ".join([f"\n{name}, {seconds:.0f} seconds", *map(str, findings)]))
            stops = {model: run.stop for model, run in runs.items() if run.stop}
            for model, stop in stops.items():
                print(f"  with {model} the chapter stops at {stop}", flush=True)
            lines.append(summary(name, findings))
            to_mend += [f"{name}: {problem}" for problem in problems(findings, runs)]
            report[name] = {"seconds": round(seconds, 1), "stops": stops, "claims": [vars(f) for f in findings]}
    target = ROOT / "_build" / "claims.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print_anywhere("\n".join(["", *lines, *(["", "To mend:"] if to_mend else []), *to_mend]))
    sys.exit(bool(to_mend))


if __name__ == "__main__":
    main()
