"""The causal trace: exact identities, the plain loop it must equal, and what it refuses."""

import copy
from typing import get_args

import pytest
import torch

from rwkv_explainer.lab.tracing import (
    ROLES,
    ActivationCache,
    Patch,
    PatchKind,
    UnknownAnswer,
    ablate_memory,
    causal_trace,
    find_subject,
    load_trace_averages,
    patch_every_cell,
    patched_run,
    run_with_cache,
    sublayers,
    trace_facts,
)
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.piece import RWKVConfig

TIME, SUBJECT, LAYERS = 7, range(1, 4), 3


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = RWKVLM.from_config(RWKVConfig(vocab_size=30, channels=12, n_layer=LAYERS, intermediate_size=20)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    model.clear_buffers()
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def embedded(model):
    """A clean run's embeddings, and two corrupted ones."""
    torch.manual_seed(1)
    rows = model.embedding.embedding.weight[torch.randint(30, (TIME,))]
    noisy = rows.repeat(2, 1, 1)
    noisy[:, SUBJECT.start : SUBJECT.stop] += 2 * torch.randn(2, len(SUBJECT), 12, dtype=torch.float64)
    return model.embedding.normalize_emb(rows), model.embedding.normalize_emb(noisy)


ANSWER = [4, 9]


@pytest.mark.parametrize("kind", get_args(PatchKind))
def test_the_sweep_is_the_plain_definition_in_every_cell(model, embedded, kind):
    clean_embedded, noisy = embedded
    patch = Patch(kind, run_with_cache(model, clean_embedded))
    found = patch_every_cell(model, noisy, ANSWER, patch)
    grid = found[1:].view(TIME, LAYERS, 2)
    for sample in range(2):
        without = patched_run(model, noisy[sample], ANSWER, patch, (-1, -1))  # a cell that there is not
        torch.testing.assert_close(found[0, sample], without, rtol=0, atol=1e-9)
        for t in range(TIME):
            for layer in range(LAYERS):
                plain = patched_run(model, noisy[sample], ANSWER, patch, (t, layer))
                torch.testing.assert_close(grid[t, layer, sample], plain, rtol=0, atol=1e-9)
    assert grid.std() > 1e-3  # the cells differ, or the comparison says nothing


def test_an_unpatched_run_is_the_model_itself(model, embedded):
    """The definition, held against `RWKVLM.logits` token by token."""
    ids = [3, 8, 1, 20]
    rows = model.embedding(torch.tensor(ids))
    patch = Patch("both", run_with_cache(model, rows))
    found = patched_run(model, rows, ANSWER, patch, (-1, -1))
    expected = 0.0
    for t, token in enumerate([*ids, *ANSWER[:-1]]):
        logits = model.logits(token)
        if t >= len(ids) - 1:
            expected = expected + logits.log_softmax(-1)[ANSWER[t - len(ids) + 1]]
    model.clear_buffers()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_the_sweep_follows_the_model_to_another_device(model, embedded):
    """PyTorch's meta device stands in for a GPU: a tensor that was left on the CPU would raise."""
    elsewhere, (clean, noisy) = copy.deepcopy(model).to("meta"), embedded
    patch = Patch("both", run_with_cache(elsewhere, clean.to("meta")))
    found = patch_every_cell(elsewhere, noisy.to("meta"), ANSWER, patch)
    assert found.device.type == "meta" and found.shape == (1 + TIME * LAYERS, 2)
    assert patched_run(elsewhere, noisy[0].to("meta"), ANSWER, patch, (1, 1)).device.type == "meta"


def test_identities(model, embedded):
    clean_embedded, noisy = embedded
    clean = run_with_cache(model, clean_embedded)
    untouched = patch_every_cell(model, clean_embedded[None], ANSWER, None)[0]
    close = dict(rtol=0, atol=1e-9)

    activation = patch_every_cell(model, noisy, ANSWER[:1], Patch("activation", clean))
    one_token = patch_every_cell(model, clean_embedded[None], ANSWER[:1], None)[0]
    corrupted, grid = activation[0], activation[1:].view(TIME, LAYERS, 2)
    assert (corrupted - one_token).abs().min() > 1e-3
    torch.testing.assert_close(grid[-1, -1], one_token.expand(2), **close)  # the last layer at the last token: clean
    torch.testing.assert_close(grid[:-1, -1], corrupted.expand(TIME - 1, 2), **close)  # earlier tokens: corrupted
    state = patch_every_cell(model, noisy, ANSWER[:1], Patch("state", clean))
    torch.testing.assert_close(
        state[1:].view(TIME, LAYERS, 2)[-1], state[0].expand(LAYERS, 2), **close
    )  # at the last token: too late

    # the state of all layers at the last subject token gives the clean run
    model.clear_buffers()
    for norm_piece, kept in zip(sublayers(model), clean.states[SUBJECT[-1]]):
        norm_piece[1].restore(kept)
    score = 0.0
    for t, x in enumerate([*noisy[0][SUBJECT.stop :], *model.embedding(torch.tensor(ANSWER[:-1]))]):
        x = model.blocks(x)
        if t >= TIME - SUBJECT.stop - 1:
            score = score + model.unembedding.logits(x).log_softmax(-1)[ANSWER[t - (TIME - SUBJECT.stop - 1)]]
    torch.testing.assert_close(score, untouched[0], **close)
    model.clear_buffers()

    # one layer's activations at all tokens give the clean run
    for layer in range(LAYERS):
        model.clear_buffers()
        for t in range(TIME):
            x = clean.streams[t][2 * layer + 1]
            x = model.blocks[layer + 1 :](x)
        torch.testing.assert_close(model.unembedding.logits(x).log_softmax(-1)[ANSWER[0]], one_token[0], **close)
    model.clear_buffers()


def test_ablating_equals_forgetting_by_hand(model):
    tokenizer, prompt = toy_tokenizer(), "a b c d e"
    grid = ablate_memory(model, tokenizer, prompt)
    ids = tokenizer.encode(prompt).ids

    def last_probabilities(ablated):
        model.clear_buffers()
        for t, token_id in enumerate(ids):
            probabilities = model(token_id)
            if ablated and ablated[0] == t:
                model.blocks[ablated[1]].clear_buffers()
        model.clear_buffers()
        return probabilities

    answer = last_probabilities(None).argmax()
    for t in range(len(ids)):
        for layer in range(LAYERS):
            torch.testing.assert_close(grid[t, layer], last_probabilities((t, layer))[answer], rtol=0, atol=1e-9)
    assert grid.std() > 1e-4


def toy_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<|endoftext|>": 0, "<unk>": 1} | {chr(97 + i): i + 2 for i in range(26)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def test_a_trace_says_how_it_was_made(model):
    trace = causal_trace(model, toy_tokenizer(), "a b c d", "b c", samples=3, noise=2.0, seed=5)
    assert trace.log_probability.shape == trace.probability.shape == (4, LAYERS)
    assert (trace.tokens, trace.subject, trace.patch) == (["a", "b", "c", "d"], range(1, 3), "both")
    again = causal_trace(model, toy_tokenizer(), "a b c d", "b c", samples=3, noise=2.0, seed=5)
    other = causal_trace(model, toy_tokenizer(), "a b c d", "b c", samples=3, noise=2.0, seed=6)
    assert trace.log_probability.equal(again.log_probability)
    assert not trace.log_probability.equal(other.log_probability)
    silent = causal_trace(model, toy_tokenizer(), "a b c d", "b c", samples=2, noise=0.0)
    assert silent.corrupted == pytest.approx(silent.clean, abs=1e-12)


def test_splitting_the_batch_changes_nothing(model, monkeypatch):
    whole = causal_trace(model, toy_tokenizer(), "a b c d", "b c", samples=5)
    monkeypatch.setattr("rwkv_explainer.lab.tracing.MAX_BATCH", 30)
    split = causal_trace(model, toy_tokenizer(), "a b c d", "b c", samples=5)
    torch.testing.assert_close(split.log_probability, whole.log_probability)


@pytest.mark.parametrize(
    ("prompt", "subject", "answer", "words"),
    [
        ("", "b", None, "prompt: expected some text"),
        ("a b c", "z", None, "found it 0 times"),
        ("a b c b", "b", None, "found it 2 times"),
        ("a b c", "", None, "found it 0 times"),
        ("a b c", "b", "", "answer: expected some text"),
        ("a b c", "b", "q r s t u v", "but it says"),
    ],
)
def test_what_it_refuses(model, prompt, subject, answer, words):
    with pytest.raises(ValueError, match=words):
        causal_trace(model, toy_tokenizer(), prompt, subject, answer)


def test_a_prompt_without_text_cannot_be_ablated(model):
    with pytest.raises(ValueError, match="prompt: expected some text"):
        ablate_memory(model, toy_tokenizer(), "")


def test_there_are_five_kinds_of_patch(model):
    with pytest.raises(ValueError, match="patch: expected one of 'both', .*got 'memory'"):
        Patch("memory", ActivationCache([], [], []))


def test_a_trace_needs_a_sample(model):
    with pytest.raises(ValueError, match="samples: expected 1 or more draws of the noise, got 0"):
        causal_trace(model, toy_tokenizer(), "a b c", "b", samples=0)


def test_facts_that_the_model_does_not_know_are_left_out(model):
    with pytest.raises(UnknownAnswer, match="but it says"):
        causal_trace(model, toy_tokenizer(), "a b c", "b", "q r s t u v")
    assert trace_facts(model, toy_tokenizer(), 1, relations=["element-symbol"]).shape == (0, len(ROLES), LAYERS)


def test_a_mistaken_request_is_no_fact_unknown(model):
    with pytest.raises(ValueError, match="relations: expected some of .*, got nonsense"):
        trace_facts(model, toy_tokenizer(), 1, relations=["element-symbol", "nonsense"])


def test_a_model_of_ones_own_has_no_averages(model):
    assert load_trace_averages(model) is None


def test_the_subject_is_found_with_or_without_its_space():
    ids, tokens, span = find_subject(toy_tokenizer(), "a b c d", "b c")
    assert span == range(1, 3) and find_subject(toy_tokenizer(), "a b c d", " b c")[2] == span
