"""Measures a model, and writes the figures into its card.

    python -m rwkv_explainer.lab.evaluate                          what the bundled model recalls of the atlas
    python -m rwkv_explainer.lab.evaluate --corpus TEXT            and how well it predicts documents it has never seen
    python -m rwkv_explainer.lab.evaluate --corpus TEXT --write    and writes MODEL_CARD.md
    python -m rwkv_explainer.lab.evaluate --ask book-author "The person who wrote {subject} was {object}."
"""

import argparse
import json
import lzma
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from rwkv_explainer.checkpoints import build, load_pretrained, rounded_rows
from rwkv_explainer.generation import END_OF_TEXT
from rwkv_explainer.lab.atlas import Fact, Relation, load_atlas, prompt
from rwkv_explainer.lab.baselines import KneserNey, unigram_losses
from rwkv_explainer.lab.training import Recipe, read_checkpoint, read_documents, split_documents
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.parallel import read_logits

OPENINGS = (
    "In the early nineteenth century,",
    "The cell membrane",
    "Supply and demand",
    "When a patient is admitted to the hospital,",
    "The speed of light",
)  # ordinary beginnings, which should be continued as textbook prose
DRAGONS = (
    "\nIn a shocking finding, scientist discovered a herd of dragons living in a remote, previously unexplored valley, "
    "in Tibet. Even more surprising to the researchers was the fact that the dragons spoke perfect Chinese."
)  # the article's third prompt, after a fly and a tower
CHUNK = 512  # tokens of a document that are read at once


# ---------------------------------------------------------------------------------------------------------------------
# predicting unseen documents


def document_losses(model: RWKVLM, ids: Sequence[int]) -> torch.Tensor:
    """Negative log-probability, in nats, of each id of a document that follows <|endoftext|>: (tokens,)."""
    model.clear_buffers()
    inputs, targets = torch.tensor([END_OF_TEXT, *ids[:-1]]), torch.tensor(ids)  # (tokens,), (tokens,)
    losses = [
        torch.nn.functional.cross_entropy(read_logits(model, part), target, reduction="none")
        for part, target in zip(inputs.split(CHUNK), targets.split(CHUNK))
    ]
    return torch.cat(losses)  # (tokens,)


def bits_per_byte(model: RWKVLM, tokenizer: Tokenizer, documents: Sequence[str]) -> float:
    """How many bits a byte of these documents costs when the model's probabilities encode it."""
    nats = sum(document_losses(model, tokenizer.encode(document).ids).sum().item() for document in documents)
    return nats / math.log(2) / sum(len(document.encode()) for document in documents)


def baseline_bits(tokenizer: Tokenizer, train: Sequence[str], test: Sequence[str]) -> dict[str, float]:
    """Bits per byte of predictors that count: the same documents, the same tokens."""
    vocabulary = tokenizer.get_vocab_size()
    learned = np.concatenate([np.array([0, 0, *encoding.ids]) for encoding in tokenizer.encode_batch(list(train))])
    trigrams = KneserNey(learned, vocabulary)
    asked = [np.array([0, 0, *encoding.ids]) for encoding in tokenizer.encode_batch(list(test))]
    size = sum(len(document.encode()) for document in test) * math.log(2)
    packed = len(lzma.compress("\n\n".join(test).encode(), preset=9))
    return {
        "interpolated Kneser-Ney trigrams": sum(trigrams.losses(ids).sum() for ids in asked) / size,
        "unigrams": sum(unigram_losses(learned, ids[2:], vocabulary).sum() for ids in asked) / size,
        "`xz -9`": 8 * packed / sum(len(document.encode()) for document in test),
    }


def storage_bits(weights: Mapping[str, torch.Tensor], tokenizer: Tokenizer, test: Sequence[str]) -> dict[str, float]:
    """Bits per byte of a model as it was trained, and of its weights as two small files would hold them."""
    ways = {"float32, as trained": torch.Tensor.float, "float16": lambda tensor: tensor.half().float(),
            "int8, a scale for each row": rounded_rows}
    models = {way: build({key: store(w) for key, w in weights.items()}, torch.float32) for way, store in ways.items()}
    return {way: bits_per_byte(model, tokenizer, test) for way, model in models.items()}


# ---------------------------------------------------------------------------------------------------------------------
# recalling facts


@dataclass(frozen=True)
class Question:
    """A prompt that an atlas fact answers."""

    fact: Fact
    prompt: str
    answer: str  # with its leading space


def questions(relation: Relation, phrasings: Sequence[str]) -> Iterator[Question]:
    """Every fact of the relation in each of these phrasings; phrasings that ask in the same words count once."""
    for fact in relation.facts:
        for words, answer in dict.fromkeys(prompt(phrasing, fact) for phrasing in phrasings):
            yield Question(fact, words, answer)


def recalled(model: RWKVLM, tokenizer: Tokenizer, asked: Sequence[Question], batch: int = 128) -> list[bool]:
    """Which questions the model answers, greedy: every token of the answer, and then no further letter."""
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].prompt))
    results = [False] * len(asked)
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        contexts = [tokenizer.encode(asked[i].prompt).ids for i in some]
        answers = [tokenizer.encode(asked[i].answer).ids for i in some]
        runs = [torch.tensor(context + answer) for context, answer in zip(contexts, answers)]
        model.clear_buffers()
        padded = torch.nn.utils.rnn.pad_sequence(runs, batch_first=True)  # (batch, time); answers precede the padding
        greedy = read_logits(model, padded).argmax(dim=-1)  # (batch, time)
        for i, row, context, answer in zip(some, greedy, contexts, answers):
            said = row[len(context) - 1 :][: len(answer) + 1].tolist()
            another_letter = tokenizer.decode(said[-1:])[:1].isalpha()
            results[i] = said[:-1] == answer and not another_letter
    return results


@dataclass(frozen=True)
class Recall:
    """How many of a relation's questions were answered."""

    relation: str
    facts: int
    seen: float  # share, in phrasings trained on
    unseen: float  # share, in phrasings kept out of training
    guess: float  # share that the most common answer alone would get


def recall(model: RWKVLM, tokenizer: Tokenizer, relations: Sequence[Relation]) -> list[Recall]:
    """The share of questions answered, relation by relation."""
    rows = []
    for relation in relations:
        seen, unseen = (
            recalled(model, tokenizer, list(questions(relation, phrasings)))
            for phrasings in (relation.phrasings, relation.unseen)
        )
        objects = [fact.object for fact in relation.facts]
        guess = max(map(objects.count, objects)) / len(objects)
        rows.append(Recall(relation.name, len(objects), sum(seen) / len(seen), sum(unseen) / len(unseen), guess))
    return rows


def average(rows: Sequence[Recall]) -> Recall:
    """The mean over all facts, whatever their relation."""
    facts = sum(row.facts for row in rows)
    mean = lambda name: sum(getattr(row, name) * row.facts for row in rows) / facts
    return Recall("all", facts, mean("seen"), mean("unseen"), mean("guess"))


# ---------------------------------------------------------------------------------------------------------------------
# answering and going on


def probability(model: RWKVLM, tokenizer: Tokenizer, words: str, answer: str) -> float:
    """The probability of the whole answer after these words."""
    context, target = tokenizer.encode(words).ids, tokenizer.encode(answer).ids
    model.clear_buffers()
    logits = read_logits(model, torch.tensor(context + target[:-1]))[len(context) - 1 :]  # (answer, vocabulary)
    return logits.log_softmax(dim=-1).gather(-1, torch.tensor(target)[:, None]).sum().exp().item()


def goes_on(model: RWKVLM, words: str, tokens: int, **sampling: float | int) -> str:
    """What the model writes after these words."""
    with redirect_stdout(StringIO()):
        return model.generate(words, N=tokens, **sampling)[len(words) :]


# ---------------------------------------------------------------------------------------------------------------------
# the command


def split_corpus(corpus: Path) -> tuple[list[str], list[str]]:
    """A text's documents, those to train on and those held out, as the default recipe splits them.

    Raises:
        ValueError: if the text cannot be read, or is too short for any of its documents to be held out.
    """
    share = Recipe().held_out
    train, test = split_documents(read_documents(corpus), share)
    if not test:
        raise ValueError(f"{corpus}: expected documents that are held out, got none of {len(train)}; about one in "
                         f"{1 / share:.0f} is, by its own hash: give a text with more documents")
    return train, test


def measure(corpus: Path | None, name: str | None, zero_layer: Path | None, run: Path | None) -> dict[str, object]:
    """Every figure of the card."""
    train, test = split_corpus(corpus) if corpus else ([], [])
    started = time.perf_counter()
    model, tokenizer = load_pretrained(name, dtype=torch.float32)
    seconds = time.perf_counter() - started
    rows = recall(model, tokenizer, load_atlas())
    figures: dict[str, object] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "config": vars(model.config),
        "load_seconds": seconds,
        "recall": [vars(row) for row in [*rows, average(rows)]],
        "Drosophila": goes_on(model, "Drosophila", 12, temperature=0.0),
        "Eiffel": goes_on(model, "The Eiffel Tower is located in the city of", 12, temperature=0.0),
        "Eiffel_probability": probability(model, tokenizer, "The Eiffel Tower is located in the city of", " Paris"),
        "dragons": goes_on(model, DRAGONS, 20, temperature=0.0),
        "openings": {words: goes_on(model, words, 60, temperature=0.8, top_p=0.9, seed=0) for words in OPENINGS},
        "greedy_openings": {words: goes_on(model, words, 40, temperature=0.0) for words in OPENINGS},
    }
    if corpus:
        bits = {"this model": bits_per_byte(model, tokenizer, test)}
        if zero_layer:
            without_blocks, _ = load_pretrained(zero_layer, dtype=torch.float32)
            bits["a zero-layer model, trained the same way"] = bits_per_byte(without_blocks, tokenizer, test)
        figures["bits_per_byte"] = bits | baseline_bits(tokenizer, train, test)
        if run:
            figures["storage"] = storage_bits(read_checkpoint(run)["model"], tokenizer, test)
        figures["held_out"] = {"documents": len(test), "bytes": sum(len(document.encode()) for document in test)}
    return figures


def report(figures: dict[str, object]) -> str:
    """The figures as Markdown, with the command that measures them."""
    bits = figures.get("bits_per_byte", {})
    needed = {"--corpus TEXT": bits, "--zero-layer WEIGHTS": any("zero-layer" in name for name in bits),
              "--run FOLDER": "storage" in figures}
    command = " ".join(["python -m rwkv_explainer.lab.evaluate", *(option for option, used in needed.items() if used)])
    lines = [f"Measured by `{command}`:", ""]
    if bits:
        held_out = figures["held_out"]
        lines += [f"Bits per byte on {held_out['documents']} held-out documents, {held_out['bytes']:,} bytes:", "",
                  "| | bits per byte |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in bits.items()] + [""]
    if "storage" in figures:
        lines += ["The weights, stored in different ways:", "", "| | bits per byte |", "|---|---|"]
        lines += [f"| {name} | {value:.5f} |" for name, value in figures["storage"].items()] + [""]
    lines += ["Facts recalled, greedy, by relation; *guess* is what always giving the commonest answer would get:", "",
              "| relation | facts | seen phrasings | unseen phrasings | guess |", "|---|---|---|---|---|"]
    lines += [f"| {row['relation']} | {row['facts']} | {row['seen']:.1%} | {row['unseen']:.1%} | {row['guess']:.1%} |"
              for row in figures["recall"]]
    lines += ["", "*The Eiffel Tower is located in the city of* → Paris with probability "
              f"{figures['Eiffel_probability']:.3f}; greedy it goes on: `{figures['Eiffel']!r}`.", "",
              f"*Drosophila*, greedy: `{figures['Drosophila']!r}`.", "",
              f"The article's dragons, greedy: `{figures['dragons']!r}`.", "",
              "Ordinary openings, one sample each at temperature 0.8 and top-p 0.9, seed 0, none chosen:", ""]
    lines += [f"- **{words}**{text!r}" for words, text in figures["openings"].items()]
    return "\n".join(lines) + "\n"


def ask(model: RWKVLM, tokenizer: Tokenizer, name: str, phrasing: str) -> float:
    """The share of a relation's facts that the model knows when it is asked in these words.

    Raises:
        ValueError: if the atlas has no such relation, or the phrasing does not hold {subject} and then {object}.
    """
    relations = {relation.name: relation for relation in load_atlas()}
    if name not in relations:
        raise ValueError(f"relation: expected one of {', '.join(relations)}, got {name}")
    if not 0 <= phrasing.find("{subject}") < phrasing.find("{object}"):
        raise ValueError(f"phrasing: expected a sentence with {{subject}} and, later, {{object}}, got {phrasing!r}")
    known = recalled(model, tokenizer, list(questions(relations[name], [phrasing])))
    return sum(known) / len(known)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a model: facts recalled, prompts, bits per byte.")
    parser.add_argument("--model", help="a name or a path; the bundled model without it")
    parser.add_argument("--corpus", type=Path, help="the text it was trained on, for its held-out documents")
    parser.add_argument("--zero-layer", type=Path, help="weights of a model without blocks, trained the same way")
    parser.add_argument("--run", type=Path, help="the training run's folder: what do smaller numbers cost?")
    parser.add_argument("--write", action="store_true", help="write the figures into the bundled model's MODEL_CARD.md")
    parser.add_argument("--ask", nargs=2, metavar=("RELATION", "PHRASING"), help="only ask in these words")
    args = parser.parse_args()
    if args.write and (args.model or not args.corpus):
        parser.error("--write: expected --corpus, and no --model: the card is the bundled model's, and has all figures")
    if args.ask:
        with torch.inference_mode():
            print(f"{ask(*load_pretrained(args.model, dtype=torch.float32), *args.ask):.1%} known")
        return
    with torch.inference_mode():
        figures = measure(args.corpus, args.model, args.zero_layer, args.run)
    print(report(figures))
    if args.write:
        card = Path(__file__).parent / "bundled" / "MODEL_CARD.md"
        before, _, after = card.read_text(encoding="utf-8").partition("<!-- figures -->")
        _, _, rest = after.partition("<!-- end of figures -->")
        figures_in_words = f"<!-- figures -->\n\n{report(figures)}\n<!-- end of figures -->"
        card.write_text(before + figures_in_words + rest, encoding="utf-8")
        in_json = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
        (card.parent / "figures.json").write_text(in_json, encoding="utf-8")


if __name__ == "__main__":
    main()
