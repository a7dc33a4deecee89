"""A run's record: it asks the same at every moment, tells what the model does, and loses or doubles no line."""

import math

import numpy as np
import pytest
import torch

from rwkv_explainer.chapters.training import figures
from rwkv_explainer.checkpoints import load_pretrained
from rwkv_explainer.lab import record
from rwkv_explainer.lab.record import Record, Recorder, answers, is_moment, is_traced, load_record, says
from rwkv_explainer.lab.tracing import ROLES


@pytest.fixture(scope="module")
def bundled():
    """The bundled model in float32, and its tokenizer."""
    return load_pretrained(dtype=torch.float32)


@pytest.fixture(scope="module")
def recorder(bundled, tmp_path_factory) -> Recorder:
    """A recorder of few questions, two held-out documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "EACH", 1)
        patch.setattr(record, "TRACED", 1)
        documents = [bundled[1].encode(text + "\n").ids + [0] for text in ("Cells divide.", "Prices rise with demand.")]
        return Recorder(tmp_path_factory.mktemp("run"), bundled[1], np.array(sum(documents, [])), torch.float32, seed=0)


def log_probabilities(model, ids: list[int]) -> torch.Tensor:
    """Token by token: (time, vocabulary)."""
    model.clear_buffers()
    return torch.stack([model.logits(token).log_softmax(dim=-1) for token in ids]).detach()


def test_an_answer_is_judged_as_stepping_through_would(bundled):
    model, tokenizer = bundled
    asked = [("The Eiffel Tower is located in the city of", " Paris"), ("Drosophila", " of a fruit"), ("A", " cell")]
    for (prompt, answer), found in zip(asked, answers(model, tokenizer, asked, torch.float32)):
        before, after = tokenizer.encode(prompt).ids, tokenizer.encode(answer).ids
        logs = log_probabilities(model, before + after)[len(before) - 1 :]  # (answer + 1, vocabulary)
        expected = logs[range(len(after)), after]
        assert found.log_probability == pytest.approx(expected.sum().item(), abs=1e-3)
        assert found.rank == 1 + (logs[0] > expected[0]).sum().item()
        letter_follows = tokenizer.decode([int(logs[-1].argmax())])[:1].isalpha()
        assert found.recalled == (logs.argmax(dim=-1)[:-1].tolist() == after and not letter_follows)
    assert [found.recalled for found in answers(model, tokenizer, asked[:2], torch.float32)] == [True, False]


@pytest.mark.parametrize("after, recalled", [(".", True), ("s", False), ("é", False)])
def test_a_word_that_goes_on_is_another_word(byte_tokenizer, after, recalled):
    """Also in the first byte of a character that has several."""
    answer = byte_tokenizer.encode("Ca").ids
    said = [*answer, byte_tokenizer.encode(after).ids[0]]
    logs = torch.nn.functional.one_hot(torch.tensor(said), 256).double()  # (answer + 1, vocabulary)
    assert record.judge(logs, answer, byte_tokenizer).recalled == recalled


def test_what_it_says_is_what_each_prompt_alone_is_continued_with(bundled):
    model, tokenizer = bundled
    prompts = ["Drosophila", "The cell membrane of a"]
    for prompt, said in zip(prompts, says(model, tokenizer, prompts)):
        ids = tokenizer.encode(prompt).ids
        for _ in range(record.SAID):
            ids.append(int(log_probabilities(model, ids)[-1].argmax()))
        assert said == tokenizer.decode(ids[-record.SAID :], skip_special_tokens=False)


def test_bits_are_those_of_the_held_out_beginnings(bundled, recorder):
    model, nats, size = bundled[0], 0.0, 0
    for text in ("Cells divide.\n<|endoftext|>", "Prices rise with demand.\n<|endoftext|>"):
        ids = bundled[1].encode(text).ids
        logs = log_probabilities(model, [0, *ids[:-1]])
        nats -= logs[range(len(ids)), ids].sum().item()
        size += len(text.replace("<|endoftext|>", ""))
    assert recorder.bits(model) == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def test_a_line_has_every_number_and_leaves_the_model_as_it_was(bundled, recorder):
    model = bundled[0]
    model.clear_buffers()
    model(5)
    before = model.snapshot()
    recorder.write(model, 7, traced=True)
    torch.testing.assert_close(model.snapshot(), before, rtol=0, atol=0)
    kept = load_record(recorder.path)
    assert kept.steps == [7]
    probabilities, ranks = kept.fact("The Eiffel Tower is located in the city of")
    assert probabilities[0] > 0.9 and ranks == [1]
    steps, grids = kept.traces()
    layers = len(model.blocks)
    assert steps == [7] and grids.shape == (1, len(ROLES), layers) and grids.nan_to_num().max() > 0.5
    line = kept.lines[0]
    assert len(line["traces"]) == 2 and all(len(line[name]) == layers for name in ("half_lives", "log_gain"))
    assert all(smaller <= larger for row in line["half_lives"] for smaller, larger in zip(row, row[1:]))
    cells = [cell for name, cell in kept.asked["questions"].items() if name.endswith("/forward/foreign")]
    recalled = [found.recalled for found in answers(model, bundled[1], sum(cells, []), torch.float32)]
    assert 0 < sum(recalled) < len(recalled)
    assert kept.recall(direction="forward", phrasing="foreign")[0] == pytest.approx(sum(recalled) / len(recalled))
    with pytest.raises(ValueError, match="prompt: expected one of"):
        kept.fact("Who?")
    with pytest.raises(ValueError, match="expected some of the questions"):
        kept.recall("no-such-relation")


def test_a_recorder_that_goes_on_asks_the_same_and_drops_later_lines(bundled, recorder, monkeypatch):
    monkeypatch.setattr(Recorder, "measure", lambda self, model, traced: {"bits": 1.0})
    for step in (0, 25, 50):
        recorder.write(bundled[0], step, traced=False)
    again = Recorder(recorder.path.parent, bundled[1], np.zeros(0, np.uint16), torch.float32, seed=99)
    assert again.asked == recorder.asked
    again.write(bundled[0], 25, traced=False)
    assert load_record(recorder.path).steps == [0, 25]
    assert not list(recorder.path.parent.glob("*.new"))


def test_recall_is_the_mean_over_questions_not_over_cells():
    pair = ["", ""]
    asked = {"a/forward/seen": [pair] * 3, "a/inverse/seen": [pair], "b/forward/seen": [pair]}
    kept = Record({"questions": asked}, [{"step": 0, "recall": [[1.0, -1], [0.0, -2], [0.5, -3]]}])
    assert kept.recall("a") == [0.75]
    assert kept.recall(direction="inverse") == [0.0]
    assert kept.recall() == [0.7]


@pytest.mark.parametrize("steps, every", [(15_000, 250), (40_000, 250), (2_000, 250), (300, 100)])
def test_moments_are_denser_early_and_traces_about_as_many_as_asked(steps, every):
    moments = [step for step in range(steps + 1) if is_moment(step, every) or step == steps]
    traced = [step for step in moments if is_traced(step, every, steps)]
    assert moments[0] == traced[0] == 0 and moments[-1] == traced[-1] == steps
    assert len(moments) <= steps / every + len(record.EARLY) + 1
    assert len(traced) <= record.TRACES * 1.5
    assert traced[1] - traced[0] <= 25


def a_record(**columns: list) -> Record:
    """Three moments of two facts, of which one is learned and one forgotten."""
    facts = [["The sky is", " blue"], ["Grass is", " green"]]
    asked = {"facts": facts, "questions": {"a/forward/seen": [["", ""]] * 2, "a/inverse/seen": [["", ""]] * 2}}
    rising, falling = [0.1, 0.6, 0.9], [0.9, 0.7, 0.2]
    lines = [
        {"step": step, "facts": [[a, 1], [b, 1]], "recall": [[a, -1], [b, -1]]}
        | {name: column[n] for name, column in columns.items()}
        for n, (step, a, b) in enumerate(zip((0, 100, 2000), rising, falling))
    ]
    return Record(asked, lines)


def test_a_birth_is_the_step_from_which_on_it_stays_known():
    kept = a_record()
    assert figures.birth(kept, "a", "forward") == 100
    assert figures.birth(kept, "a", "inverse") is None
    assert figures.stays([0, 1, 2, 3], [0.9, 0.1, 0.8, 0.9], 0.5) == 2
    assert figures.relations_asked(kept) == {"a": ["forward", "inverse"]}


def test_the_picture_of_bits_says_which_baselines_were_passed():
    caption = figures.live_bits(a_record(bits=[3.0, 2.0, 1.5]), {"one": 2.5, "other": 1.6, "best": 1.0}).caption
    assert "From 3.00 bits a byte before the first step to 1.50" in caption
    assert "one (2.50) by step 100, other (1.60) by step 2,000, best (1.00) never" in caption


def test_a_seam_cuts_the_curves_and_ends_those_of_words_that_are_read_from_then_on():
    cells = [f"a/{way}/{kind}" for way in ("forward", "inverse") for kind in ("seen", "unseen", "foreign")]
    lines = [{"step": step, "recall": [[share, -1]] * 6} for step, share in ((0, 0.0), (1000, 0.5), (2000, 1.0))]
    kept = Record({"questions": {cell: [["", ""]] for cell in cells}}, lines)
    plot = figures.live_recall(kept, seam=1500)
    drawn = {name: values for name, values, _ in plot.data["series"]}
    assert plot.data["x"] == [0, 1000, 1500, 2000] and [1500, "1,500"] in plot.data["xticks"]
    assert drawn["forward, in words it has read"] == [0, 0.5, None, 1]
    assert drawn["forward, in words kept back"] == [0, 0.5, None, None]
    assert plot.caption.startswith("Up to step 1,000") and "inverse, in words kept back 50%. What is" in plot.caption
    assert figures.live_recall(kept).data["x"] == [0, 1000, 2000]


def test_half_lives_change_by_a_geometric_mean_over_layers():
    lives = [[[1.0, 2.0], [4.0, 8.0]], [[1.0, 4.0], [4.0, 8.0]], [[1.0, 8.0], [4.0, 8.0]]]
    assert torch.allclose(
        figures.half_life_changes(a_record(half_lives=lives)), torch.tensor([[1, 1], [1, 2**0.5], [1, 2.0]])
    )


def test_the_column_names_its_darkest_cell():
    regained = [[[0, 0], [None, None]], [[0, 10], [None, None]], [[90, 10], [None, None]]]
    kept = a_record(traces=[[{"clean": p, "regained": grid}] for p, grid in zip((0.0, 0.1, 0.9), regained)])
    kept.asked["roles"] = ["first subject token", "last token"]
    plot = figures.live_column(kept, 2000)
    assert "the answer has 90%" in plot.caption and "90%, is the first subject token in layer 1" in plot.caption
    assert plot.data["rows"] == ["first subject token"]


@pytest.mark.parametrize("text, told", [(" Paris.<|endoftext|>The", "Paris."), ("<|endoftext|>The", "(nothing")])
def test_what_it_says_ends_with_the_text(text, told):
    assert figures.first_words(text).startswith(told)


def test_the_record_beside_the_chosen_model_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setenv("RWKV_EXPLAINER_MODEL", str(tmp_path / "model.safetensors"))
    assert record.record_folder() == record.BUNDLED
    (tmp_path / "record.jsonl").write_text('{"questions": {}}\n{"step": 7}\n')
    (tmp_path / "log.csv").write_text("step,loss\n250,5.5\n500,4.25\n")
    assert record.record_folder() == tmp_path and load_record().steps == [7]
    assert record.load_log() == {"step": [250.0, 500.0], "loss": [5.5, 4.25]}
    monkeypatch.setenv("RWKV_EXPLAINER_MODEL", "rwkv-4-pile-169m")
    assert record.record_folder() == record.BUNDLED
