"""What the text says of the model: claims that can fail, stop the build when they do, and are counted on the page."""

import io
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import claims as tool
from rwkv_explainer import claims, load_pretrained
from rwkv_explainer.checkpoints import BUNDLED
from rwkv_explainer.claims import ClaimFails, claim, measured, recorded, tally, theorem
from test_book import CHAPTERS, code_cells, make_html, source, tags, tiny_book  # noqa: F401, a fixture

# Chapters that speak of the model and have no claims yet. There is none left, and none is to come.
NOT_YET: set[str] = set()


@pytest.fixture(autouse=True)
def fresh_page(monkeypatch):
    """No claim was made so far, the book's own model is chosen, and nothing is being built."""
    monkeypatch.setattr(claims, "stated", {})
    monkeypatch.delenv("RWKV_EXPLAINER_MODEL", raising=False)
    monkeypatch.delenv(claims.BUILD, raising=False)


@pytest.fixture
def in_build(monkeypatch):
    monkeypatch.setenv(claims.BUILD, "1")


# ---------------------------------------------------------------------------------------------------------------------
# a claim


def test_a_false_claim_stops_a_build(in_build):
    claim("Paris comes next", 0.97 > 0.9, p=0.97)
    with pytest.raises(ClaimFails, match=r"Rome comes next \(p 0\.01\): the statement is not true"):
        claim("Rome comes next", 0.01 > 0.9, p=0.01)


def test_a_claim_whose_control_fails_stops_a_build(in_build):
    claim("Paris needs the memories", 0.01 < 0.1, control=0.97 > 0.9, emptied=0.01, whole=0.97)
    with pytest.raises(ClaimFails, match="the control came out wrong"):
        claim("Paris needs the memories", 0.01 < 0.1, control=0.02 > 0.9, emptied=0.01, whole=0.02)


def test_a_claim_can_be_printed_on_any_console(monkeypatch):
    page = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(page, encoding="cp1252"))
    claim("Paris comes next", 0.97 > 0.9, p=0.97)
    sys.stdout.flush()
    assert page.getvalue().decode("cp1252").splitlines() == ["? Paris comes next (p 0.97)"]


def test_a_reader_may_change_things(capsys):
    """Outside of a build the line says that it does not hold, and the chapter goes on."""
    claim("Rome comes next", 0.01 > 0.9, p=0.01)
    assert not tally().claims[0].holds
    assert "✗ does not hold here: Rome comes next (p 0.01)" in tally()._repr_html_()


def test_another_model_may_differ(in_build, monkeypatch):
    monkeypatch.setenv("RWKV_EXPLAINER_MODEL", "rwkv-4-pile-169m")
    claim("Rome comes next", 0.01 > 0.9, p=0.01)
    assert "0 of them hold here" in tally().line


@pytest.mark.parametrize("gist", ["Only layer 4 is needed", "Layer 4 does more than layer 3", "It knows, alone"])
def test_a_sentence_that_compares_needs_a_control(gist):
    with pytest.raises(ValueError, match="compares, so expected a control"):
        claim(gist, True, p=0.9)
    claim(gist, True, control=True, p=0.9)


def test_a_claim_shows_its_numbers():
    with pytest.raises(ValueError, match="expected the numbers"):
        claim("Paris comes next", True)


@pytest.mark.parametrize("condition", [0.9, torch.tensor([True, False]), torch.tensor(0.9), "yes", None])
def test_a_condition_is_a_truth_value(condition):
    """A probability of 0.02 counts as true in Python, and so would every sentence about it."""
    with pytest.raises(TypeError, match="condition: expected a truth value"):
        claim("Paris comes next", condition, p=0.9)


@pytest.mark.parametrize("condition", [torch.tensor(0.9) > 0.5, torch.tensor([0.9]).numpy()[0] > 0.5])
def test_a_condition_may_come_from_tensors(condition):
    claim("Paris comes next", condition, p=0.9)
    assert tally().claims[0].statement is True


@pytest.mark.parametrize(
    "number, shown",
    [
        (0.99987, "0.9999"),
        (0.00217123, "0.0022"),
        (1.5e-6, "1.5e−06"),
        (-2.5, "−2.5"),
        (12345.6, "12,346"),
        (3, "3"),
        (torch.tensor(0.25), "0.25"),
        (torch.tensor([0.25, 1.0]), "0.25, 1"),
        (True, "yes"),
        ("·Paris", "·Paris"),
    ],
)
def test_numbers_are_shown_short(number, shown):
    claim("Paris comes next", True, the_number=number)
    assert tally().claims[0].numbers == {"the number": shown}


@pytest.mark.parametrize("number", [torch.zeros(9), {}, None])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(TypeError, match="p: expected a number"):
        claim("Paris comes next", True, p=number)


# ---------------------------------------------------------------------------------------------------------------------
# a theorem


def halves(half_life) -> bool:
    return all(abs(2.718281828459045 ** (-rate * half_life(rate)) - 0.5) < 1e-9 for rate in (0.1, 2.0))


def half_life(rate: float) -> float:
    return 0.6931471805599453 / rate


def test_a_theorem_tells_the_right_formula_from_a_wrong_one(in_build):
    theorem("A weight is halved after log 2 / rate tokens", halves, right=half_life, wrong=lambda rate: 1 / rate)
    assert tally().claims[0].mathematics and tally().claims[0].holds


def test_a_theorem_without_a_wrong_formula_is_refused():
    with pytest.raises(TypeError, match="wrong"):
        theorem("A weight is halved after log 2 / rate tokens", halves, right=half_life)


def test_a_check_that_a_wrong_formula_passes_is_refused():
    with pytest.raises(ValueError, match="refuses the wrong formula"):
        theorem("A weight is halved", lambda f: f(1.0) > 0, right=half_life, wrong=lambda rate: 1 / rate)
    assert tally().claims == ()


def test_a_wrong_theorem_stops_a_build(in_build):
    with pytest.raises(ClaimFails):
        theorem("A weight is halved", halves, right=lambda rate: 1 / rate, wrong=lambda rate: rate)


# ---------------------------------------------------------------------------------------------------------------------
# what a record shows


def first_is_ahead(runs: dict) -> bool:
    return runs["first"] > runs["second"]


EXCHANGED = {"first": 0.5, "second": 0.9}


def test_a_record_is_told_from_one_that_was_exchanged(in_build):
    recorded("The first is ahead", first_is_ahead, record={"first": 0.9, "second": 0.5}, control=EXCHANGED, first=0.9)
    assert "✓ The first is ahead (first 0.9)" in tally()._repr_html_()
    with pytest.raises(ClaimFails, match="the statement is not true"):
        recorded("The first is ahead", first_is_ahead, record=EXCHANGED, control=EXCHANGED, first=0.5)


def test_a_check_that_the_control_passes_is_refused():
    with pytest.raises(ValueError, match="refuses the control"):
        recorded("Some are right", lambda runs: max(runs.values()) > 0.8, record={}, control=EXCHANGED, most=0.9)
    with pytest.raises(ValueError, match="expected the numbers"):
        recorded("The first is ahead", first_is_ahead, record={}, control=EXCHANGED)


def test_a_measurement_is_told_from_its_control_and_says_how_often(in_build):
    found = {"first": 0.9, "second": 0.5}
    measured("The first is ahead", first_is_ahead, found=found, control=EXCHANGED, tables=40)
    assert "✓ The first is ahead (tables 40)" in tally()._repr_html_() and not tally().claims[0].mathematics
    with pytest.raises(ValueError, match="refuses the control"):
        measured("The first is ahead", first_is_ahead, found=found, control=found, tables=40)
    with pytest.raises(ValueError, match="how often it was drawn"):
        measured("The first is ahead", first_is_ahead, found=found, control=EXCHANGED)
    with pytest.raises(ClaimFails, match="the statement is not true"):
        measured("The first is ahead", first_is_ahead, found=EXCHANGED, control=EXCHANGED, tables=40)


# ---------------------------------------------------------------------------------------------------------------------
# the tally


def test_the_line_counts_both_kinds():
    assert tally().line == "✓ 0 statements on this page were checked, none: all hold"
    claim("Paris comes next", True, p=0.9)
    assert tally().line == "✓ 1 statement on this page was checked, 1 against the model: all hold"
    theorem("A weight is halved", halves, right=half_life, wrong=lambda rate: 1 / rate)
    claim("Rome comes next", False, p=0.01)
    line = "✗ 3 statements on this page were checked, 2 against the model and 1 as mathematics: 2 of them hold here"
    assert tally().line == line
    recorded("The first is ahead", first_is_ahead, record={"first": 1, "second": 0}, control=EXCHANGED, first=1)
    assert "4 statements on this page were checked, 2 against the model, 1 against a record and 1 as" in tally().line
    measured("So it is in 9 draws", first_is_ahead, found={"first": 1, "second": 0}, control=EXCHANGED, draws=9)
    assert "1 against a record, 1 against runs of this page and 1 as mathematics: 4 of them hold" in tally().line


def test_a_cell_that_runs_again_counts_once():
    for p in (0.01, 0.97):
        claim("Paris comes next", p > 0.9, p=p)
    assert [(c.holds, c.numbers) for c in tally().claims] == [(True, {"p": "0.97"})]


def test_html_is_escaped():
    claim("a <b> & *c d*", True, p=1)
    assert "a &lt;b&gt; &amp; <em>c d</em>" in tally()._repr_html_() and "<b>" not in tally()._repr_html_()


# ---------------------------------------------------------------------------------------------------------------------
# on the page

IMPORT = "from rwkv_explainer.claims import claim, tally"
TRUE = 'claim("Two is more than one", 2 > 1, control=1 > 0, two=2)'
FALSE = TRUE.replace("2 > 1", "2 > 3")


def code(name: str, text: str, *its_tags: str) -> dict:
    """A code cell of a notebook."""
    return {
        "cell_type": "code",
        "id": name,
        "metadata": {"tags": list(its_tags)},
        "source": text,
        "execution_count": None,
        "outputs": [],
    }


def run_notebook(*cells: dict) -> nbformat.NotebookNode:
    notebook = nbformat.from_dict({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return notebook


def test_a_claim_made_false_by_hand_stops_the_chapter(in_build):
    run_notebook(code("a", f"{IMPORT}\n{TRUE}"))
    with pytest.raises(CellExecutionError) as failed:
        run_notebook(code("a", f"{IMPORT}\n{FALSE}"))
    assert failed.value.ename == "ClaimFails" and failed.value.evalue.startswith("Two is more than one (two 2)")


def test_folds_have_names_and_claims_fail_the_build(tiny_book):  # noqa: F811
    chapter = tiny_book / "book" / "chapter.ipynb"
    notebook = json.loads(chapter.read_text())
    kinds = {"set-up": "Set-up", "proof": "Proof", "check": "The check", "block-code": "The block in code"}
    kinds["table-code"] = "The code for the table below"
    cells = [code(kind, "1 + 1", kind) for kind in kinds]
    cells += [code("imports", IMPORT, "remove-cell"), code("true", TRUE, "claim"), code("plain", "2 + 2")]
    notebook["cells"][1:] = [*cells, code("end", "tally()", "remove-input")]
    chapter.write_text(json.dumps(notebook))
    make_html(tiny_book)
    page = BeautifulSoup((tiny_book / "_build/html/chapter.html").read_text("utf-8"), "html.parser")
    for kind, label in (kinds | {"claim": "✓ The claim holds"}).items():
        fold = page.select_one(f".cell.tag_{kind} > details")
        assert fold.select_one("summary p").contents[0] == label and not fold.has_attr("open")
        assert fold.select_one(".cell_input") and "aria-label" not in fold.summary.attrs
        assert bool(fold.select_one(".cell_output")) == (kind == "claim"), "what the code shows stays on the page"
    assert page.select(".cell details details") == []
    assert page.select_one(".rwkv-tally > summary").get_text().startswith("✓ 1 statement on this page was checked")
    notebook["cells"][-3]["source"] = FALSE
    chapter.write_text(json.dumps(notebook))
    with pytest.raises(AssertionError, match="ClaimFails"):
        make_html(tiny_book)
    said = make_html(tiny_book, RWKV_EXPLAINER_MODEL="another")
    page = BeautifulSoup((tiny_book / "_build/html/chapter.html").read_text("utf-8"), "html.parser")
    assert page.select_one(".tag_claim summary p").contents[0] == "✗ Not true here", said


# ---------------------------------------------------------------------------------------------------------------------
# the chapters

CLAIMS = re.compile(r"^\s*(claim|theorem|recorded|measured)\(", re.MULTILINE)


def claiming_cells(chapter: str) -> list[dict]:
    return [cell for cell in code_cells(source(chapter)) if CLAIMS.search("".join(cell["source"]))]


def speaks_of_the_model(chapter: str) -> bool:
    """Whether it has a model to speak of: it loads one, or trains one as the chapter *Training* does."""
    cells = code_cells(source(chapter))
    return any(re.search(r"load_pretrained\(|\btraining\.\w+\(", "".join(cell["source"])) for cell in cells)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_that_speaks_of_the_model_claims_something(chapter):
    if not speaks_of_the_model(chapter):
        assert chapter not in NOT_YET, "it loads no model: take it off the list"
    elif chapter in NOT_YET:
        assert claiming_cells(chapter) == [], "it has claims now: take it off the list"
    else:
        assert claiming_cells(chapter), "it speaks of the model, and no claim says what must hold"


def test_the_list_of_exceptions_names_chapters():
    assert NOT_YET <= set(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_claims_are_folded_and_counted(chapter):
    cells = code_cells(source(chapter))
    claiming = claiming_cells(chapter)
    assert [cell["id"] for cell in claiming if "claim" not in tags(cell)] == []
    counting = [i for i, cell in enumerate(cells) if re.search(r"^tally\(\)", "".join(cell["source"]), re.MULTILINE)]
    assert len(counting) == bool(claiming), "one cell `tally()` for a chapter with claims"
    if claiming:
        assert "remove-input" in tags(cells[counting[0]])
        assert counting[0] > cells.index(claiming[-1]), "the tally comes before the last claim"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_set_up_is_folded(chapter):
    """By a tag of its own; cells that are folded have a label that names them, and no second tag for it."""
    cells = {cell["id"]: tags(cell) for cell in code_cells(source(chapter))}
    assert [name for name in ("setup", "exercises-setup") if name in cells and "set-up" not in cells[name]] == []
    assert [name for name, its_tags in cells.items() if "hide-input" in its_tags] == []


# ---------------------------------------------------------------------------------------------------------------------
# can a claim fail?


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    return tool.write_models(tmp_path_factory.mktemp("models"), [])


def outputs_of(model, piece, token_ids) -> torch.Tensor:
    """What a piece of the model adds for each token, (time, channels)."""
    added = []
    watch = piece.register_forward_hook(lambda module, inputs, output: added.append(output))
    for token_id in token_ids:
        model(token_id)
    watch.remove()
    return torch.stack(added)


def test_every_alteration_is_another_model(models):
    assert len(models) >= 5 and next(iter(models.values())) == ""
    own = load_pretrained("textbook")[0].state_dict()
    for path in filter(None, models.values()):
        model, tokenizer = load_pretrained(path)
        assert tokenizer is not None
        assert any(not torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items()), path


@pytest.mark.parametrize("piece", ["attention", "gated_mlp"])
def test_a_silenced_piece_adds_nothing(models, piece):
    own, altered = (
        load_pretrained(models[name])[0]
        for name in models
        if name == "the book's model" or name.startswith(f"{piece.replace('_mlp', ' MLP')} silenced")
    )
    middle = (len(own.blocks) - 1) // 2
    for layer in range(len(own.blocks)):
        added = outputs_of(altered, getattr(altered.blocks[layer], piece), [5, 6, 7])
        assert bool((added == 0).all()) == (layer == middle), f"layer {layer + 1}"
    assert outputs_of(own, getattr(own.blocks[middle], piece), [5, 6, 7]).any()


def test_shuffled_rows_are_the_same_rows(models):
    own, altered = (
        load_pretrained(models[name])[0].embedding.embedding.weight
        for name in ("the book's model", "embedding rows shuffled")
    )
    assert (own != altered).any(dim=1).double().mean() > 0.99
    assert torch.equal(own.sort(dim=0).values, altered.sort(dim=0).values)


def test_memories_go_to_the_layer_before(models):
    own, altered = (
        load_pretrained(models[name])[0] for name in ("the book's model", "decays and gains of the next layer")
    )
    for layer, block in enumerate(altered.blocks):
        origin = own.blocks[(layer + 1) % len(own.blocks)].attention.memory
        assert torch.equal(block.attention.memory.log_decay, origin.log_decay)
        assert torch.equal(block.attention.memory.log_gain, origin.log_gain)
        assert not torch.equal(origin.log_decay, own.blocks[layer].attention.memory.log_decay)


def test_random_weights_know_nothing(models):
    model, tokenizer = load_pretrained(models["random weights"])
    own, _ = load_pretrained("textbook")
    own_weights = own.state_dict()
    assert all((tensor != own_weights[name]).double().mean() > 0.99 for name, tensor in model.state_dict().items())
    for token_id in tokenizer.encode("The Eiffel Tower is located in the city of").ids:
        probabilities = model(token_id)
    assert probabilities[tokenizer.encode(" Paris").ids[0]] < 0.1


def test_claims_that_nothing_breaks_are_found():
    """A chapter that claims one thing of each kind, on two models that differ in their name alone."""
    chapter = nbformat.from_dict(
        {
            "cells": [
                code("model", "import os\nmodel = os.environ['RWKV_EXPLAINER_MODEL']\n" + IMPORT + ", theorem"),
                code("precise", "claim('It is the own model', model == '', named=model)", "claim"),
                code("empty", "claim('It has a name or none', len(model) >= 0, named=model)", "claim"),
                code("true", "theorem('Sums', lambda f: f(2) == 4, right=lambda x: x + 2, wrong=lambda x: x)", "claim"),
                code("untrue", "theorem('Names', lambda n: n == model, right='', wrong='x')", "claim"),
                code("control", "claim('It needs its name', True, control=model == '', named=model)", "claim"),
                code("stop", "1 / (model == '')"),
                code("late", "if model:\n    nowhere\nclaim('Late', True, named=model)", "claim"),
                code("after", "nowhere"),
            ],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )
    runs = tool.run_chapter(chapter, {"own": "", "altered": "other"})
    assert runs["own"].stop == "" and runs["altered"].stop == "stop: ZeroDivisionError: division by zero"
    findings = tool.compare(runs)
    assert [(f.cell, f.holds, list(f.broken_by), f.not_reached, f.unbroken) for f in findings] == [
        ("precise", True, ["altered"], [], False),
        ("empty", True, [], [], True),
        ("true", True, [], [], False),
        ("untrue", True, ["altered"], [], False),
        ("control", True, ["altered"], [], False),
        ("late", True, [], ["altered"], True),
    ]
    assert [f.cell for f in findings if "never failed, only its control" in str(f)] == ["control"]
    assert tool.summary("x", findings) == "x: 6 claims, 6 hold, 2 that no alteration breaks"
    assert [problem.partition(":")[0] for problem in tool.problems(findings, runs)] == [
        "no alteration breaks it",
        "no alteration breaks it",
        "a theorem, and yet altered breaks it",
    ]


def test_a_chapter_without_claims_is_not_run():
    chapter = nbformat.from_dict({"cells": [code("a", "raise SystemExit")], "metadata": {}})
    assert tool.summary("x", tool.compare(tool.run_chapter(chapter, {"own": ""}))).startswith("x: 0 claims, 0 hold, 0")


def test_the_bundled_files_are_where_alterations_look():
    assert all((BUNDLED / name).is_file() for name in ("model.safetensors", "tokenizer.json"))
    assert isinstance(tool.BOOK, Path) and tool.BOOK.is_dir()
