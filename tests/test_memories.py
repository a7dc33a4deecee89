"""The memories trained side by side, their tasks and their record: against the chapter's classes and by brute force."""

import json
import math
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from torch import Generator, nn
from torch.nn.functional import normalize

from rwkv_explainer.chapters.where_rwkv_went_next import figures
from rwkv_explainer.lab import compare_memories
from rwkv_explainer.lab.compare_memories import (
    BINS,
    LEARNING_RATES,
    QUICK,
    RECORD,
    Cell,
    Settings,
    accuracies,
    build,
    compare,
    compared,
    describe,
    describe_task,
    in_lines,
    is_ahead,
    load_record,
    measure,
    solves,
    table,
    train,
)
from rwkv_explainer.lab.memories import (
    ARCHITECTURES,
    CHUNK,
    EagleMemory,
    EagleTimeMixing,
    FinchMemory,
    FinchTimeMixing,
    GooseMemory,
    GooseTimeMixing,
    Place,
    RWKV4TimeMixing,
    SoftmaxAttention,
    ask,
)
from rwkv_explainer.lab.memory_tasks import (
    ASKED,
    BLANK_KEY,
    BLANK_VALUE,
    CUPS,
    LENGTH,
    NOTHING,
    PAIRS,
    SILENT,
    TASKS,
    any_of_the_keys_values,
    any_told_value,
    draw_cups,
    draw_recall,
    start_cup_share,
    swaps_of,
)
from test_where_next import chapter

RECORDED = files("rwkv_explainer") / "data" / RECORD
HEADS, SIZE, BATCH = 2, 4, 3
PLACES = [Place(HEADS * SIZE, HEADS, depth=0.0, rest=1.0), Place(HEADS * SIZE, HEADS, depth=1.0, rest=0.5)]


@pytest.fixture(autouse=True)
def float64_without_gradients():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    with torch.no_grad():
        yield
    torch.set_default_dtype(torch.float32)


def randomize(module: nn.Module) -> nn.Module:
    """Every parameter at random, of the size of 1; log-decays between slow and fast."""
    for name, parameter in module.named_parameters():
        parameter.data = torch.randn_like(parameter) * (parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 0.5)
        parameter.data.clamp_(max=1.5)  # below the fastest decay
    return module.double()


def vectors(count: int, time: int, heads: int = HEADS, size: int = SIZE) -> list[torch.Tensor]:
    return list(torch.randn(count, BATCH, time, heads, size))


def inputs(memory: nn.Module, time: int) -> list[torch.Tensor]:
    """What a memory takes, for a whole sequence; decays up to what they may be."""
    r, k, v, log_decays, removal, raw = vectors(6, time)
    if isinstance(memory, GooseMemory):
        decays = torch.exp(-math.exp(-0.5) * torch.sigmoid(3 * log_decays))
        return [r, k, v, decays, normalize(removal, dim=-1), 2 * torch.sigmoid(raw)]
    return [r, k, v, log_decays.clamp(max=1.5)] if isinstance(memory, FinchMemory) else [r, k, v]


# ---------------------------------------------------------------------------------------------------------------------
# the memories are the chapter's


@pytest.mark.parametrize("time", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
@pytest.mark.parametrize("memory", [EagleMemory(HEADS, SIZE), FinchMemory(HEADS, SIZE), GooseMemory()], ids=str)
def test_whole_sequences_read_as_steps_do(memory, time):
    memory, sequence = randomize(memory), inputs(memory, time)
    table, reads = torch.zeros(BATCH, HEADS, SIZE, SIZE), []
    for token in zip(*(x.unbind(1) for x in sequence)):
        read, table = memory.step(table, *token)
        reads.append(read)
    torch.testing.assert_close(memory(*sequence), torch.stack(reads, dim=1), rtol=0, atol=1e-9)


def test_rows_that_forget_everything_are_still_numbers_in_float32():
    memory = FinchMemory(HEADS, SIZE).float()
    r, k, v, _ = (x.float().requires_grad_() for x in vectors(4, 40))
    with torch.enable_grad():
        read = memory(r, k, v, torch.full_like(r, 9.0))
        read.sum().backward()
    assert read.isfinite().all() and k.grad.isfinite().all()


def test_each_memory_is_the_chapters():
    names = chapter()
    for name, ours in (
        ("Eagle", EagleMemory(HEADS, SIZE)),
        ("Finch", FinchMemory(HEADS, SIZE)),
        ("Goose", GooseMemory()),
    ):
        theirs = names[f"{name}Memory"](HEADS, SIZE)
        theirs.load_state_dict(randomize(ours).state_dict())
        table = torch.zeros(HEADS, SIZE, SIZE)
        for token in zip(*(x[0] for x in inputs(ours, 12))):
            read, table = ours.step(table, *token)
            torch.testing.assert_close(read, theirs(*token), rtol=0, atol=1e-9)
            torch.testing.assert_close(table, theirs.contents, rtol=0, atol=1e-9)


def chapters_block(ours: nn.Module, names: dict) -> nn.Module:
    """The chapter's attention block with the weights of one of ours. Its own tests compare it with `rwkv`."""
    kind = {EagleTimeMixing: "Eagle", FinchTimeMixing: "Finch", GooseTimeMixing: "Goose"}[type(ours)]
    ranks = {"decay": 8, "rate": 8, "gate": 8, "first": 8}
    arguments = {"Eagle": (), "Finch": (8, 8), "Goose": (ranks,)}[kind]
    theirs, own = names[f"{kind}Block"](HEADS, SIZE, *arguments), dict(ours.named_parameters())
    renamed = {}
    for name, parameter in theirs.named_parameters():
        path = name.split(".")[1] if name.startswith("mixers.") else None
        if path:
            renamed[name] = own[name.replace("mixers", "mixes") if kind == "Finch" else f"mixes.{path}"]
        else:
            renamed[name] = own.get("first_mix" if name == "first_mixer.weight" else name, parameter)
    theirs.load_state_dict(renamed)
    return theirs


@pytest.mark.parametrize("mixing", [EagleTimeMixing, FinchTimeMixing, GooseTimeMixing])
@pytest.mark.parametrize("layer", [0, 1])
def test_time_mixing_is_the_chapters(mixing, layer):
    ours = randomize(mixing(PLACES[layer]))
    theirs = chapters_block(ours, chapter())
    x, first = torch.randn(2, 1, 20, HEADS * SIZE)
    update, _ = ours(x, first if layer else None)
    for t in range(20):
        arguments = (first[0, t] if layer else None,) if mixing is GooseTimeMixing else ()
        expected = theirs(x[0, t], *arguments)
        expected = expected[0] if mixing is GooseTimeMixing else expected
        torch.testing.assert_close(update[0, t], expected, rtol=0, atol=1e-9)


def test_rwkv4_is_the_packages():
    ours = randomize(RWKV4TimeMixing(PLACES[0]))
    x = torch.randn(1, 40, HEADS * SIZE)
    update, _ = ours(x)
    ours.attention.clear_buffers()
    stepped = torch.stack([ours.attention(token) for token in x[0]])
    torch.testing.assert_close(update[0], stepped, rtol=0, atol=1e-9)


def test_attention_is_the_formula():
    ours = randomize(SoftmaxAttention(PLACES[0]))
    x = torch.randn(1, 9, HEADS * SIZE)
    q, k, v = (matrix(x[0]).view(9, HEADS, SIZE) for matrix in ours.matrices.values())
    angles = torch.tensor([1.0, 0.01])  # of the two planes of a head of four
    turn = lambda u, t: torch.view_as_real(
        torch.complex(u[:, :2], u[:, 2:]) * torch.polar(torch.ones(2), t * angles)
    ).mT.flatten(-2)
    for t in range(9):
        scores = torch.stack([(turn(q[t], t) * turn(k[s], s)).sum(-1) / SIZE**0.5 for s in range(t + 1)])
        read = (scores.softmax(dim=0)[:, :, None] * v[: t + 1]).sum(dim=0)
        torch.testing.assert_close(ours(x)[0][0, t], ours.output(read.flatten()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_model_sees_the_future(architecture):
    model = build(TASKS["cups"], architecture, Settings()).double()
    ids, _ = draw_cups(Generator().manual_seed(0), 2, 5, 39)
    changed = ids.clone()
    changed[:, 20:] = NOTHING
    logits, others = model(ids), model(changed)
    torch.testing.assert_close(logits[:, :20], others[:, :20], rtol=0, atol=1e-5)
    assert (logits[:, 20:] - others[:, 20:]).abs().max() > 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# what a memory can and cannot do, by construction


def follow(largest_rate: float, cups: int = 5, length: int = 200) -> float:
    """How often a table says where the ball is: at each swap it mirrors at two cups' difference, as far as it may."""
    memory, eye = GooseMemory(), torch.eye(CUPS)
    ids, answers = draw_cups(Generator().manual_seed(0), 1, cups, length)
    table = eye[answers[0, 0]][None, :, None].expand(1, CUPS, CUPS)  # a row for each cup
    right = []
    for token, cup in zip(ids[0, 1:, 0].tolist(), answers[0, 1:]):
        difference = eye[PAIRS[token][0]] - eye[PAIRS[token][1]] if token < NOTHING else eye[0]
        rate = largest_rate if token < NOTHING else 0.0
        nothing, key = torch.zeros(1, CUPS), normalize(difference[None], dim=-1)
        _, table = memory.step(table, nothing, nothing, nothing, torch.ones(1, CUPS), key, torch.full((1, CUPS), rate))
        right.append(table[0, :, 0].argmax() == cup)
    return torch.stack(right).double().mean().item()


def test_with_rates_to_2_one_table_follows_five_cups_for_ever():
    assert follow(2.0) == 1.0
    assert follow(1.0) < 0.5  # which flattens two rows to their mean


def test_a_published_rwkv7_shrinks_whatever_it_turns_around():
    """Its transition's eigenvalues are real, at most 1, and at least the smallest decay less 1: -0.455."""
    decays = 1 - (1 - math.exp(-math.exp(-0.5))) * torch.rand(500, SIZE)
    key, rates = normalize(torch.randn(500, SIZE), dim=-1), torch.rand(500, SIZE)
    transition = torch.diag_embed(decays) - (rates * key)[:, :, None] * key[:, None, :]
    eigenvalues = torch.linalg.eigvals(transition)
    assert eigenvalues.imag.abs().max() < 1e-6
    assert eigenvalues.real.max() <= 1 and eigenvalues.real.min() >= math.exp(-math.exp(-0.5)) - 1
    assert eigenvalues.real.min() < -0.1  # it can turn a row around, at a price


@pytest.mark.parametrize("memory", [EagleMemory(HEADS, SIZE), FinchMemory(HEADS, SIZE)], ids=str)
def test_no_decay_turns_a_row_around(memory):
    table, nothing = torch.randn(HEADS, SIZE, SIZE), torch.zeros(HEADS, SIZE)
    decays = (torch.randn(HEADS, SIZE),) if isinstance(memory, FinchMemory) else ()
    _, after = randomize(memory).step(table, nothing, nothing, nothing, *decays)
    assert (after.sign() == table.sign()).all()


def test_rwkv4s_sums_do_not_tell_who_has_what():
    block = chapter()["rwkv"].WKVMemory(channels=8)
    block.log_decay[:] = -50.0
    pairs = torch.eye(4)
    told = []
    for cities in ([0, 1], [1, 0]):
        block.clear_buffers()
        for name, city in enumerate(cities):
            block(torch.zeros(8), torch.cat([pairs[name], pairs[city]]))
        told.append(torch.cat([block.contents, block.normalizer]))
    torch.testing.assert_close(*told, rtol=0, atol=1e-12)


def test_only_a_correcting_table_says_what_was_told_last():
    key, old, new = torch.eye(4)[0][None], torch.eye(4)[1][None], torch.eye(4)[2][None]
    one, slow = torch.ones(1, 4), torch.full((1, 4), -50.0)
    corrects, adds = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    for value in (old, new):
        _, corrects = GooseMemory().step(corrects, key, key, value, one, key, one)
        _, adds = FinchMemory(1, 4).step(adds, key, key, value, slow)
    torch.testing.assert_close(ask(key, corrects), new, rtol=0, atol=1e-12)
    torch.testing.assert_close(ask(key, adds), old + new, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# the tasks are right


@pytest.mark.parametrize("keys, times, slots", [(2, 1, 16), (16, 1, 16), (4, 3, 16), (4, 8, 32)])
def test_recall_asks_for_the_newest_value(keys, times, slots):
    ids, answers = draw_recall(Generator().manual_seed(1), 5, keys, times, slots)
    assert ids.shape == (5, 2 * slots, 2) and ids.max() < TASKS["recall"].vocabulary
    for sequence, expected in zip(ids.tolist(), answers.tolist()):
        told, pairs = {}, 0
        for t, (key, value) in enumerate(sequence):
            if value == ASKED:
                assert t >= slots and expected[t] == told[key]
            else:
                assert t < slots and expected[t] == SILENT and (key == BLANK_KEY) == (value == BLANK_VALUE)
                if key != BLANK_KEY:
                    told[key], pairs = value - BLANK_VALUE - 1, pairs + 1
        assert len(told) == keys and pairs == keys * times


@pytest.mark.parametrize("cups", [2, 3, 5])
def test_cups_are_followed(cups):
    ids, answers = draw_cups(Generator().manual_seed(1), 6, cups, 50)
    for tokens, expected in zip(ids[:, :, 0].tolist(), answers.tolist()):
        row = [None] * cups
        row[tokens[0] - NOTHING - 1] = "ball"
        seen = [row.index("ball")]
        for token in tokens[1:]:
            if token != NOTHING:
                i, j = PAIRS[token]
                row[i], row[j] = row[j], row[i]
            seen.append(row.index("ball"))
        assert seen == expected
    assert set(ids[:, 1:].flatten().tolist()) == set(swaps_of(cups).tolist())


def test_with_two_cups_the_ball_tells_parity():
    ids, answers = draw_cups(Generator().manual_seed(2), 4, 2, 60)
    swapped = (ids[:, 1:, 0] != NOTHING).cumsum(dim=1) % 2
    assert torch.equal(answers[:, 1:], (answers[:, :1] + swapped) % 2)


def test_what_guessing_gives_is_what_it_gives():
    random = Generator().manual_seed(3)
    ids, answers = draw_recall(random, 4000, 4, 1, 4)
    values = ids[:, :4, 1] - BLANK_VALUE - 1  # (batch, 4), in the order of telling
    assert abs((values[:, :1] == answers[:, 4:]).double().mean() - any_told_value(4)) < 0.02
    ids, answers = draw_recall(random, 4000, 2, 4, 8)
    first = torch.stack([row[:8][row[:8, 0] == row[8, 0]][0, 1] for row in ids]) - BLANK_VALUE - 1  # (batch,)
    assert (first == answers[:, 8]).double().mean() < any_of_the_keys_values(4)  # never the newest but by chance
    drawn = (
        torch.stack([row[:8][row[:8, 0] == row[8, 0]][torch.randint(4, (), generator=random), 1] for row in ids])
        - BLANK_VALUE
        - 1
    )  # (batch,)
    assert abs((drawn == answers[:, 8]).double().mean() - any_of_the_keys_values(4)) < 0.02
    for times in (1, 8):  # as often right, however often keys were told
        ids, answers = draw_recall(random, 4000, 4, times, 4 * times)
        last = ids[:, 4 * times - 1, 1] - BLANK_VALUE - 1  # (batch,)
        assert abs((last[:, None] == answers[:, 4 * times :]).double().mean() - any_told_value(4)) < 0.02
    ids, answers = draw_cups(random, 4000, 4, 7)
    stayed = (answers[:, 4:8] == answers[:, :1]).double().mean().item()
    assert abs(stayed - start_cup_share(4, 4, 7)) < 0.02


# ---------------------------------------------------------------------------------------------------------------------
# the comparison is fair, and its record whole


def test_all_blocks_have_the_same_number_of_parameters():
    sizes = {name: describe(name, Settings())["block_parameters"] for name in ARCHITECTURES}
    assert max(sizes.values()) - min(sizes.values()) < 0.005 * min(sizes.values())


def test_state_is_counted_as_a_step_keeps_it():
    """RWKV-4's is what its buffers hold; a table memory's are its tables and the last input."""
    settings = Settings()
    model = build(TASKS["cups"], "RWKV-4", settings)
    buffers = {
        buffer.data_ptr(): buffer.numel()
        for block in model.blocks
        for name, buffer in block.time_mixing.attention.state_buffers().items()
        if "mixer" not in name
    }
    last_x = settings.layers * settings.channels  # the three mixers remember the same
    assert describe("RWKV-4", settings)["state_after_64"] == sum(buffers.values()) + last_x
    tables = settings.layers * settings.heads * (settings.channels // settings.heads) ** 2
    assert describe("RWKV-7", settings)["state_after_64"] == tables + last_x
    assert (
        describe("Transformer", settings)["state_after_64"] == 4 * describe("Transformer", settings)["state_after_16"]
    )


def test_a_seed_decides_everything_and_the_sequences_are_alike_for_all(monkeypatch):
    seen = []
    monkeypatch.setattr(compare_memories.nn.utils, "clip_grad_norm_", lambda *_: seen.append(drawn[-1]))
    drawn, batch = [], compare_memories.Task.batch
    monkeypatch.setattr(compare_memories.Task, "batch", lambda *args: drawn.append(batch(*args)) or drawn[-1])
    models = [
        train(TASKS["recall"], name, 1e-2, seed=1, settings=QUICK) for name in ("RWKV-5", "RWKV-5", "Transformer")
    ]
    steps = QUICK.steps
    for n in range(steps):
        assert torch.equal(seen[n][0], seen[n + steps][0]) and torch.equal(seen[n][0], seen[n + 2 * steps][0])
    for one, two in zip(models[0].parameters(), models[1].parameters()):
        assert torch.equal(one, two)


def test_a_model_learns():
    """A task for a second: two keys, two values, always told."""
    settings = replace(Settings(), steps=60, batch=32, warmup=5, tested=32)
    task = replace(TASKS["recall"], trained=[(2, 1, 2)], asked=[(2, 1, 2)], draw=few_words)
    [[share]] = accuracies(train(task, "Transformer", 1e-2, 1, settings), task, 1, settings)
    assert share > 0.9  # either value told is right in three quarters


def few_words(random, batch, keys, times, slots):
    """Recall with two values only."""
    ids, answers = draw_recall(random, batch, keys, times, slots)
    told = ids[..., 1] > BLANK_VALUE
    told &= ids[..., 1] < ASKED
    ids[..., 1] = torch.where(told, BLANK_VALUE + 1 + (ids[..., 1] - BLANK_VALUE - 1) % 2, ids[..., 1])
    return ids, torch.where(answers == SILENT, SILENT, answers % 2)


def test_a_finished_run_is_not_done_again(tmp_path, monkeypatch):
    cell = Cell("cups", "RWKV-5", 1e-2, 1)
    found = measure(cell, QUICK, tmp_path)
    monkeypatch.setattr(compare_memories, "train", lambda *_: pytest.fail("was trained again"))
    assert measure(cell, QUICK, tmp_path) == found
    with pytest.raises(pytest.fail.Exception):  # other settings are another run
        measure(cell, replace(QUICK, steps=2), tmp_path)


def check_record(record: dict, tasks: list[str], seeds: int) -> None:
    assert list(record["architectures"]) == list(ARCHITECTURES)
    for task in tasks:
        asked, bins = TASKS[task].asked, len(BINS) if task == "cups" else 1
        assert record["tasks"][task]["asked"] == [list(difficulty) for difficulty in asked]
        assert list(record["accuracy"][task]) == compared(task)
        for name, runs in record["accuracy"][task].items():
            assert torch.tensor(runs).shape == (seeds, len(asked), bins)
            assert ((torch.tensor(runs) >= 0) & (torch.tensor(runs) <= 1)).all()
            assert set(record["learning_rates"][task][name]) == {f"{rate:g}" for rate in LEARNING_RATES}
        assert torch.tensor(record["tasks"][task]["guess"]).shape == (len(asked), bins)
        assert table(record, task).count("\n") == len(compared(task)) + 3


def test_the_command_writes_a_whole_record_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    out = tmp_path / "record.json"
    compare(1, ["cups"], QUICK, tmp_path / "runs", out)
    monkeypatch.setattr(compare_memories, "train", lambda *_: pytest.fail("was trained again"))
    record = compare(1, ["cups"], QUICK, tmp_path / "runs", out)
    assert json.loads(out.read_text(encoding="utf-8")) == record
    check_record(record, ["cups"], seeds=1)


def test_a_difference_is_what_every_seed_shows():
    runs = {"a": [[[0.96]], [[0.99]]], "b": [[[0.90]], [[0.97]]], "c": [[[0.90]], [[0.95]]]}
    record = {"accuracy": {"recall": runs}, "settings": {"solved": 0.95}}
    assert solves(record, "recall", "a").all() and not solves(record, "recall", "b").any()
    assert is_ahead(record, "recall", "a", "c").all() and not is_ahead(record, "recall", "a", "b").any()


def made_up_record(share: float) -> dict:
    """A record in which every seed of every architecture is right in the same share, RWKV-7 always."""
    accuracy = {
        task: {
            name: [
                [[1.0 if name == "RWKV-7" else share] * (len(BINS) if task == "cups" else 1)] * len(TASKS[task].asked)
            ]
            for name in compared(task)
        }
        for task in TASKS
    }
    return {
        "accuracy": accuracy,
        "tasks": {task: describe_task(TASKS[task]) for task in TASKS},
        "settings": {"bins": BINS, "trained_length": LENGTH},
    }


def test_figures_say_what_they_show():
    torch.set_default_dtype(torch.float32)
    recall, cups = figures.plot_learned_recall(made_up_record(0.25)), figures.plot_learned_cups(made_up_record(0.25))
    assert (
        "RWKV-7 100%, 100%, 100%" in recall.alt and "RWKV-5 25%, 25%, 25%" in recall.alt and "1 seeds" not in cups.alt
    )
    assert f"5 cups, at {BINS[0][1]}, {LENGTH}, {BINS[-1][1]}" in cups.alt and "guessing 50%" in cups.alt
    assert b"trained up to here" in cups.light and b"trained up to here" in cups.dark


def test_lines_are_json():
    value = {"a": {"b": [[1, 2.5], [3]], "c": "d"}, "e": 1}
    assert json.loads(in_lines(value)) == value and "[[1, 2.5], [3]]" in in_lines(value)


@pytest.mark.skipif(not RECORDED.is_file(), reason="the repository carries no record yet: make memories")
def test_the_books_record_is_of_these_models_and_tasks():
    record = load_record()
    assert RECORDED.stat().st_size < 24_000
    seeds = len(record["accuracy"]["recall"]["RWKV-4"])
    assert seeds >= 3
    check_record(record, list(TASKS), seeds)
    settings = replace(Settings(), steps=record["settings"]["steps"])
    assert record["architectures"] == {name: describe(name, settings) for name in ARCHITECTURES}
