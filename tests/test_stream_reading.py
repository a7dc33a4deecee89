"""What chapter "Blocks and the residual stream" reads: runs without a block are such runs, and shares add up."""

import pytest
import torch

import rwkv_explainer as rwkv
from rwkv_explainer.chapters.blocks_and_the_residual_stream import figures, reading

LAYERS = 3


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = rwkv.RWKVLM.from_config(rwkv.RWKVConfig(vocab_size=30, channels=8, n_layer=LAYERS, intermediate_size=32))
    for parameter in made.double().parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def found(model):
    prompts = [
        reading.Prompt("landmark-city", str(n), "", ids, answer)
        for n, (ids, answer) in enumerate([((1, 2, 3), 4), ((5, 6), 7), ((8, 9, 10), 11)])
    ]
    return reading.damage(model, prompts)


def says(model, ids, blocks):
    """What a model of these blocks says after a text."""
    model.clear_buffers()
    return [model.unembedding(blocks(model.embedding(token_id))) for token_id in ids][-1]


def test_each_run_lacks_its_block(model, found):
    for n, prompt in enumerate(found.prompts):
        for out in range(LAYERS + 1):
            blocks = rwkv.RWKV(*(block for layer, block in enumerate(model.blocks, 1) if layer != out))
            p = says(model, prompt.ids, blocks)
            torch.testing.assert_close(found.left[n, out], p[prompt.answer], rtol=0, atol=1e-12)
            assert found.kept[n, out] == (p.argmax() == prompt.answer)


def test_a_cut_leaves_the_updates_of_its_block(model, found):
    for cut in range(LAYERS):
        hook = model.blocks[cut].register_forward_hook(lambda block, inputs, output: output - inputs[0])
        try:
            for n, prompt in enumerate(found.prompts):
                p = says(model, prompt.ids, model.blocks)[prompt.answer]
                torch.testing.assert_close(found.left_by_cut[n, cut], p, rtol=0, atol=1e-12)
        finally:
            hook.remove()


def test_the_shares_are_the_logit(model, found):
    for n, prompt in enumerate(found.prompts):
        model.clear_buffers()
        logits = [model.logits(token_id) for token_id in prompt.ids][-1]
        expected = logits[prompt.answer] - logits.mean()
        torch.testing.assert_close(found.shares[n, 0].sum() + found.bias[n], expected, rtol=0, atol=1e-10)


def test_the_account_of_a_loss_adds_up(found):
    torch.testing.assert_close(found.lost, found.own - found.changed - found.rescaled)
    assert found.changed[:, -1].abs().max() < 1e-12  # there is no layer above the last
    assert found.changed[:, 0].abs().max() > 1e-3


def test_captions_tell_what_the_numbers_say(found):
    figure = figures.live_shares(found, 1, 2, "·answer")
    assert f"without layer 2 the shares sum to {found.shares[1, 2].sum() + found.bias[1]:.1f}" in figure.caption
    assert dict(figure.data["series"])["without layer 2"][2] is None
    assert "3 of 3 prompts" in figures.live_left(found, [0, 1, 2]).caption
