"""A step of training beside the plain way: time-parallel mode under autograd, in half precision by autocast.

    python benchmarks/training.py

Each turn takes the same batch through each way, one after the other: loss, gradient, clipping and the optimizer's step.
What counts is the ratio within a turn, by the time that the processor spent on it, so that what other programs take
does not count. The losses of all ways are compared at the end: they have trained alike.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rwkv_explainer.lab.training import initialize, parameter_groups
from rwkv_explainer.lab.training_step import compiled_parts, loss_of
from rwkv_explainer.model import RWKVLM, RWKVConfig
from rwkv_explainer.parallel import read_logits

RESULTS = Path(__file__).parent / "results" / "training.json"
PLAIN, DERIVED, COMPILED = "parallel.py under autograd", "derived gradients", "derived gradients, compiled parts"


def plain_loss(model: RWKVLM, ids: Tensor, precision: torch.dtype) -> Tensor:
    """What the trainer's loss was before it had a step of its own."""
    model.clear_buffers()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        logits = read_logits(model, ids[:, :-1])  # (rows, length, vocabulary)
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


class Way:
    """A model and its optimizer, trained by one of the losses."""

    def __init__(self, loss: Callable[..., Tensor], sizes: RWKVConfig, precision: torch.dtype):
        self.loss, self.precision, self.losses = loss, precision, []
        self.seconds: dict[str, list[float]] = {"wall": [], "processor": []}
        self.model = RWKVLM.from_config(sizes).float()
        initialize(self.model, seed=0)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model), 3e-3, (0.9, 0.99), weight_decay=0.0, fused=True
        )

    def step(self, ids: Tensor) -> None:
        """One step of training on these ids: (rows, length + 1)."""
        wall, processor = time.perf_counter(), time.process_time()
        loss = self.loss(self.model, ids, self.precision)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(loss.item())
        self.seconds["wall"].append(time.perf_counter() - wall)
        self.seconds["processor"].append(time.process_time() - processor)


def name_processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in {"turns": 12, "layers": 8, "channels": 256, "rows": 8, "length": 256, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    precision = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    sizes, parts = RWKVConfig(8192, args.channels, args.layers, 4 * args.channels), compiled_parts()
    compiled_loss = lambda *inputs: loss_of(*inputs, parts)
    ways = {
        name: Way(loss, sizes, precision)
        for name, loss in {PLAIN: plain_loss, DERIVED: loss_of, COMPILED: compiled_loss}.items()
    }
    random = torch.Generator().manual_seed(0)
    words = torch.randint(8192, (64, 16), generator=random)  # the text: phrases of 16 tokens, drawn at random
    for _ in range(args.turns + 1):
        phrases = torch.randint(64, (args.rows, args.length // 16 + 1), generator=random)
        ids = words[phrases].flatten(1)[:, : args.length + 1]  # (rows, length + 1)
        for way in ways.values():
            way.step(ids)
    tokens = args.rows * args.length
    summary = {}
    for name, way in ways.items():
        wall, processor = (way.seconds[clock][1:] for clock in ("wall", "processor"))  # the first turn compiles
        plain = ways[PLAIN].seconds["processor"][1:]
        summary[name] = {
            "tokens a second, wall": round(tokens / statistics.median(wall)),
            "tokens a second of the processor": round(tokens / statistics.median(processor)),
            "times as fast, median of the turns": round(statistics.median(p / s for p, s in zip(plain, processor)), 3),
            "last loss": round(way.losses[-1], 4),
        }
    machine = {
        "processor": name_processor(),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "torch": torch.__version__,
        "precision": str(precision),
        "load": round(os.getloadavg()[0], 1),
    }
    kept = {"machine": machine, "arguments": {k: v for k, v in vars(args).items() if k != "out"}, "measured": summary}
    args.out.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
