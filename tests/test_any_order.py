"""A reader may call things in any order: each call works or is refused in words, and forgetting makes all new."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_explainer.model import RWKVLM, StableWKVMemory, WKVMemory

TOKENS = 11  # of the `random_model` fixture's models


def train(model):
    model.requires_grad_(True).logits(3).sum().backward()
    model.requires_grad_(False).detach()


def in_inference_mode(model):
    with torch.inference_mode():
        model(3)
    model.detach()


def branch(model):
    kept = model.snapshot()
    model.logits(5)
    model.restore(kept)


CALLS = {
    "step": lambda model: model(3),
    "step with logits": lambda model: model.logits(4),
    "step a one-hot": lambda model: model(torch.eye(TOKENS)[3]),
    "step a batch": lambda model: model(torch.tensor([1, 2])),
    "step a batch of one": lambda model: model(torch.tensor([1])),
    "read": lambda model: model.read([1, 2, 3]),
    "read a token": lambda model: model.read([1], last_only=True),
    "read nothing": lambda model: model.read([]),
    "read a batch": lambda model: model.read(torch.tensor([[1, 2], [3, 4]])),
    "forget": lambda model: model.clear_buffers(),
    "branch": branch,
    "another's memory": lambda model: model.restore(model.blocks[0].snapshot()),
    "train": train,
    "infer": in_inference_mode,
    "copy": copy.deepcopy,
    "half": lambda model: model.half(),
    "bfloat16": lambda model: model.bfloat16(),
    "double": lambda model: model.double(),
    "load": lambda model: model.load_state_dict(model.state_dict()),
    "stop at layer 1": lambda model: RWKVLM(model.embedding, model.blocks[:1], model.unembedding)(3),
}
IN_WORDS = "expected|call clear_buffers|another module's state"


@given(names=st.lists(st.sampled_from(sorted(CALLS)), min_size=1, max_size=7))
@settings(deadline=None, max_examples=40, derandomize=True)
@pytest.mark.parametrize("memory", [WKVMemory, StableWKVMemory])
def test_any_order_of_calls(random_model, memory, names):
    weights = random_model(channels=4, hidden=6).state_dict()
    build = lambda: RWKVLM.from_weights(weights, memory_class=memory).requires_grad_(False)  # noqa: E731
    model = build()
    for name in names:
        try:
            CALLS[name](model)
        except (TypeError, ValueError) as error:
            assert any(words in str(error) for words in IN_WORDS.split("|")), (name, str(error))
    model.clear_buffers()
    if not {"half", "bfloat16"} & set(names):  # which round the weights
        torch.testing.assert_close(model.logits(5), build().logits(5))
    assert model.logits(5).isfinite().all()
