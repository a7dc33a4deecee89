"""The reader's own classes, collected from notebooks, make the model."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import rwkv_explainer as rwkv
from rwkv_explainer.chapters.the_whole_model.assembly import BUILT_IN, collect_classes

BOOK = Path(__file__).resolve().parents[1] / "book"
ANSWER = "class Mixer(nn.Module):\n    def forward(self, x: Embedding) -> Embedding:\n        {}\n"


def write_chapter(folder: Path, *cells: tuple[str, list[str]]) -> Path:
    """A folder with the chapter on the gated MLP, whose code cells have this code and these tags."""
    code = [{"cell_type": "code", "source": source, "metadata": {"tags": tags}} for source, tags in cells]
    (folder / "the-gated-mlp.ipynb").write_text(json.dumps({"cells": code}), encoding="utf-8")
    return folder


def test_the_chapters_build_every_class():
    built = collect_classes(BOOK)
    assert list(built) == [name for names in BUILT_IN.values() for name in names]
    assert all(one.origin != "the package" and one.lines > 1 for one in built.values())
    assert not any(one.made is getattr(rwkv, name) for name, one in built.items())


def test_attention_is_built_of_the_readers_own_mixers_and_memory():
    own = collect_classes(BOOK)
    attention = own["AttentionBlock"].made(channels=4)
    assert type(attention.key_mixer) is own["Mixer"].made and type(attention.memory) is own["WKVMemory"].made


def test_an_answer_goes_before_the_solution(tmp_path):
    cells = [(ANSWER.format("return 3 * x"), ["answer"]), (ANSWER.format("return 5 * x"), ["solution"])]
    mixer = collect_classes(write_chapter(tmp_path, *cells))["Mixer"]
    assert mixer.origin == "your answer" and mixer.made()(torch.ones(2)).tolist() == [3, 3]


@pytest.mark.parametrize("gap", ["...  # your answer", "return ...", "y = ..."])
def test_where_the_dots_still_stand_the_solution_is_taken(tmp_path, gap):
    cells = [(ANSWER.format(gap), ["answer"]), (ANSWER.format("return 5 * x"), ["solution"])]
    mixer = collect_classes(write_chapter(tmp_path, *cells))["Mixer"]
    assert mixer.origin == "its solution" and mixer.made()(torch.ones(2)).tolist() == [5, 5]


def test_a_notebook_that_was_opened_alone_takes_the_package(tmp_path):
    built = collect_classes(write_chapter(tmp_path, ("class Mixer(nn.Module:", []), ("%time\n1 + 1", [])))
    assert all(one.origin == "the package" and one.made is getattr(rwkv, name) for name, one in built.items())
    assert issubclass(built["Mixer"].made, nn.Module)
