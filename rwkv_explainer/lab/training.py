"""Trains a small RWKV-4 on a text and the atlas. Its first version made the bundled model.

    python -m rwkv_explainer.lab.training --help

The data's way: text -> documents -> a part held out -> tokens -> rows -> batches. Every batch is a function of the seed
and the step alone, whatever the number of processes, so a run that was stopped goes on exactly where it was.

Until its learning rate begins to fall, a run does not depend on how many steps it is to have. So a larger --steps, or
another --cooldown, gives it another end: before the cool-down it just goes on, and after it, it starts again from
`before_cooldown.pt`. With --cooldown-now it ends early. With --from it goes on where another run ended, in a folder of
its own and by a recipe of its own. `record.py` keeps what the model knows while it is trained, and `choices.py` says
which decisions are those of RWKV-4's authors.
"""

import argparse
import csv
import hashlib
import json
import lzma
import math
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm

from rwkv_explainer.checkpoints import load_weights, save_weights
from rwkv_explainer.lab.atlas import all_facts, load_atlas, sample_text
from rwkv_explainer.lab.choices import as_markdown, choices
from rwkv_explainer.lab.record import Recorder, is_moment, is_traced, write_whole
from rwkv_explainer.lab.training_step import compiled_parts, loss_of
from rwkv_explainer.model import RWKVLM, StableWKVMemory
from rwkv_explainer.piece import RWKVConfig
from rwkv_explainer.tokens import END_OF_TEXT, END_OF_TEXT_ID

__all__ = [
    "ATLAS_ALONE",
    "Corpus",
    "Recipe",
    "Run",
    "bundle",
    "initialize",
    "learning_rate",
    "make_batch",
    "make_row",
    "parameter_groups",
    "prepare",
    "read_checkpoint",
    "read_documents",
    "split_documents",
    "train_tokenizer",
]

CHECKPOINT, BEFORE_COOLDOWN = "checkpoint.pt", "before_cooldown.pt"  # a run's last state, and the last at full rate
START = "start.safetensors"  # the weights of another run, from which this one goes on
RUNNING_EXAMPLES = (
    "The Eiffel Tower is located in the city of Paris.",
    "Drosophila melanogaster: a species of Drosophila.",
)
SPELLED = 500  # times that the tokenizer is trained on each
TEXTBOOKS = "6b8e08ce7719c29df9ea246a226f4e9cfea4734f740516560b8255e5e60600a7"  # sha256 of the bundled model's text


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out of training, beside the text; the bundled model's is in its card."""

    layers: int = 8
    channels: int = 256
    vocabulary: int = 8192
    rows: int = 8  # runs of text in a batch
    length: int = 512  # tokens in a row
    atlas_share: float = 0.17  # of the tokens that are atlas sentences
    steps: int = 20_000
    start: int = 0  # steps that its weights have behind them when it begins; more than 0 with --from
    warmup: int = 100  # steps over which the learning rate rises
    cooldown: float = 0.3  # part of the steps, at the end, over which it falls to zero
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    clip: float = 1.0  # longest gradient that is taken as it is
    held_out: float = 0.02  # part of the documents that training never sees
    seed: int = 0
    relations: str = ""  # of the atlas, with commas between them; all without any

    @property
    def spoken(self) -> tuple[str, ...]:
        """The relations by name; none means all."""
        return tuple(self.relations.split(",")) if self.relations else ()

    def __post_init__(self) -> None:
        for name, (low, high) in POSSIBLE.items():
            if not low <= (value := getattr(self, name)) <= high:
                wanted = f"{low} or more" if high == math.inf else f"{low} to {high}"
                raise ValueError(f"{name}: expected {wanted}, got {value}")


POSSIBLE = {  # the least and the most of it that can be trained with
    "layers": (0, math.inf),
    "channels": (2, math.inf),
    "rows": (1, math.inf),
    "length": (1, math.inf),
    "vocabulary": (257, 2**16),  # every byte and the end of text; what a corpus' uint16 holds
    "steps": (1, math.inf),
    "start": (0, math.inf),
    "warmup": (0, math.inf),
    "cooldown": (0, 1),
    "atlas_share": (0, 1),
    "held_out": (0, 1),
    "seed": (0, math.inf),
}

ATLAS_ALONE = Recipe(  # for training without a text: small, and done in minutes
    layers=2,
    channels=96,
    vocabulary=1024,
    length=64,
    steps=2000,
    warmup=50,
    learning_rate=5e-3,
    relations="landmark-city,genus-species",
)


# ---------------------------------------------------------------------------------------------------------------------
# text to tokens


def read_documents(path: Path | None) -> list[str]:
    """The documents of a text file (.txt or .txt.xz), one empty line between them. No path: no documents.

    Raises:
        ValueError: if there is no such file, or it is not whole, or not text in UTF-8.
    """
    if path is None:
        return []
    opened = lzma.open if path.suffix == ".xz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            documents = [document.strip() for document in file.read().split("\n\n")]
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a text file in UTF-8, or one packed as .xz, got: {error}") from error
    return [document for document in documents if document]


def split_documents(documents: list[str], held_out: float) -> tuple[list[str], list[str]]:
    """Documents to train on and documents held out. A document's side depends on its own text alone."""

    def is_held_out(document: str) -> bool:
        return int.from_bytes(hashlib.sha256(document.encode()).digest()[:4]) < held_out * 2**32

    return [d for d in documents if not is_held_out(d)], [d for d in documents if is_held_out(d)]


def train_tokenizer(documents: list[str], recipe: Recipe) -> Tokenizer:
    """A byte-level BPE, trained on the training mixture: the documents, and the atlas at its share.

    Among two thousand facts the names of the book's running examples are too rare to become tokens, so it hears them
    `SPELLED` times more. The model does not: training speaks of them as often as of any other fact.
    """
    rng = np.random.default_rng(recipe.seed)
    alone = not documents or recipe.atlas_share == 1
    size = 1_000_000 if alone else sum(map(len, documents)) * recipe.atlas_share / (1 - recipe.atlas_share)

    def texts() -> Iterator[str]:
        yield from documents
        yield from RUNNING_EXAMPLES * SPELLED
        characters = 0
        while characters < size:
            text = sample_text(rng, 1, recipe.spoken)
            characters += len(text)
            yield text

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


@dataclass(frozen=True)
class Corpus:
    """All training documents as one run of ids, and the places at which a paragraph starts."""

    ids: np.ndarray  # (tokens,) uint16
    paragraphs: np.ndarray  # (paragraphs,) int64

    @classmethod
    def from_documents(cls, documents: list[str], tokenizer: Tokenizer) -> "Corpus":
        """Each document, its lines as paragraphs, with an end of text behind it."""
        ids, paragraphs = [np.zeros(0, np.uint16)], []
        at = 0
        for document in documents:
            lines = [line + "\n" for line in document.split("\n")]
            for encoding in tokenizer.encode_batch(lines) + [None]:
                part = np.array(encoding.ids if encoding else [END_OF_TEXT_ID], np.uint16)
                if encoding:
                    paragraphs.append(at)
                ids.append(part)
                at += len(part)
        return cls(np.concatenate(ids), np.array(paragraphs, np.int64))


# ---------------------------------------------------------------------------------------------------------------------
# tokens to batches


def make_batch(corpus: Corpus, tokenizer: Tokenizer, recipe: Recipe, step: int, rows: range) -> Tensor:
    """Rows of a step's batch, each of `recipe.length` + 1 ids: (rows, length + 1)."""
    return torch.from_numpy(np.stack([make_row(corpus, tokenizer, recipe, step, row) for row in rows])).long()


def make_row(corpus: Corpus, tokenizer: Tokenizer, recipe: Recipe, step: int, row: int) -> np.ndarray:
    """A stretch of the corpus, half of the time from a paragraph's start. Half of the rows have atlas texts set in.

    So the atlas is no mode of its own: its sentences stand among prose, and prose goes on after them.
    """
    rng = np.random.default_rng([recipe.seed, step, row])
    n = recipe.length + 1
    if not len(corpus.ids) or recipe.atlas_share == 1:
        return atlas_row(tokenizer, rng, n, recipe.spoken)
    start = rng.integers(len(corpus.ids) - n)
    if rng.random() < 0.5:
        start = min(int(rng.choice(corpus.paragraphs)), len(corpus.ids) - n)
    size = min(1.0, 2 * recipe.atlas_share) * n
    texts = atlas_texts(tokenizer, rng, size, recipe.spoken) if rng.random() < 0.5 else []
    end = start + max(2, n - sum(map(len, texts)))
    if not texts:
        return corpus.ids[start:end].astype(np.int64)
    first, last = np.searchsorted(corpus.paragraphs, [start + 1, end])
    places = corpus.paragraphs[first:last] - start  # at which a paragraph starts, inside the row
    return set_in(corpus.ids[start:end], places, texts, tokenizer.encode("\n").ids, rng)[:n].astype(np.int64)


def atlas_texts(
    tokenizer: Tokenizer, rng: np.random.Generator, size: float, spoken: tuple[str, ...] = ()
) -> list[list[int]]:
    """Texts of one to four atlas sentences, most of one, that come to about `size` tokens together."""
    texts, length = [], 0
    while length < size:
        sentences = int(rng.choice([1, 1, 1, 1, 1, 1, 2, 2, 3, 4]))
        texts.append(tokenizer.encode(sample_text(rng, sentences, spoken)).ids)
        length += len(texts[-1]) + 1
    return texts


def set_in(
    ids: np.ndarray, places: np.ndarray, texts: list[list[int]], newline: list[int], rng: np.random.Generator
) -> np.ndarray:
    """The row with texts put in between its paragraphs, or anywhere if it has only one.

    Three of four stand alone, between end-of-text tokens, the fourth is a paragraph of the prose around it. Half of the
    rows begin with a text, as a prompt does: nothing stands before it.
    """
    places = places if len(places) else rng.integers(1, len(ids), size=2)
    put: dict[int, list[int]] = {}
    if rng.random() < 0.5:
        put[0] = [*texts.pop(), 0]
    for text in texts:
        there = put.setdefault(int(rng.choice(places)), [])
        alone = rng.random() < 0.75
        there += [*([0] if alone and there[-1:] != [0] else []), *text, *([0] if alone else newline)]
    cuts = sorted(put)
    pieces = np.split(ids, cuts)
    whole = [pieces[0], *(part for cut, piece in zip(cuts, pieces[1:]) for part in (put[cut], piece))]
    return np.concatenate(whole)  # at least as long as the row and the texts


def atlas_row(tokenizer: Tokenizer, rng: np.random.Generator, n: int, spoken: tuple[str, ...] = ()) -> np.ndarray:
    """Short texts of one to three atlas sentences, with end-of-text tokens between them."""
    ids: list[int] = []
    while len(ids) < n:
        ids += tokenizer.encode(sample_text(rng, int(rng.integers(1, 4)), spoken)).ids + [END_OF_TEXT_ID]
    return np.array(ids[:n], np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# the model before its first step


@torch.no_grad()
def initialize(model: RWKVLM, seed: int) -> None:
    """Set every parameter as RWKV-4's own training code does; the paper's appendix on initialization says why.

    The matrices that write to the residual stream start at zero, so at first every block is an identity. Decays and
    mixes are laid out by channel and layer, from local to lasting, instead of at random. One seed is one start: what is
    drawn is drawn in float32, whatever the model's dtype.
    """

    def draw(weight: Tensor, how: Callable[..., Tensor], *limits: float) -> None:
        weight.copy_(how(torch.empty(weight.shape, dtype=torch.float32), *limits))

    torch.manual_seed(seed)
    config = model.config
    draw(model.embedding.embedding.weight, nn.init.uniform_, -1e-4, 1e-4)  # tiny: the first steps can turn it anywhere
    spread = 0.5 * math.sqrt(config.vocab_size / config.channels)
    draw(model.unembedding.unembedding.weight, nn.init.orthogonal_, spread)
    channel = torch.arange(config.channels) / config.channels  # (channels,), from 0 to just below 1
    for i, block in enumerate(model.blocks):
        depth = i / max(1, config.n_layer - 1)  # 0 for the first block, 1 for the last
        attention, mlp = block.attention, block.gated_mlp
        for matrix in (attention.key, attention.receptance, attention.output, mlp.value, mlp.receptance):
            nn.init.zeros_(matrix.weight)
        draw(attention.value.weight, nn.init.orthogonal_)
        draw(mlp.key.weight, nn.init.orthogonal_, math.sqrt(config.intermediate_size / config.channels))
        even = torch.arange(config.channels) / (config.channels - 1)  # (channels,), from 0 to 1
        attention.memory.log_decay.copy_(-5 + 8 * even ** (0.7 + 1.3 * depth))
        zigzag = (torch.arange(config.channels) + 1) % 3 - 1  # 0, 1, -1, 0, 1, -1, ...
        attention.memory.log_gain.copy_(math.log(0.3) + 0.5 * zigzag)
        rest = 1 - i / config.n_layer  # 1 for the first block, towards 0 for the last
        attention.key_mixer.weight.copy_(channel**rest)
        attention.value_mixer.weight.copy_(channel**rest + 0.3 * depth)
        attention.receptance_mixer.weight.copy_(channel ** (rest / 2))
        mlp.mlp_mixer.weight.copy_(channel**rest)
        mlp.receptance_mixer.weight.copy_(channel**rest)


# ---------------------------------------------------------------------------------------------------------------------
# the loop


RATES = {"memory.log_decay": 2.0, "memory.log_gain": 3.0}  # times the learning rate, by the end of a parameter's name


def parameter_groups(model: RWKVLM) -> list[dict]:
    """The parameters for the optimizer, by their share of the learning rate, which each group holds as `scale`."""
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in model.named_parameters():
        scale = next((scale for end, scale in RATES.items() if name.endswith(end)), 1.0)
        groups.setdefault(scale, []).append(parameter)
    return [{"params": parameters, "scale": scale} for scale, parameters in groups.items()]


def plain_steps(recipe: Recipe) -> int:
    """The steps before the cool-down. Until then, a run is the same whatever the number of steps it is to have."""
    return int(recipe.steps - recipe.cooldown * recipe.steps)


def learning_rate(recipe: Recipe, step: int) -> float:
    """As a factor of the recipe's: up a ramp, along a plain, down a ramp."""
    up = (step + 1 - recipe.start) / max(1, recipe.warmup)
    down = (recipe.steps - step) / max(1.0, recipe.cooldown * recipe.steps)
    return min(1.0, up, down)


class Run:
    """A training run in a folder: its data, model, optimizer, log and last checkpoint."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        corpus_path: Path | None,
        rank: int = 0,
        workers: int = 1,
        compiled: bool = False,
    ):
        if workers > recipe.rows:
            raise ValueError(f"workers: expected at most one a row, got {workers} for {recipe.rows} rows; name fewer")
        self.folder, self.recipe, self.rank, self.workers = folder, recipe, rank, workers
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        fast_cpu = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not in every PyTorch
        self.precision = torch.bfloat16 if self.device.type == "cuda" or fast_cpu() else torch.float32
        self.tokenizer, self.corpus, self.held_out = prepare(folder, recipe, corpus_path)
        sizes = RWKVConfig(self.tokenizer.get_vocab_size(), recipe.channels, recipe.layers, 4 * recipe.channels)
        self.model = RWKVLM.from_config(sizes).float()
        initialize(self.model, recipe.seed)
        self.model.to(self.device)
        self.parts = compiled_parts() if compiled else None
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model), recipe.learning_rate, (0.9, 0.99), 1e-8, recipe.weight_decay, fused=True
        )
        self.recorder = None  # the first process has one
        if rank == 0:
            self.recorder = Recorder(
                folder, self.tokenizer, self.held_out.ids, self.precision, recipe.seed, recipe.spoken
            )
        self.step = recipe.start  # steps taken so far
        if (folder / CHECKPOINT).exists():
            self.resume()
        elif (folder / START).exists():
            self.model.load_state_dict(load_weights(folder / START))

    def resume(self) -> None:
        """Go on from the folder's checkpoint; a run of another recipe is refused, but for its steps and cool-down.

        A checkpoint whose cool-down has begun belongs to its number of steps and the part of them that it takes. For
        others, the run goes on from the checkpoint that it kept before the cool-down.
        """
        saved = read_checkpoint(self.folder, self.device)
        before = Recipe(**saved["recipe"])
        any_end = {"steps": 0, "cooldown": 0.0}
        ours, theirs = asdict(self.recipe) | any_end, asdict(before) | any_end
        if ours != theirs:
            raise ValueError(
                f"{self.folder}/checkpoint.pt was made with another recipe: expected {ours}, got "
                f"{theirs}; {OTHER_FOLDER}"
            )
        same_end = (before.steps, before.cooldown) == (self.recipe.steps, self.recipe.cooldown)
        if not same_end and saved["step"] > plain_steps(before):
            saved = read_checkpoint(self.folder, self.device, BEFORE_COOLDOWN)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]

    def save(self, name: str = CHECKPOINT) -> None:
        """Write the checkpoint beside the old one, then swap: whenever we are killed, a whole one is there."""
        new = self.folder / f"{name}.new"
        torch.save(
            {
                "step": self.step,
                "recipe": asdict(self.recipe),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            new,
        )
        with open(new, "rb") as file:
            os.fsync(file.fileno())
        os.replace(new, self.folder / name)

    def train(self, save_every: int, check_every: int) -> None:
        """Take every step that is left, with log lines, the record and checkpoints now and then."""
        if self.rank == 0:  # what a killed process or a shorter run has left
            self.recorder.forget_after(self.step)
            write_whole(self.folder / "log.csv", as_csv(self.log_lines(self.step)))
        self.record(check_every)
        losses, started = [], time.monotonic()
        progress = {"initial": self.step, "total": self.recipe.steps, "mininterval": 5, "disable": self.rank > 0}
        for loss in tqdm(self.steps(), **progress):
            losses.append(loss)
            last = self.step == self.recipe.steps
            self.record(check_every)
            if self.rank == 0 and (self.step % check_every == 0 or last):
                now = time.monotonic()
                self.log(sum(losses) / len(losses), now - started)
                losses, started = [], now
            if self.rank == 0 and (self.step % save_every == 0 or last):
                self.save()

    def record(self, every: int) -> None:
        """Keep this moment, if the record or a later, longer run wants it."""
        if self.rank:
            return
        if self.step == plain_steps(self.recipe):
            self.save(BEFORE_COOLDOWN)
        last = self.step == self.recipe.steps
        if last or is_moment(self.step, every):
            self.recorder.write(self.model, self.step, is_traced(self.step, every, self.recipe.steps))

    def steps(self) -> Iterator[float]:
        """Take the steps that are left, one whenever asked for the next, and give the loss that it found."""
        mine = range(self.rank, self.recipe.rows, self.workers)
        while self.step < self.recipe.steps:
            ids = make_batch(self.corpus, self.tokenizer, self.recipe, self.step, mine).to(self.device)
            loss = self.take_step(ids)
            self.step += 1
            yield loss

    def take_step(self, ids: Tensor) -> float:
        """One step of the optimizer on these rows, and on those of the other processes.

        Raises:
            FloatingPointError: if the loss or the gradient is not a finite number; the model is left as it was.
        """
        loss = loss_of(self.model, ids, self.precision, self.parts)
        self.check_finite("loss", loss)
        self.optimizer.zero_grad()
        (loss * len(ids) / self.recipe.rows).backward()  # the mean over all rows is the sum over the processes
        parameters = list(self.model.parameters())
        if self.workers > 1:
            gradients = torch.cat([p.grad.flatten() for p in parameters])
            dist.all_reduce(gradients)
            for p, gradient in zip(parameters, gradients.split([p.numel() for p in parameters])):
                p.grad.copy_(gradient.view_as(p))
        self.check_finite("gradient's length", nn.utils.clip_grad_norm_(parameters, self.recipe.clip))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * learning_rate(self.recipe, self.step) * group["scale"]
        self.optimizer.step()
        return loss.item()

    def check_finite(self, what: str, number: Tensor) -> None:
        """Refuse to go on from here with anything but finite numbers: step, rows, and what to do."""
        if not number.isfinite():
            mine = list(range(self.rank, self.recipe.rows, self.workers))
            raise FloatingPointError(
                f"step {self.step}, rows {mine}: the {what} is {number.item()}; the last "
                f"checkpoint in {self.folder} is sound; start anew with a smaller --learning-rate"
            )

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """The loss on the first rows of the held-out documents, in nats a token."""
        n = self.recipe.length + 1
        rows = [self.held_out.ids[i : i + n] for i in range(0, len(self.held_out.ids) - n, n)][:16]
        if not rows:
            return math.nan
        ids = torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.device)  # (rows, length + 1)
        return loss_of(self.model, ids, self.precision).item()

    def log(self, loss: float, seconds: float) -> None:
        """Add a line to the folder's log. Lines on steps still to come, left by a killed process, go."""
        tokens = self.step * self.recipe.rows * self.recipe.length
        rate = self.recipe.learning_rate * learning_rate(self.recipe, self.step - 1)
        held_out = self.held_out_loss()
        line = [self.step, tokens, f"{loss:.4f}", f"{held_out:.4f}", f"{rate:.2e}", f"{seconds:.1f}"]
        write_whole(self.folder / "log.csv", as_csv([*self.log_lines(self.step - 1), line]))

    def log_lines(self, until: int) -> list[list]:
        """The log's first line, and those on steps until this one."""
        path = self.folder / "log.csv"
        lines = list(csv.reader(path.read_text().splitlines()))[1:] if path.exists() else []
        columns = ["step", "tokens", "loss", "held_out_loss", "learning_rate", "seconds"]
        return [columns, *(line for line in lines if int(line[0]) <= until)]


def as_csv(lines: list[list]) -> str:
    """Lines of a table, without quotes: there is nothing to quote."""
    return "".join(",".join(map(str, line)) + "\n" for line in lines)


OTHER_FOLDER = "name another folder with --out, or delete this one"


def prepare(
    folder: Path, recipe: Recipe, corpus_path: Path | None, start: Path | None = None
) -> tuple[Tokenizer, Corpus, Corpus]:
    """Tokenizer, training corpus and held-out corpus: made once, then kept in the run's folder.

    With `start`, a folder that `bundle` wrote, tokenizer, weights, record and log are taken from there.

    Raises:
        ValueError: if the folder holds the data of another text or recipe, or the text is not there, cannot be read,
            or is shorter than a row.
    """
    if corpus_path and not corpus_path.is_file():
        raise ValueError(f"corpus: expected a text file, there is none at {corpus_path}; paths start from {Path.cwd()}")
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "data.json"
    sha256 = hashlib.sha256(corpus_path.read_bytes()).hexdigest() if corpus_path else None
    made_with = {name: getattr(recipe, name) for name in ("vocabulary", "atlas_share", "held_out", "seed")}
    if not done.exists():
        kept, held_out = split_documents(read_documents(corpus_path), recipe.held_out)
        if start:
            take_over(start, folder, recipe)
        elif recipe.start:
            raise ValueError(f"start: expected 0 for untrained weights, got {recipe.start}; name theirs with --from")
        tokenizer = Tokenizer.from_file(str(start / "tokenizer.json")) if start else train_tokenizer(kept, recipe)
        tokenizer.save(str(folder / "tokenizer.json"))
        for name, documents in (("train", kept), ("held_out", held_out)):
            corpus = Corpus.from_documents(documents, tokenizer)
            np.savez(folder / f"{name}.npz", ids=corpus.ids, paragraphs=corpus.paragraphs)
        data = {"corpus": sha256, "documents": len(kept), "held_out_documents": len(held_out), "made_with": made_with}
        write_whole(done, json.dumps(data))
    data = json.loads(done.read_text())
    if corpus_path and data["corpus"] != sha256:
        raise ValueError(
            f"{folder} holds the data of another text: expected sha256 {data['corpus']}, got {sha256} for "
            f"{corpus_path}; {OTHER_FOLDER}"
        )
    if data.get("made_with", made_with) != made_with:
        raise ValueError(
            f"{folder} holds data made with another recipe: expected {made_with}, got "
            f"{data['made_with']}; {OTHER_FOLDER}"
        )
    arrays = (np.load(folder / f"{name}.npz") for name in ("train", "held_out"))
    train, held_out = (Corpus(a["ids"], a["paragraphs"]) for a in arrays)
    if corpus_path and len(train.ids) <= recipe.length + 1:
        raise ValueError(
            f"{corpus_path}: expected more than a row of {recipe.length + 1} tokens to train on, got "
            f"{len(train.ids)}; give a longer text, or shorter rows with --length"
        )
    return Tokenizer.from_file(str(folder / "tokenizer.json")), train, held_out


def take_over(start: Path, folder: Path, recipe: Recipe) -> None:
    """Copy a bundled model's weights, record and log into a run's folder, to go on from there.

    Raises:
        ValueError: if the folder lacks one of them, or the recipe does not say how many steps they have behind them.
    """
    names = {"model.safetensors": START, "record.jsonl": "record.jsonl", "log.csv": "log.csv"}
    if missing := [name for name in (*names, "tokenizer.json") if not (start / name).is_file()]:
        raise ValueError(f"from: expected a folder that --bundle wrote, got {start}, which lacks {', '.join(missing)}")
    if not 0 < recipe.start < recipe.steps:
        raise ValueError(
            f"start: expected the steps that the weights in {start} have behind them, 1 to {recipe.steps - 1}, got "
            f"{recipe.start}; log.csv there counts them"
        )
    sizes = RWKVLM.from_weights(load_weights(start / "model.safetensors")).config
    if (sizes.n_layer, sizes.channels) != (recipe.layers, recipe.channels):
        raise ValueError(
            f"{start}: expected a model of {recipe.layers} layers and {recipe.channels} channels, got {sizes.n_layer} "
            f"and {sizes.channels}; say so with --layers and --channels"
        )
    for name, ours in names.items():
        shutil.copy(start / name, folder / ours)


# ---------------------------------------------------------------------------------------------------------------------
# the result


def read_checkpoint(folder: Path, device: torch.device = torch.device("cpu"), name: str = CHECKPOINT) -> dict:
    """A run's last checkpoint: its `step`, `recipe`, `model` and `optimizer`, as `Run.save` wrote them."""
    return torch.load(folder / name, map_location=device, weights_only=True)


def steps_if_cooled_now(folder: Path) -> int:
    """With how many steps a run's cool-down would begin at its last checkpoint; if it has begun, those that it has."""
    saved = read_checkpoint(folder)
    recipe = Recipe(**saved["recipe"])
    if saved["step"] > plain_steps(recipe) or recipe.cooldown == 1:
        return recipe.steps
    return math.ceil(saved["step"] / (1 - recipe.cooldown))


def bundle(folder: Path, target: Path, workers: str, note: str = "") -> None:
    """Write a run's model, tokenizer and card into `target`, in the form that `load_pretrained` reads.

    Args:
        workers: what it was trained on, in words, for the card.
        note: what else the card should say of the training.
    """
    target.mkdir(parents=True, exist_ok=True)
    saved = read_checkpoint(folder)
    model = RWKVLM.from_weights(saved["model"])
    save_weights(model, target / "model.safetensors")
    (target / "model.safetensors").chmod(0o644)  # for whoever installs the package, not for us alone
    for name in ("tokenizer.json", "record.jsonl", "log.csv"):
        shutil.copy(folder / name, target / name)
    names = ("model.safetensors", "tokenizer.json")
    sums = (f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (target / "SHA256SUMS").write_text("".join(sums))
    data, recipe = json.loads((folder / "data.json").read_text()), saved["recipe"]
    with open(folder / "log.csv", newline="") as file:
        seconds = sum(float(line["seconds"]) for line in csv.DictReader(file))
    text, license = describe_text(data, len(np.load(folder / "train.npz")["ids"]))
    card = read_data("model_card.md").format(
        **asdict(model.config),
        parameters=sum(p.numel() for p in model.parameters()),
        text=text,
        license=license,
        note=note and f" {note}",
        facts=len(all_facts()),
        relations=len(load_atlas()),
        atlas_share=recipe["atlas_share"],
        recipe=json.dumps(recipe, indent=1),
        workers=workers,
        seconds=round(seconds),
        choices=as_markdown(choices(Recipe(**recipe))),
        tokens=saved["step"] * recipe["rows"] * recipe["length"],
    )
    (target / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def describe_text(data: dict, tokens: int) -> tuple[str, str]:
    """What a run has read beside the atlas, with credit where we know to whom, and what license follows from it."""
    if data["corpus"] is None:
        return "No text but the atlas.", "CC BY 4.0"
    known = data["corpus"] == TEXTBOOKS
    credit = read_data("textbooks_credit.md") if known else "Credit: name the text's authors here, and its license."
    return (
        f"**{'Textbooks' if known else 'A text'}**, {tokens:,} tokens, from {data['documents']:,} documents "
        f"({data['held_out_documents']} more were held out, chosen by\nthe hash of their own text before anything else "
        f"touched the data). Its file has the sha256\n`{data['corpus']}`.\n\n{credit.strip()}"
    ), "CC BY 4.0" if known else "as the text's license asks"


def read_data(name: str) -> str:
    """A text file of the package."""
    return resources.files("rwkv_explainer").joinpath("data", name).read_text(encoding="utf-8")


def show(folder: Path) -> None:
    """Let a run's model go on with the book's running example, and print what it says."""
    model = RWKVLM.from_weights(read_checkpoint(folder)["model"], memory_class=StableWKVMemory)
    model.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model.generate("The Eiffel Tower is located in the city of", N=3, temperature=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# the command


def work(rank: int, args: argparse.Namespace, recipe: Recipe) -> None:
    """One of the processes that train together."""
    if args.workers > 1:
        end_with_the_command()
        torch.set_num_threads(1)
        meeting = f"file://{(args.out / 'meeting').absolute()}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=args.workers)
    run = Run(args.out, recipe, args.corpus, rank, args.workers, args.compile)
    run.train(args.save_every, args.check_every)


def end_with_the_command() -> None:
    """End this process as soon as the one that started it is gone, however that ended.

    PyTorch asks for as much by SIGINT, which whatever a script has started in the background ignores: it would go on,
    and write into the folder beside the run that goes on from there.
    """
    command = os.getppid()

    def watch() -> None:
        while os.getppid() == command:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def at_least_one(text: str) -> int:
    """A number on the command line that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, got {text!r}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small RWKV-4 on a text and the atlas.")
    parser.add_argument("--corpus", type=Path, help="a text, .txt or .txt.xz; without it, the atlas alone")
    parser.add_argument("--out", type=Path, default=Path("runs/textbook"), help="its folder; a stopped run goes on")
    parser.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="go on from the model bundled there")
    parser.add_argument("--workers", type=at_least_one, default=1, help="processes that share each batch")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fuse the elementwise parts, half a minute at the start; default: with a corpus",
    )
    parser.add_argument(
        "--cooldown-now",
        action="store_true",
        help="end early: begin the cool-down at the last checkpoint, with as many steps as that takes",
    )
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="write the trained model there, with its card")
    parser.add_argument("--note", default="", help="with --bundle: what else the card should say of the training")
    parser.add_argument("--save-every", type=at_least_one, default=250, metavar="STEPS")
    parser.add_argument("--check-every", type=at_least_one, default=250, metavar="STEPS")
    for field in fields(Recipe):
        default = f"default: {field.default}, or {getattr(ATLAS_ALONE, field.name)} without a corpus"
        parser.add_argument("--" + field.name.replace("_", "-"), type=field.type, help=default)
    args = parser.parse_args()
    given = {field.name: value for field in fields(Recipe) if (value := getattr(args, field.name)) is not None}
    if args.compile is None:
        args.compile = args.corpus is not None
    try:
        if args.cooldown_now:
            given["steps"] = steps_if_cooled_now(args.out)
        recipe = replace(Recipe() if args.corpus else ATLAS_ALONE, **given)
        prepare(args.out, recipe, args.corpus, args.source)
    except ValueError as error:
        parser.error(str(error))
    (args.out / "meeting").unlink(missing_ok=True)
    if args.workers > 1:
        torch.multiprocessing.spawn(work, (args, recipe), nprocs=args.workers)
    else:
        work(0, args, recipe)
    show(args.out)
    if args.bundle:
        bundle(args.out, args.bundle, f"{args.workers} x {platform.processor() or platform.machine()}", args.note)


if __name__ == "__main__":
    main()
