"""The step that training takes: its loss and its gradient are those of the model as it is taught."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_explainer.lab import training_step, wkv_gradient
from rwkv_explainer.lab.training import initialize
from rwkv_explainer.lab.training_step import CrossEntropy, compiled_parts, loss_of, read_blocks
from rwkv_explainer.lab.wkv_gradient import WKV, fade_and_add, wkv
from rwkv_explainer.model import RWKVLM, RWKVConfig, WKVMemory
from rwkv_explainer.parallel import read_logits, remember


def random_memory(channels: int, seed: int = 0, spread: float = 1.0) -> WKVMemory:
    """A memory in float64, from channels that forget within a token to channels that keep."""
    random = torch.Generator().manual_seed(seed)
    memory = WKVMemory(channels).double()
    with torch.no_grad():
        memory.log_gain.copy_(spread * torch.randn(channels, generator=random, dtype=torch.float64))
        memory.log_decay.copy_(torch.empty(channels, dtype=torch.float64).uniform_(-6, 3, generator=random))
    return memory


def random_inputs(time: int, rows: int, channels: int, spread: float, seed: int = 1):
    """Keys, values and a gradient for the averages: (time, rows, channels) each."""
    random = torch.Generator().manual_seed(seed)
    keys, values, by_average = torch.randn(3, time, rows, channels, generator=random, dtype=torch.float64)
    return spread * keys, values, by_average


def stepped(memory, keys, values):
    """The recurrence, token by token."""
    memory.clear_buffers()
    return torch.stack([memory(k, v) for k, v in zip(keys, values)])


def in_chunks(memory, keys, values):
    """What the package does elsewhere: matrix products, and autograd."""
    memory.clear_buffers()
    return remember(memory, keys.transpose(0, 1), values.transpose(0, 1)).transpose(0, 1)


def results(function, memory, keys, values, by_average):
    """The averages, and the gradients of keys, values, log_gain and log_decay."""
    keys, values = keys.clone().requires_grad_(), values.clone().requires_grad_()
    averages = function(memory, keys, values)
    inputs = keys, values, memory.log_gain, memory.log_decay
    return averages.detach(), *torch.autograd.grad(averages, inputs, by_average, materialize_grads=True)


# ---------------------------------------------------------------------------------------------------------------------
# the memory


@given(
    time=st.integers(1, 40),
    rows=st.integers(1, 3),
    channels=st.integers(1, 6),
    spread=st.floats(0.1, 9),
    seed=st.integers(0, 99),
)
@settings(deadline=None, derandomize=True, max_examples=30)
def test_the_derived_gradient_is_autograds_through_the_recurrence(time, rows, channels, spread, seed):
    memory, inputs = random_memory(channels, seed), random_inputs(time, rows, channels, spread, seed)
    for ours, theirs in zip(results(wkv, memory, *inputs), results(stepped, memory, *inputs)):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_derived_gradient_is_autograds_through_the_chunks_and_the_finite_differences():
    memory, (keys, values, by_average) = random_memory(5), random_inputs(70, 2, 5, spread=2.0)
    for ours, theirs in zip(*(results(f, memory, keys, values, by_average) for f in (wkv, in_chunks))):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    short = [x[:6].clone().requires_grad_() for x in (keys, values)]
    assert torch.autograd.gradcheck(lambda *x: WKV.apply(*x)[0], (*short, memory.log_gain, memory.log_decay))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda keys, memory: keys.add_(900),  # alike: the largest key is taken off
        lambda keys, memory: keys[0].add_(900),  # a weight beside which no later one is a number
        lambda keys, memory: keys[-1].sub_(900),
        lambda keys, memory: keys[1::2].add_(200),
        lambda keys, memory: memory.log_gain.data.fill_(400.0),
        lambda keys, memory: memory.log_gain.data.fill_(-400.0),
        lambda keys, memory: memory.log_decay.data.fill_(9.0),
    ],
)
def test_extreme_keys_gains_and_decays_give_what_the_stable_memory_gives(spoil):
    """The reference takes the largest logarithm off at every moment anew, so nothing in it over- or underflows."""
    memory, (keys, values, by_average) = random_memory(4), random_inputs(12, 2, 4, spread=1.0)
    spoil(keys, memory)

    def reference(memory, keys, values):
        time = torch.arange(len(keys))
        age = (time[:, None] - 1 - time).double()[..., None, None]  # (reader, token, 1, 1)
        logs = keys - memory.log_decay.exp() * age  # (reader, token, rows, channels)
        logs = torch.where(age < 0, -math.inf, logs)
        logs = torch.where(age == -1, keys + memory.log_gain, logs)
        return (logs.softmax(dim=1) * values).sum(dim=1)

    for ours, theirs in zip(
        results(wkv, memory, keys, values, by_average), results(reference, memory, keys, values, by_average)
    ):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_keys_too_far_apart_are_left_to_the_exact_path(monkeypatch):
    memory, (keys, values, _) = random_memory(4), random_inputs(9, 2, 4, spread=1.0)
    asked = []
    monkeypatch.setattr(wkv_gradient, "remember", lambda *inputs: asked.append(1) or remember(*inputs))
    wkv(memory, keys, values)
    assert not asked
    keys[0] -= 80  # the first moment reads nothing but itself
    wkv(memory, keys, values)
    assert asked


def test_a_running_sum_and_the_same_from_behind():
    new = torch.tensor([[1.0], [2.0], [4.0]])
    keep = torch.tensor([0.5])
    assert fade_and_add(new, keep).flatten().tolist() == [0.0, 1.0, 2.5]
    assert fade_and_add(new, keep, backwards=True).flatten().tolist() == [4.0, 4.0, 0.0]


# ---------------------------------------------------------------------------------------------------------------------
# the loss


def random_model(layers: int, dtype: torch.dtype = torch.float64) -> RWKVLM:
    """A model of which every parameter has a gradient."""
    model = RWKVLM.from_config(RWKVConfig(vocab_size=30, channels=8, n_layer=layers, intermediate_size=32)).to(dtype)
    initialize(model, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=dtype))
    return model


def taught_loss(model, ids):
    """The same by the package's own reading and PyTorch's cross-entropy."""
    model.clear_buffers()
    return torch.nn.functional.cross_entropy(read_logits(model, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.parametrize("layers, rows, length", [(0, 2, 5), (1, 1, 2), (2, 3, 40), (2, 2, 300)])
def test_loss_and_gradient_are_those_of_the_model_as_it_is_taught(layers, rows, length):
    model = random_model(layers)
    ids = torch.randint(30, (rows, length + 1), generator=torch.Generator().manual_seed(0))
    found = []
    for loss_by in (lambda: loss_of(model, ids, torch.float64), lambda: taught_loss(model, ids)):
        model.zero_grad()
        loss = loss_by()
        loss.backward()
        found.append([loss.detach()] + [p.grad.clone() for p in model.parameters()])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_in_half_precision_it_is_as_near_as_half_precision_is():
    model = random_model(2, torch.float32)
    ids = torch.randint(30, (4, 65), generator=torch.Generator().manual_seed(0))
    gradients = []
    for precision in (torch.float32, torch.bfloat16):
        model.zero_grad()
        loss = loss_of(model, ids, precision)
        loss.backward()
        assert loss.item() == pytest.approx(taught_loss(model, ids).item(), rel=0.01)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.05 * gradients[0].norm()


def test_every_batch_starts_from_an_empty_memory():
    model, ids = random_model(2), torch.arange(10)[:, None]
    first = read_blocks(model, ids, torch.float64)
    read_logits(model, torch.arange(4))  # the model now remembers
    assert torch.equal(read_blocks(model, ids, torch.float64), first)


@pytest.mark.parametrize("tokens", [1, training_step.TOGETHER, training_step.TOGETHER + 3])
def test_the_cross_entropy_in_parts_is_pytorchs(tokens):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, 4, generator=random, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(9, 4, generator=random, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(9, (tokens,), generator=random)
    expected = torch.nn.functional.cross_entropy(x @ matrix.T, targets)
    wanted = torch.autograd.grad(3 * expected, (x, matrix))
    loss = CrossEntropy.apply(x, matrix, targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * loss, (x, matrix)), wanted)


def test_the_compiled_parts_compute_the_same():
    model, ids = random_model(1, torch.float32), torch.arange(24).view(2, 12)
    found = []
    for parts in (None, compiled_parts()):
        model.zero_grad()
        loss_of(model, ids, torch.float32, parts).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for compiled, plain in zip(found[1], found[0]):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", fail)
    assert compiled_parts() is training_step.PLAIN
    assert "uncompiled: RuntimeError: No working C++ compiler" in capsys.readouterr().out
