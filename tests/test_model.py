"""The model in RNN mode: what it remembers, what it takes for a token, what it is built from. That it is RWKV-4 at all
is `test_parity.py`'s business."""

import ast
import copy
import inspect
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch.nn import functional as F

from rwkv_explainer import linear, parallel
from rwkv_explainer.model import (
    RWKV,
    RWKVLM,
    AttentionBlock,
    GatedMLP,
    Mixer,
    RWKVBlock,
    SquaredReLU,
    StableWKVMemory,
    TokenEmbedding,
    Unembedding,
    WKVMemory,
)
from rwkv_explainer.piece import RWKVConfig

VOCABULARY = 11  # of the `random_model` fixture's models


def read(model, tokens):
    """The logits after the last of the tokens: (*batch, time) ids, one moment after the other."""
    for moment in torch.as_tensor(tokens).unbind(-1):
        logits = model.logits(moment)
    return logits


def assert_same_state(state, expected, atol=0.0):
    assert state.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(state[name], expected[name], rtol=0, atol=atol, msg=lambda m: f"{name}: {m}")


# ---------------------------------------------------------------------------------------------------------------------
# what it remembers


def test_it_remembers_and_forgets(random_model):
    model = random_model()
    fresh = model.snapshot()
    first = read(model, [1, 2, 3])
    assert (read(model, [1, 2, 3]) - first).abs().max() > 1e-3  # the same tokens, after other ones
    model.clear_buffers()
    assert_same_state(model.snapshot(), fresh)
    assert torch.equal(read(model, [1, 2, 3]), first)


def test_clear_buffers_after_a_batch(random_model):
    model = random_model(channels=8, dtype=torch.float32)
    read(model, [[1, 2], [3, 4]])
    model.double().clear_buffers()
    for name, buffer in model.state_buffers().items():
        assert buffer.shape == (8,) and buffer.dtype == torch.float64 and not buffer.any(), name


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (2, 1, 2)])
def test_a_batch_is_separate_runs(random_model, batch):
    model = random_model()
    tokens = torch.randint(VOCABULARY, (*batch, 9), generator=torch.Generator().manual_seed(0))
    together, state = read(model, tokens), model.snapshot()
    assert together.shape == (*batch, VOCABULARY)
    for place in [tuple(i.tolist()) for i in torch.ones(batch).nonzero()]:
        model.clear_buffers()
        torch.testing.assert_close(together[place], read(model, tokens[place]), rtol=0, atol=1e-12)
        assert_same_state({name: buffer[place] for name, buffer in state.items()}, model.snapshot(), atol=1e-12)


def test_snapshot_and_restore(random_model):
    model = random_model()
    read(model, [1, 2, 3])
    snapshot = model.snapshot()
    copies = {name: value.clone() for name, value in snapshot.items()}
    first = read(model, [4, 5])
    for _ in range(2):
        model.restore(snapshot)
        assert_same_state(model.snapshot(), copies)
        assert torch.equal(read(model, [4, 5]), first)
    assert_same_state(snapshot, copies)


def test_a_snapshot_is_a_copy(random_model):
    model = random_model()
    read(model, [1, 2, 3])
    snapshot = model.snapshot()
    copies = {name: value.clone() for name, value in snapshot.items()}
    for buffer in model.state_buffers().values():
        buffer += 1
    assert_same_state(snapshot, copies)
    model.restore(snapshot)
    for buffer in model.state_buffers().values():
        buffer += 1
    assert_same_state(snapshot, copies)


def test_a_batch_s_state_can_be_restored_after_clearing(random_model):
    model = random_model()
    read(model, [[1, 2], [3, 4]])
    snapshot = model.snapshot()
    expected = read(model, [[5], [6]])
    model.clear_buffers()
    model.restore(snapshot)
    assert torch.equal(read(model, [[5], [6]]), expected)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda state: state.pop("blocks.1.attention.memory.contents"),
            r"missing \['blocks.1.attention.memory.contents'\]",
        ),
        (lambda state: state.update({"blocks.2.ln1": torch.zeros(8)}), r"left over \['blocks.2.ln1'\]"),
        (
            lambda state: state.update({"blocks.1.attention.memory.contents": torch.zeros(7)}),
            r"state\['blocks.1.attention.memory.contents'\]: expected 8 channels on the last axis, got shape \(7,\)",
        ),
    ],
)
def test_a_wrong_state_is_refused_whole(random_model, spoil, message):
    model = random_model(layers=2, channels=8)
    read(model, [1, 2, 3])
    before, state = model.snapshot(), {name: torch.ones(8).double() for name in model.snapshot()}
    spoil(state)
    with pytest.raises(ValueError, match=message):
        model.restore(state)
    assert_same_state(model.snapshot(), before)


@pytest.mark.parametrize(
    "first, then",
    [
        ((2,), (3,)),
        ((2,), ()),
        ((), (2,)),
        ((1,), (2,)),
        ((3,), (2, 3)),
        ((2, 1), (2, 3)),
    ],
)
def test_another_batch_shape_is_refused(random_model, first, then):
    model = random_model(channels=8)
    model(torch.ones(first, dtype=torch.long))
    before = model.snapshot()
    with pytest.raises(ValueError, match="memory belongs to a run of batch shape .* call clear_buffers"):
        model(torch.ones(then, dtype=torch.long))
    assert_same_state(model.snapshot(), before)
    model.clear_buffers()
    model(torch.ones(then, dtype=torch.long))


def test_a_batch_of_zeros_is_a_batch(random_model):
    model = random_model()
    model.restore({name: torch.zeros(2, 8) for name in model.state_buffers()})
    with pytest.raises(ValueError, match=r"of batch shape \(2,\), but this step has batch shape \(3,\)"):
        model(torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("way", ["step", "read"])
def test_the_batch_is_checked_once_a_step(random_model, way, monkeypatch):
    model, checks = random_model(layers=3), []
    place = "rwkv_explainer.model" if way == "step" else "rwkv_explainer.parallel"
    monkeypatch.setattr(f"{place}.require_same_batch", lambda piece, batch: checks.append(batch))
    model(torch.tensor([1, 2])) if way == "step" else model.read(torch.tensor([[1, 3], [2, 4]]))
    assert checks == [(2,)]


@pytest.mark.parametrize(
    "piece, inputs",
    [(Mixer(8), 1), (WKVMemory(8), 2), (StableWKVMemory(8), 2), (AttentionBlock(8), 1), (RWKVBlock(8), 1)],
    ids=lambda value: type(value).__name__,
)
def test_what_is_remembered_never_changes_under_the_callers_hand(piece, inputs):
    """In-place changes of what was passed in, of what came out, and of a snapshot."""
    piece.requires_grad_(False)
    given = [torch.randn(2, 8) for _ in range(inputs)]
    outputs = piece(*given)
    before = piece.snapshot()
    for tensor in (*given, outputs, *piece.snapshot().values()):
        tensor.add_(1)
    assert_same_state(piece.snapshot(), before)
    passed = {name: value.clone() for name, value in before.items()}
    piece.restore(passed)
    for value in passed.values():
        value.add_(1)
    assert_same_state(piece.snapshot(), before)


def test_a_text_that_was_read_may_be_changed_too(random_model):
    model, x = random_model(), torch.randn(5, 8, dtype=torch.float64)
    parallel.read_attention(model.blocks[0].attention, x)
    before = model.snapshot()
    x.add_(1)
    assert_same_state(model.snapshot(), before)


def test_state_follows_the_weights(random_model):
    """To another dtype and, with PyTorch's meta device in its place, to another device."""
    tokens = [1, 2, 3, 4]
    exact = random_model()
    read(exact, tokens)
    for memory_class in (WKVMemory, StableWKVMemory):
        model = RWKVLM.from_weights(random_model().state_dict(), memory_class=memory_class).requires_grad_(False)
        read(model, tokens)
        kept = model.snapshot()
        expected = model.logits(5)
        for move in (lambda: model.float(), lambda: model.half()):
            move()
            model.restore(kept)  # from before the move
            got = model.logits(5)
            assert got.dtype == next(model.parameters()).dtype
            torch.testing.assert_close(got.double(), expected, rtol=0, atol=0.05)
        narrow = model.snapshot()
        model.clear_buffers()
        model.restore(narrow)
        assert_same_state(model.snapshot(), narrow)  # bit for bit, float32 where the memory keeps it
        model.to("meta").restore(kept)
        assert {buffer.device.type for buffer in model.state_buffers().values()} == {"meta"}
        x = model.blocks(model.embedding(torch.tensor(5, device="meta")))
        assert model.unembedding(x).device.type == "meta"


# what `Piece` says of autograd, inference mode, vmap and threads


def test_detach_lets_training_go_on_from_a_state(random_model):
    model = random_model().requires_grad_(True)
    model.logits(1).sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        model.logits(2).sum().backward()
    model.clear_buffers()
    model.logits(1).sum().backward()
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    kept = {name: buffer.detach().clone() for name, buffer in model.state_buffers().items()}
    model.detach()
    assert_same_state(model.snapshot(), kept)
    copy.deepcopy(model).logits(2)
    model.logits(2).sum().backward()


def test_a_state_from_inference_mode(random_model):
    model = random_model().requires_grad_(True)
    with torch.inference_mode():
        model(1)
    with pytest.raises(RuntimeError, match="[Ii]nference"):
        model.logits(2).sum().backward()
    for cure in (model.detach, model.clear_buffers):
        model.clear_buffers()
        with torch.inference_mode():
            model(1)
        cure()
        model.logits(2).sum().backward()


def test_after_vmap_the_buffers_want_clearing(random_model):
    block = random_model().blocks[0]
    x = torch.randn(3, 8, dtype=torch.float64)
    expected = block(x)
    block.clear_buffers()
    torch.testing.assert_close(torch.vmap(block)(x), expected)
    block.clear_buffers()
    torch.testing.assert_close(block(x), expected)


def test_each_thread_has_a_copy_of_its_own(random_model):
    model = random_model()
    texts = [torch.randint(VOCABULARY, (40,), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    expected = []
    for text in texts:
        model.clear_buffers()
        expected.append(read(model, text))
    model.clear_buffers()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: read(copy.deepcopy(model), text), texts))
    for got, right in zip(found, expected):
        torch.testing.assert_close(got, right, rtol=0, atol=1e-12)


def test_torch_compile_works_where_the_type_checker_is_on(random_model):
    """The backend "eager" traces as any other, without a C++ compiler."""
    model = random_model()
    stepped = [model(token) for token in (1, 2, 3)]
    state = model.snapshot()
    model.clear_buffers()
    compiled = torch.compile(model, backend="eager")
    with warnings.catch_warnings(action="ignore"):
        found = [compiled(torch.tensor(token)) for token in (1, 2, 3)]
    torch.testing.assert_close(torch.stack(found), torch.stack(stepped), rtol=0, atol=1e-12)
    assert_same_state(model.snapshot(), state, atol=1e-12)
    with pytest.raises(TypeCheckError):
        Mixer(8)(torch.ones(7))  # and it is on as before


def test_the_memory_reads_before_it_fades():
    """Two tokens by hand: the second reads the first at its full weight."""
    memory = WKVMemory(1).requires_grad_(False)
    memory.log_decay.fill_(0.5)
    memory.log_gain.fill_(0.25)
    keys, values = torch.tensor([[0.3], [-0.2]]), torch.tensor([[2.0], [-1.0]])
    assert torch.allclose(memory(keys[0], values[0]), torch.tensor([2.0]))  # alone, the first token is the average
    old, new = torch.tensor(0.3).exp(), torch.tensor(0.25 - 0.2).exp()
    assert torch.allclose(memory(keys[1], values[1]), (2 * old - new) / (old + new))
    fade = torch.exp(-torch.tensor(0.5).exp())
    assert torch.allclose(memory.normalizer, fade * old + torch.tensor(-0.2).exp())


# ---------------------------------------------------------------------------------------------------------------------
# what it takes for a token


@pytest.mark.parametrize(
    "token",
    [
        torch.tensor(7),
        torch.tensor(7, dtype=torch.int32),
        torch.eye(VOCABULARY, dtype=torch.float64)[7],
        torch.eye(VOCABULARY)[7],
        torch.eye(VOCABULARY).bfloat16()[7],
        np.int64(7),
    ],
)
def test_ids_tensors_and_one_hots_agree(random_model, token):
    model = random_model()
    expected = [model(3), model(7)]
    model.clear_buffers()
    assert torch.equal(model(3), expected[0])
    torch.testing.assert_close(model(token), expected[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (0,), (1,), (4,), (2, 3)])
def test_probabilities_for_any_batch_shape(random_model, batch):
    model = random_model()
    ids = torch.randint(VOCABULARY, batch, generator=torch.Generator().manual_seed(0))
    probabilities = model(ids)
    assert probabilities.shape == (*batch, VOCABULARY)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(batch).double())
    model.clear_buffers()
    torch.testing.assert_close(model.logits(ids).softmax(-1), probabilities, rtol=0, atol=1e-12)
    model.clear_buffers()
    one_hots = torch.nn.functional.one_hot(ids, VOCABULARY).double()
    torch.testing.assert_close(model(one_hots), probabilities, rtol=0, atol=1e-12)


EXPECTED = "token: expected an id from 0 to 10, a tensor of such ids (int64 or int32), or one-hots (*batch, 11)"
REFUSED = {  # what is given, as Python source: the error, and what it says after EXPECTED
    "-1": (ValueError, "got -1"),
    "11": (ValueError, "got 11"),
    "True": (TypeError, "got bool True"),
    "False": (TypeError, "got bool False"),
    "3.0": (TypeError, "got float 3.0"),
    "None": (TypeError, "got NoneType None"),
    "'Paris'": (TypeError, "got str 'Paris'"),
    "[1, 2]": (TypeError, "got list [1, 2]"),
    "torch.tensor(True)": (TypeError, "got a tensor of torch.bool"),
    "torch.tensor(3, dtype=torch.int16)": (TypeError, "got a tensor of torch.int16"),
    "torch.tensor(3, dtype=torch.uint8)": (TypeError, "got a tensor of torch.uint8"),
    "torch.zeros(11, dtype=torch.complex64)": (TypeError, "got a tensor of torch.complex64"),
    "torch.tensor(-1)": (ValueError, "got a tensor with ids from -1 to -1"),
    "torch.tensor([[3, 11], [0, 1]])": (ValueError, "got a tensor with ids from 0 to 11"),
    "torch.tensor(3.0)": (ValueError, "got floats of shape ()"),
    "torch.zeros(2, 10)": (ValueError, "got floats of shape (2, 10)"),
    "torch.zeros(11, 1)": (ValueError, "got floats of shape (11, 1)"),
}


def call_both_ways(model, sources):
    """Give each of these to the model in both ways: what it raised, or that it was let in."""
    answers = {}
    for source in sources:
        for door in (model, model.logits):
            try:
                door(eval(source))
                answer = "let in"
            except (TypeError, ValueError) as error:
                answer = f"{type(error).__name__}: {error}"
            answers.setdefault(source, []).append(answer)
    return answers


@pytest.mark.parametrize("source", REFUSED)
def test_what_is_no_token_is_refused(random_model, source):
    model = random_model()
    error, got = REFUSED[source]
    assert call_both_ways(model, [source]) == {source: 2 * [f"{error.__name__}: {EXPECTED}, {got}"]}
    assert not any(buffer.any() for buffer in model.state_buffers().values())  # it has not read it


def test_the_door_says_the_same_without_a_type_checker(random_model):
    """Another process, in which the checker is off."""
    program = "\n".join(
        [
            "import torch",
            "from rwkv_explainer.model import RWKVLM, Mixer",
            "from rwkv_explainer.piece import RWKVConfig",
            inspect.getsource(call_both_ways),
            "assert Mixer(8)(torch.ones(1)).shape == (8,)",  # it is off: one channel passes for eight
            f"print(repr(call_both_ways(RWKVLM.from_config(RWKVConfig({VOCABULARY}, 8, 2, 20)), {list(REFUSED)!r})))",
        ]
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert ast.literal_eval(run.stdout) == call_both_ways(random_model(), REFUSED)


# ---------------------------------------------------------------------------------------------------------------------
# dtypes, and the type checker


@pytest.mark.parametrize(
    "dtype, tolerance",
    [
        (torch.float64, 0),
        (torch.float32, 1e-5),
        (torch.float16, 0.05),
        (torch.bfloat16, 0.3),
    ],
)
def test_any_float_dtype(random_model, dtype, tolerance):
    model, reference = random_model(dtype=dtype), random_model()
    tokens = torch.randint(VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
    logits = read(model, tokens)
    assert logits.dtype == dtype and model(tokens[:, 0]).dtype == dtype
    assert {buffer.dtype for buffer in model.state_buffers().values()} == {dtype}
    torch.testing.assert_close(logits.double(), read(reference, tokens), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "module, inputs",
    [
        (Mixer(8), [torch.ones(7)]),
        (Mixer(8), [torch.ones(1)]),  # torch alone would broadcast it
        (Mixer(8), [torch.ones(8, dtype=torch.long)]),
        (WKVMemory(8), [torch.ones(8), torch.ones(1)]),
        (WKVMemory(8), [torch.ones(2, 8), torch.ones(3, 8)]),
        (GatedMLP(8), [torch.ones(9)]),
        (AttentionBlock(8), [torch.ones(2, 1)]),
        (RWKVBlock(8), [torch.ones(1)]),
        (Unembedding(8, 11), [torch.ones(1)]),
        (TokenEmbedding(11, 8), [torch.ones(10)]),
        (SquaredReLU(), [torch.ones(4, dtype=torch.long)]),
    ],
)
def test_the_type_checker_minds_every_width(module, inputs):
    with pytest.raises(TypeCheckError):
        module(*inputs)


# ---------------------------------------------------------------------------------------------------------------------
# what it is built from


PIECES = {
    "": RWKVLM,
    "embedding": TokenEmbedding,
    "blocks": RWKV,
    "blocks.1": RWKVBlock,
    "blocks.1.attention": AttentionBlock,
    "blocks.1.attention.key_mixer": Mixer,
    "blocks.1.attention.memory": WKVMemory,
    "blocks.1.gated_mlp": GatedMLP,
    "unembedding": Unembedding,
}


@pytest.mark.parametrize("prefix", PIECES)
def test_a_piece_from_a_whole_model_s_weights(random_model, prefix):
    model = random_model(hidden=20)
    piece = PIECES[prefix].from_weights(model.state_dict(), prefix)
    expected = model.get_submodule(prefix)
    assert type(piece) is type(expected)
    assert piece.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(piece.state_dict()[name], value)
    assert {buffer.dtype for buffer in piece.state_buffers().values()} <= {torch.float64}


@pytest.mark.parametrize("cls", [RWKVLM, TokenEmbedding, RWKV, Unembedding])
def test_what_a_model_has_once_knows_its_place(random_model, cls):
    model = random_model()
    place = next(prefix for prefix, piece in PIECES.items() if piece is cls)
    for name, value in cls.from_weights(model.state_dict()).state_dict().items():
        assert torch.equal(value, model.get_submodule(place).state_dict()[name])


@pytest.mark.parametrize(
    "cls, prefix, spoil, message",
    [
        (
            GatedMLP,
            "blocks.1.gated_mlp",
            {"blocks.1.gated_mlp.value.weight": None},
            r"weights\['blocks.1.gated_mlp.value.weight'\]: expected shape \(8, 20\), got no such tensor",
        ),
        (
            GatedMLP,
            "blocks.1.gated_mlp",
            {"blocks.1.gated_mlp.value.weight": torch.zeros(20, 8)},
            r"weights\['blocks.1.gated_mlp.value.weight'\]: expected shape \(8, 20\), got shape \(20, 8\)",
        ),
        (
            WKVMemory,
            "blocks.2.attention.memory",
            {},
            r"got no such tensor; is 'blocks.2.attention.memory' the place of a WKVMemory",
        ),
        (Mixer, "", {}, r"got no such tensor; is '' the place of a Mixer"),
        (TokenEmbedding, "", {"embedding.embedding.weight": None}, r"'embedding.embedding.weight'\].*no such tensor"),
        (Unembedding, "", {"embedding.embedding.weight": torch.zeros(11)}, r"embedding.weight'\].*matrix.*\(11,\)"),
        (RWKVLM, "", {"blocks.0.gated_mlp.key.weight": None}, r"'blocks.0.gated_mlp.key.weight'\].*no such tensor"),
        (RWKVLM, "", {"blocks.0.ln1.weight": None}, r"weights\['blocks.0.ln1.weight'\].*no such tensor"),
    ],
)
def test_weights_that_do_not_fit(random_model, cls, prefix, spoil, message):
    weights = {**random_model(layers=2).state_dict(), **spoil}
    with pytest.raises(ValueError, match=message):
        cls.from_weights({name: value for name, value in weights.items() if value is not None}, prefix)


def test_the_sizes_are_read_off_the_model(random_model):
    model = random_model(layers=3, channels=6, vocabulary=13, hidden=17)
    assert model.config == RWKVConfig(vocab_size=13, channels=6, n_layer=3, intermediate_size=17)
    assert model.vocab_size == 13
    assert GatedMLP(6).intermediate_size == 24  # the default


def test_a_slice_shares_its_blocks(random_model):
    model = random_model(layers=3)
    two = model.blocks[:2]
    assert type(two) is RWKV and len(two) == 2
    assert two[1] is model.blocks[1]
    shorter = RWKVLM(model.embedding, two, model.unembedding)
    expected = model.unembedding.logits(model.blocks[1](model.blocks[0](model.embedding(4))))
    model.clear_buffers()
    assert torch.equal(shorter.logits(4), expected)


def test_no_blocks_is_a_markov_chain(random_model):
    model = random_model()
    chain = RWKVLM(model.embedding, RWKV(), model.unembedding)
    first = chain(5)
    assert chain.snapshot() == {}
    for token in (1, 2, 3):
        chain(token)
    assert torch.equal(chain(5), first)
    assert chain.config == RWKVConfig(vocab_size=11, channels=8, n_layer=0, intermediate_size=32)


# ---------------------------------------------------------------------------------------------------------------------
# products


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("way", [linear._by_vector, linear._by_onednn, F.linear])
def test_every_library_gives_the_same_products(dtype, way):
    random = torch.Generator().manual_seed(0)
    matrix, x = (torch.randn(size, generator=random).to(dtype) for size in ((50, 24), (3, 7, 24)))
    if way is linear._by_onednn and (dtype != torch.float32 or not linear.HAS_ONEDNN):
        pytest.skip("oneDNN is used in float32 alone, where PyTorch has it")
    tolerance = 24 * torch.finfo(dtype).eps  # 24 products are added, in each library's order
    for vectors in (x[0, 0], x[:1, :1]) if way is linear._by_vector else (x, x[0], x[0, 0]):
        torch.testing.assert_close(way(vectors, matrix), F.linear(vectors, matrix), rtol=tolerance, atol=tolerance)


def test_a_large_matrix_is_multiplied_by_the_fastest_library_unless_it_learns(monkeypatch):
    asked = []
    monkeypatch.setattr(linear, "_fastest", lambda *kind: asked.append(kind) or F.linear)
    monkeypatch.setattr(linear, "LARGE", 24 * 50)
    layer, x = linear.Linear(24, 50), torch.randn(3, 24)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight))
    assert asked == []  # its weights have gradients
    layer.requires_grad_(False)
    layer(x), layer(x[0])
    assert [kind[:3] for kind in asked] == [("cpu", torch.float32, False), ("cpu", torch.float32, True)]
    linear.Linear(24, 49).requires_grad_(False)(x)
    assert len(asked) == 2  # a small matrix
