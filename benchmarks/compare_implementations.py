"""This package, the architecture's own `rwkv`, and transformers' RWKV, side by side on one random checkpoint.

    python benchmarks/compare_implementations.py           the whole run, a quarter of an hour on two quiet cores
    python benchmarks/compare_implementations.py --quick   a small model and two rounds, to see whether it works

The checkpoint has the 169M's shape and random numbers, and is written once, in each contestant's own layout. Every
contestant lives in a process of its own, and only one works at any time: each round goes through all of them, so that
whatever else the machine does hits all alike. What counts is the ratio within a round. Results are written after every
round; `report.py` makes the book's page of them.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import re
import tempfile
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
WHOLE = {"layers": 12, "channels": 768, "vocabulary": 50277}
SMALL = {"layers": 2, "channels": 64, "vocabulary": 500}
PROMPT, DECODED, PREFILLS = 32, 16, (256, 1024)  # tokens
INSTRUCTIONS = "amx_bf16", "avx512_bf16", "avx512f", "avx2"  # for products, the widest first
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


# ---------------------------------------------------------------------------------------------------------------------
# the checkpoint


def write_checkpoints(folder: Path, sizes: dict[str, int]) -> None:
    """One random model in float32 and in bfloat16: as upstream's .pth, and as a folder for transformers."""
    from safetensors.torch import save_file

    from rwkv_explainer.checkpoints import keys_of, upstream_weights

    weights = upstream_weights(random_model(**sizes))
    for name in ("float32", "bfloat16"):
        stored = {key: tensor.to(DTYPES[name]).contiguous() for key, tensor in weights.items()}
        torch.save(stored, folder / f"{name}.pth")
        converted = {
            key.hf_name.format(i=i): stored[key.upstream_name.format(i=i)] for key, i in keys_of(sizes["layers"])
        }
        (folder / name).mkdir()
        save_file(converted, folder / name / "model.safetensors", metadata={"format": "pt"})
        config = {
            "architectures": ["RwkvForCausalLM"],
            "model_type": "rwkv",
            "vocab_size": sizes["vocabulary"],
            "hidden_size": sizes["channels"],
            "intermediate_size": 4 * sizes["channels"],
            "num_hidden_layers": sizes["layers"],
            "rescale_every": 0,
            "tie_word_embeddings": False,
        }  # unless told not to rescale, it divides its weights in place
        (folder / name / "config.json").write_text(json.dumps(config))


@torch.no_grad()
def random_model(layers: int, channels: int, vocabulary: int):
    """A model whose numbers are random, of a size that keeps the keys within a few units."""
    from rwkv_explainer.model import RWKVLM
    from rwkv_explainer.piece import RWKVConfig

    model = RWKVLM.from_config(RWKVConfig(vocabulary, channels, layers, 4 * channels))
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("log_decay"):
            parameter.uniform_(-6, 0.7, generator=random)
        elif "mixer" in name:
            parameter.uniform_(0, 1, generator=random)
        elif parameter.dim() == 2:
            parameter.normal_(0, parameter.shape[1] ** -0.5, generator=random)
    return model


# ---------------------------------------------------------------------------------------------------------------------
# the contestants: each loads, forgets, reads a text, and steps; the last two give the logits after the last token


class Ours:
    def __init__(self, folder: Path, dtype: str):
        from rwkv_explainer import load_pretrained

        stored = "bfloat16" if dtype == "bfloat16" else "float32"
        self.load = lambda: load_pretrained(folder / f"{stored}.pth", DTYPES[dtype])[0]

    def start(self) -> None:
        self.model = self.load()

    def forget(self) -> None:
        self.model.clear_buffers()

    def read(self, ids: list[int]) -> torch.Tensor:
        return self.model.read(ids, last_only=True).log()  # equal to the logits but for a constant

    def step(self, token: int) -> torch.Tensor:
        return self.model(token)


class Rwkv:
    def __init__(self, folder: Path, dtype: str):
        from rwkv.model import RWKV  # with TorchScript, as it comes

        strategy = {"float32": "cpu fp32", "bfloat16": "cpu bf16"}[dtype]
        self.load = lambda: RWKV(model=str(folder / dtype), strategy=strategy, verbose=False)

    def start(self) -> None:
        self.model, self.state = self.load(), None

    def forget(self) -> None:
        self.state = None

    def read(self, ids: list[int]) -> torch.Tensor:
        logits, self.state = self.model.forward(ids, self.state)
        return logits

    def step(self, token: int) -> torch.Tensor:
        return self.read([token])


class Transformers:
    def __init__(self, folder: Path, dtype: str):
        from transformers import RwkvForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.load = lambda: RwkvForCausalLM.from_pretrained(folder / dtype, dtype=DTYPES[dtype]).eval()

    def start(self) -> None:
        self.model, self.state = self.load(), None

    def forget(self) -> None:
        self.state = None

    def read(self, ids: list[int]) -> torch.Tensor:
        out = self.model.rwkv(torch.tensor([ids]), state=self.state, use_cache=True)
        self.state = out.state
        return self.model.head(out.last_hidden_state[0, -1])  # for the last token alone, as the others do

    def step(self, token: int) -> torch.Tensor:
        return self.read([token])


class Limits:
    """What the machine allows: how fast memory is read, and how fast matrices are multiplied."""

    def __init__(self, folder: Path, dtype: str):
        self.dtype = DTYPES[dtype]

    def start(self) -> None:
        self.memory = torch.ones(64_000_000)  # more than any cache holds
        self.left, self.right = torch.ones(1024, 3072, dtype=self.dtype), torch.ones(3072, 3072, dtype=self.dtype)

    def bandwidth(self) -> float:
        """Bytes a second, the best of three."""
        return self.memory.nbytes / min(seconds(self.memory.sum) for _ in range(3))

    def matrix_rate(self) -> float:
        """Multiply-adds a second, the best of three."""
        return 1024 * 3072 * 3072 / min(seconds(lambda: self.left @ self.right) for _ in range(3))


@dataclass(frozen=True)
class Entry:
    kind: type
    dtype: str


ENTRIES = {
    f"{name} {dtype}": Entry(kind, dtype)
    for name, kind, dtypes in (
        ("ours", Ours, ("float32", "bfloat16", "float64")),
        ("rwkv", Rwkv, ("float32", "bfloat16")),
        ("transformers", Transformers, ("float32", "bfloat16")),
        ("limits", Limits, ("float32", "bfloat16")),
    )
    for dtype in dtypes
}


# ---------------------------------------------------------------------------------------------------------------------
# in the contestant's process


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory() -> int:
    """The most bytes that this process ever held, its libraries and all mapped files that it touched included."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()  # Linux
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except FileNotFoundError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS, in bytes


@torch.inference_mode()
def live(pipe: Connection, entry: Entry, folder: Path, threads: int, vocabulary: int) -> None:
    """Do what the pipe says, one thing after the other, and answer with how long it took."""
    os.environ["RWKV_JIT_ON"], os.environ["RWKV_CUDA_ON"] = "1", "0"
    torch.set_num_threads(threads)
    ids = torch.randint(vocabulary, (max(PREFILLS),), generator=torch.Generator().manual_seed(1)).tolist()
    try:
        contestant = entry.kind(folder, entry.dtype)
        gc.freeze()  # one of them collects garbage again and again while it loads, and would look at all imports
        tasks = {
            "load": lambda: seconds(contestant.start),
            "first token": lambda: seconds(lambda: contestant.read(ids[:PROMPT])),
            "logits": lambda: centered(contestant.read(ids[PROMPT : 2 * PROMPT])).tolist(),
            "decode": lambda: seconds(lambda: [contestant.step(token) for token in ids[:DECODED]]) / DECODED,
            "peak memory": peak_memory,
            **{
                f"prefill {n}": lambda n=n: (contestant.forget(), seconds(lambda: contestant.read(ids[:n])) / n)[1]
                for n in PREFILLS
            },
            "bandwidth": lambda: contestant.bandwidth(),
            "matrix rate": lambda: contestant.matrix_rate(),
        }
        pipe.send("ready")
        while (task := pipe.recv()) != "stop":
            pipe.send(tasks[task]())
    except Exception:
        pipe.send(RuntimeError(traceback.format_exc(limit=-3)))


def centered(logits: torch.Tensor) -> torch.Tensor:
    return logits.double() - logits.double().mean()


# ---------------------------------------------------------------------------------------------------------------------
# in the one that asks


class Process:
    """A contestant at the other end of a pipe."""

    def __init__(self, name: str, folder: Path, threads: int, vocabulary: int):
        context = multiprocessing.get_context("spawn")  # its memory is its own from the first byte
        self.pipe, theirs = context.Pipe()
        args = theirs, ENTRIES[name], folder, threads, vocabulary
        self.process = context.Process(target=live, args=args, daemon=True)
        self.process.start()
        theirs.close()
        self.answer()

    def ask(self, task: str):
        self.pipe.send(task)
        return self.answer()

    def answer(self):
        answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> None:
        self.pipe.send("stop")
        self.process.join()


class Record:
    """All measurements, by contestant and task, on the disk after every round."""

    def __init__(self, path: Path, args: argparse.Namespace, sizes: dict[str, int]):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.data = {"machine": machine(args.threads), "sizes": sizes, "rounds": args.rounds}
        self.data |= {"failed": {}, "measured": {}}

    def add(self, name: str, task: str, value: float) -> None:
        self.data["measured"].setdefault(name, {}).setdefault(task, []).append(value)

    def save(self) -> None:
        self.path.write_text(json.dumps(self.data, indent=1) + "\n")


def processor_name() -> str:
    """The maker's name of this processor, and its widest instructions: one name covers several generations."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    said: dict[str, str] = {}
    for key, _, value in (line.partition(":") for line in lines):
        said.setdefault(key.strip(), value.strip())  # the first processor's: all are alike
    name, flags = said.get("model name", platform.processor() or platform.machine()), said.get("flags", "").split()
    return ", ".join([name, *[flag.upper() for flag in INSTRUCTIONS if flag in flags][:1]])


def machine(threads: int) -> dict[str, str | float]:
    """What it was measured on and with, and how much else went on there."""
    packages = {package: version(package) for package in ("torch", "rwkv", "transformers")}
    counts = {"cores": os.cpu_count(), "threads": threads, "load": os.getloadavg()[0]}
    return {"processor": processor_name(), **counts, "python": platform.python_version(), **packages}


def measure_starts(names: list[str], record: Record, start) -> list[str]:
    """Load time, first token and peak memory, each round in fresh processes. Gives the contestants that ran."""
    ran = list(names)
    for number in range(record.data["rounds"]):
        for name in list(ran):
            try:
                process = start(name)
                load = process.ask("load")
                record.add(name, "load", load)
                record.add(name, "first token", load + process.ask("first token"))
                process.ask(f"prefill {max(PREFILLS)}")
                process.ask("decode")
                record.add(name, "peak memory", process.ask("peak memory"))
                process.stop()
            except RuntimeError as error:
                print(f"{name} does not run:\n{error}", flush=True)
                record.data["failed"][name] = str(error).strip().splitlines()[-1]
                ran.remove(name)
        record.save()
        print(f"starts, round {number + 1} of {record.data['rounds']}", flush=True)
    return ran


def measure_speeds(names: list[str], record: Record, start) -> None:
    """Decode and prefill, round by round, all contestants loaded."""
    dtypes = {ENTRIES[name].dtype for name in names}
    limits = {name: start(name) for name in ENTRIES if name.startswith("limits") and ENTRIES[name].dtype in dtypes}
    running = {name: start(name) for name in names}
    for process in (limits | running).values():
        process.ask("load")
    agreement(running, record)
    for number in range(record.data["rounds"] + 1):  # the first one warms up
        for task in ("decode", *(f"prefill {n}" for n in PREFILLS)):
            for name, process in running.items():
                value = process.ask(task)
                if number:
                    record.add(name, task, value)
        for name, process in limits.items():
            for task in ("bandwidth", "matrix rate"):
                value = process.ask(task)
                if number:
                    record.add(name, task, value)
        record.save()
        print(f"speeds, round {number} of {record.data['rounds']}", flush=True)
    for process in (limits | running).values():
        process.stop()


def agreement(running: dict[str, Process], record: Record) -> None:
    """How far each contestant's logits are from ours in float64, which does the same work as they do, or should."""
    for process in running.values():
        process.ask("first token")
    logits = {name: torch.tensor(process.ask("logits"), dtype=torch.float64) for name, process in running.items()}
    for name, theirs in logits.items():
        distance = (theirs - logits["ours float64"]).abs().max().item()
        record.data.setdefault("distance", {})[name] = distance
        if distance > (0.5 if "bfloat16" in name else 1e-3):
            raise SystemExit(f"{name}: logits differ from ours in float64 by {distance}: not the same model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model, two rounds")
    parser.add_argument("--rounds", type=int, default=None, help="default: 9, or 2 with --quick")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for each contestant")
    parser.add_argument("--only", nargs="+", choices=[n for n in ENTRIES if not n.startswith("limits")], default=None)
    parser.add_argument("--out", type=Path, default=None, help="default: a file named after the processor")
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 9)
    sizes = SMALL if args.quick else WHOLE
    path = args.out or RESULTS / f"{'-'.join(re.findall('[a-z0-9]+', processor_name().lower()))}.json"
    record = Record(path, args, sizes)
    names = args.only or [name for name in ENTRIES if not name.startswith("limits")]
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoints(Path(folder), sizes)
        start = lambda name: Process(name, Path(folder), args.threads, sizes["vocabulary"])
        names = measure_starts(names, record, start)
        measure_speeds(names, record, start)


if __name__ == "__main__":
    main()
