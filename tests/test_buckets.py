"""The memory to drag at the beginning of "Attention and memory": its arithmetic, in Python and in the page's script."""

import json
from pathlib import Path

import pytest
import torch

from browser import visit
from rwkv_explainer.chapters.attention_and_memory.figures import Buckets, buckets_at, touch_memory
from rwkv_explainer.drawing.sliders import BUILDING
from rwkv_explainer.model import WKVMemory

SCRIPT = Path(__file__).parents[1] / "book/_static/buckets.js"
MEMORIES = [
    Buckets(),
    Buckets(chosen=1),
    Buckets(kept=1),
    Buckets(kept=0.35, chosen=3),
    Buckets(weights=(0, 0, 8, 8), values=(8, 0, 8, 8), chosen=2),
    Buckets(weights=(8, 8, 8, 8), values=(8, 8, 8, 7)),
]


@pytest.mark.parametrize("buckets", MEMORIES[:4])
def test_the_buckets_are_the_memorys_own(buckets):
    """What stands in them is what `WKVMemory` holds before it reads, and the token that it reads with."""
    memory = WKVMemory(1).to(torch.float64).requires_grad_(False)
    memory.log_decay.copy_(torch.tensor([buckets.kept], dtype=torch.float64).log().neg().log())
    for token, (weight, value) in enumerate(zip(buckets.weights, buckets.values)):
        contents, weights = buckets.at(token)
        assert sum(contents[:-1]) == pytest.approx(memory.contents.item(), abs=1e-9)
        assert sum(weights[:-1]) == pytest.approx(memory.normalizer.item(), abs=1e-9)
        key, value = torch.tensor([float(weight)]).double().log(), torch.tensor([float(value)]).double()
        assert sum(contents) / sum(weights) == pytest.approx(memory(key, value).item())


def test_each_token_needs_a_weight():
    with pytest.raises(ValueError, match="expected a weight for each of 4 values"):
        Buckets(weights=(1, 2))


@pytest.mark.parametrize("buckets", MEMORIES)
def test_the_script_draws_what_python_drew(browser, buckets):
    page = browser.new_page()
    page.add_script_tag(path=SCRIPT)
    memory = json.loads(json.dumps({name: getattr(buckets, name) for name in ("weights", "values", "kept", "chosen")}))
    assert page.evaluate("memory => rwkvBuckets.picture(memory)", memory) == buckets.picture()
    assert page.evaluate("memory => rwkvBuckets.caption(memory)", memory) == buckets.caption
    page.close()


def test_weights_and_values_can_be_dragged_from_the_disk(browser, tmp_path, monkeypatch):
    monkeypatch.setenv(BUILDING, "1")
    file = tmp_path / "page.html"
    script = SCRIPT.read_text(encoding="utf-8")
    file.write_text(f"<meta charset=utf-8><script>{script}</script>{touch_memory()._repr_html_()}", encoding="utf-8")
    with visit(browser, file.as_uri()) as page:
        reads = page.locator(".bk-token > span b").all_inner_texts
        assert [read for read in reads() if read] == ["6"]  # the chapter asks for the others
        page.get_by_label("token", exact=False).first.fill("4")
        assert reads()[-1] == "2.16"
        page.get_by_label("its value").press("ArrowRight")  # the fourth token's: 1 becomes 2
        assert reads()[-1] == "2.8" and "= 2.8: what" in page.locator("figcaption").inner_text()
        page.get_by_label("token", exact=False).first.fill("1")
        page.get_by_label("its weight").fill("0")
        assert reads()[0] == "–" and "reads nothing yet" in page.locator("figcaption").inner_text()
        page.get_by_label("the past keeps").fill("1")
        page.get_by_label("token", exact=False).first.fill("2")
        assert page.locator(".bk-later").count() == 2


def test_a_notebook_has_sliders_for_the_last_token(monkeypatch):
    monkeypatch.delenv(BUILDING, raising=False)
    sliders = touch_memory()
    sliders.sliders["last_value"].value = 5
    assert sliders.picture.value == buckets_at(last_value=5)._repr_html_()
