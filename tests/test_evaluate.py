"""The measurements: credit for the whole answer and nothing else, and bits counted right."""

import json
import lzma
import math

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rwkv_explainer.checkpoints import BUNDLED, load_pretrained
from rwkv_explainer.lab import evaluate
from rwkv_explainer.lab.atlas import Fact, Relation, load_atlas, say
from rwkv_explainer.lab.baselines import KneserNey, unigram_losses
from rwkv_explainer.lab.evaluate import (
    Question,
    Recall,
    average,
    baseline_bits,
    bits_per_byte,
    document_losses,
    probability,
    questions,
    recall,
    recalled,
    report,
    storage_bits,
)
from rwkv_explainer.model import RWKVLM

FACTS = tuple(Fact("element-symbol", *fact) for fact in (("calcium", "Ca"), ("carbon", "C"), ("cobalt", "Co")))
ELEMENTS = Relation(
    name="element-symbol", kind="symbol", facts=FACTS,
    phrasings=("{subject} is written {object}.", "{subject} is written {object}!", "For {subject} write {object}."),
    unseen=("Chemists call {subject} {object}.", "Write {subject} as {object}."), reverse=("{object} is {subject}.",),
)


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, after <|endoftext|>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|endoftext|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Oracle(RWKVLM):
    """A model that has learned these sentences by heart, and after any other words says "?"."""

    def __init__(self, tokenizer, sentences):
        torch.nn.Module.__init__(self)
        self.tokenizer, self.next = tokenizer, {}
        for sentence in sentences:
            ids = tokenizer.encode(sentence).ids
            self.next |= {tuple(ids[:i]): ids[i] for i in range(1, len(ids))}

    def clear_buffers(self):
        pass

    def read_logits(self, ids):
        unknown = self.tokenizer.encode("?").ids[0]
        said = [[self.next.get(tuple(row[: t + 1]), unknown) for t in range(len(row))] for row in ids.tolist()]
        return torch.nn.functional.one_hot(torch.tensor(said), self.tokenizer.get_vocab_size()).double()


@pytest.fixture
def oracle(tokenizer, monkeypatch):
    monkeypatch.setattr(evaluate, "read_logits", lambda model, ids: model.read_logits(ids))
    return lambda sentences: Oracle(tokenizer, sentences)


def sentences(*phrasings, facts=FACTS):
    return [say(phrasing, fact) for phrasing in phrasings for fact in facts]


# ---------------------------------------------------------------------------------------------------------------------
# recalling facts


def test_phrasings_that_ask_in_the_same_words_count_once():
    asked = list(questions(ELEMENTS, ELEMENTS.phrasings))
    assert len(asked) == 6
    assert asked[0] == Question(FACTS[0], "Calcium is written", " Ca")
    assert asked[1] == Question(FACTS[0], "For calcium write", " Ca")


@pytest.mark.parametrize("known, seen, unseen", [
    ((*ELEMENTS.phrasings, *ELEMENTS.unseen), 1.0, 1.0),
    ((), 0.0, 0.0),
    (ELEMENTS.phrasings, 1.0, 0.0),
    (ELEMENTS.unseen[:1], 0.0, 0.5),
])
def test_recall_is_the_share_of_questions_answered(tokenizer, oracle, known, seen, unseen):
    (row,) = recall(oracle(sentences(*known)), tokenizer, [ELEMENTS])
    assert row == Recall("element-symbol", 3, seen, unseen, 1 / 3)


@pytest.mark.parametrize("said, right", [
    ("Carbon is written C.", True), ("Carbon is written C, always.", True), ("Carbon is written C", True),
    ("Carbon is written Ca.", False), ("Carbon is written c.", False), ("Carbon is written  C.", False),
    ("Carbon is written: C.", False), ("Carbon", False),
])
def test_credit_is_for_the_whole_answer_and_no_letter_more(tokenizer, oracle, said, right):
    question = Question(FACTS[1], "Carbon is written", " C")
    assert recalled(oracle([said]), tokenizer, [question]) == [right]


def test_half_an_answer_is_none(tokenizer, oracle):
    question = Question(FACTS[0], "Calcium is written", " Ca")
    assert recalled(oracle(["Calcium is written C."]), tokenizer, [question]) == [False]


def test_results_come_in_the_order_of_the_questions_whatever_the_batch(tokenizer, oracle):
    model = oracle(sentences(ELEMENTS.phrasings[2], facts=FACTS[1:]))
    asked = list(questions(ELEMENTS, ELEMENTS.phrasings))
    for batch in (1, 2, 4, 100):
        assert recalled(model, tokenizer, asked, batch) == [False, False, False, True, False, True]


def test_padding_changes_nothing_for_a_model(tokenizer, random_model):
    """Questions of many lengths in one batch are answered as each is alone."""
    model = random_model(vocabulary=tokenizer.get_vocab_size(), channels=16)
    asked = [Question(FACTS[0], "x" * n, answer) for n in (1, 5, 9) for answer in (" C", " Ca", "x")]
    for i, question in enumerate(asked):  # make the model right about every other one
        if i % 2:
            model.clear_buffers()
            for token in tokenizer.encode(question.prompt).ids:
                greedy = model.logits(token).argmax().item()
            asked[i] = Question(FACTS[0], question.prompt, tokenizer.decode([greedy]))
    together = recalled(model, tokenizer, asked)
    assert together == [recalled(model, tokenizer, [question])[0] for question in asked]


def test_any_sentence_may_ask(tokenizer, random_model, monkeypatch):
    model, asked = random_model(layers=1), []
    monkeypatch.setattr(evaluate, "recalled", lambda model, tokenizer, some: asked.extend(some) or [True, False])
    assert evaluate.ask(model, tokenizer, "book-author", "The person who wrote {subject} was {object}.") == 0.5
    assert asked[0].prompt.startswith("The person who wrote ") and len(asked) > 50
    for name, phrasing, says in (
        ("author", "{subject} {object}", "book-author"), ("book-author", "{object} {subject}", "later"),
        ("book-author", "{subject}", "{object}"),
    ):
        with pytest.raises(ValueError, match=says):
            evaluate.ask(model, tokenizer, name, phrasing)


def test_the_average_is_over_facts():
    rows = [Recall("a", 30, 1.0, 0.5, 0.1), Recall("b", 10, 0.0, 0.5, 0.5)]
    assert average(rows) == Recall("all", 40, 0.75, 0.5, 0.2)


# ---------------------------------------------------------------------------------------------------------------------
# predicting documents


def test_a_model_that_guesses_pays_the_logarithm_of_its_vocabulary(tokenizer, random_model):
    model = random_model(vocabulary=tokenizer.get_vocab_size())
    model.unembedding.unembedding.weight.zero_()
    documents = ["as many tokens as bytes", "naïve"]
    assert bits_per_byte(model, tokenizer, documents) == pytest.approx(math.log2(257))


def test_a_document_is_read_from_end_of_text_on_chunk_by_chunk(random_model, monkeypatch):
    model, ids = random_model(), [3, 1, 4, 1, 5, 9, 2, 6]
    stepped = [model.logits(token) for token in [0, *ids[:-1]]]
    expected = torch.stack([-logits.log_softmax(dim=-1)[token] for logits, token in zip(stepped, ids)])
    for chunk in (1, 3, 512):
        monkeypatch.setattr(evaluate, "CHUNK", chunk)
        torch.testing.assert_close(document_losses(model, ids), expected, rtol=0, atol=1e-9)


def test_baselines_count_bits_of_the_same_documents(tokenizer):
    train, test = ["the cat sat on the mat", "the dog sat"], ["the cat sat", "the naïve dog"]
    bits = baseline_bits(tokenizer, train, test)
    size = sum(len(document.encode()) for document in test)
    assert bits["`xz -9`"] == 8 * len(lzma.compress("\n\n".join(test).encode(), preset=9)) / size
    learned = np.concatenate([[0, 0, *tokenizer.encode(document).ids] for document in train])
    asked = [np.array([0, 0, *tokenizer.encode(document).ids]) for document in test]
    trigrams = KneserNey(learned, 257)
    for name, nats in (
        ("interpolated Kneser-Ney trigrams", [trigrams.losses(ids).sum() for ids in asked]),
        ("unigrams", [unigram_losses(learned, ids[2:], 257).sum() for ids in asked]),
    ):
        assert bits[name] == pytest.approx(sum(nats) / math.log(2) / size)
    assert bits["interpolated Kneser-Ney trigrams"] < bits["unigrams"]


def test_small_numbers_cost_little_and_are_really_small(tokenizer, random_model):
    model = random_model(layers=1, vocabulary=tokenizer.get_vocab_size(), dtype=torch.float32)
    bits = storage_bits(model.state_dict(), tokenizer, ["Paris is in France."])
    exact, half, rows = bits.values()
    assert exact == pytest.approx(bits_per_byte(model, tokenizer, ["Paris is in France."]))
    assert 0 < abs(half - exact) < abs(rows - exact) < 0.05


def test_repeated_text_packs_well(tokenizer):
    assert baseline_bits(tokenizer, ["a text"], ["a text " * 1000])["`xz -9`"] < 0.2


def test_the_probability_of_an_answer_is_the_product_over_its_tokens(tokenizer, random_model):
    model = random_model(vocabulary=tokenizer.get_vocab_size())
    expected = 1.0
    ids = tokenizer.encode("Carbon is written Ca").ids
    for n, token in enumerate(ids):
        if n >= len("Carbon is written"):
            expected *= probabilities[token].item()
        probabilities = model(token)
    assert probability(model, tokenizer, "Carbon is written", " Ca") == pytest.approx(expected, rel=1e-9)


def test_what_a_model_writes_comes_without_the_words_before_it_and_is_not_printed(tokenizer, random_model, capsys):
    model = random_model(vocabulary=tokenizer.get_vocab_size())
    model.tokenizer = tokenizer
    written = evaluate.goes_on(model, "The cell", 9, temperature=0.8, top_p=0.9, seed=1)
    assert capsys.readouterr().out == ""
    assert model.generate("The cell", 9, temperature=0.8, top_p=0.9, seed=1) == "The cell" + written


# ---------------------------------------------------------------------------------------------------------------------
# the command

FIGURES = {
    "recall": [vars(Recall("element-symbol", 3, 0.987, 0.654, 1 / 3))], "Eiffel": " Paris.",
    "Eiffel_probability": 0.9126, "Drosophila": " melanogaster.", "dragons": "\nThe dragons",
    "openings": {"The cell membrane": " is\nthin"},
    "storage": {"float16": 1.23456}, "bits_per_byte": {"this model": 1.2345, "`xz -9`": 2.5},
    "held_out": {"documents": 82, "bytes": 123456},
}


def test_a_text_without_held_out_documents_is_refused(tmp_path):
    (tmp_path / "one.txt").write_text("one document")
    with pytest.raises(ValueError, match="expected documents that are held out, got none of 1; about one in 50"):
        evaluate.split_corpus(tmp_path / "one.txt")


def test_the_report_says_every_figure():
    words = report(FIGURES)
    for line in ("| element-symbol | 3 | 98.7% | 65.4% | 33.3% |", "| this model | 1.234 |",
                 "82 held-out documents, 123,456 bytes", "probability 0.913", "`' melanogaster.'`",
                 "| float16 | 1.23456 |",
                 r"- **The cell membrane**' is\nthin'"):
        assert line in words
    assert words.startswith("Measured by `python -m rwkv_explainer.lab.evaluate --corpus TEXT --run FOLDER`:")
    without = {name: figure for name, figure in FIGURES.items() if name not in ("bits_per_byte", "held_out", "storage")}
    assert "Bits per byte" not in report(without)
    assert report(without).startswith("Measured by `python -m rwkv_explainer.lab.evaluate`:")


@pytest.mark.parametrize("options", [["--write"], ["--write", "--corpus", "text.txt", "--model", "mine.pth"]])
def test_the_bundled_models_card_takes_no_other_models_figures_and_not_a_part_of_its_own(monkeypatch, capsys, options):
    monkeypatch.setattr("sys.argv", ["evaluate", *options])
    monkeypatch.setattr(evaluate, "measure", lambda *_: pytest.fail("it was measured all the same"))
    with pytest.raises(SystemExit):
        evaluate.main()
    assert "--write: expected --corpus, and no --model" in capsys.readouterr().err


def test_writing_replaces_the_figures_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "__file__", str(tmp_path / "evaluate.py"))
    monkeypatch.setattr(evaluate, "measure", lambda corpus, name, zero_layer, run: FIGURES)
    monkeypatch.setattr("sys.argv", ["evaluate", "--corpus", "text.txt", "--write"])
    card = tmp_path / "bundled" / "MODEL_CARD.md"
    card.parent.mkdir()
    card.write_text("Above.\n<!-- figures -->\nold\n<!-- end of figures -->\nBelow.\n")
    evaluate.main()
    once = card.read_text()
    evaluate.main()
    assert card.read_text() == once
    assert once.startswith("Above.\n<!-- figures -->\n") and once.endswith("\n<!-- end of figures -->\nBelow.\n")
    assert report(FIGURES) in once and "old" not in once
    assert report(FIGURES) in capsys.readouterr().out
    assert '"documents": 82' in (card.parent / "figures.json").read_text()


# ---------------------------------------------------------------------------------------------------------------------
# the model that is shipped


@pytest.fixture(scope="module")
def shipped() -> dict:
    """The figures that the bundled model's card shows."""
    return json.loads((BUNDLED / "figures.json").read_text(encoding="utf-8"))


def test_the_card_shows_the_figures(shipped):
    assert report(shipped) in (BUNDLED / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_shipped_model_is_as_small_and_as_good_as_it_was_meant_to_be(shipped):
    assert shipped["parameters"] <= 16e6 and (BUNDLED / "model.safetensors").stat().st_size <= 25e6
    every, bits = shipped["recall"][-1], shipped["bits_per_byte"]
    assert every["facts"] >= 400 and len(shipped["recall"]) > 8 and every["seen"] >= 0.95 and every["unseen"] >= 0.85
    assert bits["this model"] <= 0.9 * bits["interpolated Kneser-Ney trigrams"]
    assert shipped["Eiffel_probability"] > 0.8 and shipped["Drosophila"].startswith(" melanogaster")


def test_the_shipped_model_does_what_its_figures_say(shipped):
    """What takes seconds is measured again; the rest needs the text that it was trained on, and minutes."""
    model, tokenizer = load_pretrained(dtype=torch.float32)
    moons = next(relation for relation in load_atlas() if relation.name == "moon-planet")
    (found,) = recall(model, tokenizer, [moons])
    assert vars(found) == pytest.approx(next(row for row in shipped["recall"] if row["relation"] == "moon-planet"))
    assert sum(parameter.numel() for parameter in model.parameters()) == shipped["parameters"]
    tower = "The Eiffel Tower is located in the city of"
    assert probability(model, tokenizer, tower, " Paris") == pytest.approx(shipped["Eiffel_probability"], abs=1e-4)
    for words, written in {"Drosophila": shipped["Drosophila"], tower: shipped["Eiffel"]}.items():
        assert evaluate.goes_on(model, words, 12, temperature=0.0) == written
    assert evaluate.goes_on(model, evaluate.DRAGONS, 20, temperature=0.0) == shipped["dragons"]
