"""RWKV-4, 5, 6, 7 and a Transformer trained side by side: `make memories`, chapter "Where RWKV went next".

The rule, fixed before the runs of the record:

- **The same for all**: channels, heads, layers, optimizer, steps, batch, and, seed by seed, the very same sequences.
  Parameters of a block agree within half a percent: an MLP is as wide as the time mixing before it leaves room.
- **The learning rate**: each architecture is trained on each task with every rate of `LEARNING_RATES` and the
  validation seed, 0. The rate with the highest mean accuracy on the *trained* difficulties is kept.
- **The seeds**: 1, 2, 3 and so on give the start, the training and the test sequences. Seed 0 counts no further.
- **Difficulty**: training mixes difficulties. Tests go beyond them: more pairs, more tellings, four times the length.
- **What may be said**: an architecture *solves* a difficulty if every seed is right in at least 95 percent of the
  answers. It is *ahead* of another one if its worst seed is above the other's best. Nothing else is a difference.
- **What stands beside it**: chance, what a simple guess would give, and how many numbers each memory holds.

A sixth model is no published one: RWKV-7 with rates up to 2 instead of 1, on the third task alone. It tests the
explanation that theory gives for that task (Grazzi et al. 2024, https://arxiv.org/abs/2411.12537): a transition that
mirrors, with an eigenvalue of -1, can swap two cups, and one that at most removes cannot. The factor of 2 doubles the
rates at the start of training as well; the record has no run that separates the two, no nonlinear recurrent network,
and no eigenvalues of trained models.
"""

import argparse
import itertools
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from rwkv_explainer.lab.memories import ARCHITECTURES, SequenceModel, state_numbers
from rwkv_explainer.lab.memory_tasks import (
    LENGTH,
    SILENT,
    TASKS,
    Task,
    any_of_the_keys_values,
    any_told_value,
    start_cup_share,
)

__all__ = [
    "Cell",
    "Settings",
    "accuracies",
    "build",
    "compare",
    "is_ahead",
    "load_record",
    "measure",
    "solves",
    "table",
    "train",
]

LEARNING_RATES = (3e-3, 1e-2, 3e-2)
LIVE_RATE = 1e-2
SOLVED = 0.95
BINS = ((1, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, 127))  # cups are scored over these tokens, first to last
RECORD = "memories.json"
MIRRORING = "RWKV-7, rates to 2"


@dataclass(frozen=True)
class Settings:
    """How every model is trained and tested."""

    steps: int = 1000
    batch: int = 32
    warmup: int = 50  # steps in which the learning rate rises
    cooldown: float = 0.3  # share of the steps in which it falls to 0
    clip: float = 1.0  # the gradient's largest norm
    tested: int = 128  # sequences for each difficulty
    channels: int = 32
    heads: int = 2
    layers: int = 1
    block: int = 12_800  # parameters


QUICK = Settings(steps=3, batch=4, tested=4)


# ---------------------------------------------------------------------------------------------------------------------
# one model


def build(task: Task, architecture: str, settings: Settings) -> SequenceModel:
    """An untrained model for the task, in float32 whatever the default."""
    sizes = settings.channels, settings.heads, settings.layers, settings.block
    return SequenceModel(architecture, task.vocabulary, task.answers, *sizes).float()


def train(
    task: Task, architecture: str, learning_rate: float, seed: int, settings: Settings = Settings()
) -> SequenceModel:
    """A model trained on the task. The seed decides its start and its sequences, the latter alike for all."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = build(task, architecture, settings)
        random = Generator().manual_seed(1_000_000 + seed)
        optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), fused=True)
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * schedule(step, settings)
            ids, answers = task.batch(random, settings.batch)
            loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), answers.flatten(), ignore_index=SILENT)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
    return model


def schedule(step: int, settings: Settings) -> float:
    """The learning rate as a share of its maximum: linear warmup, constant, linear decay."""
    return min(1.0, (step + 1) / settings.warmup, (settings.steps - step) / (settings.cooldown * settings.steps))


@torch.no_grad()
def accuracies(model: SequenceModel, task: Task, seed: int, settings: Settings = Settings()) -> list[list[float]]:
    """The share of right answers, a row for each difficulty that is asked: one number, or for cups one for each bin."""
    rows = []
    for n, difficulty in enumerate(task.asked):
        random = Generator().manual_seed(2_000_000 + 1000 * seed + n)
        ids, answers = task.draw(random, settings.tested, *difficulty)
        right = (model(ids).argmax(dim=-1) == answers).double()  # (tested, time)
        spans = (
            [right[:, first : last + 1] for first, last in BINS] if task.name == "cups" else [right[answers != SILENT]]
        )
        rows.append([round(span.mean().item(), 3) for span in spans])
    return rows


def trained_score(task: Task, rows: Sequence[Sequence[float]]) -> float:
    """The mean accuracy over the difficulties that the task is trained on, by which a learning rate is chosen."""
    if task.name == "cups":
        kept = [share for row in rows for (_, last), share in zip(BINS, row) if last <= LENGTH]
    else:
        kept = [row[0] for difficulty, row in zip(task.asked, rows) if difficulty in task.trained]
    return sum(kept) / len(kept)


def learn_live(
    architectures: Sequence[str] = ("RWKV-5", "RWKV-7"), task: str = "overwriting", steps: int = 300, seed: int = 0
) -> dict[str, list[list[float]]]:
    """A small run for a chapter: each architecture's accuracies after a few steps, as `accuracies` gives them.

    With the defaults, processor time on an AMD EPYC was 3.5 seconds for RWKV-5 and 7.5 for RWKV-7, tests included.
    """
    settings = Settings(steps=steps)
    models = {name: train(TASKS[task], name, LIVE_RATE, seed, settings) for name in architectures}
    return {name: accuracies(model, TASKS[task], seed, settings) for name, model in models.items()}


# ---------------------------------------------------------------------------------------------------------------------
# all models, one file for each that is finished


@dataclass(frozen=True)
class Cell:
    """One training run."""

    task: str
    architecture: str
    learning_rate: float
    seed: int


def measure(cell: Cell, settings: Settings, folder: Path) -> dict:
    """What this run gave: from its file in the folder, or from training now. A file is written whole or not at all."""
    words = cell.task, *cell.architecture.replace(",", "").split(), f"{cell.learning_rate:g}", cell.seed, settings.steps
    path, asked = folder / f"{'-'.join(map(str, words))}.json", {**asdict(cell), **asdict(settings)}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["asked"] == asked:
            return found
    started, task = time.process_time(), TASKS[cell.task]
    model = train(task, cell.architecture, cell.learning_rate, cell.seed, settings)
    found = {
        "asked": asked,
        "accuracy": accuracies(model, task, cell.seed, settings),
        "cpu_seconds": round(time.process_time() - started, 1),
    }
    write_whole(path, json.dumps(found))
    return found


def write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def compared(task: str) -> list[str]:
    """The architectures that are trained on a task."""
    return [name for name in ARCHITECTURES if name != MIRRORING or task == "cups"]


Scores = dict[str, dict[str, float | None]]  # by architecture, then by learning rate


def choose_rates(tasks: Iterable[str], rates: Sequence[float], settings: Settings, folder: Path) -> dict[str, Scores]:
    """The validation seed's score for each task, architecture and learning rate. A single rate needs no score."""
    scores: dict[str, Scores] = {}
    for task in tasks:
        scores[task] = {}
        for architecture in compared(task):
            scores[task][architecture] = {}
            for rate in rates:
                score = None
                if len(rates) > 1:
                    found = measure(Cell(task, architecture, rate, seed=0), settings, folder)
                    score = round(trained_score(TASKS[task], found["accuracy"]), 4)
                    print(f"{task}: {architecture}, learning rate {rate:g}: {score:.3f}", flush=True)
                scores[task][architecture][f"{rate:g}"] = score
    return scores


def best_rate(scores: dict[str, float | None]) -> float:
    return float(max(scores, key=lambda rate: scores[rate] or 0.0))


def compare(
    seeds: int,
    tasks: Sequence[str],
    settings: Settings,
    folder: Path,
    out: Path,
    rates: Sequence[float] = LEARNING_RATES,
) -> dict:
    """Choose the rates, then train seed after seed. The record is written anew whenever a seed is through a task."""
    scores, record = choose_rates(tasks, rates, settings, folder), {}
    runs: dict = {task: {architecture: [] for architecture in compared(task)} for task in tasks}
    for seed, task in itertools.product(range(1, seeds + 1), tasks):
        for architecture, finished in runs[task].items():
            found = measure(Cell(task, architecture, best_rate(scores[task][architecture]), seed), settings, folder)
            finished.append(found["accuracy"])
            print(f"seed {seed}, {task}: {architecture}: {found['accuracy']}", flush=True)
        record = make_record(scores, runs, settings, folder)
        write_whole(out, in_lines(record))
    return record


# ---------------------------------------------------------------------------------------------------------------------
# the record


def make_record(scores: dict, runs: dict, settings: Settings, folder: Path) -> dict:
    """All that the chapter shows: how it was done, what stands beside it, and every seed's accuracies."""
    runs = {task: finished for task, finished in runs.items() if any(finished.values())}
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    seconds = sum(cell["cpu_seconds"] for cell in cells if cell["asked"].items() >= asdict(settings).items())
    return {
        "command": "make memories",
        "settings": asdict(settings)
        | {"solved": SOLVED, "bins": [list(span) for span in BINS], "trained_length": LENGTH},
        "machine": f"{platform.machine()}, 1 thread, PyTorch {torch.__version__}",
        "cpu_seconds": round(seconds),
        "architectures": {name: describe(name, settings) for name in ARCHITECTURES},
        "tasks": {name: describe_task(TASKS[name]) for name in runs},
        "learning_rates": scores,
        "accuracy": runs,
    }


def describe(architecture: str, settings: Settings) -> dict[str, int]:
    """Sizes of a model: the parameters of its blocks, and the numbers it remembers after 16 and after 64 tokens."""
    model = build(TASKS["recall"], architecture, settings)
    return {
        "block_parameters": sum(p.numel() for p in model.blocks.parameters()),
        "parameters": sum(p.numel() for p in model.parameters()),
        "hidden": model.blocks[0].mlp[0].out_features,
        **{f"state_after_{tokens}": state_numbers(model, tokens) for tokens in (16, 64)},
    }


def describe_task(task: Task) -> dict:
    """What was asked, and what guessing would give, difficulty by difficulty."""
    if task.name == "cups":
        guess = [[start_cup_share(cups, first, last) for first, last in BINS] for cups, _ in task.asked]
        chance = [1 / cups for cups, _ in task.asked]
    else:
        guess = [
            [any_told_value(keys) if times == 1 else any_of_the_keys_values(times)] for keys, times, _ in task.asked
        ]
        chance = [1 / task.answers] * len(task.asked)
    return {
        "asked": [list(difficulty) for difficulty in task.asked],
        "trained": [list(difficulty) for difficulty in task.trained],
        "chance": [round(share, 4) for share in chance],
        "guess": [[round(share, 4) for share in row] for row in guess],
    }


def in_lines(record: dict, indent: int = 1) -> str:
    """The record as JSON, with every list of numbers on one line."""

    def written(value: object, depth: int) -> str:
        if not isinstance(value, dict):
            return json.dumps(value)
        pad = "\n" + " " * indent * (depth + 1)
        return (
            "{"
            + ",".join(f"{pad}{json.dumps(key)}: {written(v, depth + 1)}" for key, v in value.items())
            + pad[:-1]
            + "}"
        )

    return written(record, 0) + "\n"


def load_record() -> dict:
    """The record that this repository carries."""
    return json.loads((files("rwkv_explainer") / "data" / RECORD).read_text(encoding="utf-8"))


def spread(runs: Sequence[Sequence[Sequence[float]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Over seeds: the mean, the lowest and the highest accuracy, each (difficulties, bins)."""
    every = torch.tensor(runs, dtype=torch.float64)  # (seeds, difficulties, bins)
    return every.mean(dim=0), every.amin(dim=0), every.amax(dim=0)


def solves(record: dict, task: str, architecture: str) -> Tensor:
    """Where every seed is right in at least 95 percent: (difficulties, bins), of truth values."""
    _, low, _ = spread(record["accuracy"][task][architecture])
    return low >= record["settings"]["solved"]


def is_ahead(record: dict, task: str, architecture: str, other: str) -> Tensor:
    """Where the worst seed of one architecture is above the best seed of another: (difficulties, bins)."""
    _, low, _ = spread(record["accuracy"][task][architecture])
    _, _, high = spread(record["accuracy"][task][other])
    return low > high


def table(record: dict, task: str) -> str:
    """One task's accuracies as Markdown: the mean over the seeds, with the lowest and the highest."""
    asked, bins = record["tasks"][task]["asked"], record["settings"]["bins"]
    if task == "cups":
        heads = [f"{cups} cups, {first} to {last}" for cups, _ in asked for first, last in bins]
    else:
        heads = [f"{keys} keys, told {times}x" for keys, times, _ in asked]
    lines = [f"| {task} | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for architecture, runs in record["accuracy"][task].items():
        cells = zip(*(part.flatten().tolist() for part in spread(runs)))
        row = [f"{mean:.0%} ({low:.0%} to {high:.0%})" for mean, low, high in cells]
        lines.append(f"| {architecture} | " + " | ".join(row) + " |")
    guess = [share for row in record["tasks"][task]["guess"] for share in row]
    return "\n".join([*lines, "| guessing | " + " | ".join(f"{share:.0%}" for share in guess) + " |"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train four generations of memories and a Transformer on three tasks.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--rates", type=float, nargs="+", default=LEARNING_RATES, help="learning rates to choose from")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything: does it run?")
    parser.add_argument("--runs", type=Path, default=Path("runs/memories"), help="where finished runs are kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "data" / RECORD)
    args = parser.parse_args()
    if args.quick and args.out == parser.get_default("out"):
        parser.error("--quick: expected --out with another file, for the record is the book's")
    torch.set_num_threads(1)
    settings = QUICK if args.quick else replace(Settings(), steps=args.steps)
    record = compare(args.seeds, args.tasks, settings, args.runs, args.out, args.rates)
    print("\n".join(table(record, task) for task in args.tasks))


if __name__ == "__main__":
    main()
