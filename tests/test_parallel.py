"""Time-parallel mode gives what stepping gives: the same logits, the same state, the same gradients."""

from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_explainer import parallel
from rwkv_explainer.model import RWKVLM, StableWKVMemory, WKVMemory
from rwkv_explainer.parallel import read_logits, remember

VOCABULARY = 11  # of the `random_model` fixture's models
lengths, chunks = st.integers(1, 13), st.sampled_from([1, 2, 4, 32])  # from many chunks to a part of one
batches = st.lists(st.integers(1, 3), max_size=2).map(tuple)
seeds = st.integers(0, 2**32)
some = settings(deadline=None, max_examples=20, derandomize=True)


def normal(seed, *shape):
    return torch.empty(shape, dtype=torch.float64).normal_(generator=torch.Generator().manual_seed(seed))


def random_tokens(seed, *shape):
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def step_through(model, tokens):
    """The same as `read_logits`, one moment after the other."""
    return torch.stack([model.logits(moment) for moment in tokens.unbind(-1)], dim=-2)


def assert_close(ours, expected):
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_reading_is_stepping_across_whole_chunks(random_model):
    model, tokens = random_model(), random_tokens(0, 2, 2 * parallel.CHUNK + 5)
    stepped, state = step_through(model, tokens), model.snapshot()
    model.clear_buffers()
    assert_close(read_logits(model, tokens), stepped)
    assert_close(model.snapshot(), state)


@given(length=lengths, chunk=chunks, segment=chunks, batch=batches, seed=seeds)
@some
@torch.no_grad()
def test_reading_is_stepping(random_model, length, chunk, segment, batch, seed):
    model, tokens = random_model(seed=seed), random_tokens(seed, *batch, length)
    stepped, state = step_through(model, tokens), model.snapshot()
    model.clear_buffers()
    with patch.multiple(parallel, CHUNK=chunk, SEGMENT=segment):
        assert_close(read_logits(model, tokens), stepped)
    assert_close(model.snapshot(), state)


@given(lengths=st.lists(lengths, min_size=2, max_size=4), chunk=chunks, batch=batches, seed=seeds, data=st.data())
@some
def test_a_run_may_be_split_anywhere(random_model, lengths, chunk, batch, seed, data):
    """Some parts are read, some stepped through; the memory goes on from one to the next."""
    model, tokens = random_model(layers=1, seed=seed), random_tokens(seed, *batch, sum(lengths))
    whole, state = step_through(model, tokens), model.snapshot()
    model.clear_buffers()
    with patch.object(parallel, "CHUNK", chunk):
        ways = [data.draw(st.sampled_from([read_logits, step_through])) for _ in lengths]
        parts = [way(model, part) for way, part in zip(ways, tokens.split(lengths, -1))]
    assert_close(torch.cat(parts, dim=-2), whole)
    assert_close(model.snapshot(), state)


@given(length=lengths, chunk=chunks, batch=batches, seed=seeds)
@some
def test_it_goes_on_from_any_state(random_model, length, chunk, batch, seed):
    """Also from one that no text leads to."""
    model, tokens = random_model(seed=seed), random_tokens(seed, *batch, length)
    start = {name: normal(seed, *batch, 8) for name in model.state_buffers()}
    start |= {name: value.exp() for name, value in start.items() if name.endswith("normalizer")}
    model.restore(start)
    stepped, state = step_through(model, tokens), model.snapshot()
    model.restore(start)
    with patch.object(parallel, "CHUNK", chunk):
        assert_close(read_logits(model, tokens), stepped)
    assert_close(model.snapshot(), state)


@given(length=lengths, chunk=chunks, batch=batches, seed=seeds)
@settings(some, max_examples=10)
def test_gradients_are_those_of_stepping(random_model, length, chunk, batch, seed):
    model, tokens = random_model(seed=seed).requires_grad_(True), random_tokens(seed, *batch, length)
    direction = normal(seed, *batch, length, VOCABULARY)  # any will do, also one that no loss would take
    gradients = []
    with patch.object(parallel, "CHUNK", chunk):
        for forward in (step_through, read_logits):
            model.clear_buffers()
            loss = (forward(model, tokens) * direction).sum()
            gradients.append(torch.autograd.grad(loss, model.parameters(), materialize_grads=True))
    for (name, _), stepped, read in zip(model.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(read, stepped, rtol=1e-9, atol=1e-9, msg=lambda m: f"{name}: {m}")


def test_every_parameter_has_a_gradient(random_model):
    model = random_model().requires_grad_(True)
    read_logits(model, random_tokens(0, 2, 5)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.any(), name


@pytest.mark.parametrize("first, then", [((2,), (3,)), ((2,), ()), ((), (2,)), ((1,), (2,))])
def test_another_batch_shape_is_refused(random_model, first, then):
    model = random_model()
    read_logits(model, random_tokens(0, *first, 3))
    before = model.snapshot()
    with pytest.raises(ValueError, match="call clear_buffers"):
        read_logits(model, random_tokens(0, *then, 3))
    assert_close(model.snapshot(), before)


@given(length=lengths, chunk=chunks, seed=seeds, log_decay=st.floats(-6, 1), largest=st.integers(0, 60))
@settings(some, max_examples=100)
def test_large_keys_in_float32(length, chunk, seed, log_decay, largest):
    """Keys between -60 and 60, in any order: finite throughout, and what stepping in float64 makes of them."""
    memory, exact = WKVMemory(4), WKVMemory(4).double().requires_grad_(False)
    memory.log_decay.data.fill_(log_decay)
    exact.log_decay.fill_(log_decay)
    values = normal(seed, 3, length, 4)
    keys = (2 * normal(seed + 1, 3, length, 4)).clamp(-1, 1) * largest  # the extremes, often
    with patch.object(parallel, "CHUNK", chunk):
        averages = remember(memory, keys.float(), values.float())
    expected = torch.stack([exact(k, v) for k, v in zip(keys.unbind(1), values.unbind(1))], dim=1)
    torch.testing.assert_close(averages.detach().double(), expected, rtol=0, atol=1e-3)
    for buffer in ("contents", "normalizer"):
        state, unit = getattr(memory, buffer).detach().double(), exact.normalizer
        torch.testing.assert_close(state / unit, getattr(exact, buffer) / unit, rtol=0, atol=1e-3)
    for gradient in torch.autograd.grad(averages.sum(), memory.parameters(), materialize_grads=True):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("blocks", [torch.nn.Identity(), torch.nn.Sequential(), torch.nn.Sequential(torch.nn.Tanh())])
def test_placeholders_are_read_like_anything_else(random_model, blocks):
    """Chapters put other pieces in a model's place for the blocks."""
    model = random_model()
    model.blocks, tokens = blocks, random_tokens(0, 2, 9)
    assert_close(model.read(tokens), torch.stack([model(moment) for moment in tokens.unbind(-1)], dim=-2))


PLACES = ["blocks.1", "blocks.0.attention.memory", "blocks.1.gated_mlp.nonlinearity", "unembedding"]


@torch.no_grad()
@pytest.mark.parametrize("place", PLACES)
def test_hooks_act_in_both_modes(random_model, place):
    """A hook that replaces what a piece gives: reading does as stepping does, whatever shape the hook is given."""
    model, tokens = random_model(), random_tokens(0, 2, 9)
    plain = model.read(tokens)
    model.clear_buffers()
    model.get_submodule(place).register_forward_hook(lambda module, inputs, output: output.sin())
    stepped, state = torch.stack([model(moment) for moment in tokens.unbind(-1)], dim=-2), model.snapshot()
    model.clear_buffers()
    assert_close(model.read(tokens), stepped)
    assert_close(model.snapshot(), state)
    assert (stepped - plain).abs().max() > 1e-5


@given(seed=seeds, chunk=st.integers(1, 9), count=st.integers(1, 6), batch=batches)
@settings(some, max_examples=40)
@torch.no_grad()
def test_the_three_steps_give_what_the_plain_memory_gives(seed, chunk, count, batch):
    """Summarize, carry, read: in float64, from a state that a text has left, for keys and parameters of any kind."""
    plain = WKVMemory(4).double().requires_grad_(False)
    plain.log_decay.copy_(normal(seed, 4)), plain.log_gain.copy_(normal(seed + 1, 4))
    plain(normal(seed + 2, *batch, 4), normal(seed + 3, *batch, 4))
    keys, values = (normal(seed + i, *batch, count * chunk, 4) for i in (4, 5))

    decay = parallel.decay_weights(plain, chunk, torch.float64)
    k, v = parallel._by_chunk(keys, chunk), parallel._by_chunk(values, chunk)
    log_scale = k.amax(dim=-1) - 1
    start = parallel._load_state(plain, keys[..., 0, :], torch.float64)
    terms, sums = parallel.summarize_chunks(k - log_scale[..., None], v, decay)
    average, log_normalizer = parallel.carry(start, sums, log_scale, decay[:, chunk, :1])
    averages = parallel.read_chunks(terms, average[..., :-1], log_normalizer[..., :-1] - log_scale, decay)

    stepped = parallel.step_through(plain, keys, values)
    assert_close(averages.permute(1, 2, 3, 0).reshape(keys.shape), stepped)
    runs = plain.contents.reshape(-1, 4).T, plain.normalizer.reshape(-1, 4).T  # (channels, runs) each
    assert_close(average[..., -1] * log_normalizer[..., -1].exp(), runs[0])
    assert_close(log_normalizer[..., -1].exp(), runs[1])


@torch.no_grad()
def test_it_follows_the_model_to_another_device(random_model, monkeypatch):
    """PyTorch's meta device stands in for a GPU: a tensor that was left on the CPU would raise."""
    monkeypatch.setattr(parallel, "_in_range", lambda *args: True)  # which asks for numbers
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # which that device does not have
    model = random_model().to("meta")
    assert read_logits(model, torch.zeros(70, dtype=torch.long, device="meta")).device.type == "meta"


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("memory", [WKVMemory, StableWKVMemory])
def test_what_is_read_can_be_stepped_on_in_any_dtype(random_model, memory, dtype):
    """The state keeps the dtype that a step gives it, also where reading computes in a wider one."""
    model = RWKVLM.from_weights(random_model().state_dict(), memory_class=memory).to(dtype)
    for token in (1, 2, 3):
        model(token)
    stepped = {name: buffer.dtype for name, buffer in model.state_buffers().items()}
    model.clear_buffers()
    model.read([1, 2, 3])
    assert {name: buffer.dtype for name, buffer in model.state_buffers().items()} == stepped
    assert model(4).dtype == dtype


def test_one_token_is_a_step(random_model):
    model, calls = random_model(), []
    model.register_forward_hook(lambda *args: calls.append(args))
    stepped = model(torch.tensor([1, 2]))
    model.clear_buffers()
    for last_only, read in ((True, stepped), (False, stepped[:, None])):
        model.clear_buffers()
        assert torch.equal(model.read(torch.tensor([[1], [2]]), last_only=last_only), read)
    assert len(calls) == 3


@torch.no_grad()
def test_what_a_hook_has_seen_stays_as_it_was(random_model):
    """A hook on a layer inside a piece: nothing after it works in place on what it was given."""
    model, seen = random_model(), []
    model.blocks[0].gated_mlp.key.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.read(random_tokens(0, 9))
    assert (seen[0] < 0).any()
