"""Many facts: what is drawn, each measure beside the plain one, columns and their null, and the record."""

import json
import shutil

import pytest
import torch

from rwkv_explainer import load_pretrained
from rwkv_explainer.checkpoints import BUNDLED
from rwkv_explainer.lab import traced_facts as facts
from rwkv_explainer.lab.traced_facts import Measure, TracedFact, column_of, shuffled_columns
from rwkv_explainer.lab.tracing import ROLES, causal_trace, sever
from test_tracing import LAYERS, model, toy_tokenizer  # noqa: F401, a fixture


@pytest.fixture
def fact():
    """A prompt of five tokens, and two other subjects."""
    encode = toy_tokenizer().encode
    others = [encode(words).ids for words in ("a x y d e", "a c b d e")]
    return TracedFact("toy", "b c", "a b c d e", "", encode("a b c d e").ids, range(1, 3), 7, others)


@pytest.mark.parametrize("name", list(facts.MEASURES))
def test_a_measure_is_what_the_plain_functions_find(model, fact, name, monkeypatch):  # noqa: F811
    """All measures step together; here each beside `causal_trace` or `sever`, with the model's own answer."""
    measure = facts.MEASURES[name]
    found = dict(zip(facts.MEASURES, facts.effects_of(model, fact, list(facts.MEASURES.values()), 0.5, draws=2)))[name]
    for module in ("tracing", "traced_facts"):
        monkeypatch.setattr(f"rwkv_explainer.lab.{module}.embedding_std", lambda *_: 0.5)
    monkeypatch.setattr("rwkv_explainer.lab.tracing.greedy_answer", lambda *_: [fact.first])
    others = ("x y", "c b") if measure.by == "other" else ()
    asked = dict(patch=measure.patch, window=min(measure.window, LAYERS), samples=2)
    if measure.mistaken:
        pytest.skip("has a test of its own")
    if measure.severs:
        left = sever(model, toy_tokenizer(), fact.prompt, fact.name, others or measure.by, **asked).mean(dim=-1)
        expected = causal_trace(model, toy_tokenizer(), fact.prompt, fact.name).clean_probability - left
    else:
        trace = causal_trace(model, toy_tokenizer(), fact.prompt, fact.name, others=others, **asked)
        expected = trace.probability - trace.corrupted_probability
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    assert found.abs().max() > 1e-6


def test_a_mistaken_restoration_takes_another_prompts_states(model, fact):  # noqa: F811
    own = TracedFact("toy", "x y", "", "", fact.others[0], range(1, 3), 7, [])
    mistaken = facts.effects_of(model, fact, [Measure("state", by="other", mistaken=True)], 0.5, draws=1)[0]
    fact_behind = TracedFact("toy", "x y", "", "", own.ids, range(1, 3), 7, fact.others)
    right = facts.effects_of(model, fact_behind, [Measure("state", by="other")], 0.5, draws=1)[0]
    torch.testing.assert_close(mistaken, right)


def test_without_another_subject_there_is_nothing_to_hide_behind(model, fact):  # noqa: F811
    alone = TracedFact(**(vars(fact) | {"others": []}))
    noise, other = facts.effects_of(model, alone, [Measure("both"), Measure("both", by="other")], 0.5, draws=1)
    assert noise.isfinite().all() and other.isnan().all()


# ---------------------------------------------------------------------------------------------------------------------
# which facts


@pytest.fixture(scope="module")
def bundled():
    return load_pretrained("textbook", dtype=torch.float32)


def test_facts_are_drawn_at_random_and_known(bundled):
    few, again, other = (facts.draw_facts(*bundled, 6, seed=seed) for seed in (0, 0, 1))
    assert few == again != other and len(few) == 6
    for fact in few:
        assert fact.name not in facts.RUNNING and len(fact.others) <= 3
        assert facts.knows(*bundled, [(fact.prompt, fact.answer)]) == [True]
        for ids in fact.others:
            changed = [i for i, (own, another) in enumerate(zip(fact.ids, ids, strict=True)) if own != another]
            assert changed and set(changed) <= set(fact.subject)
    assert facts.knows(*bundled, [("The Eiffel Tower is located in the city of", " Rome")]) == [False]


def test_the_running_example_is_left_out(bundled, monkeypatch):
    """Of landmarks alone, however many are asked for."""
    monkeypatch.setattr(facts, "knows", lambda _model, _tokenizer, asked: [True] * len(asked))
    every = facts.draw_facts(*bundled, 10**6, others=0, relations=["landmark-city"])
    assert len(every) > 100 and "The Eiffel Tower" not in {fact.name for fact in every}


def test_a_model_that_knows_nothing_has_no_facts(model):  # noqa: F811
    assert facts.trace_facts(model, toy_tokenizer(), 1, relations=["color"]).shape == (0, len(ROLES), LAYERS)


def test_a_mistaken_request_is_no_fact_unknown(bundled):
    with pytest.raises(ValueError, match="relations: expected some of .*, got nonsense"):
        facts.draw_facts(*bundled, 1, relations=["element-symbol", "nonsense"])


# ---------------------------------------------------------------------------------------------------------------------
# columns


def test_a_column_holds_at_every_word():
    column = torch.tensor([[0.1, 0.9, 0.0], [0.8, 0.6, 0.1], [0.0, 0.5, 0.9]])
    assert column_of(column) == 1
    assert column_of(column[:1]) is None, "one word makes no column"
    assert column_of(column - 0.1) is None, "less than half at one word"
    assert column_of(torch.eye(3)) is None, "the best layer changes from word to word"


def test_shuffling_takes_the_columns_away():
    """Eight facts with a column each, in another layer: rows of different facts seldom share one."""
    each = [torch.eye(8)[[layer] * 4] for layer in range(8)]
    assert all(column_of(shares) is not None for shares in each)
    assert shuffled_columns(each) == pytest.approx(8**-3, abs=0.004)
    assert shuffled_columns([torch.eye(8)[[2] * 4] for _ in range(8)]) == 1, "where all share a layer, it stays"


# ---------------------------------------------------------------------------------------------------------------------
# the record


def test_the_record_is_of_the_bundled_model():
    kept = facts.load_traces()
    assert kept["facts"] == len(kept["each"]) >= 40 and set(kept["measures"]) == set(facts.MEASURES)
    assert not any(fact["subject"] in facts.RUNNING for fact in kept["each"])
    for measure in kept["measures"].values():
        assert measure["mean"].shape == measure["error"].shape == (len(ROLES), 8)
        assert len(measure["n"]) == len(ROLES) and max(measure["n"]) <= kept["facts"]


def test_a_record_of_other_weights_is_refused(tmp_path):
    for name in (facts.NAME, "SHA256SUMS"):
        shutil.copy(BUNDLED / name, tmp_path)
    kept = json.loads((tmp_path / facts.NAME).read_text())
    (tmp_path / facts.NAME).write_text(json.dumps(kept | {"weights": "0" * 64}))
    with pytest.raises(ValueError, match="run make traces"):
        facts.load_traces(tmp_path)
