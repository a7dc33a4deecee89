"""The memory that does not overflow: equal to the plain one where both work, and right where only it does."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_explainer import parallel
from rwkv_explainer.checkpoints import load_pretrained
from rwkv_explainer.lab import atlas
from rwkv_explainer.model import RWKVLM, RWKVConfig, StableWKVMemory, WKVMemory

CHANNELS = 4
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def memory_of(kind, log_decay, log_gain, dtype=torch.float64):
    memory = kind(CHANNELS).to(dtype).requires_grad_(False)
    memory.log_decay.copy_(torch.as_tensor(log_decay))
    memory.log_gain.copy_(torch.as_tensor(log_gain))
    memory.clear_buffers()
    return memory


def stepped(memory, keys, values):
    return torch.stack([memory(k, v) for k, v in zip(keys, values)])


def exact(keys, values, log_decay, log_gain):
    """The formula as a sum over the past, in float64, with every exponent relative to the largest: (time, channels)."""
    reads = []
    for t in range(len(keys)):
        age = torch.arange(t - 1, -1, -1, dtype=torch.float64)[:, None]  # (t, 1)
        rate = torch.exp(log_decay.double())
        past = keys[:t].double() - torch.where(age > 0, age * rate, 0)
        exponents = torch.cat([past, (keys[t].double() + log_gain.double())[None]])  # (t + 1, channels)
        reads.append((torch.softmax(exponents, dim=0) * values[: t + 1].double()).sum(dim=0))
    return torch.stack(reads)


def random_run(seed, time, spread, decays=(-4.0, 2.0), gains=1.0, size=1.0):
    """Keys and values (time, channels), log_decay and log_gain (channels,), of about these sizes."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)
    log_decay = decays[0] + (decays[1] - decays[0]) * torch.rand(CHANNELS, generator=random, dtype=torch.float64)
    return spread * draw(time, CHANNELS), size * draw(time, CHANNELS), log_decay, gains * draw(CHANNELS)


@given(seed=st.integers(0, 10**6), time=st.integers(1, 70), spread=st.floats(0.1, 8))
@settings(max_examples=25, deadline=None)
def test_equal_to_the_plain_memory_where_both_work(seed, time, spread):
    keys, values, log_decay, log_gain = random_run(seed, time, spread)
    plain, stable = (memory_of(kind, log_decay, log_gain) for kind in (WKVMemory, StableWKVMemory))
    torch.testing.assert_close(stepped(stable, keys, values), stepped(plain, keys, values), rtol=0, atol=1e-10)
    torch.testing.assert_close(stable.contents, plain.contents, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(stable.normalizer, plain.normalizer, rtol=1e-9, atol=0)


@pytest.mark.parametrize("mode", [stepped, parallel.remember])
def test_keys_of_a_hundred_in_float32(mode):
    keys, values, log_decay, log_gain = random_run(3, 90, 1.0)
    keys = 100 * keys.sign()
    expected = exact(keys.float(), values.float(), log_decay.float(), log_gain.float())
    got = mode(memory_of(StableWKVMemory, log_decay, log_gain, torch.float32), keys.float(), values.float())
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=5e-5)  # a key of 100 is itself good to 4e-6
    plain = stepped(memory_of(WKVMemory, log_decay, log_gain, torch.float32), keys.float(), values.float())
    assert plain.isnan().any()  # the plain form does not survive this, or the test says nothing


@given(
    seed=st.integers(0, 10**6),
    time=st.integers(1, 70),
    spread=st.sampled_from([1e-3, 1.0, 30.0, 300.0, 1e4]),
    dtype=st.sampled_from(DTYPES),
    decays=st.sampled_from([(-800.0, -700.0), (-40.0, -30.0), (-4.0, 2.0), (5.0, 8.0), (60.0, 80.0), (700.0, 800.0)]),
    gains=st.sampled_from([1.0, 100.0, 1e3]),
    size=st.sampled_from([1.0, 1e4, 1e30]),
    chunked=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_always_finite_and_within_the_values_seen(seed, time, spread, dtype, decays, gains, size, chunked):
    """With keys and gains of any size, large values, and decays that are 0 or 1 to the last bit."""
    keys, values, log_decay, log_gain = random_run(seed, time, spread, decays, gains, size)
    limit = torch.finfo(dtype).max / 4
    keys, values = (numbers.clamp(-limit, limit).to(dtype) for numbers in (keys, values))
    memory = memory_of(StableWKVMemory, log_decay, log_gain, dtype)
    got = parallel.remember(memory, keys, values) if chunked else stepped(memory, keys, values)
    assert got.dtype == dtype and got.isfinite().all() and memory.average.isfinite().all()
    lowest, highest = values.cummin(dim=0).values, values.cummax(dim=0).values
    slack = 8 * torch.finfo(dtype).eps * values.abs().max()
    assert (got >= lowest - slack).all() and (got <= highest + slack).all()


@given(
    seed=st.integers(0, 10**6), time=st.integers(2, 80), at=st.floats(0, 1), spread=st.sampled_from([1.0, 40.0, 400.0])
)
@settings(max_examples=25, deadline=None)
def test_parallel_equals_stepping_and_goes_on_anywhere(seed, time, at, spread):
    keys, values, log_decay, log_gain = random_run(seed, time, spread)
    split = 1 + int(at * (time - 2))
    whole, parts = (memory_of(StableWKVMemory, log_decay, log_gain) for _ in range(2))
    expected = stepped(whole, keys, values)
    pieces = (slice(None, split), slice(split, None))
    got = torch.cat([parallel.remember(parts, keys[piece], values[piece]) for piece in pieces])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(parts.average, whole.average, rtol=0, atol=1e-9)
    torch.testing.assert_close(parts.log_normalizer, whole.log_normalizer, rtol=0, atol=1e-9)


def test_a_stabilized_model_is_the_same_model():
    torch.manual_seed(0)
    model = RWKVLM.from_config(RWKVConfig(vocabulary=20, channels=8, layers=2, hidden=16))
    model.double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_()
    model.clear_buffers()
    ids = torch.randint(20, (2, 40))
    before = torch.stack([model.logits(i) for i in ids.T])
    names = list(model.state_dict())
    model.stabilize()
    assert list(model.state_dict()) == names
    assert all(isinstance(block.attention.memory, StableWKVMemory) for block in model.blocks)
    model.clear_buffers()
    torch.testing.assert_close(torch.stack([model.logits(i) for i in ids.T]), before, rtol=0, atol=1e-9)
    kept = model.snapshot()
    model.clear_buffers()
    assert model.blocks[0].attention.memory.log_normalizer.eq(-math.inf).all()
    model.restore(kept)
    with pytest.raises(ValueError, match="clear_buffers"):
        model(torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("mode, tokens", [("stepped", 512), ("read", 4096)])
def test_float32_stays_beside_float64(mode, tokens):
    """The bundled model on a text of real sentences: rounding does not add up, in either mode."""
    random, tokenizer = np.random.default_rng(0), load_pretrained()[1]
    ids = torch.tensor(tokenizer.encode(atlas.sample_text(random, 600)).ids)[:tokens]
    assert len(ids) == tokens
    narrow, exact = (load_pretrained(dtype=dtype)[0] for dtype in (torch.float32, torch.float64))
    for part in ids.split(256):
        expected = exact.read(part)  # (256, vocabulary)
        got = narrow.read(part) if mode == "read" else torch.stack([narrow(token) for token in part.tolist()])
        assert (got.double() - expected).abs().max() < 1e-4
