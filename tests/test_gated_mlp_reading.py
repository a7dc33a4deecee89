"""What chapter "The gated MLP" hears and counts while a model reads."""

import pytest
import torch

from rwkv_explainer import RWKVLM, RWKVConfig
from rwkv_explainer.chapters.the_gated_mlp.reading import (
    Reading,
    find_selective,
    read_favored,
    read_text,
    share_named,
    silence_each,
)

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = RWKVLM.from_config(RWKVConfig(vocab_size=12, n_layer=2, channels=8, intermediate_size=32))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5)
    return model.double().requires_grad_(False)


def made_up(activation: list[list[float]]) -> Reading:
    """A reading of IDS by one layer, whose latents were as active as these rows say."""
    latents = torch.tensor(activation, dtype=torch.float64).T[None]  # (layers, time, hidden)
    return Reading(IDS, latents, torch.ones(1, len(IDS), 2), torch.ones(len(IDS), 3))


def test_what_is_heard_is_what_the_model_says(model):
    heard = read_text(model, IDS)
    assert heard.latents.shape == (2, 8, 32) and heard.gates.shape == (2, 8, 8)
    torch.testing.assert_close(heard.probabilities, model.read(IDS))
    assert (heard.latents >= 0).all() and heard.latents[0].ne(heard.latents[1]).any()


def test_each_row_has_one_silent_latent(model):
    """The same as a model whose value column of that latent is zero at the last token."""
    heard = read_text(model, IDS)
    latents = heard.latents[1, -1].nonzero().flatten().tolist()[:3]
    rows = silence_each(model, IDS, 1, latents)
    model.clear_buffers()
    model.read(IDS[:-1])
    before = model.snapshot()
    for latent, row in zip(latents, rows, strict=True):
        values = model.blocks[1].gated_mlp.value.weight.data
        column = values[:, latent].clone()
        values[:, latent] = 0
        model.restore(before)
        torch.testing.assert_close(row, model(IDS[-1]))
        values[:, latent] = column
    assert not torch.allclose(rows[0], heard.probabilities[-1])


def test_the_rule_wants_strong_and_varied_places():
    one_word = [0, 9, 0, 9, 0, 0, 0, 0]  # the token 1, twice
    weak = [0.1] * 8
    everywhere = [5.0] * 8
    here_and_there = [8, 8, 8, 0, 8, 8, 0, 0]
    assert find_selective(made_up([one_word, weak, here_and_there, everywhere]), 0) == [2]


def test_named_is_counted_where_the_latent_is_active():
    """The latent is active at 3, followed by 1, and at 5, followed by 9; the last token is followed by nothing."""
    reading = made_up([[1, 0, 0, 0, 1, 0, 0, 1]])
    assert share_named(reading, 0, torch.tensor([[1, 7]])) == 0.5
    assert share_named(reading, 0, torch.tensor([[1, 9]])) == 1.0
    assert share_named(reading, 0, torch.tensor([[7, 8]])) == 0.0


def test_favored_tokens_are_those_that_the_value_raises(model):
    model.unembedding.unembedding.weight[:8] = torch.eye(8)  # token n is favored by channel n
    model.unembedding.normalize_unemb.weight[:] = 1.0
    heard = read_text(model, IDS)
    model.blocks[0].gated_mlp.value.weight[:, 5] = 3.0 * torch.eye(8)[6]
    assert read_favored(model, heard, 0, count=1)[5] == 6
