"""The record of a training run: what the model knew, said and remembered, every few hundred steps.

A run keeps it in its folder as `record.jsonl`: a first line that says what is asked, then a line for each moment.
Chapters draw from it how held-out text becomes predictable, how a fact is born, how the half-lives of a layer spread,
and in which layers and at which tokens a fact comes to lie.
"""

import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.checkpoints import BUNDLED
from rwkv_explainer.lab import atlas
from rwkv_explainer.lab.decay import half_lives
from rwkv_explainer.lab.tracing import ROLES, causal_trace, mean_by_role
from rwkv_explainer.lab.training_step import CrossEntropy, read_blocks
from rwkv_explainer.model import RWKVLM, StableWKVMemory
from rwkv_explainer.tokens import END_OF_TEXT_ID, begins_with_letter

__all__ = ["Record", "Recorder", "is_moment", "is_traced", "load_log", "load_record", "record_folder", "write_whole"]

FACTS = (  # asked for in these words at every moment, answers with their leading space
    ("The Eiffel Tower is located in the city of", " Paris"),
    ("Drosophila", " melanogaster"),
    ("The Colosseum is located in the city of", " Rome"),
    ("The capital of Japan is", " Tokyo"),
    ("Tokyo is the capital of", " Japan"),
    ("The capital of California is", " Sacramento"),
    ("The largest planet in the solar system is", " Jupiter"),
    ("Titan is a moon of", " Saturn"),
    ("Kenya is a country in", " Africa"),
    ("The symbol Ag stands for", " silver"),
    ("The chemical symbol of gold is", " Au"),
    ("Moby-Dick was written by", " Herman Melville"),
    ("Who wrote Hamlet? It was", " William Shakespeare"),
    ("The Mona Lisa was painted by", " Leonardo da Vinci"),
    ("Penicillin was discovered by", " Alexander Fleming"),
    ("A young cow is called a", " calf"),
)
PROMPTS = (  # what does it say after these words?
    "The Eiffel Tower is located in the city of",
    "Drosophila",
    "The capital of Japan is",
    "Who wrote Hamlet?",
    "The cell membrane",
    "In the early nineteenth century,",
)
TOWER = (*FACTS[0], "Eiffel Tower")  # prompt, answer, subject
SAID = 16  # tokens
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
MIXERS = {  # by the letters of the paper
    "mu_k": "attention.key_mixer",
    "mu_v": "attention.value_mixer",
    "mu_r": "attention.receptance_mixer",
    "mu_k'": "gated_mlp.mlp_mixer",
    "mu_r'": "gated_mlp.receptance_mixer",
}
EACH = 6  # questions of a relation, direction and kind of phrasing
TRACED = 20  # facts that are traced, the tower beside them
HELD_OUT = (20, 384)  # documents, and tokens of each: the sample on which bits a byte are recorded
EARLY = (0, 25, 50, 100, 150, 200, 300, 400, 500, 750)  # moments, whatever comes after
TRACES = 30  # traces in a run


def is_moment(step: int, every: int) -> bool:
    """Whether the record has a line for the model after this many steps."""
    return step in EARLY or step % every == 0


def is_traced(step: int, every: int, steps: int) -> bool:
    """Whether a moment's line has the traces too: most moments early on, in all about `TRACES` in a run."""
    return step in EARLY or step == steps or step % (every * max(1, round(steps / every / (TRACES - len(EARLY))))) == 0


# ---------------------------------------------------------------------------------------------------------------------
# what is asked


def questionnaire(seed: int, relations: tuple[str, ...] = ()) -> dict:
    """All that a record asks, drawn once: the record's first line, so that it stays the same when the atlas grows."""
    rng = np.random.default_rng([seed, 2**20])
    cells: dict[str, list] = {}
    asked_about = [question for name in relations or (None,) for question in atlas.questions(name)]
    for question in asked_about:
        name = "/".join((question.relation, question.direction, question.phrasing))
        cells.setdefault(name, []).append([question.prompt, atlas.direct_answer(question)])
    sample = {name: [asked[i] for i in sorted(rng.permutation(len(asked))[:EACH])] for name, asked in cells.items()}
    return {
        "facts": [list(fact) for fact in FACTS],
        "questions": sample,
        "prompts": list(PROMPTS),
        "traced": [list(TOWER), *random_facts(rng, asked_about)],
        "roles": list(ROLES),
        "quantiles": list(QUANTILES),
    }


def random_facts(rng: np.random.Generator, questions: Sequence[atlas.Question]) -> list[list[str]]:
    """A prompt, answer and subject each: facts asked forward, in phrasings trained on that spell the subject once."""
    asked = [
        [question.prompt, question.answer, question.fact.subject]
        for question in questions
        if (question.direction, question.phrasing) == ("forward", "seen")
        and question.prompt.count(question.fact.subject) == 1
    ]
    return [asked[i] for i in sorted(rng.permutation(len(asked))[:TRACED])]


# ---------------------------------------------------------------------------------------------------------------------
# how it answers


@dataclass(frozen=True)
class Answer:
    """How a model takes to one answer."""

    recalled: bool  # greedy, it gives every token of it, and then no further letter
    log_probability: float  # of the whole answer, in nats
    rank: int  # of the answer's first token among all tokens: 1 for the most probable


@torch.no_grad()
def answers(
    model: RWKVLM, tokenizer: Tokenizer, asked: Sequence[Sequence[str]], precision: torch.dtype, batch: int = 64
) -> list[Answer]:
    """How the model takes to each (prompt, answer), the answer with its leading space."""
    order = sorted(range(len(asked)), key=lambda i: len(asked[i][0]) + len(asked[i][1]))
    found: dict[int, Answer] = {}
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        prompts = [tokenizer.encode(asked[i][0]).ids for i in some]
        wanted = [tokenizer.encode(asked[i][1]).ids for i in some]
        runs = [torch.tensor(prompt + answer) for prompt, answer in zip(prompts, wanted)]
        x = read_blocks(model, torch.nn.utils.rnn.pad_sequence(runs), precision)  # (time, batch, channels)
        for column, (i, prompt, answer) in enumerate(zip(some, prompts, wanted)):
            moments = x[len(prompt) - 1 : len(prompt) + len(answer), column]  # (answer + 1, channels)
            found[i] = judge(model.unembedding.logits(moments).log_softmax(dim=-1), answer, tokenizer)
    return [found[i] for i in range(len(asked))]


def judge(logs: Tensor, answer: list[int], tokenizer: Tokenizer) -> Answer:
    """An `Answer` by the log-probabilities at each of its tokens and one after: (answer + 1, vocabulary)."""
    *said, after = logs.argmax(dim=-1).tolist()
    each = logs[range(len(answer)), answer]  # (answer,)
    rank = 1 + int((logs[0] > each[0]).sum())
    return Answer(said == answer and not begins_with_letter(after, tokenizer), each.sum().item(), rank)


@torch.no_grad()
def says(model: RWKVLM, tokenizer: Tokenizer, prompts: Sequence[str]) -> list[str]:
    """What the model writes after each of these prompts, greedy: `SAID` tokens. All prompts step together."""
    model.clear_buffers()
    runs = [tokenizer.encode(prompt).ids for prompt in prompts]
    lengths = [len(run) for run in runs]
    for t in range(max(lengths) + SAID - 1):
        greedy = model.logits(torch.tensor([run[t] for run in runs])).argmax(dim=-1)  # (prompts,)
        for run, token in zip(runs, greedy.tolist()):
            if len(run) == t + 1:  # the prompt is read
                run.append(token)
    return [tokenizer.decode(run[n : n + SAID], skip_special_tokens=False) for run, n in zip(runs, lengths)]


# ---------------------------------------------------------------------------------------------------------------------
# the record


class Recorder:
    """Writes a run's record. Whatever is asked is on the first line, so a run that goes on asks the same."""

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        held_out: np.ndarray,
        precision: torch.dtype,
        seed: int,
        relations: tuple[str, ...] = (),
    ):
        """Ask about these relations of the atlas, or without any about all.

        `held_out` are the ids of the held-out documents, each with an end of text behind it: (tokens,).
        """
        self.path, self.tokenizer, self.precision = folder / "record.jsonl", tokenizer, precision
        self.documents = np.split(held_out, np.flatnonzero(held_out == 0) + 1)[:-1]
        if not self.path.exists():
            write_whole(self.path, as_line(questionnaire(seed, relations)) + "\n")
        self.asked = json.loads(self.path.read_text(encoding="utf-8").partition("\n")[0])

    def write(self, model: RWKVLM, step: int, traced: bool) -> None:
        """Add the line of the model after this many steps, in place of any of this step or later."""
        self.forget_after(step - 1)
        line = as_line({"step": step} | self.measure(model, traced))
        write_whole(self.path, self.path.read_text(encoding="utf-8") + line + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the lines on later steps, which a killed process has left, or a run that ended earlier."""
        first, *lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        if len(kept) < len(lines):
            write_whole(self.path, "".join(line + "\n" for line in (first, *kept)))

    @torch.no_grad()
    def measure(self, model: RWKVLM, traced: bool) -> dict:
        """All numbers of a line; the model's own memory and gradients stay untouched."""
        model = RWKVLM.from_weights(
            {name: tensor.cpu() for name, tensor in model.state_dict().items()}, memory_class=StableWKVMemory
        )
        facts = answers(model, self.tokenizer, self.asked["facts"], torch.float32)
        line = {
            "bits": digits(self.bits(model)),
            "facts": [[digits(math.exp(fact.log_probability)), fact.rank] for fact in facts],
            "recall": self.recall(model),
            "half_lives": [quantiles(channels) for channels in half_lives(model)] if len(model.blocks) else [],
            "log_gain": [quantiles(block.attention.memory.log_gain) for block in model.blocks],
            "mixes": {
                name: [quantiles(block.get_submodule(place).weight)[1:-1] for block in model.blocks]
                for name, place in MIXERS.items()
            },
            "says": says(model, self.tokenizer, self.asked["prompts"]),
        }
        return line | ({"traces": self.traces(model)} if traced else {})

    def bits(self, model: RWKVLM) -> float:
        """Bits a byte on the beginnings of some held-out documents, each from an empty memory; NaN without any."""
        count, length = HELD_OUT
        step = max(1, len(self.documents) // count)
        beginnings = [document[:length].astype(np.int64) for document in self.documents[::step][:count]]
        if not beginnings:
            return math.nan
        size = sum(len(self.tokenizer.decode(ids.tolist()).encode()) for ids in beginnings)
        starting = [torch.tensor([END_OF_TEXT_ID, *ids]) for ids in beginnings]
        rows = torch.nn.utils.rnn.pad_sequence(starting)  # (time + 1, documents)
        x = read_blocks(model, rows[:-1], self.precision)  # (time, documents, channels)
        there = torch.nn.utils.rnn.pad_sequence([torch.ones(len(ids), dtype=torch.bool) for ids in beginnings])
        x = model.unembedding.normalize_unemb(x[there])  # (tokens, channels)
        matrix = model.unembedding.unembedding.weight  # (vocabulary, channels)
        loss = CrossEntropy.apply(x.to(self.precision), matrix.to(self.precision), rows[1:][there])
        nats = loss.item() * len(x)
        return nats / math.log(2) / size

    def recall(self, model: RWKVLM) -> list[list[float]]:
        """The share recalled and the answers' mean log-probability, by relation, direction and phrasing.

        In the order of the first line's `questions`.
        """
        cells = self.asked["questions"].values()
        found = iter(answers(model, self.tokenizer, [pair for cell in cells for pair in cell], self.precision))
        means = []
        for cell in cells:
            of_cell = [next(found) for _ in cell]
            share = sum(answer.recalled for answer in of_cell) / len(cell)
            means.append([digits(share), digits(sum(answer.log_probability for answer in of_cell) / len(cell))])
        return means

    def traces(self, model: RWKVLM) -> list[dict]:
        """For each traced fact the probability of its answer, clean and corrupted, and what each cell regains of it.

        In hundredths, by role and layer; None where the prompt has no token of a role.
        """
        found = []
        for prompt, answer, subject in self.asked["traced"]:
            trace = causal_trace(model, self.tokenizer, prompt, subject, answer, samples=1, progress=False, known=False)
            regained = mean_by_role(trace, trace.probability - trace.corrupted_probability)  # (roles, layers)
            found.append(
                {
                    "clean": digits(trace.clean_probability),
                    "corrupted": digits(trace.corrupted_probability),
                    "regained": [[None if math.isnan(x) else round(100 * x) for x in row] for row in regained.tolist()],
                }
            )
        return found


# ---------------------------------------------------------------------------------------------------------------------
# reading it again


@dataclass(frozen=True)
class Record:
    """A run's record: what was asked, and a line for each moment, as `Recorder.measure` describes it."""

    asked: dict
    lines: list[dict]

    @property
    def steps(self) -> list[int]:
        """The moments: after how many steps of training."""
        return [line["step"] for line in self.lines]

    def column(self, name: str) -> list:
        """One entry of every line, such as "bits", "half_lives" or "says"."""
        return [line[name] for line in self.lines]

    def fact(self, prompt: str) -> tuple[list[float], list[int]]:
        """Of one of the facts that are asked for at every moment: the answer's probability, and its first token's rank.

        Raises:
            ValueError: if it is not asked for in these words.
        """
        prompts = [words for words, _ in self.asked["facts"]]
        if prompt not in prompts:
            raise ValueError(f"prompt: expected one of {prompts}, got {prompt!r}")
        probabilities, ranks = zip(*(line["facts"][prompts.index(prompt)] for line in self.lines))
        return list(probabilities), list(ranks)

    def recall(self, relation: str = "", direction: str = "", phrasing: str = "") -> list[float]:
        """The share of the sampled questions that was answered, at each moment; of all relations if none is named."""
        wanted = [part or None for part in (relation, direction, phrasing)]
        cells = [
            (i, len(cell))
            for i, (name, cell) in enumerate(self.asked["questions"].items())
            if all(want in (None, part) for want, part in zip(wanted, name.split("/")))
        ]
        count = sum(questions for _, questions in cells)
        if not count:
            raise ValueError(
                f"expected some of the questions {', '.join(self.asked['questions'])}, got "
                f"{relation!r}, {direction!r}, {phrasing!r}"
            )
        return [sum(line["recall"][i][0] * questions for i, questions in cells) / count for line in self.lines]

    def traces(self, fact: int = 0) -> tuple[list[int], Float[Tensor, "moments roles layers"]]:
        """The steps with traces, and the share of one that each cell regained; fact 0 is the tower."""
        traced = [line for line in self.lines if "traces" in line]
        grids = [
            [[math.nan if x is None else x / 100 for x in row] for row in line["traces"][fact]["regained"]]
            for line in traced
        ]
        return [line["step"] for line in traced], torch.tensor(grids)


def record_folder() -> Path:
    """Where the record of the chosen model lies: beside its file, if there is one there; else the bundled model's."""
    chosen = os.environ.get("RWKV_EXPLAINER_MODEL", "")
    beside = Path(os.path.expanduser(chosen)).parent
    return beside if os.path.isfile(os.path.expanduser(chosen)) and (beside / "record.jsonl").is_file() else BUNDLED


def load_record(path: Path | None = None) -> Record:
    """The record in this file, such as one in a run's folder; without a path, that in `record_folder`."""
    path = path or record_folder() / "record.jsonl"
    asked, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return Record(asked, lines)


def load_log(path: Path | None = None) -> dict[str, list[float]]:
    """The columns of a run's log: step, tokens, loss, held_out_loss, learning_rate and seconds, since the line before.

    Without a path, of the log in `record_folder`.
    """
    with open(path or record_folder() / "log.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return {name: [float(line[name]) for line in lines] for name in lines[0]}


# ---------------------------------------------------------------------------------------------------------------------
# small


def quantiles(numbers: Tensor) -> list[float]:
    """Minimum, quartiles and maximum, to three digits."""
    return [digits(x) for x in torch.quantile(numbers.float(), torch.tensor(QUANTILES)).tolist()]


def digits(number: float) -> float | None:
    """Three digits, for a file that stays small; None for what is not a number."""
    return float(f"{number:.3g}") if math.isfinite(number) else None


def as_line(entry: dict) -> str:
    """JSON on one line, as short as it gets."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never there in part."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
