"""Our RWKV-4 is RWKV-4: token by token, logits and state, against everything that can be asked.

Three witnesses: the formulas evaluated as sums over the past (`formula.py`, float64), the architecture's own package
`rwkv` (float32 at best), and transformers' `RwkvForCausalLM` (float64, but its memory is float32 throughout).
All start from one checkpoint in upstream's layout, ours through `load_pretrained`, and once more with the plain memory
that the chapters build. Mutants at the end show that a model which is nearly RWKV-4 does not pass.
"""

import gc
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from reference_rwkv4 import random_checkpoint, rwkv4
from rwkv_explainer.checkpoints import load_pretrained, read_weights
from rwkv_explainer.model import RWKVLM, StableWKVMemory, WKVMemory

os.environ["RWKV_JIT_ON"] = os.environ["RWKV_CUDA_ON"] = "0"  # read by `rwkv` when it is imported

TOKENS = 64


@dataclass
class Run:
    """What a model said and remembered after each token."""

    logits: np.ndarray  # (time, vocabulary)
    states: np.ndarray  # (time, layers, 4, channels), in the order of `formula.rwkv4`


def run_formula(checkpoint, tokens, folder) -> Run:
    return Run(*rwkv4(checkpoint, tokens))


def run_rwkv(checkpoint, tokens, folder) -> Run:
    """The `rwkv` package. It folds ln0 into the embedding in the file's own dtype, so that file has to be float32."""
    from rwkv.model import RWKV

    torch.save({name: tensor.float() for name, tensor in checkpoint.items()}, folder / "float32.pth")
    gc.freeze()  # it collects garbage again and again while it loads, and would look at all that was imported
    model = RWKV(model=str(folder / "float32"), strategy="cpu fp32", verbose=False)
    logits, states, state = [], [], None
    for token in tokens:
        out, state = model.forward([token], state)
        att_x, aa, bb, pp, ffn_x = torch.stack(state).double().unflatten(0, (-1, 5)).unbind(1)  # (layers, channels)
        logits.append(out.double().clone())
        states.append(torch.stack([att_x, aa * pp.exp(), bb * pp.exp(), ffn_x], dim=1))
    return Run(torch.stack(logits).numpy(), torch.stack(states).numpy())


@torch.no_grad()
def run_transformers(checkpoint, tokens, folder, dtype=torch.float64) -> Run:
    """transformers' model. Without `rescale_every=0` it would divide its weights in place."""
    from transformers import RwkvConfig, RwkvForCausalLM

    theirs = {}
    for name, tensor in checkpoint.items():
        name = re.sub("(?<=time_mix_).$", lambda m: {"k": "key", "v": "value", "r": "receptance"}[m[0]], name)
        name = name.replace("emb.", "embeddings.").replace("ln0", "pre_ln").replace(".att.", ".attention.")
        name = name.replace(".ffn.", ".feed_forward.")
        theirs[name if name.startswith("head") else "rwkv." + name] = tensor.to(dtype)
    vocabulary, channels = checkpoint["emb.weight"].shape
    config = RwkvConfig(
        vocab_size=vocabulary,
        hidden_size=channels,
        intermediate_size=len(checkpoint["blocks.0.ffn.key.weight"]),
        num_hidden_layers=sum(name.endswith("ln1.weight") for name in checkpoint),
        rescale_every=0,
    )
    with torch.device("meta"):
        model = RwkvForCausalLM(config).eval()
    model.load_state_dict(theirs, assign=True)
    logits, states, state = [], [], None
    for token in tokens:
        out = model(torch.tensor([[token]]), state=state, use_cache=True)
        state = out.state
        ffn_x, att_x, num, den, top = (part[0].T.double() for part in state)  # (layers, channels) each
        logits.append(out.logits[0, 0].double())
        states.append(torch.stack([att_x, num * top.exp(), den * top.exp(), ffn_x], dim=1))
    return Run(torch.stack(logits).numpy(), torch.stack(states).numpy())


@torch.no_grad()
def run_ours(model, tokens) -> Run:
    logits, states = [], []
    for token in tokens:
        logits.append(model.logits(token).double())
        states.append(
            torch.stack(
                [
                    torch.stack(
                        [
                            block.attention.key_mixer.last_x,
                            block.attention.memory.contents,
                            block.attention.memory.normalizer,
                            block.gated_mlp.mlp_mixer.last_x,
                        ]
                    )
                    for block in model.blocks
                ]
            ).double()
        )
    return Run(torch.stack(logits).numpy(), torch.stack(states).numpy())


def load_ours(checkpoint, folder, dtype, memory=StableWKVMemory):
    """The model as `load_pretrained` gives it, or the one that the chapters build, with the plain memory."""
    path = folder / "checkpoint.pth"
    if not path.exists():  # a loaded model may still be reading from it
        torch.save(checkpoint, path)
    if memory is WKVMemory:
        model = RWKVLM.from_weights({name: tensor.to(dtype) for name, tensor in read_weights(path).items()})
    else:
        model, tokenizer = load_pretrained(str(path), dtype=dtype)
        assert tokenizer is None  # there is none beside the file
    assert {type(block.attention.memory) for block in model.blocks} == {memory}
    return model


def logit_distance(ours: Run, theirs: Run) -> float:
    """The largest difference between two logits."""
    return np.abs(ours.logits - theirs.logits).max()


def state_distance(ours: Run, theirs: Run) -> float:
    """The largest difference between two numbers of the state; in the memory's sums, for each unit of summed weight."""
    unit = np.ones_like(theirs.states)  # (time, layers, 4, channels)
    unit[:, :, 1:3] = np.maximum(1, theirs.states[:, :, 2:3])
    return np.abs((ours.states - theirs.states) / unit).max()


def random_tokens(seed: int, vocabulary: int) -> list[int]:
    return torch.randint(vocabulary, (TOKENS,), generator=torch.Generator().manual_seed(seed)).tolist()


@dataclass(frozen=True)
class Witness:
    """Somebody to ask, the dtype and the memory that ours has beside them, and how far apart the two may be."""

    run: Callable
    dtype: torch.dtype
    logits: float
    states: float
    memory: type = StableWKVMemory


WITNESSES = {
    "formula": Witness(run_formula, torch.float64, logits=1e-12, states=1e-12),
    "formula-plain-memory": Witness(run_formula, torch.float64, logits=1e-12, states=1e-12, memory=WKVMemory),
    "rwkv": Witness(run_rwkv, torch.float32, logits=5e-6, states=1e-5),
    "transformers": Witness(run_transformers, torch.float64, logits=1e-6, states=1e-5),
}


@pytest.mark.parametrize("witness", WITNESSES.values(), ids=WITNESSES)
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param({"seed": 0}, id="seed-0"),
        pytest.param({"seed": 1, "layers": 6, "channels": 64, "vocabulary": 100}, id="seed-1-larger"),
        pytest.param({"seed": 2, "hidden": 40}, id="seed-2-narrow-hidden"),
        pytest.param({"seed": 3, "hidden": 150}, id="seed-3-wide-hidden"),
        pytest.param({"seed": 4, "dtype": torch.bfloat16}, id="seed-4-bfloat16"),
    ],
)
def test_same_logits_and_state(sizes, witness, tmp_path):
    checkpoint = random_checkpoint(**sizes)
    tokens = random_tokens(sizes["seed"], len(checkpoint["emb.weight"]))
    theirs = witness.run(checkpoint, tokens, tmp_path)
    ours = run_ours(load_ours(checkpoint, tmp_path, witness.dtype, witness.memory), tokens)
    assert logit_distance(ours, theirs) <= witness.logits
    assert state_distance(ours, theirs) <= witness.states


def test_the_size_of_the_169m(tmp_path):
    """12 x 768, 50,277 tokens, stored in bfloat16 and run in float32 like the published model it is the size of."""
    checkpoint = random_checkpoint(seed=5, layers=12, channels=768, vocabulary=50277, dtype=torch.bfloat16)
    tokens = random_tokens(5, 50277)
    ours = run_ours(load_ours(checkpoint, tmp_path, torch.float32), tokens)
    for theirs in (
        run_rwkv(checkpoint, tokens, tmp_path),
        run_transformers(checkpoint, tokens, tmp_path, dtype=torch.float32),
    ):
        assert logit_distance(ours, theirs) <= 2e-5
        assert state_distance(ours, theirs) <= 2e-5


# ---------------------------------------------------------------------------------------------------------------------
# mutants: models that are almost RWKV-4, and that the comparison has to tell from it


def decay_before_read(model, monkeypatch):
    def forward(memory, keys, values):
        memory.step()
        average = memory.read(keys, values)
        with monkeypatch.context() as once:
            once.setattr(memory, "step", lambda: None)  # it has faded already
            memory.write(keys, values)
        return average

    monkeypatch.setattr(WKVMemory, "forward", forward)


def drop_log_gain(model, monkeypatch):
    for block in model.blocks:
        block.attention.memory.log_gain.zero_()


def swap_key_and_value_mixes(model, monkeypatch):
    for attention in (block.attention for block in model.blocks):
        key, value = attention.key_mixer, attention.value_mixer
        key.weight, value.weight = value.weight, key.weight


def swap_the_mixes_of_the_mlp(model, monkeypatch):
    for mlp in (block.gated_mlp for block in model.blocks):
        mlp.mlp_mixer.weight, mlp.receptance_mixer.weight = mlp.receptance_mixer.weight, mlp.mlp_mixer.weight


def swap_now_and_before(model, monkeypatch):
    for name, parameter in model.named_parameters():
        if "mixer" in name:
            parameter.copy_(1 - parameter)


def zero_one_mlp(model, monkeypatch):
    model.blocks[-1].gated_mlp.value.weight.zero_()


def drop_a_block(model, monkeypatch):
    del model.blocks[1]


def drop_the_first_norm(model, monkeypatch):
    model.embedding.normalize_emb = torch.nn.Identity()


MUTANTS = [
    decay_before_read,
    drop_log_gain,
    swap_key_and_value_mixes,
    swap_the_mixes_of_the_mlp,
    swap_now_and_before,
    zero_one_mlp,
    drop_a_block,
    drop_the_first_norm,
]


@pytest.fixture(scope="module", params=WITNESSES.values(), ids=WITNESSES)
def testimony(request, tmp_path_factory):
    """What one witness said about one checkpoint: asked once, for all mutants."""
    checkpoint, folder, witness = random_checkpoint(seed=6), tmp_path_factory.mktemp("mutants"), request.param
    tokens = random_tokens(6, len(checkpoint["emb.weight"]))
    load = partial(load_ours, checkpoint, folder, witness.dtype, witness.memory)
    return load, tokens, witness.run(checkpoint, tokens, folder), witness.logits


def test_the_original_passes(testimony):
    load, tokens, theirs, tolerance = testimony
    assert logit_distance(run_ours(load(), tokens), theirs) <= tolerance


@pytest.mark.parametrize("mutate", MUTANTS)
@torch.no_grad()
def test_mutants_fail(mutate, testimony, monkeypatch):
    load, tokens, theirs, tolerance = testimony
    mutant = load()
    mutate(mutant, monkeypatch)
    assert logit_distance(run_ours(mutant, tokens), theirs) > 100 * tolerance
