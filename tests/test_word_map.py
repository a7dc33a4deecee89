"""The map of words at the beginning of "Embedding and unembedding": its places, and what the page's script says."""

import json
from pathlib import Path

import pytest
import torch

from browser import visit
from rwkv_explainer import load_pretrained
from rwkv_explainer.chapters.embedding_and_unembedding import figures
from rwkv_explainer.drawing.sliders import BUILDING
from rwkv_explainer.lab.word_map import lay_flat, neighbor_shares, token_directions, words_of_kinds

SCRIPT = Path(__file__).parents[1] / "book/_static/words.js"


@pytest.fixture(scope="module")
def pretrained():
    return load_pretrained()


@pytest.fixture(scope="module")
def drawn(pretrained):
    model, tokenizer = pretrained
    return figures.map_words(token_directions(model), tokenizer)


def test_groups_stay_together():
    """Three bundles of directions: on the map every point's nearest is of its own bundle."""
    torch.manual_seed(0)
    bundle = torch.arange(30) % 3
    points = torch.nn.functional.normalize(torch.eye(3, 16)[bundle] + 0.1 * torch.randn(30, 16), dim=-1)
    places = lay_flat(points, neighbors=5.0)
    nearest = torch.cdist(places, places).fill_diagonal_(torch.inf).argmin(dim=1)
    assert torch.equal(bundle[nearest], bundle)
    assert torch.equal(lay_flat(points, neighbors=5.0), places)  # nothing is drawn at random


def test_shares_are_spread_over_so_many_neighbors():
    torch.manual_seed(0)
    distances = torch.rand(40, 40).fill_diagonal_(torch.inf)
    shares = neighbor_shares(distances, 8.0)
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum(dim=1)
    torch.testing.assert_close(entropy.exp(), torch.full((40,), 8.0), rtol=1e-3, atol=0)


def test_a_word_of_the_map_is_one_token_and_has_a_kind(pretrained):
    tokenizer = pretrained[1]
    ids, kinds = words_of_kinds(tokenizer)
    assert len(set(ids)) == len(ids) == len(kinds) > 100
    june, october = (ids.index(tokenizer.encode(word).ids[0]) for word in (" June", " October"))
    assert kinds[june] == kinds[october] == 0


def test_hardly_a_word_covers_another(drawn):
    """At the width of a desk's page. In a crowd, a few pairs may touch."""
    x, y = torch.tensor(drawn.places, dtype=torch.float64).T / 100
    assert 0 < x.min() and x.max() < 1 and 0 < y.min() and y.max() < 1
    width = figures.LETTER * torch.tensor([len(name) - 1 for name in drawn.names[: len(x)]])
    across = figures.WIDTH * (x[:, None] - x).abs() < (width[:, None] + width) / 2
    down = figures.HEIGHT * (y[:, None] - y).abs() < figures.LINE - 3
    assert (across & down).sum() <= 1.05 * len(x)  # each word with itself, and no more than a few others


def test_neighbors_are_those_of_the_whole_vocabulary(pretrained, drawn):
    model, tokenizer = pretrained
    directions, place = token_directions(model), drawn.names.index("·water")
    likeness = directions @ directions[tokenizer.encode(" water").ids[0]]
    assert [cosine for _, cosine in drawn.nearest[place]] == pytest.approx(likeness.topk(6).values[1:].tolist())


def test_only_a_word_of_the_map_comes_first(pretrained):
    with pytest.raises(ValueError, match="expected one of the words on the map, January.*got 'xylophone'"):
        figures.touch_words(*pretrained, word="xylophone")


def test_the_script_says_what_python_says(browser, drawn):
    page = browser.new_page()
    page.add_script_tag(path=SCRIPT)
    said = drawn._repr_html_().split('<script type="application/json">')[1].split("</script>")[0]
    assert page.evaluate("map => rwkvWords.caption(map, map.chosen)", json.loads(said)) == drawn.caption
    page.close()


def test_a_word_can_be_typed_and_pointed_at(browser, pretrained, tmp_path, monkeypatch):
    monkeypatch.setenv(BUILDING, "1")
    html = figures.touch_words(*pretrained)._repr_html_()
    file = tmp_path / "page.html"
    script = SCRIPT.read_text(encoding="utf-8")
    file.write_text(f"<meta charset=utf-8><script>{script}</script>{html}", encoding="utf-8")
    with visit(browser, file.as_uri()) as page:
        said = page.locator("figcaption").inner_text
        assert "closest to that of ·June" in said()
        page.get_by_role("textbox").fill("water")
        assert "closest to that of ·water" in said()
        assert page.locator(".wm-chosen").inner_text() == "water"
        page.get_by_role("textbox").fill("xylophone")
        assert "not among" in page.get_by_role("status").inner_text() and "closest to that of ·water" in said()
        for typed in ("june", "·June", "JUNE"):  # as one types it, and as the caption has it
            page.get_by_role("textbox").fill(typed)
            assert "closest to that of ·June" in said(), typed
        page.get_by_text("Paris", exact=True).hover()
        assert "closest to that of ·Paris" in said()
        page.get_by_role("textbox").fill("emperor")  # not on the map
        assert "closest to that of ·emperor" in said() and page.locator(".wm-chosen").count() == 0


def test_a_notebook_has_a_list_of_words(pretrained, monkeypatch):
    monkeypatch.delenv(BUILDING, raising=False)
    sliders = figures.touch_words(*pretrained)
    sliders.sliders["word"].value = "Paris"
    assert "closest to that of ·Paris" in sliders.picture.value
