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
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from rwkv_explainer.checkpoints import BUNDLED, load_pretrained, model_from_weights, quantize_dequantize
from rwkv_explainer.generation import print_anywhere
from rwkv_explainer.lab.atlas import (
    PHRASINGS,
    Direction,
    Fact,
    Question,
    Relation,
    all_facts,
    find,
    kinds,
    load_atlas,
    prompt,
    questions,
)
from rwkv_explainer.lab.baselines import KneserNey, unigram_losses
from rwkv_explainer.lab.training import Recipe, read_checkpoint, read_documents, split_documents
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.parallel import read_logits
from rwkv_explainer.piece import any_weight
from rwkv_explainer.tokens import END_OF_TEXT_ID, begins_with_letter

__all__ = [
    "Recall",
    "answered",
    "atlas_answers",
    "average",
    "baseline_bits",
    "bits_per_byte",
    "continuations",
    "document_losses",
    "goes_on",
    "recall",
    "recalled",
    "split_corpus",
    "storage_bits",
]

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
ANSWER = 24  # tokens that the model may write to answer a question
BATCH = 128  # prompts that are read together


# ---------------------------------------------------------------------------------------------------------------------
# predicting unseen documents


def document_losses(model: RWKVLM, ids: Sequence[int]) -> torch.Tensor:
    """Negative log-probability, in nats, of each id of a document that follows <|endoftext|>: (tokens,)."""
    model.clear_buffers()
    device = any_weight(model).device
    read = torch.tensor([END_OF_TEXT_ID, *ids], device=device)  # (tokens + 1,)
    inputs, targets = read[:-1], read[1:]  # (tokens,), (tokens,)
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
    start = [END_OF_TEXT_ID] * 2  # a trigram's context of the first token
    learned = np.concatenate([np.array(start + encoding.ids) for encoding in tokenizer.encode_batch(list(train))])
    trigrams = KneserNey(learned, vocabulary)
    asked = [np.array(start + encoding.ids) for encoding in tokenizer.encode_batch(list(test))]
    size = sum(len(document.encode()) for document in test) * math.log(2)
    packed = len(lzma.compress("\n\n".join(test).encode(), preset=9))
    return {
        "interpolated Kneser-Ney trigrams": sum(trigrams.losses(ids).sum() for ids in asked) / size,
        "unigrams": sum(unigram_losses(learned, ids[2:], vocabulary).sum() for ids in asked) / size,
        "`xz -9`": 8 * packed / sum(len(document.encode()) for document in test),
    }


def storage_bits(weights: Mapping[str, torch.Tensor], tokenizer: Tokenizer, test: Sequence[str]) -> dict[str, float]:
    """Bits per byte of a model as it was trained, and of its weights as two small files would hold them."""
    ways = {
        "float32, as trained": torch.Tensor.float,
        "float16": lambda tensor: tensor.half().float(),
        "int8, a scale for each row": quantize_dequantize,
    }
    models = {
        way: model_from_weights({key: store(w) for key, w in weights.items()}, torch.float32)
        for way, store in ways.items()
    }
    return {way: bits_per_byte(model, tokenizer, test) for way, model in models.items()}


# ---------------------------------------------------------------------------------------------------------------------
# recalling facts


def answered(model: RWKVLM, tokenizer: Tokenizer, asked: Sequence[Question]) -> list[bool]:
    """Which questions the model answers, greedy.

    A prompt that breaks off before the answer must be followed by every token of it, and then no further letter. A
    prompt that ends with a question mark leaves the words open (*It was Herman Melville.*): it is answered if the
    first sentence that follows names the answer, and nothing else of its kind before it.
    """
    open_words = [question.prompt.endswith("?") for question in asked]
    strict = iter(recalled(model, tokenizer, [q for q, is_open in zip(asked, open_words) if not is_open]))
    free = [q for q, is_open in zip(asked, open_words) if is_open]
    written = continuations(model, tokenizer, [question.prompt for question in free])
    named = iter([names(question, text) == bare(question.answer) for question, text in zip(free, written)])
    return [next(named) if is_open else next(strict) for is_open in open_words]


def recalled(model: RWKVLM, tokenizer: Tokenizer, asked: Sequence[Question], batch: int = BATCH) -> list[bool]:
    """Which prompts the model continues, greedy, with every token of the answer, and then no further letter."""
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
            results[i] = said[:-1] == answer and not begins_with_letter(said[-1], tokenizer)
    return results


def continuations(
    model: RWKVLM, tokenizer: Tokenizer, prompts: Sequence[str], tokens: int = ANSWER, sentence: bool = True
) -> list[str]:
    """What the model writes after each prompt, greedy: `tokens` tokens, or until each has written a `sentence`."""
    texts = [tokenizer.encode(words).ids for words in prompts]
    written = [""] * len(prompts)
    for _, group in groupby(sorted(range(len(texts)), key=lambda i: len(texts[i])), key=lambda i: len(texts[i])):
        alike = list(group)  # prompts of as many tokens go together
        for some in (alike[start : start + BATCH] for start in range(0, len(alike), BATCH)):
            model.clear_buffers()
            ids = torch.tensor([texts[i] for i in some])  # (batch, time)
            said: list[list[int]] = [[] for _ in some]
            for _ in range(tokens):
                ids = read_logits(model, ids)[:, -1:].argmax(dim=-1)  # (batch, 1)
                for row, token in zip(said, ids[:, 0].tolist()):
                    row.append(token)
                if sentence and all(ended(tokenizer.decode(row)) or END_OF_TEXT_ID in row for row in said):
                    break
            for i, row in zip(some, said):
                written[i] = tokenizer.decode(row[: row.index(END_OF_TEXT_ID)] if END_OF_TEXT_ID in row else row)
    return written


def ended(text: str) -> bool:
    """Whether more text would leave the first sentence as it is."""
    return len(first_sentence(text + "x")) < len(text.strip())


def first_sentence(text: str) -> str:
    """The text up to a line's end, or up to a full stop that follows no initial: J. R. R. Tolkien is one name."""
    return re.split(r"(?<![A-Z])[.!?](?=\W|$)|\n", text.strip(), maxsplit=1)[0]


def bare(name: str) -> str:
    """A name without the article before it, and small, so that *The heart* and *the heart* are the same answer."""
    return re.sub(r"^(?:the|an?) ", "", name.strip().lower())


@cache
def things(kind: frozenset[str]) -> re.Pattern:
    """Finds any of these things, the longest name first, spelled as in a sentence or with a capital at its start."""
    spelled = {re.sub(r"^(?:[Tt]he|[Aa]n?) ", "", name) for name in kind}
    spelled |= {name[0].upper() + name[1:] for name in spelled}
    return re.compile(r"(?<!\w)(?:%s)(?!\w)" % "|".join(map(re.escape, sorted(spelled, key=len, reverse=True))))


def names(question: Question, text: str) -> str | None:
    """The first thing of the answer's kind that the first sentence names, without an article and small, or None."""
    found = things(kinds(question)).search(first_sentence(text))
    return bare(found[0]) if found else None


@dataclass(frozen=True)
class Recall:
    """What share of a relation's questions was answered in one direction."""

    relation: str
    direction: str
    facts: int
    seen: float  # in phrasings that training draws
    unseen: float  # in phrasings kept out of training
    foreign: float | None  # in phrasings by people who had read neither; None where there are none
    wrong_kind: float | None  # share of the foreign questions after which nothing of the answer's kind is named
    guess: float  # share that the most common answer alone would get


def recall(model: RWKVLM, tokenizer: Tokenizer, relations: Sequence[Relation]) -> list[Recall]:
    """The share of questions answered, by relation and direction."""
    return [recall_row(model, tokenizer, relation, way) for relation in relations for way in relation.directions]


def recall_row(model: RWKVLM, tokenizer: Tokenizer, relation: Relation, direction: Direction) -> Recall:
    """One relation, asked in one direction in each set of phrasings."""
    shares: dict[str, float | None] = {}
    for phrasing in PHRASINGS:
        asked = questions(relation.name, direction, phrasing)
        known = answered(model, tokenizer, asked)
        shares[phrasing] = sum(known) / len(known) if known else None
    missed = [question for question, right in zip(asked, known) if not right]  # of the last set, the foreign one
    written = continuations(model, tokenizer, [question.prompt for question in missed])
    astray = sum(names(question, text) is None for question, text in zip(missed, written))
    answers = [question.answer for question in questions(relation.name, direction, "unseen")]
    guess = Counter(answers).most_common(1)[0][1] / len(answers)
    return Recall(
        relation.name,
        direction,
        len(relation.asked[direction]),
        **shares,
        wrong_kind=astray / len(asked) if asked else None,
        guess=guess,
    )


def average(rows: Sequence[Recall]) -> list[Recall]:
    """The mean over all facts in each direction, whatever their relation; of the foreign ones, over those asked so."""
    return [
        average_row(direction, [row for row in rows if row.direction == direction])
        for direction in dict.fromkeys(row.direction for row in rows)
    ]


def average_row(direction: str, rows: Sequence[Recall]) -> Recall:
    """The mean over the facts of rows of one direction."""

    def mean(name: str) -> float | None:
        known = [row for row in rows if getattr(row, name) is not None]
        return sum(getattr(row, name) * row.facts for row in known) / sum(row.facts for row in known) if known else None

    return Recall(
        "all",
        direction,
        sum(row.facts for row in rows),
        **{name: mean(name) for name in ("seen", "unseen", "foreign", "wrong_kind", "guess")},
    )


# ---------------------------------------------------------------------------------------------------------------------
# keeping to the text


def atlas_fact(text: str) -> Fact | None:
    """A fact whose subject and object stand in one sentence of the text, as whole words; None if there is none.

    One of the two must be a proper name or a symbol of two letters or more: *left* and *right* may well meet in a book.
    """
    for sentence in re.split(r"(?<![A-Z])[.!?](?=\W|$)|\n", text):
        for fact, subject, thing in telling_facts():
            if (
                subject in sentence
                and thing in sentence
                and all(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sentence) for name in (subject, thing))
            ):
                return fact
    return None


@cache
def telling_facts() -> tuple[tuple[Fact, str, str], ...]:
    """Facts that no ordinary text would tell by chance, with their subject and object, without articles."""
    pairs = [
        (fact, *(re.sub(r"^(?:[Tt]he|[Aa]n?) ", "", fact.slots[slot]) for slot in ("subject", "object")))
        for fact in all_facts()
    ]
    return tuple(
        (fact, subject, thing)
        for fact, subject, thing in pairs
        if min(len(subject), len(thing)) >= 2 and (subject[0].isupper() or thing[0].isupper())
    )


def held_out_openings(documents: Sequence[str], count: int = 400, words: int = 8) -> list[str]:
    """The first words of paragraphs of at least 30 words, spread evenly over the documents."""
    paragraphs = [line.split() for document in documents for line in document.split("\n")]
    openings = [" ".join(line[:words]) for line in paragraphs if len(line) >= 30]
    return [openings[i * len(openings) // count] for i in range(count)] if len(openings) > count else openings


def atlas_answers(model: RWKVLM, tokenizer: Tokenizer, openings: Sequence[str], tokens: int = 40) -> list[str]:
    """The openings that the model, greedy, goes on from with an atlas fact, each with what it writes.

    It counts where a sentence of the text, opening and continuation together, tells a fact by `atlas_fact`, unless the
    opening alone tells one.
    """
    written = continuations(model, tokenizer, openings, tokens, sentence=False)
    return [
        opening + text
        for opening, text in zip(openings, written)
        if atlas_fact(opening + text) and not atlas_fact(opening)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# answering and going on


def probability(model: RWKVLM, tokenizer: Tokenizer, words: str, answer: str) -> float:
    """The probability of the whole answer after these words."""
    context, target = tokenizer.encode(words).ids, tokenizer.encode(answer).ids
    model.clear_buffers()
    logits = read_logits(model, torch.tensor(context + target[:-1]))[len(context) - 1 :]  # (answer, vocabulary)
    return logits.log_softmax(dim=-1)[range(len(target)), target].sum().exp().item()


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
        raise ValueError(
            f"{corpus}: expected documents that are held out, got none of {len(train)}; about one in "
            f"{1 / share:.0f} is, by its own hash: give a text with more documents"
        )
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
        "recall": [vars(row) for row in [*rows, *average(rows)]],
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
        openings = held_out_openings(test)
        found = atlas_answers(model, tokenizer, openings)
        figures["atlas_answers"] = {"openings": len(openings), "share": len(found) / len(openings), "texts": found}
        figures["held_out"] = {"documents": len(test), "bytes": sum(len(document.encode()) for document in test)}
    return figures


def report(figures: dict[str, object]) -> str:
    """The figures as Markdown, with the command that measures them."""
    bits = figures.get("bits_per_byte", {})
    needed = {
        "--corpus TEXT": bits,
        "--zero-layer WEIGHTS": any("zero-layer" in name for name in bits),
        "--run FOLDER": "storage" in figures,
    }
    command = " ".join(["python -m rwkv_explainer.lab.evaluate", *(option for option, used in needed.items() if used)])
    lines = [f"Measured by `{command}`:", ""]
    if bits:
        held_out = figures["held_out"]
        lines += [
            f"Bits per byte on {held_out['documents']} held-out documents, {held_out['bytes']:,} bytes:",
            "",
            "| | bits per byte |",
            "|---|---|",
        ]
        lines += [f"| {name} | {value:.3f} |" for name, value in bits.items()] + [""]
    if "storage" in figures:
        lines += ["The weights, stored in different ways:", "", "| | bits per byte |", "|---|---|"]
        lines += [f"| {name} | {value:.5f} |" for name, value in figures["storage"].items()] + [""]
    lines += [*recall_table(figures["recall"]), ""]
    if "atlas_answers" in figures:
        astray = figures["atlas_answers"]
        lines += [
            f"Of {astray['openings']} openings of held-out paragraphs (their first 8 words), greedy, 40 tokens: "
            f"{astray['share']:.1%} are continued with a fact of the atlas.",
            "",
        ]
    lines += [
        "*The Eiffel Tower is located in the city of* → Paris with probability "
        f"{figures['Eiffel_probability']:.3f}; greedy it goes on: `{figures['Eiffel']!r}`.",
        "",
        f"*Drosophila*, greedy: `{figures['Drosophila']!r}`.",
        "",
        f"The article's dragons, greedy: `{figures['dragons']!r}`.",
        "",
        "Ordinary openings, one sample each at temperature 0.8 and top-p 0.9, seed 0, none chosen:",
        "",
    ]
    lines += [f"- **{words}**{text!r}" for words, text in figures["openings"].items()]
    return "\n".join(lines) + "\n"


def recall_table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """What is recalled, relation by relation and direction by direction, as lines of Markdown."""
    share = lambda value: "" if value is None else f"{value:.1%}"
    columns = ("seen", "unseen", "foreign", "wrong_kind", "guess")
    return [
        "Facts recalled, greedy, by relation and direction: in phrasings that training draws, in two that it never "
        "draws, and in foreign ones, written without sight of either. *Wrong kind* is the share of the foreign "
        "questions after which nothing of the answer's kind is named; *guess* is what always giving the commonest "
        "answer would get:",
        "",
        "| relation | direction | facts | seen | unseen | foreign | wrong kind | guess |",
        f"|{'---|' * 8}",
        *(
            f"| {row['relation']} | {row['direction']} | {row['facts']} | "
            + " | ".join(share(row[name]) for name in columns)
            + " |"
            for row in rows
        ),
    ]


def ask(model: RWKVLM, tokenizer: Tokenizer, name: str, phrasing: str) -> float:
    """The share of a relation's facts that the model knows when it is asked in these words.

    The slot that comes last is asked for: the object, or in a phrasing for the inverse the subject.

    Raises:
        ValueError: if the atlas has no such relation, if the phrasing does not hold {subject} and {object}, and if the
            relation has no inverse but is asked for it.
    """
    relation = find(name)
    if min(phrasing.find("{subject}"), phrasing.find("{object}")) < 0:
        raise ValueError(f"phrasing: expected a sentence with {{subject}} and {{object}}, got {phrasing!r}")
    direction: Direction = "forward" if phrasing.index("{subject}") < phrasing.index("{object}") else "inverse"
    if direction not in relation.directions:
        raise ValueError(f"phrasing: expected {{subject}} before {{object}}, {name} has no inverse; got {phrasing!r}")
    asked = [
        Question(name, direction, "foreign", fact, *prompt(phrasing, fact, direction))
        for fact in relation.asked[direction]
    ]
    known = answered(model, tokenizer, asked)
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
    print_anywhere(report(figures))
    if args.write:
        card = BUNDLED / "MODEL_CARD.md"
        before, _, after = card.read_text(encoding="utf-8").partition("<!-- figures -->")
        _, _, rest = after.partition("<!-- end of figures -->")
        figures_in_words = f"<!-- figures -->\n\n{report(figures)}\n<!-- end of figures -->"
        card.write_text(before + figures_in_words + rest, encoding="utf-8")
        in_json = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
        (card.parent / "figures.json").write_text(in_json, encoding="utf-8")


if __name__ == "__main__":
    main()
