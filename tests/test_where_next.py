"""The chapter "Where RWKV went next" builds Eagle, Finch and Goose as they are: against the architecture's own package.

The blocks are taken from the chapter's cells as they stand. Each gets the random weights that a checkpoint of its
architecture would hold, `rwkv` gets the same, and both step through the same tokens in float32: what a block returns
and what it remembers must agree. `rwkv` has no float64 here.
"""

import importlib.util
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import rwkv_explainer
from rwkv_explainer.chapters.where_rwkv_went_next import figures

os.environ["RWKV_JIT_ON"] = os.environ["RWKV_CUDA_ON"] = "0"  # read by `rwkv` when it is imported

NOTEBOOK = Path(__file__).resolve().parents[1] / "book" / "where-rwkv-went-next.ipynb"
CELLS = ["eagle-memory", "eagle-block-code", "finch-memory", "finch-block-code", "goose-memory", "goose-block-code"]
HEADS, SIZE, TOKENS = 3, 8, 12
CHANNELS = HEADS * SIZE
RANKS = {"decay": 4, "rate": 5, "gate": 6, "first": 3}

Weights = dict[str, Tensor]


def chapter(change: tuple[str, str] | None = None) -> dict:
    """What the chapter's cells define. `change` replaces a piece of their code."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    setup = [line for line in cells["setup"].splitlines() if line.startswith(("import ", "from "))]
    source = "\n".join(
        [
            *setup,
            "import rwkv_explainer as rwkv",
            "from rwkv_explainer.shapes import Embedding, Update",
            *(cells[name] for name in CELLS),
        ]
    )
    if change:
        assert change[0] in source
        source = source.replace(*change)
    names: dict = {}
    exec(compile(source, NOTEBOOK.name, "exec"), names)
    return names


def architecture(version: int):
    """A fresh copy of the module `rwkv.model`, which decides on import whether it is RWKV-7's."""
    spec = importlib.util.spec_from_file_location(f"rwkv{version}", importlib.util.find_spec("rwkv.model").origin)
    module = importlib.util.module_from_spec(spec)
    settings = {"RWKV_V7_ON": "1"} if version == 7 else {}
    with mock.patch.dict(os.environ, settings), warnings.catch_warnings(action="ignore"):  # TorchScript is going away
        spec.loader.exec_module(module)
    return module


def random_like(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Weights:
    """Random weights: shares between 0 and 1, norms around 1, decays from slow to fast, the rest of the size of 1."""
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=random)
        if "mix_" in name or ".x_" in name or "maa_" in name and len(shape) == 3:
            tensor = torch.rand(shape, generator=random)
        elif "decay" in name and "_w" not in name:
            tensor = tensor - 1
        elif len(shape) == 2:
            tensor = tensor * shape[-1] ** -0.5
        elif "ln" in name and name.endswith("weight"):
            tensor = 1 + 0.2 * tensor
        weights[name] = tensor
    return weights


# ---------------------------------------------------------------------------------------------------------------------
# Eagle and Finch: a checkpoint of one layer, loaded by `rwkv` itself


def checkpoint(version: int) -> Weights:
    """A whole model of one layer under upstream's names. Its gated MLP gives zero."""
    wide = (1, 1, CHANNELS)
    square = (CHANNELS, CHANNELS)
    att = {f"{name}.weight": square for name in ("receptance", "key", "value", "gate", "output")}
    att |= {"ln_x.weight": (CHANNELS,), "ln_x.bias": (CHANNELS,)}
    if version == 5:
        att |= {f"time_mix_{path}": wide for path in "rkvg"} | {"time_decay": (HEADS, SIZE)}
        ffn = {"time_mix_k": wide, "time_mix_r": wide}
    else:
        att |= {f"time_maa_{path}": wide for path in "xrkvgw"} | {"time_decay": wide}
        att |= {"time_maa_w1": (CHANNELS, 5 * 4), "time_maa_w2": (5, 4, CHANNELS)}
        att |= {"time_decay_w1": (CHANNELS, 6), "time_decay_w2": (6, CHANNELS)}
        ffn = {"time_maa_k": wide, "time_maa_r": wide}
    att["time_faaaa"] = (HEADS, SIZE)  # last: before it `rwkv` must have seen which version it is
    ffn |= {
        "key.weight": (4 * CHANNELS, CHANNELS),
        "value.weight": (CHANNELS, 4 * CHANNELS),
        "receptance.weight": square,
    }
    norms = {
        f"{norm}.{part}": (CHANNELS,)
        for norm in ("blocks.0.ln0", "blocks.0.ln1", "blocks.0.ln2", "ln_out")
        for part in ("weight", "bias")
    }
    return random_like(
        {
            "emb.weight": (TOKENS, CHANNELS),
            "head.weight": (TOKENS, CHANNELS),
            **norms,
            **{f"blocks.0.att.{name}": shape for name, shape in att.items()},
            **{f"blocks.0.ffn.{name}": shape for name, shape in ffn.items()},
        }
    )


def run_rwkv(weights: Weights, folder: Path, monkeypatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What goes into the attention block of `rwkv`'s model, what comes out, and its memory, for each token."""
    version = 6 if "blocks.0.att.time_maa_x" in weights else 5
    torch.save(weights, folder / "model.pth")
    model = architecture(version).RWKV(model=str(folder / "model"), strategy="cpu fp32", verbose=False)
    name = {5: "att_one_v5_1", 6: "att_one_v6_0"}[version]
    step, seen = getattr(model, name), []

    def watched(x, *rest):
        out, last_x, memory = step(x, *rest)
        seen.append((x.clone(), out.clone(), memory.clone()))
        return out, last_x, memory

    monkeypatch.setattr(model, name, watched)
    state = None
    for token in range(TOKENS):
        _, state = model.forward([token], state)
    return seen


def fill_eagle(block: nn.Module, w: Weights) -> None:
    """Upstream's weights of an RWKV-5.2 attention block, into the chapter's."""
    for path in ("receptance", "key", "value", "gate"):
        block.mixers[path].weight.copy_(w[f"time_mix_{path[0]}"].flatten())
    block.memory.log_decay.copy_(w["time_decay"])
    fill_common(block, w)


def fill_finch(block: nn.Module, w: Weights) -> None:
    """Upstream's weights of an RWKV-6 attention block. Upstream's shares are those of the last token, 1 less ours."""
    block.first_mixer.weight.copy_(1 - w["time_maa_x"].flatten())
    for n, path in enumerate(("decay", "key", "value", "receptance", "gate")):
        letter = "w" if path == "decay" else path[0]
        down, up = w["time_maa_w1"][:, 4 * n : 4 * n + 4], w["time_maa_w2"][n]
        fill_low_rank(block.mixers[path], down, -up, 1 - w[f"time_maa_{letter}"])
    fill_low_rank(block.decay, w["time_decay_w1"], w["time_decay_w2"], w["time_decay"])
    fill_common(block, w)


def fill_common(block: nn.Module, w: Weights) -> None:
    for path, matrix in block.matrices.items():
        matrix.weight.copy_(w[f"{path}.weight"])
    block.output.weight.copy_(w["output.weight"])
    block.norm.weight.copy_(w["ln_x.weight"])
    block.norm.bias.copy_(w["ln_x.bias"])
    if "time_faaaa" in w:
        block.memory.gain.copy_(w["time_faaaa"])


def fill_low_rank(pair: nn.Module, down: Tensor, up: Tensor, bias: Tensor | None) -> None:
    pair.down.weight.copy_(down.T)
    pair.up.weight.copy_(up.T)
    if bias is not None:
        pair.up.bias.copy_(bias.flatten())


def compare_first_two(version: int, folder: Path, monkeypatch, change=None) -> None:
    weights = checkpoint(version)
    names = chapter(change)
    block = names["EagleBlock"](HEADS, SIZE) if version == 5 else names["FinchBlock"](HEADS, SIZE, rank=4, decay_rank=6)
    prefix = "blocks.0.att."
    fill = fill_eagle if version == 5 else fill_finch
    fill(block, {name.removeprefix(prefix): w.clone() for name, w in weights.items() if name.startswith(prefix)})
    norm = [weights[f"blocks.0.ln1.{part}"].clone() for part in ("weight", "bias")]
    for x, out, memory in run_rwkv(weights, folder, monkeypatch):
        update = block(torch.nn.functional.layer_norm(x, (CHANNELS,), *norm))
        close(x + update, out)
        close(block.memory.contents, memory)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Goose: the step of one layer, called with its weights


def goose_weights() -> Weights:
    """One attention block of RWKV-7 under upstream's names, matrices as upstream stores them."""
    wide, square = (1, 1, CHANNELS), (CHANNELS, CHANNELS)
    shapes = {f"x_{path}": wide for path in "rwkvag"} | {f"{path}0": wide for path in "wav"}
    for letter, path in zip("wagv", RANKS):
        shapes |= {f"{letter}1": (CHANNELS, RANKS[path]), f"{letter}2": (RANKS[path], CHANNELS)}
    shapes |= {"k_k": wide, "k_a": wide, "r_k": (HEADS, SIZE), "ln_x.weight": (CHANNELS,), "ln_x.bias": (CHANNELS,)}
    shapes |= {f"{name}.weight": square for name in ("receptance", "key", "value", "output")}
    return {name.removeprefix("att."): w for name, w in random_like({f"att.{n}": s for n, s in shapes.items()}).items()}


def fill_goose(block: nn.Module, w: Weights) -> None:
    for path in ("receptance", "key", "value", "gate", "decay", "rate"):
        letter = {"decay": "w", "rate": "a"}.get(path, path[0])
        block.mixers[path].weight.copy_(1 - w[f"x_{letter}"].flatten())
    for letter, pair in zip("wagv", (block.decay, block.rate, block.gate, block.first_share)):
        fill_low_rank(pair, w[f"{letter}1"], w[f"{letter}2"], w.get(f"{letter}0"))
    block.removal_scale.copy_(w["k_k"].flatten())
    block.rate_scale.copy_(w["k_a"].flatten())
    block.gain.copy_(w["r_k"])
    fill_common(block, w)


@pytest.fixture(scope="module")
def goose_step() -> Callable:
    return architecture(7).RWKV_x070_TMix_one


def compare_goose(step: Callable, layer: int, change=None) -> None:
    weights = goose_weights()
    block = chapter(change)["GooseBlock"](HEADS, SIZE, RANKS)
    fill_goose(block, weights)
    z = {
        name: (
            w.T.contiguous()
            if name.endswith(("receptance.weight", "key.weight", "value.weight", "output.weight"))
            else w.squeeze()
        )
        for name, w in weights.items()
    }
    z["r_k"] = z["r_k"].flatten()
    order = (
        "x_r x_w x_k x_v x_a x_g w0 w1 w2 a0 a1 a2 v0 v1 v2 g1 g2 k_k k_a r_k receptance.weight key.weight "
        "value.weight output.weight ln_x.weight ln_x.bias"
    ).split()
    random = torch.Generator().manual_seed(1)
    last_x, memory = torch.zeros(CHANNELS), torch.zeros(HEADS, SIZE, SIZE)
    for _ in range(TOKENS):
        x, first = torch.randn(2, CHANNELS, generator=random)
        with warnings.catch_warnings(action="ignore"):
            out, last_x, memory, values = step(
                layer, HEADS, SIZE, x, last_x, first.clone(), memory, *(z[name] for name in order)
            )
        update, our_values = block(x, first if layer else None)
        close(update, out)
        close(block.memory.contents, memory.mT)  # theirs has values down, keys across
        if layer == 0:
            close(our_values, values)


# ---------------------------------------------------------------------------------------------------------------------
# the tests


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("version", [5, 6])
def test_eagle_and_finch_are_those_of_the_architecture(version, tmp_path, monkeypatch):
    compare_first_two(version, tmp_path, monkeypatch)


@pytest.mark.parametrize("layer", [0, 1])
def test_goose_is_that_of_the_architecture(goose_step, layer):
    compare_goose(goose_step, layer)


ORDER = (
    "read = self.read(receptances, keys, values)  # first read,\n        self.write(keys, values)  # then write",
    "self.write(keys, values)\n        read = self.read(receptances, keys, values)",
)


@pytest.mark.parametrize(
    "change",
    [
        ("eps=64e-5", "eps=1e-5"),
        ("exp(-exp(self.log_decay))", "exp(self.log_decay)"),
        ORDER,
        ("self.gain[:, :, None] * outer", "outer"),
        ("silu(gates)", "sigmoid(gates)"),
    ],
    ids=["epsilon", "decay", "order", "gain", "gate"],
)
def test_a_changed_eagle_is_noticed(change, tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="not close"):
        compare_first_two(5, tmp_path, monkeypatch, change)


@pytest.mark.parametrize(
    "change",
    [
        ("mixer(first) for path", "mixer(x) for path"),
        ("exp(-exp(log_decays))", "exp(-exp(0.99 * log_decays))"),
        ("(channels, decay_rank, torch.tanh)", "(channels, decay_rank, sigmoid)"),
        ("torch.lerp(last_x, x, share)", "torch.lerp(x, last_x, share)"),
    ],
    ids=["first blend", "decay", "tanh", "whose share"],
)
def test_a_changed_finch_is_noticed(change, tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="not close"):
        compare_first_two(6, tmp_path, monkeypatch, change)


@pytest.mark.parametrize(
    "change",
    [
        ("-math.exp(-0.5)", "-0.6"),
        ("eps=64e-5", "eps=1e-5"),
        ("outer(rates * removal_keys, found)", "outer(removal_keys, found)"),
        ("torch.lerp(keys, rates * keys, self.rate_scale)", "keys"),
        ("read + bonus.flatten()", "read"),
        ("torch.lerp(values, first_values,", "torch.lerp(first_values, values,"),
    ],
    ids=["slowest decay", "epsilon", "rate", "scaled key", "bonus", "first values"],
)
def test_a_changed_goose_is_noticed(goose_step, change):
    with pytest.raises(AssertionError, match="not close"):
        compare_goose(goose_step, 1, change)


@pytest.mark.parametrize("keeps, taken_out", [(1.0, 0.0), (0.7, 0.0), (0.9, 0.75), (1.0, 1.0)])
def test_the_table_to_touch_is_gooses(keeps, taken_out):
    """The chapter's first figure fills, fades and corrects as its last memory does."""
    memory, eye = chapter()["GooseMemory"](1, len(figures.NAMES)), torch.eye(len(figures.NAMES))
    for facts, (name, city) in enumerate(figures.STORY, start=1):
        key, value = eye[figures.NAMES.index(name)][None], eye[figures.CITIES.index(city)][None]
        memory.write(key, value, torch.full_like(key, keeps), key, torch.full_like(key, taken_out))
        shown = figures.live_table(facts, keeps, taken_out)
        torch.testing.assert_close(torch.tensor(shown.data["cells"]), memory.contents[0], rtol=0, atol=1e-3)
    assert shown.caption.endswith(f"Asked for Ben, the table says {figures.in_row(memory.contents[0][1])}.")


def test_a_swap_is_turned_around_as_goose_does_it():
    """The figure's lines are the difference of two rows after writes with a removal key along it."""
    difference = torch.tensor([[1.0, -1.0]]) / 2**0.5
    for rate, decay in ((1.0, 1.0), (0.5, 0.9), (2.0, 1.0)):
        memory, none = chapter()["GooseMemory"](1, 2), torch.zeros(1, 2)
        memory.contents = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        drawn = dict((name, values) for name, values, _ in figures.live_swaps(rate, decay).data["series"])
        for left in drawn["your rate and decay"]:
            assert abs((memory.contents[0][0] - memory.contents[0][1])[0] - left) < 1e-3
            memory.write(none, none, torch.full((1, 2), decay), difference, torch.full((1, 2), rate))


def test_one_write_is_the_sum_of_its_tables():
    """The drawing's words name what fades, what is taken out, what is added, and what comes of it."""
    one, two = torch.eye(2)
    plot = figures.plot_table_update(
        torch.outer(one, one), one, two, torch.full((2,), 0.9), one, torch.full((2,), 0.5), ["A", "B"], ["x", "y"]
    )
    assert "decay ⊙ contents: A x 0.90; − (rate ⊙ removal key) ⊗ found: A x 0.50; + key ⊗ value: A y 1.00" in plot.alt
    assert "= the new contents: A x 0.40, A y 1.00" in plot.alt


def test_the_chapter_uses_the_packages_mixer():
    """Which is proven where it is built; were it copied here, this file would not notice that the package's changed."""
    block = chapter()["EagleBlock"](HEADS, SIZE)
    assert {type(mixer) for mixer in block.mixers.values()} == {rwkv_explainer.Mixer}
