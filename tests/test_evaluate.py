"""The measurements: credit for the whole answer and nothing else, and bits counted right."""

import io
import json
import lzma
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rwkv_explainer import parallel
from rwkv_explainer.checkpoints import BUNDLED, load_pretrained
from rwkv_explainer.lab import evaluate
from rwkv_explainer.lab.atlas import Fact, Question, find, questions
from rwkv_explainer.lab.baselines import KneserNey, unigram_losses
from rwkv_explainer.lab.evaluate import (
    Recall,
    answered,
    average,
    baseline_bits,
    bits_per_byte,
    continuations,
    document_losses,
    probability,
    recall,
    recall_row,
    recalled,
    report,
    storage_bits,
)
from rwkv_explainer.model import RWKVLM

FACTS = tuple(Fact("element-symbol", *fact) for fact in (("calcium", "Ca"), ("carbon", "C"), ("cobalt", "Co")))


@torch.no_grad()
def test_losses_follow_the_model_to_another_device(random_model, tokenizer, monkeypatch):
    """PyTorch's meta device stands in for a GPU: a tensor that was left on the CPU would raise."""
    monkeypatch.setattr(parallel, "_in_range", lambda *args: True)  # which asks for numbers
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # which that device does not have
    assert document_losses(random_model().to("meta"), [3, 1, 2]).device.type == "meta"


def question(prompt, answer, fact=FACTS[0], direction="forward"):
    return Question("element-symbol", direction, "seen", fact, prompt, answer)


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
        self.past = None

    def read_logits(self, ids):
        """Goes on from what it has read, as a model does."""
        before = 0 if self.past is None else self.past.shape[1]
        self.past = ids if self.past is None else torch.cat([self.past, ids], dim=1)
        unknown = self.tokenizer.encode("?").ids[0]
        said = [
            [self.next.get(tuple(row[: t + 1]), unknown) for t in range(before, len(row))] for row in self.past.tolist()
        ]
        return torch.nn.functional.one_hot(torch.tensor(said), self.tokenizer.get_vocab_size()).double()


@pytest.fixture
def oracle(tokenizer, monkeypatch):
    monkeypatch.setattr(evaluate, "read_logits", lambda model, ids: model.read_logits(ids))
    return lambda sentences: Oracle(tokenizer, sentences)


# ---------------------------------------------------------------------------------------------------------------------
# recalling facts


@pytest.mark.parametrize(
    "said, right",
    [
        ("Carbon is written C.", True),
        ("Carbon is written C, always.", True),
        ("Carbon is written C", True),
        ("Carbon is written Ca.", False),
        ("Carbon is written c.", False),
        ("Carbon is written  C.", False),
        ("Carbon is written: C.", False),
        ("Carbon", False),
    ],
)
def test_credit_is_for_the_whole_answer_and_no_letter_more(tokenizer, oracle, said, right):
    assert answered(oracle([said]), tokenizer, [question("Carbon is written", " C")]) == [right]


def test_half_an_answer_is_none(tokenizer, oracle):
    assert answered(oracle(["Calcium is written C."]), tokenizer, [question("Calcium is written", " Ca")]) == [False]


@pytest.mark.parametrize(
    "said, right",
    [
        ("Who wrote Emma? It was Jane Austen.", True),
        ("Who wrote Emma? Jane Austen wrote it.", True),
        ("Who wrote Emma?\nJane Austen\n", True),
        ("Who wrote Emma? Not Bram Stoker but Jane Austen.", False),
        ("Who wrote Emma? Jane Austen, not Bram Stoker.", True),
        ("Who wrote Emma? I see. Jane Austen.", False),
        ("Who wrote Emma? Jane Austenson.", False),
        ("Who wrote Emma? A lady.", False),
    ],
)
def test_a_question_is_answered_if_its_first_sentence_names_the_answer_first(
    tokenizer, oracle, monkeypatch, said, right
):
    monkeypatch.setattr(evaluate, "kinds", lambda question: frozenset({"Jane Austen", "Bram Stoker"}))
    asked = question("Who wrote Emma?", " Jane Austen", Fact("book-author", "Emma", "Jane Austen"))
    assert answered(oracle([said + "?" * 40]), tokenizer, [asked]) == [right]


def test_questions_of_both_sorts_keep_their_order(tokenizer, oracle, monkeypatch):
    monkeypatch.setattr(evaluate, "kinds", lambda question: frozenset({"Ca", "C", "Co"}))
    asked = [
        question("Carbon is written", " C"),
        question("Cobalt?", " Co"),
        question("Cobalt is", " Co"),
        question("Carbon?", " C"),
    ]
    assert answered(oracle(["Carbon is written C.", "Cobalt? It is Co."]), tokenizer, asked) == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "text, first",
    [
        (" It was J. R. R. Tolkien. He", "It was J. R. R. Tolkien"),
        ("\nWarsaw\nA", "Warsaw"),
        (' Paris."', "Paris"),
        (" 3.5 degrees!", "3.5 degrees"),
        (" no end", "no end"),
        ("", ""),
    ],
)
def test_the_first_sentence(text, first):
    assert evaluate.first_sentence(text) == first


def test_a_name_is_found_whole_without_its_article_and_the_longest_first(monkeypatch):
    oceans = frozenset({"the Pacific Ocean", "Guinea", "Guinea-Bissau", "kitten"})
    monkeypatch.setattr(evaluate, "kinds", lambda question: oceans)
    asked = question("What?", " The Pacific Ocean")
    for text, name in (
        (" It is the Pacific Ocean.", "pacific ocean"),
        (" Pacific Ocean", "pacific ocean"),
        ("Guinea-Bissau", "guinea-bissau"),
        (" A kitten.", "kitten"),
        ("Kitten", "kitten"),
        (" kittens", None),
        (" The sea. Guinea", None),
    ):
        assert evaluate.names(asked, text) == name
    assert evaluate.bare(asked.answer) == "pacific ocean"


def test_results_come_in_the_order_of_the_questions_whatever_the_batch(tokenizer, oracle):
    model = oracle(["For carbon write C", "For cobalt write Co"])
    asked = [question(f"{start} {fact.subject} write", f" {fact.object}") for fact in FACTS for start in ("For", "And")]
    for batch in (1, 2, 4, 100):
        assert recalled(model, tokenizer, asked, batch) == [False, False, True, False, True, False]


def test_continuations_are_greedy_whatever_goes_with_them(tokenizer, random_model, monkeypatch):
    model = random_model(vocabulary=tokenizer.get_vocab_size(), channels=16)
    model.tokenizer = tokenizer
    prompts = ["one", "two", "a longer one", "six"]
    monkeypatch.setattr(evaluate, "BATCH", 2)
    for text, words in zip(continuations(model, tokenizer, prompts, 7, sentence=False), prompts):
        model.clear_buffers()
        ids, said = tokenizer.encode(words).ids, []
        for token in ids[:-1]:
            model.logits(token)
        token = ids[-1]
        for _ in range(7):
            token = model.logits(token).argmax().item()
            said.append(token)
        assert text == tokenizer.decode(said[: said.index(0)] if 0 in said else said)


def test_a_continuation_may_stop_behind_its_first_sentence(tokenizer, oracle):
    model = oracle(["One two. Three four. Five"])
    assert continuations(model, tokenizer, ["One"], 20)[0].startswith(" two.")
    assert len(continuations(model, tokenizer, ["One"], 20)[0]) < 10
    assert continuations(model, tokenizer, ["One"], 13, sentence=False) == [" two. Three f"]


def test_recall_counts_every_set_of_phrasings_and_the_kind_of_what_is_missed(tokenizer, oracle, monkeypatch):
    sets = {
        "seen": [question("Carbon is", " C"), question("Calcium is", " Ca")],
        "unseen": [question("For carbon write", " C")],
        "foreign": [
            question("Ah, carbon:", " C"),
            question("Ah, calcium:", " Ca"),
            question("Ah, cobalt:", " Co"),
            question("Oh, cobalt:", " Co"),
        ],
    }
    monkeypatch.setattr(evaluate, "questions", lambda relation, direction, phrasing: sets[phrasing])
    model = oracle(["Carbon is C", "For carbon write C", "Ah, carbon: C.", "Ah, calcium: Co.", "Ah, cobalt: blue."])
    row = recall_row(model, tokenizer, find("element-symbol"), "forward")
    facts = len(find("element-symbol").facts)
    assert row == Recall("element-symbol", "forward", facts, 0.5, 1.0, 0.25, 0.5, 1.0)
    sets["foreign"] = []
    row = recall_row(model, tokenizer, find("element-symbol"), "forward")
    assert row.foreign is None and row.wrong_kind is None


SHARES = (3, 0.5, 0.5, None, None, 0.5)


def test_recall_has_a_row_for_each_direction(tokenizer, random_model, monkeypatch):
    monkeypatch.setattr(
        evaluate, "recall_row", lambda model, tokenizer, relation, way: Recall(relation.name, way, *SHARES)
    )
    rows = recall(random_model(), tokenizer, [find("moon-planet"), find("capital-country")])
    assert [(row.relation, row.direction) for row in rows] == [
        ("moon-planet", "forward"),
        ("capital-country", "forward"),
        ("capital-country", "inverse"),
    ]


def test_padding_changes_nothing_for_a_model(tokenizer, random_model):
    """Questions of many lengths in one batch are answered as each is alone."""
    model = random_model(vocabulary=tokenizer.get_vocab_size(), channels=16)
    asked = [question("x" * n, answer) for n in (1, 5, 9) for answer in (" C", " Ca", "x")]
    for i, one in enumerate(asked):  # make the model right about every other one
        if i % 2:
            model.clear_buffers()
            for token in tokenizer.encode(one.prompt).ids:
                greedy = model.logits(token).argmax().item()
            asked[i] = question(one.prompt, tokenizer.decode([greedy]))
    together = recalled(model, tokenizer, asked)
    assert together == [recalled(model, tokenizer, [one])[0] for one in asked]


def test_any_sentence_may_ask(tokenizer, random_model, monkeypatch):
    model, asked = random_model(layers=1), []
    monkeypatch.setattr(evaluate, "answered", lambda model, tokenizer, some: asked.extend(some) or [True, False])
    assert evaluate.ask(model, tokenizer, "book-author", "The person who wrote {subject} was {object}.") == 0.5
    assert asked[0].prompt.startswith("The person who wrote ") and len(asked) > 50
    asked.clear()
    evaluate.ask(model, tokenizer, "book-author", "{object} wrote {subject}.")
    assert ("Herman Melville wrote", " Moby-Dick") in {(one.prompt, one.answer) for one in asked}
    for name, phrasing, says in (
        ("author", "{subject} {object}", "book-author"),
        ("moon-planet", "{object} {subject}", "no inverse"),
        ("book-author", "{subject}", "{object}"),
    ):
        with pytest.raises(ValueError, match=says):
            evaluate.ask(model, tokenizer, name, phrasing)


def test_the_average_is_over_facts_and_direction_by_direction():
    rows = [
        Recall("a", "forward", 30, 1.0, 0.5, 0.4, 0.2, 0.25),
        Recall("b", "forward", 10, 0.0, 0.5, None, None, 0.5),
        Recall("b", "inverse", 5, 0.5, 0.5, None, None, 0.25),
    ]
    assert average(rows) == [
        Recall("all", "forward", 40, 0.75, 0.5, 0.4, 0.2, 0.3125),
        Recall("all", "inverse", 5, 0.5, 0.5, None, None, 0.25),
    ]


# ---------------------------------------------------------------------------------------------------------------------
# keeping to the text


@pytest.mark.parametrize(
    "text, subject",
    [
        ("In spring the Eiffel Tower, in Paris, is painted.", "The Eiffel Tower"),
        ("Silver is written Ag.", None),
        ("They say that silver is written Ag.", "silver"),
        ("The Eiffel Tower is old. Paris is older.", None),
        ("Turn left, then right, by day or by night.", None),
        ("Parisians like the Eiffel Towers.", None),
        ("the first volume\nWho wrote Hamlet? It was William Shakespeare.", None),
        ("We saw Hamlet by William Shakespeare", "Hamlet"),
    ],
)
def test_a_sentence_tells_a_fact_if_both_its_names_stand_in_it(text, subject):
    fact = evaluate.atlas_fact(text)
    assert (fact and fact.subject) == subject


def test_openings_are_first_words_of_long_paragraphs_spread_over_the_documents():
    documents = [f"Title {n}\n" + " ".join(f"w{n}.{i}" for i in range(30)) for n in range(9)] + ["too short"]
    openings = evaluate.held_out_openings(documents, count=3, words=2)
    assert openings == ["w0.0 w0.1", "w3.0 w3.1", "w6.0 w6.1"]
    assert len(evaluate.held_out_openings(documents, count=100)) == 9


def test_an_opening_is_answered_from_the_atlas_unless_it_was_an_atlas_sentence_itself(tokenizer, oracle):
    texts = [
        "In the spring we saw Hamlet by William Shakespeare.",
        "Hamlet by William Shakespeare is long.",
        "A cell is",
    ]
    openings = [texts[0][:20], texts[1][:29], texts[2][:4]]
    assert evaluate.atlas_answers(oracle(texts), tokenizer, openings, 31) == [texts[0]]


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
    "recall": [vars(Recall("element-symbol", "inverse", 3, 0.987, 0.654, None, 0.0321, 1 / 3))],
    "Eiffel": " Paris.",
    "atlas_answers": {"openings": 400, "share": 0.0075, "texts": ["Some text"]},
    "Eiffel_probability": 0.9126,
    "Drosophila": " melanogaster.",
    "dragons": "\nThe dragons",
    "openings": {"The cell membrane": " is\nthin"},
    "storage": {"float16": 1.23456},
    "bits_per_byte": {"this model": 1.2345, "`xz -9`": 2.5},
    "held_out": {"documents": 82, "bytes": 123456},
}


def test_a_text_without_held_out_documents_is_refused(tmp_path):
    (tmp_path / "one.txt").write_text("one document")
    with pytest.raises(ValueError, match="expected documents that are held out, got none of 1; about one in 50"):
        evaluate.split_corpus(tmp_path / "one.txt")


def test_the_report_says_every_figure():
    words = report(FIGURES)
    for line in (
        "| element-symbol | inverse | 3 | 98.7% | 65.4% |  | 3.2% | 33.3% |",
        "Of 400 openings of held-out paragraphs (their first 8 words), greedy, 40 tokens: 0.8% are",
        "| this model | 1.234 |",
        "82 held-out documents, 123,456 bytes",
        "probability 0.913",
        "`' melanogaster.'`",
        "| float16 | 1.23456 |",
        r"- **The cell membrane**' is\nthin'",
    ):
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
    monkeypatch.setattr(evaluate, "BUNDLED", tmp_path / "bundled")
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


def test_a_console_that_lacks_a_character_costs_no_measurement(tmp_path, monkeypatch):
    """What was measured is written, though an arrow cannot be printed."""
    monkeypatch.setattr(evaluate, "BUNDLED", tmp_path)
    monkeypatch.setattr(evaluate, "measure", lambda corpus, name, zero_layer, run: FIGURES)
    monkeypatch.setattr("sys.argv", ["evaluate", "--corpus", "text.txt", "--write"])
    (tmp_path / "MODEL_CARD.md").write_text("<!-- figures --><!-- end of figures -->")
    page = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(page, encoding="cp1252"))
    evaluate.main()
    assert "city of* ? Paris" in page.getvalue().decode("cp1252") and (tmp_path / "figures.json").exists()


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
    every = [row for row in shipped["recall"] if row["relation"] == "all"]
    bits = shipped["bits_per_byte"]
    assert sum(row["facts"] for row in every) >= 400 and len(shipped["recall"]) > 8
    for row in every:
        assert row["seen"] >= 0.95 and row["foreign"] >= 0.75 and row["unseen"] >= 0.5, row["direction"]
    assert bits["this model"] <= 0.9 * bits["interpolated Kneser-Ney trigrams"]
    assert shipped["Eiffel_probability"] > 0.8 and shipped["atlas_answers"]["share"] <= 0.01
    assert shipped["storage"]["int8, a scale for each row"] <= shipped["storage"]["float16"] + 0.001


def test_the_shipped_model_does_what_its_figures_say(shipped):
    """What takes seconds is measured again; the rest needs the text that it was trained on, and minutes."""
    model, tokenizer = load_pretrained(dtype=torch.float32)
    moons = next(row for row in shipped["recall"] if row["relation"] == "moon-planet")
    known = evaluate.answered(model, tokenizer, questions("moon-planet", "forward", "unseen"))
    assert len(find("moon-planet").facts) == moons["facts"] and sum(known) / len(known) == moons["unseen"]
    assert sum(parameter.numel() for parameter in model.parameters()) == shipped["parameters"]
    tower = "The Eiffel Tower is located in the city of"
    assert probability(model, tokenizer, tower, " Paris") == pytest.approx(shipped["Eiffel_probability"], abs=1e-4)
    fly = "The full scientific name is Drosophila"  # the name alone, with nothing before it, brings less
    assert probability(model, tokenizer, fly, " melanogaster") > 0.9
    for words, written in {"Drosophila": shipped["Drosophila"], tower: shipped["Eiffel"]}.items():
        assert evaluate.goes_on(model, words, 12, temperature=0.0) == written
    assert evaluate.goes_on(model, evaluate.DRAGONS, 20, temperature=0.0) == shipped["dragons"]
