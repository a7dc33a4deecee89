"""The causal trace: exact identities, the plain loop it must equal, and what it refuses."""

import copy
from typing import get_args

import pytest
import torch

from rwkv_explainer.lab.tracing import (
    ActivationCache,
    Patch,
    PatchKind,
    UnknownAnswer,
    causal_trace,
    find_subject,
    mean_and_stderr,
    mean_over_roles,
    other_prompts,
    patch_every_cell,
    patched_run,
    rows_of,
    run_with_cache,
    sever,
    sublayers,
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


@pytest.mark.parametrize(
    ("kind", "window"), [*((kind, 1) for kind in get_args(PatchKind)), ("both", 2), ("mlp", 2), ("state", LAYERS)]
)
def test_the_sweep_is_the_plain_definition_in_every_cell(model, embedded, kind, window):
    clean_embedded, noisy = embedded
    patch = Patch(kind, run_with_cache(model, clean_embedded), window)
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


def test_several_patches_step_together(model, embedded):
    """As each by itself: of another source, in another window, for another number of samples."""
    clean_embedded, noisy = embedded
    others = run_with_cache(model, noisy.transpose(0, 1))  # with a state for each sample
    patches = [
        (Patch("state", others), 2),
        (Patch("mlp", run_with_cache(model, clean_embedded), 2), 1),
        (Patch("both", run_with_cache(model, clean_embedded)), 2),
    ]
    bases = [clean_embedded.expand(2, -1, -1), noisy[:1], noisy]
    together = patch_every_cell(model, torch.cat(bases), ANSWER, patches)
    alone = [patch_every_cell(model, base, ANSWER, patch) for base, (patch, _) in zip(bases, patches)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), rtol=0, atol=1e-9)


def test_the_parts_of_a_state_are_all_of_it(model, embedded):
    clean = run_with_cache(model, embedded[0])
    whole, memory, mixers = (Patch(kind, clean).state(2, 0) for kind in ("state", "memory", "mixers"))
    assert (
        len(memory) == 2
        and all(name.startswith("memory.") for name in memory)
        and whole.keys() == memory.keys() | mixers.keys()
    )
    assert all(name.endswith("last_x") for name in mixers) and Patch("memory", clean).state(2, 1) == {}


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


def test_severing_is_the_plain_definition(model, embedded):
    """A clean run in which one block's state is the one that it has in another run."""
    tokenizer, prompt = toy_tokenizer(), "a b c d e"
    found = sever(model, tokenizer, prompt, "b c", by=["x y", "c b"], window=2)
    ids = tokenizer.encode(prompt).ids

    def states_of(words):
        model.clear_buffers()
        kept = []
        for token_id in tokenizer.encode(words).ids:
            probabilities = model(token_id)
            kept.append([block.snapshot() for block in model.blocks])
        return probabilities, kept

    answer = states_of(prompt)[0].argmax()
    for sample, other in enumerate(("a x y d e", "a c b d e")):
        kept = states_of(other)[1]
        for t in range(len(ids)):
            for layer in range(LAYERS):
                model.clear_buffers()
                for now, token_id in enumerate(ids):
                    probabilities = model(token_id)
                    if now == t:
                        for i in range(layer, min(layer + 2, LAYERS)):
                            model.blocks[i].restore(kept[t][i])
                torch.testing.assert_close(found[t, layer, sample], probabilities[answer], rtol=0, atol=1e-9)
    model.clear_buffers()
    assert found.std() > 1e-4


def test_severing_by_noise_meets_the_noise_of_the_trace(model):
    """All states of the corrupted run after the subject, put into the clean one, are the corrupted run."""
    tokenizer, prompt = toy_tokenizer(), "a b c d e"
    trace = causal_trace(model, tokenizer, prompt, "b c", samples=3)
    severed = sever(model, tokenizer, prompt, "b c", samples=3, window=LAYERS)
    torch.testing.assert_close(severed[2, 0], trace.corrupted_draws.exp(), rtol=0, atol=1e-9)
    torch.testing.assert_close(severed[0], torch.full_like(severed[0], trace.clean_probability), rtol=0, atol=1e-9)


def test_another_subject_hides_as_noise_does(model):
    """Restoring everything but the subject's own tokens' cells: the corrupted run is the other prompt's."""
    tokenizer = toy_tokenizer()
    trace = causal_trace(model, tokenizer, "a b c d", "b c", others=("x y",))
    rows = model.embedding.normalize_emb(rows_of(model, tokenizer.encode("a x y d").ids))
    answer = tokenizer.encode(trace.answer).ids
    expected = patch_every_cell(model, rows[None], answer, None)[0]
    torch.testing.assert_close(trace.corrupted_draws, expected, rtol=0, atol=1e-9)
    assert trace.noise == 0 and trace.samples == 1


def test_another_subject_has_as_many_tokens():
    assert other_prompts(toy_tokenizer(), "a b c d", "b c", ["x y"]) == [toy_tokenizer().encode("a x y d").ids]
    with pytest.raises(ValueError, match="others: expected subjects of 2 tokens, as 'b c' has, got 'x'"):
        other_prompts(toy_tokenizer(), "a b c d", "b c", ["x"])
    with pytest.raises(ValueError, match="got 'x y'"):
        other_prompts(toy_tokenizer(), "a b", "b", ["x y"])  # no word behind it would move


def test_only_a_state_can_be_emptied(model):
    with pytest.raises(ValueError, match="patch: expected a state to empty"):
        sever(model, toy_tokenizer(), "a b c", "b", by="nothing", patch="attention")


def test_effects_are_what_they_say(model):
    trace = causal_trace(model, toy_tokenizer(), "a b c d", "b c", samples=4)
    whole, hidden = trace.clean_probability, trace.corrupted_draws.exp().mean().item()
    assert trace.total_effect == pytest.approx(whole - hidden) and trace.samples == 4
    torch.testing.assert_close(trace.regained, (trace.draws.exp().mean(-1) - hidden) / (whole - hidden))
    torch.testing.assert_close(trace.regained_on_log[-1, -1], torch.tensor(1.0, dtype=torch.float64))
    assert trace.regained[-1, -1].item() == pytest.approx(1)  # nothing but the unembedding reads the last activation
    assert trace.regained[0].abs().max() < 1e-9  # before the subject there is nothing to restore


def test_emptying_equals_forgetting_by_hand(model):
    tokenizer, prompt = toy_tokenizer(), "a b c d e"
    grid = sever(model, tokenizer, prompt, "b", by="nothing")[..., 0]  # (tokens, layers)
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


def test_a_prompt_without_text_cannot_be_severed(model):
    with pytest.raises(ValueError, match="prompt: expected some text"):
        sever(model, toy_tokenizer(), "", "b")


def test_there_are_seven_kinds_of_patch(model):
    with pytest.raises(ValueError, match="patch: expected one of 'both', .*got 'output'"):
        Patch("output", ActivationCache([], [], []))
    with pytest.raises(ValueError, match="window: expected 1 or more layers, got 0"):
        Patch("both", ActivationCache([], [], []), 0)


def test_a_trace_needs_a_sample(model):
    with pytest.raises(ValueError, match="samples: expected 1 or more draws of the noise, got 0"):
        causal_trace(model, toy_tokenizer(), "a b c", "b", samples=0)


def test_facts_that_the_model_does_not_know_are_left_out(model):
    with pytest.raises(UnknownAnswer, match="but it says"):
        causal_trace(model, toy_tokenizer(), "a b c", "b", "q r s t u v")


def test_roles_are_those_of_the_tokens():
    grid = torch.arange(8.0)[:, None]  # (tokens, one layer)
    found = mean_over_roles(grid, range(1, 5)).flatten()
    assert found.tolist() == [1, 2.5, 4, 5, 6, 7]
    one, at_the_end = mean_over_roles(grid[:4], range(1, 2)).flatten(), mean_over_roles(grid[:3], range(1, 3)).flatten()
    assert one[[2, 3, 5]].tolist() == [1, 2, 3] and one[[0, 1, 4]].isnan().all()
    assert at_the_end[[0, 2]].tolist() == [1, 2] and at_the_end[[1, 3, 4, 5]].isnan().all()


def test_a_standard_error_is_that_of_a_sample():
    effects = torch.tensor([[0.1, 0.4], [0.3, torch.nan], [0.8, torch.nan]])[:, None]  # (facts, one role, layers)
    mean, error = mean_and_stderr(effects)
    torch.testing.assert_close(mean, torch.tensor([[0.4, 0.4]]))
    assert error[0, 0].item() == pytest.approx(torch.tensor([0.1, 0.3, 0.8]).std().item() / 3**0.5)
    assert error[0, 1].isnan()  # of one fact nothing is known of the spread


def test_the_subject_may_have_characters_of_several_tokens(byte_tokenizer):
    _, tokens, span = find_subject(byte_tokenizer, "a é", "é")
    assert (tokens, span) == (["a", " ", "C3", "A9"], range(2, 4))


def test_the_subject_is_found_with_or_without_its_space():
    ids, tokens, span = find_subject(toy_tokenizer(), "a b c d", "b c")
    assert span == range(1, 3) and find_subject(toy_tokenizer(), "a b c d", " b c")[2] == span
