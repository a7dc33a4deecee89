"""What chapter "Time decay" works with: vectors put into a model for a while, keys heard, and its figures."""

import math

import pytest
import torch

from rwkv_explainer.chapters.time_decay import figures, texts
from rwkv_explainer.lab import decay
from rwkv_explainer.lab.record import MIXERS, Record

IDS = [3, 1, 4, 1, 5]
LOG_DECAY = "attention.memory.log_decay"


@torch.no_grad()
def test_vectors_are_put_in_for_a_while(random_model):
    model = random_model()
    own, other = decay.log_decay_rates(model), torch.full_like(decay.log_decay_rates(model), 3.0)
    with decay.put_in(model, {LOG_DECAY: other}):
        assert torch.equal(decay.log_decay_rates(model), other)
    with pytest.raises(RuntimeError, match="something went wrong"), decay.put_in(model, {LOG_DECAY: other}):
        raise RuntimeError("something went wrong")
    assert torch.equal(decay.log_decay_rates(model), own)
    with pytest.raises(ValueError), decay.put_in(model, {LOG_DECAY: other[:1]}):
        pass
    assert torch.equal(decay.log_decay_rates(model), own)


@torch.no_grad()
def test_keys_are_those_that_the_memories_write(random_model):
    model = random_model()
    keys = decay.written_keys(model, IDS)
    assert keys.shape == (len(model.blocks), len(IDS), model.config.channels)
    block = model.blocks[0]
    model.clear_buffers()
    for t, token_id in enumerate(IDS):
        x = block.ln1(model.embedding(token_id))  # (channels,)
        assert torch.allclose(keys[0, t], block.attention.key(block.attention.key_mixer(x)))
    model.clear_buffers()
    assert torch.equal(decay.written_keys(model, IDS), keys), "from an empty memory"


def test_half_lives_in_words():
    lives = torch.tensor([[0.2, 0.5, 20.0, 200.0], [5.0, 20.0, 50.0, 400.0]])  # (layers, channels)
    fading = figures.live_fading_text(["In", " M", "ary", "'s", " house"], "Mary", lives)
    assert "A half-life of 2 tokens: of Mary's weight 50.0% is left, 2 tokens later" in fading(half_life=2.0).caption
    assert "75% of the channels hold at least that long: 50% in the first layer, 100%" in fading(half_life=2.0).caption
    assert fading(half_life=2.0).data["values"][-1] == 1
    bands = figures.live_bands(lives)
    assert bands.data["cells"] == [[2, 0, 1, 1], [0, 1, 2, 1]]
    assert "Of 8 channels, 2 lose half of a weight within a token and 2 hold for over a hundred" in bands.caption
    assert "62% of all channels, those that hold for more than ten tokens" in figures.plot_two_axes(lives).caption
    moved = figures.live_moves(lives, lives * torch.tensor([2.0, 0.5, 2.0, 1.0]))(layer=2)
    assert "Layer 2: 2 of 4 channels hold longer than at the start, 1 of the 3 that began beyond 10" in moved.caption
    assert "moved by a factor of 2.00" in moved.caption


def test_a_record_is_followed_from_its_first_moment_to_its_last():
    def line(step: int) -> dict:
        rows = [[1.0, 2.0, 4.0 + step, 8.0, 16.0]]
        return {
            "step": step,
            "half_lives": rows,
            "log_gain": [[-x for x in row] for row in rows],
            "mixes": {name: [[0.2, 0.5, 0.8]] for name in MIXERS},
        }

    record = Record({}, [line(step) for step in range(150)])
    draw = figures.live_history(record)
    assert "the median goes from 4 to 153, the middle half of the channels from 2 … 8 to 2 … 8" in draw().caption
    assert draw().data["x"][0] == 0 and draw().data["x"][-1] == 149 and len(draw().data["x"]) <= figures.MOMENTS + 1
    assert "the median goes from −4 to −153" in draw(quantity="log_gain").caption
    assert [name for name, *_ in draw(quantity="mu_k").data["series"]] == figures.QUARTILES[::-1]


def test_the_passages_are_told_apart():
    assert len(texts.PASSAGES) == 8 and texts.HEROINE in texts.STORY and texts.STORY in texts.PASSAGES["a story"]
    assert all(math.isclose(len(text.split()), 90, abs_tol=40) for text in texts.PASSAGES.values())
