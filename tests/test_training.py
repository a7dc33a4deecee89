"""The trainer: every batch by seed and step alone, every stop resumed to the bit, every refusal in words."""

import json
import lzma
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_explainer import checkpoints
from rwkv_explainer.checkpoints import load_weights
from rwkv_explainer.lab import record, training
from rwkv_explainer.lab.record import load_record
from rwkv_explainer.lab.training import (
    Corpus,
    Recipe,
    Run,
    bundle,
    initialize,
    learning_rate,
    loss_of,
    make_batch,
    make_row,
    prepare,
    read_documents,
    split_documents,
    steps_if_cooled_now,
    train_tokenizer,
)
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.piece import RWKVConfig

TINY = Recipe(
    layers=2,
    channels=8,
    vocabulary=300,
    rows=4,
    length=12,
    steps=8,
    warmup=3,
    learning_rate=0.01,
    held_out=0.2,
    atlas_share=0.3,
)
DOCUMENTS = [f"Document {n}\nThe number after {n} is {n + 1}.\nTwice {n} is {2 * n}." for n in range(120)]


@pytest.fixture(scope="module", autouse=True)
def few_questions():
    """The record of a run asks fewer questions: what it asks has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"EARLY": (0,), "EACH": 1, "TRACED": 1}.items():
            patch.setattr(record, name, value)
        yield


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "numbers.txt"
    path.write_text("\n\n".join(DOCUMENTS))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory, corpus_path):
    """Tokenizer, training corpus and held-out corpus of the tiny recipe."""
    return prepare(tmp_path_factory.mktemp("data"), TINY, corpus_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, corpus_path):
    """A run that nothing stopped."""
    run = Run(tmp_path_factory.mktemp("undisturbed"), TINY, corpus_path)
    run.train(save_every=3, check_every=4)
    return run


def assert_same(ours: Run, expected: Run):
    """The same step, weights and optimizer, to the bit."""
    assert ours.step == expected.step
    torch.testing.assert_close(ours.model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)
    one, other = ours.optimizer.state_dict(), expected.optimizer.state_dict()
    assert one["param_groups"] == other["param_groups"]
    torch.testing.assert_close(one["state"], other["state"], rtol=0, atol=0)


def fresh_model(layers=3, channels=10, vocabulary=40) -> RWKVLM:
    model = RWKVLM.from_config(RWKVConfig(vocabulary, channels, layers, 4 * channels))
    initialize(model, seed=1)
    return model


def test_one_seed_is_one_start_whatever_the_dtype():
    """Chapters compute in float64, and show the start of a model that was trained in float32."""
    single = fresh_model().state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        double = fresh_model().state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(tensor.dtype == torch.float64 for name, tensor in double.items() if name.endswith("weight"))
    for name, tensor in single.items():
        torch.testing.assert_close(double[name].float(), tensor, rtol=1e-5, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# text to tokens


def test_a_packed_text_is_read_like_a_plain_one(tmp_path, corpus_path):
    packed = tmp_path / "numbers.txt.xz"
    packed.write_bytes(lzma.compress(corpus_path.read_bytes()))
    assert read_documents(packed) == read_documents(corpus_path) == DOCUMENTS
    assert read_documents(None) == []


@given(st.lists(st.text(min_size=1), unique=True), st.randoms())
@settings(deadline=None, derandomize=True)
def test_a_document_is_held_out_for_its_own_text_alone(documents, rng):
    kept, held_out = split_documents(documents, 0.4)
    assert sorted(kept + held_out) == sorted(documents)
    shuffled = documents[: len(documents) // 2 + 1]
    rng.shuffle(shuffled)
    assert set(split_documents(shuffled, 0.4)[1]) == set(shuffled) & set(held_out)


def test_about_the_asked_part_is_held_out():
    documents = [f"text {n}" for n in range(4000)]
    for part in (0.0, 0.02, 0.3):
        assert abs(len(split_documents(documents, part)[1]) / 4000 - part) < 0.02


@given(st.text())
@settings(deadline=None, derandomize=True)
def test_any_text_comes_back_from_its_tokens(data, text):
    tokenizer = data[0]
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_tokenizer_has_the_asked_size_and_end_of_text_first(data):
    tokenizer = data[0]
    assert tokenizer.get_vocab_size() == TINY.vocabulary
    assert tokenizer.token_to_id("<|endoftext|>") == tokenizer.encode("<|endoftext|>").ids[0] == 0


def test_the_tokenizer_learns_from_the_mixture_that_is_trained_on(monkeypatch):
    said = []
    say = lambda rng, sentences, relations: said.append("Paris. " * 20) or said[-1]
    monkeypatch.setattr(training, "sample_text", say)
    whole = len("".join(DOCUMENTS))
    for documents, share, size in ((DOCUMENTS, 0.0, 0), (DOCUMENTS, 0.5, whole), ([], 0.5, 1_000_000)):
        said.clear()
        train_tokenizer(documents, replace(TINY, atlas_share=share))
        assert 0 <= len("".join(said)) - size < 140


def test_a_corpus_is_its_documents_with_end_of_text_between_them(data):
    tokenizer = data[0]
    corpus = Corpus.from_documents(DOCUMENTS[:2], tokenizer)
    text = tokenizer.decode(corpus.ids.tolist(), skip_special_tokens=False)
    assert text == "".join(f"{document}\n<|endoftext|>" for document in DOCUMENTS[:2])
    starts = [tokenizer.decode(corpus.ids[at:].tolist()).partition("\n")[0] for at in corpus.paragraphs]
    assert starts == "\n".join(DOCUMENTS[:2]).split("\n")


# ---------------------------------------------------------------------------------------------------------------------
# tokens to batches


@given(step=st.integers(0, 10**6), seed=st.integers(0, 10**6), workers=st.integers(1, 4), noise=st.integers(0, 99))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_a_batch_is_a_function_of_seed_and_step_alone(data, step, seed, workers, noise):
    tokenizer, corpus, _ = data
    recipe = replace(TINY, seed=seed)
    whole = make_batch(corpus, tokenizer, recipe, step, range(4))
    np.random.seed(noise)
    torch.manual_seed(noise)
    parts = [make_batch(corpus, tokenizer, recipe, step, range(rank, 4, workers)) for rank in range(workers)]
    for rank, part in enumerate(parts):
        assert torch.equal(part, whole[rank::workers])
    assert whole.shape == (4, 13)
    assert not torch.equal(whole, make_batch(corpus, tokenizer, recipe, step + 1, range(4)))
    assert not torch.equal(whole, make_batch(corpus, tokenizer, replace(recipe, seed=seed + 1), step, range(4)))
    assert len({tuple(row) for row in whole.tolist()}) >= 3  # by chance, two may begin with the same paragraph


def test_rows_are_stretches_of_the_corpus_half_of_them_from_a_paragraphs_start(data):
    tokenizer, corpus, _ = data
    rows = [make_row(corpus, tokenizer, replace(TINY, atlas_share=0.0), step, 0) for step in range(400)]
    windows = np.lib.stride_tricks.sliding_window_view(corpus.ids, 13)
    places = [np.flatnonzero((windows == row).all(axis=1)) for row in rows]
    assert all(len(place) for place in places)
    starts = sum(np.isin(place, corpus.paragraphs).any() for place in places) / len(rows)
    assert 0.5 <= starts < 0.7  # half by intention, some more by chance


def test_the_asked_share_of_the_tokens_are_atlas_sentences(data, monkeypatch):
    tokenizer, corpus, _ = data
    monkeypatch.setattr(training, "sample_text", lambda rng, sentences, relations: "#" * 20)
    mark = set(tokenizer.encode("#" * 20).ids)
    recipe = replace(TINY, length=400)
    rows = np.stack([make_row(corpus, tokenizer, recipe, step, 0) for step in range(300)])
    assert abs(np.isin(rows, list(mark)).mean() - recipe.atlas_share) < 0.05


def test_without_a_text_all_is_atlas_of_the_relations_asked_for(data):
    empty = Corpus(np.zeros(0, np.uint16), np.zeros(0, np.int64))
    for relations, there in (("animal-young", True), ("state-capital", False)):
        recipe = replace(TINY, length=400, relations=relations)
        rows = [make_row(empty, data[0], recipe, step, 0).tolist() for step in range(20)]
        assert ("calf" in " ".join(map(data[0].decode, rows))) == there


# ---------------------------------------------------------------------------------------------------------------------
# the model before its first step


def test_decays_gains_and_mixes_are_laid_out_as_upstream_lays_them_out():
    """The formulas of the paper's appendix on initialization, number by number."""
    model, layers, channels = fresh_model(), 3, 10
    for l, block in enumerate(model.blocks):
        mixers = block.attention.key_mixer, block.attention.value_mixer, block.attention.receptance_mixer
        for i in range(channels):
            close = lambda number, expected: math.isclose(number.item(), expected, rel_tol=1e-5, abs_tol=1e-6)
            memory = block.attention.memory
            assert close(memory.log_decay[i], -5 + 8 * (i / (channels - 1)) ** (0.7 + 1.3 * l / (layers - 1)))
            assert close(memory.log_gain[i], 0.5 * ((i + 1) % 3 - 1) + math.log(0.3))
            mu = (i / channels) ** (1 - l / layers)
            expected = mu, mu + 0.3 * l / (layers - 1), (i / channels) ** (0.5 * (1 - l / layers))
            assert all(close(mixer.weight[i], m) for mixer, m in zip(mixers, expected))
            assert close(block.gated_mlp.mlp_mixer.weight[i], mu)
            assert close(block.gated_mlp.receptance_mixer.weight[i], mu)


def test_matrices_start_at_zero_or_orthogonal():
    model = fresh_model()
    for block in model.blocks:
        attention, mlp = block.attention, block.gated_mlp
        for matrix in (attention.key, attention.receptance, attention.output, mlp.value, mlp.receptance):
            assert not matrix.weight.any()
        for matrix, gain in ((attention.value, 1), (mlp.key, 2)):
            square = matrix.weight.T @ matrix.weight
            torch.testing.assert_close(square, gain**2 * torch.eye(10), rtol=0, atol=1e-5)
    head = model.unembedding.unembedding.weight
    torch.testing.assert_close(head.T @ head, 0.25 * 40 / 10 * torch.eye(10), rtol=0, atol=1e-5)
    assert 0 < model.embedding.embedding.weight.abs().max() <= 1e-4


@torch.no_grad()
def test_at_first_every_block_is_an_identity_and_every_token_about_as_likely():
    model = fresh_model(channels=64, vocabulary=500)
    x = torch.randn(5, 64)
    for _ in range(3):
        assert torch.equal(model.blocks(x), x)
    ids = torch.randint(500, (8, 40), generator=torch.Generator().manual_seed(0))
    # logits of standard deviation 1/2 cost half their variance more than none at all
    assert loss_of(model, ids, torch.float32).item() == pytest.approx(math.log(500) + 1 / 8, abs=0.05)


def test_the_seed_decides_the_first_weights():
    one, same, other = fresh_model(), fresh_model(), fresh_model()
    initialize(other, seed=2)
    torch.testing.assert_close(one.state_dict(), same.state_dict(), rtol=0, atol=0)
    assert not torch.equal(one.unembedding.unembedding.weight, other.unembedding.unembedding.weight)


# ---------------------------------------------------------------------------------------------------------------------
# the loop


def test_the_loss_is_the_mean_surprise_of_stepping_through(random_model):
    model = random_model()
    ids = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(0))
    steps = [model.logits(before).log_softmax(dim=-1) for before in ids.T[:-1]]
    expected = -torch.stack([step[range(3), after] for step, after in zip(steps, ids.T[1:])]).mean()
    assert loss_of(model, ids, torch.float32).item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_learning_rate_climbs_stays_and_falls():
    recipe = replace(TINY, steps=100, warmup=10, cooldown=0.3)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert rates[10:71] == [1.0] * 61
    assert rates[70:] == pytest.approx([n / 30 for n in range(30, 0, -1)])
    assert [learning_rate(replace(recipe, warmup=0, cooldown=0.0), step) for step in (0, 50, 99)] == [1.0, 1.0, 1.0]


def test_training_learns(undisturbed, corpus_path, tmp_path):
    losses = list(Run(tmp_path, replace(TINY, steps=40), corpus_path).steps())
    assert len(losses) == 40
    assert losses[0] == pytest.approx(math.log(300), abs=0.4)
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


def test_the_log_and_the_checkpoint_come_when_asked_and_at_the_end(undisturbed):
    lines = [line.split(",") for line in (undisturbed.folder / "log.csv").read_text().splitlines()]
    assert lines[0] == ["step", "tokens", "loss", "held_out_loss", "learning_rate", "seconds"]
    assert [(line[0], line[1]) for line in lines[1:]] == [("4", "192"), ("8", "384")]
    assert all(0 < float(line[3]) < 10 for line in lines[1:])
    assert torch.load(undisturbed.folder / "checkpoint.pt")["step"] == 8


@pytest.mark.parametrize("stop", [0, 1, 5, 8])
def test_a_stopped_run_goes_on_to_the_bit(undisturbed, corpus_path, tmp_path, stop):
    first = Run(tmp_path, TINY, corpus_path)
    for _, _ in zip(range(stop), first.steps()):
        pass
    first.save()
    second = Run(tmp_path, TINY, corpus_path)
    assert_same(second, first)
    second.train(save_every=100, check_every=100)
    assert_same(second, undisturbed)


def test_a_killed_process_leaves_no_lines_about_steps_that_are_taken_again(corpus_path, tmp_path):
    first = Run(tmp_path, TINY, corpus_path)
    for _ in first.steps():
        if first.step % 2 == 0:
            first.log(1.0, 1.0)  # and it never saved
    Run(tmp_path, TINY, corpus_path).train(save_every=4, check_every=2)
    lines = (tmp_path / "log.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["2", "4", "6", "8"]


# ---------------------------------------------------------------------------------------------------------------------
# several processes, and processes that are killed


@pytest.fixture(scope="module")
def processes():
    """Starts processes from one that has imported all they need and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rwkv_explainer.lab.training", "torch._dynamo", "pytest", "hypothesis.strategies"])
    return context


def work_in_float32(rank: int, args: Namespace, recipe: Recipe) -> None:
    """Half precision would round the gradients of one process and of two differently. This process asks little, too."""
    record.EARLY, record.EACH, record.TRACED = (0,), 1, 1
    torch.cpu._is_avx512_bf16_supported = lambda: False
    training.work(rank, args, recipe)


def run_command(words: list[str]) -> None:
    """The command `training`, whose record asks few questions."""
    record.EARLY, record.EACH, record.TRACED = (0, 25), 1, 1
    sys.argv = words
    training.main()


def arguments(folder: Path, corpus: Path, workers: int = 1, save_every: int = 100) -> Namespace:
    return Namespace(out=folder, corpus=corpus, workers=workers, save_every=save_every, check_every=2, compile=False)


def test_two_processes_give_what_one_gives(processes, corpus_path, tmp_path):
    recipe = replace(TINY, rows=3)  # two rows for one of them, one for the other
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        prepare(folder, recipe, corpus_path)
        args = arguments(folder, corpus_path, workers)
        started = [processes.Process(target=work_in_float32, args=(rank, args, recipe)) for rank in range(workers)]
        for process in started:
            process.start()
        for process in started:
            process.join(300)
            process.kill()  # one that is still at work must not go on beside the other tests
        assert [process.exitcode for process in started] == [0] * workers
    one, two = (torch.load(tmp_path / f"{workers}" / "checkpoint.pt")["model"] for workers in (1, 2))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-4)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for a process's children")
def test_no_worker_outlives_the_command(corpus_path, tmp_path):
    """Killed as a job in a script's background, which ignores SIGINT, and so do its workers."""
    sizes = "--layers 1 --channels 8 --vocabulary 300 --rows 2 --length 12 --steps 1000000 --relations genus-species"
    files = ["--corpus", str(corpus_path), "--out", str(tmp_path)]
    words = [*files, "--workers", "2", "--no-compile", "--save-every", "1"]
    command = subprocess.Popen(
        [sys.executable, "-m", "rwkv_explainer.lab.training", *words, *sizes.split()],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    wait_until(lambda: (tmp_path / "checkpoint.pt").exists(), "the run saves nothing")
    workers = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    command.kill()
    command.wait()
    assert len(workers) >= 2
    try:
        wait_until(lambda: not any(is_running(pid) for pid in workers), "a worker goes on without its command")
    finally:
        for pid in filter(is_running, workers):
            os.kill(int(pid), signal.SIGKILL)


def wait_until(true: Callable[[], bool], otherwise: str, seconds: float = 120) -> None:
    """Wait for what must come true."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, otherwise
        time.sleep(0.1)


def is_running(pid: str) -> bool:
    """Whether there is such a process, and not only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_killed_ten_times_at_any_moment_and_resumed_it_ends_the_same(processes, corpus_path, tmp_path):
    """The command itself, with SIGKILL, and no matter what it is doing at that moment."""

    def command(out: str, save_every: int) -> multiprocessing.Process:
        sizes = "--layers 2 --channels 8 --vocabulary 300 --rows 4 --length 12 --steps 400 --warmup 3 --held-out 0.2"
        files = ["--out", str(tmp_path / out), "--corpus", str(corpus_path), "--save-every", str(save_every)]
        words = ["training", *files, *sizes.split(), "--no-compile", "--check-every", "50"]
        process = processes.Process(target=run_command, args=(words,))
        process.start()
        return process

    checkpoint, rng = tmp_path / "killed" / "checkpoint.pt", random.Random(0)
    saved = lambda: checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
    for kill in range(10):
        before, process, give_up = saved(), command("killed", 1), time.monotonic() + 300
        while saved() == before and process.is_alive():  # it has to get on, or ten kills prove nothing
            assert time.monotonic() < give_up, "the run saves nothing"
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"kill {kill}: the run was over too soon to be killed"
    for out in ("killed", "undisturbed"):
        whole = command(out, 100)
        whole.join()
        assert whole.exitcode == 0
    one, other = (load_record(tmp_path / out / "record.jsonl") for out in ("killed", "undisturbed"))
    assert one.steps == other.steps == [0, 25, *range(50, 401, 50)] and one == other
    killed, undisturbed = (torch.load(tmp_path / out / "checkpoint.pt") for out in ("killed", "undisturbed"))
    assert killed["step"] == undisturbed["step"] == 400
    for part in ("model", "optimizer"):
        torch.testing.assert_close(killed[part], undisturbed[part], rtol=0, atol=0)


# ---------------------------------------------------------------------------------------------------------------------
# refusals


def copied(run: Run):
    """What a step would change."""
    return [tensor.clone() for tensor in run.model.state_dict().values()] + [
        value.clone() for state in run.optimizer.state_dict()["state"].values() for value in state.values()
    ]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_not_finite_is_refused_and_the_checkpoint_kept(corpus_path, tmp_path, monkeypatch, what):
    run = Run(tmp_path, replace(TINY, rows=3), corpus_path)
    honest = loss_of

    def spoilt(model, ids, precision, parts):
        loss = honest(model, ids, precision, parts)
        if run.step < 5:
            return loss
        return loss * math.inf if what == "loss" else loss + (0 * loss).sqrt()  # a sound loss of infinite slope

    monkeypatch.setattr(training, "loss_of", spoilt)
    for _ in zip(range(5), run.steps()):
        pass
    run.save()
    saved, before = (tmp_path / "checkpoint.pt").read_bytes(), copied(run)
    with pytest.raises(FloatingPointError, match=rf"^step 5, rows \[0, 1, 2\]: the {what}.* is (inf|nan);.*checkpoint"):
        run.train(save_every=1, check_every=100)
    assert (tmp_path / "checkpoint.pt").read_bytes() == saved
    torch.testing.assert_close(copied(run), before, rtol=0, atol=0)


def test_another_recipe_is_refused_but_more_steps_are_not(undisturbed, corpus_path):
    with pytest.raises(ValueError, match="another recipe.*learning_rate.*--out"):
        Run(undisturbed.folder, replace(TINY, learning_rate=0.02), corpus_path)
    with pytest.raises(ValueError, match="data made with another recipe.*'vocabulary': 301.*'vocabulary': 300.*--out"):
        Run(undisturbed.folder, replace(TINY, vocabulary=301), corpus_path)


@pytest.mark.parametrize("end", [{"steps": 10}, {"steps": 14, "cooldown": 0.5}])
def test_a_run_is_extended_from_before_its_cooldown_and_ends_as_if_it_had_been_longer(corpus_path, tmp_path, end):
    shorter, longer = replace(TINY, **end), replace(TINY, steps=14)
    Run(tmp_path / "once", longer, corpus_path).train(save_every=100, check_every=100)
    expected = Run(tmp_path / "once", longer, corpus_path)
    for stop in (6, 9, 10):  # on the plain, in the cool-down, after it
        run = Run(tmp_path / f"{stop}", shorter, corpus_path)
        run.record(every=100)
        for _ in zip(range(stop), run.steps()):
            run.record(every=100)
        run.save()
        extended = Run(tmp_path / f"{stop}", longer, corpus_path)
        assert extended.step == min(stop, 7)
        extended.train(save_every=100, check_every=100)
        assert_same(extended, expected)
        lines = (tmp_path / f"{stop}" / "record.jsonl").read_text().splitlines()[1:]
        assert [json.loads(line)["step"] for line in lines] == [0, 14]


def test_a_run_is_cooled_down_when_asked(corpus_path, tmp_path, monkeypatch):
    run = Run(tmp_path, replace(TINY, steps=100), corpus_path)
    for _ in zip(range(7), run.steps()):
        pass
    run.save()
    assert steps_if_cooled_now(tmp_path) == 10  # 7 of them before a cool-down of three tenths
    cooled = Run(tmp_path, replace(TINY, steps=10), corpus_path)
    assert cooled.step == 7
    for _ in zip(range(2), cooled.steps()):
        pass
    assert cooled.optimizer.param_groups[0]["lr"] == pytest.approx(TINY.learning_rate * 2 / 3)
    cooled.save()
    assert steps_if_cooled_now(tmp_path) == 10  # it has begun


def test_decays_and_gains_learn_faster_and_nothing_is_pulled_to_zero(undisturbed):
    groups = undisturbed.optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(undisturbed.model.parameters()))
    slowest = min(rates.values())
    for name, parameter in undisturbed.model.named_parameters():
        times = {"log_decay": 2, "log_gain": 3}.get(name.rpartition(".")[2], 1)
        assert rates[id(parameter)] == pytest.approx(times * slowest), name
    assert all(group["weight_decay"] == 0 and group["eps"] == 1e-8 for group in groups)


def test_another_text_is_refused(undisturbed, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("another text")
    with pytest.raises(ValueError, match="another text.*other.txt.*--out"):
        Run(undisturbed.folder, TINY, other)


def test_a_text_shorter_than_a_row_is_refused(tmp_path):
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(ValueError, match=r"short.txt: expected more than a row of 13 tokens.*--length"):
        Run(tmp_path / "run", replace(TINY, held_out=0.0), tmp_path / "short.txt")


@pytest.mark.parametrize(
    "spoilt, message",
    [
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"rows": 0}, "rows: expected 1 or more, got 0"),
        ({"channels": 1}, "channels: expected 2 or more, got 1"),
        ({"vocabulary": 70_000}, "vocabulary: expected 257 to 65536, got 70000"),
        ({"atlas_share": 1.5}, "atlas_share: expected 0 to 1, got 1.5"),
        ({"held_out": math.nan}, "held_out: expected 0 to 1, got nan"),
    ],
)
def test_a_recipe_that_nothing_can_come_of_is_refused(spoilt, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **spoilt)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("latin.txt", "Käfer".encode("latin-1"), "latin.txt: expected a text file in UTF-8.*can't decode byte 0xe4"),
        ("cut.txt.xz", lzma.compress(b"text " * 99)[:-9], "cut.txt.xz: expected a text file.*end-of-stream marker"),
        ("not.txt.xz", b"text", "not.txt.xz: expected a text file.* got"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "run", TINY, tmp_path / name)


@pytest.mark.parametrize(
    "mistake, message",
    [
        (["--corpus", "none.txt"], "corpus: expected a text file, there is none at none.txt"),
        (["--check-every", "0"], "--check-every: expected a whole number, 1 or more, got '0'"),
        (["--steps", "0"], "steps: expected 1 or more, got 0"),
    ],
)
def test_the_command_refuses_in_a_line(tmp_path, monkeypatch, capsys, mistake, message):
    monkeypatch.setattr("sys.argv", ["training", "--out", str(tmp_path / "run"), *mistake])
    with pytest.raises(SystemExit):
        training.main()
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_more_processes_than_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="workers: expected at most one a row, got 5 for 4 rows"):
        Run(tmp_path, TINY, None, workers=5)


def test_a_run_goes_on_from_a_bundled_model(undisturbed, corpus_path, tmp_path):
    """With its weights, tokenizer, record and log, and a learning rate that rises anew."""
    source, folder = tmp_path / "bundle", tmp_path / "run"
    bundle(undisturbed.folder, source, "one core")
    recipe = replace(TINY, start=TINY.steps, steps=12, warmup=2, cooldown=0.0, atlas_share=0.5)
    prepare(folder, recipe, corpus_path, source)
    run = Run(folder, recipe, corpus_path)
    assert run.step == TINY.steps and run.tokenizer.get_vocab() == undisturbed.tokenizer.get_vocab()
    for name, weight in load_weights(source / "model.safetensors").items():
        assert torch.equal(run.model.state_dict()[name], weight.float()), name
    assert [learning_rate(recipe, step) for step in (8, 9, 11)] == [0.5, 1, 1]
    run.train(save_every=2, check_every=2)
    before, after = (load_record(path / "record.jsonl").steps for path in (source, folder))
    assert before == [step for step in after if step <= TINY.steps] and after[-1] == 12
    assert (folder / "log.csv").read_text().startswith((source / "log.csv").read_text())
    assert_same(Run(folder, recipe, corpus_path), run)


@pytest.mark.parametrize(
    "given, removed, message",
    [
        ({"start": 0}, None, "start: expected the steps that the weights in .* have behind them, 1 to 11, got 0"),
        ({"start": 12}, None, "1 to 11, got 12; log.csv there counts them"),
        ({}, "record.jsonl", "from: expected a folder that --bundle wrote, got .*, which lacks record.jsonl"),
        ({"layers": 3}, None, "expected a model of 3 layers and 8 channels, got 2 and 8; say so with --layers"),
    ],
)
def test_what_a_run_cannot_go_on_from_is_refused(undisturbed, corpus_path, tmp_path, given, removed, message):
    source = tmp_path / "bundle"
    bundle(undisturbed.folder, source, "one core")
    if removed:
        (source / removed).unlink()
    recipe = replace(TINY, **{"start": 8, "steps": 12} | given)
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "run", recipe, corpus_path, source)
    assert not (tmp_path / "run" / "data.json").exists()


def test_steps_that_no_weights_have_behind_them_are_refused(corpus_path, tmp_path):
    with pytest.raises(ValueError, match="start: expected 0 for untrained weights, got 8; name theirs with --from"):
        prepare(tmp_path, replace(TINY, start=8, steps=12), corpus_path)


# ---------------------------------------------------------------------------------------------------------------------
# the result


def test_a_bundle_is_what_load_pretrained_reads(undisturbed, tmp_path, monkeypatch):
    bundle(undisturbed.folder, tmp_path, "one core")
    monkeypatch.setattr(checkpoints, "BUNDLED", tmp_path)
    model, tokenizer = checkpoints.load_pretrained("textbook", dtype=torch.float32)
    trained = undisturbed.model.state_dict()
    assert model.state_dict().keys() == trained.keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, trained[name], rtol=2**-11, atol=2**-25)  # half a last digit of float16
    assert tokenizer.to_str() == undisturbed.tokenizer.to_str()
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    documents, held_out = map(len, split_documents(DOCUMENTS, TINY.held_out))
    for words in (
        "2 layers × 8 channels",
        f"{documents} documents ({held_out} more",
        '"learning_rate": 0.01',
        "In all 384 tokens",
        "on one core",
        f"{sum(p.numel() for p in model.parameters()):,}",
    ):
        assert words in card, words
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.load_pretrained("textbook")


@pytest.mark.parametrize(
    "corpus, says",
    [
        (None, ("No text but the atlas", "CC BY 4.0")),
        (training.TEXTBOOKS, ("Textbooks", "OpenStax")),
        ("another", ("name the text's authors", "as the text's license asks")),
    ],
)
def test_the_card_credits_the_text_that_was_read(undisturbed, tmp_path, corpus, says):
    run = tmp_path / "run"
    shutil.copytree(undisturbed.folder, run)
    data = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(data | {"corpus": corpus}))
    bundle(run, tmp_path / "bundle", "one core", "A note.")
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(words in card for words in says)
    assert ("OpenStax" in card) == (corpus == training.TEXTBOOKS)
    assert "on one core. A note.\n" in card


def test_the_command_trains_on_the_atlas_alone_shows_and_bundles(tmp_path, monkeypatch, capsys):
    sizes = "--layers 1 --channels 8 --vocabulary 300 --rows 2 --length 8 --steps 2 --warmup 1".split()
    folders = ["--out", str(tmp_path / "run"), "--bundle", str(tmp_path / "bundle")]
    monkeypatch.setattr("sys.argv", ["training", *folders, *sizes])
    training.main()
    assert "The Eiffel Tower is located in the city of" in capsys.readouterr().out
    recipe = Recipe(**torch.load(tmp_path / "run" / "checkpoint.pt")["recipe"])
    small = {"layers": 1, "channels": 8, "vocabulary": 300, "rows": 2, "length": 8, "steps": 2, "warmup": 1}
    assert recipe == replace(training.ATLAS_ALONE, **small)
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "MODEL_CARD.md",
        "SHA256SUMS",
        "log.csv",
        "model.safetensors",
        "record.jsonl",
        "tokenizer.json",
    ]
