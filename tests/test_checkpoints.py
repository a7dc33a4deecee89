"""From files to models and back: every name in its place, nothing copied that need not be, every bad file refused."""

import errno
import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

import execution_cache
from reference_rwkv4 import random_checkpoint
from rwkv_explainer import checkpoints
from rwkv_explainer.checkpoints import (
    KEYS,
    CheckpointError,
    _available_memory,
    keys_of,
    load_pretrained,
    load_weights,
    quantize_rows,
    save_weights,
    upstream_weights,
)
from rwkv_explainer.hub import PILE, PILE_VOCABULARY, TOKENIZER_FILE, TOKENIZER_SHA256, require_sha256
from rwkv_explainer.lab.evaluate import DRAGONS
from rwkv_explainer.model import RWKVLM, AttentionBlock, RWKVConfig

TINY = {"layers": 2, "channels": 4, "vocabulary": 11, "hidden": 12}


@pytest.fixture
def checkpoint():
    """A model's tensors under upstream's names and in upstream's shapes, made without the package."""
    return random_checkpoint(0, **TINY, dtype=torch.bfloat16)


def save(checkpoint, folder: Path, name: str = "model.pth") -> Path:
    path = folder / name
    (save_file if path.suffix == ".safetensors" else torch.save)(checkpoint, path)
    return path


def save_tokenizer(path: Path, tokens: int = 11) -> None:
    Tokenizer(models.WordLevel({f"token{i}": i for i in range(tokens)}, "token0")).save(str(path))


# ---------------------------------------------------------------------------------------------------------------------
# the table of names


def test_the_table_names_every_parameter_once_with_its_shape(checkpoint):
    model = RWKVLM.from_config(RWKVConfig(11, 4, 2, 12))
    rows = keys_of(2)
    sizes = {"vocab_size": 11, "channels": 4, "intermediate_size": 12, "1": 1}
    assert {key.name.format(i=i): tuple(sizes[axis] for axis in key.shape) for key, i in rows} == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    assert {key.upstream_name.format(i=i): tuple(sizes[axis] for axis in key.stored_shape) for key, i in rows} == {
        name: tuple(tensor.shape) for name, tensor in checkpoint.items()
    }
    for column in ("upstream_name", "hf_name", "name"):
        assert len({getattr(key, column) for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize(
    "upstream, ours, letter",
    [
        ("blocks.{i}.att.time_decay", "blocks.{i}.attention.memory.log_decay", r"\log w"),
        ("blocks.{i}.att.time_first", "blocks.{i}.attention.memory.log_gain", "u"),
        ("blocks.{i}.att.time_mix_v", "blocks.{i}.attention.value_mixer.weight", "mu_v"),
        ("blocks.{i}.att.output.weight", "blocks.{i}.attention.output.weight", "W_o"),
        ("blocks.{i}.ffn.time_mix_k", "blocks.{i}.gated_mlp.mlp_mixer.weight", "mu'_k"),
        ("blocks.{i}.ffn.receptance.weight", "blocks.{i}.gated_mlp.receptance.weight", "W'_r"),
        ("blocks.0.ln0.weight", "embedding.normalize_emb.weight", ""),
        ("head.weight", "unembedding.unembedding.weight", ""),
    ],
)
def test_rows_of_the_table(upstream, ours, letter):
    assert (upstream, ours, letter) in {(key.upstream_name, key.name, key.paper_symbol) for key in KEYS}


# ---------------------------------------------------------------------------------------------------------------------
# reading and writing


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_reading_gives_every_tensor_its_name_and_shape_and_changes_no_number(checkpoint, tmp_path, suffix):
    weights = load_weights(save(checkpoint, tmp_path, "model" + suffix))
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    for key, i in keys_of(2):
        assert torch.equal(weights[key.name.format(i=i)], checkpoint[key.upstream_name.format(i=i)].squeeze())


def test_pieces_load_from_what_was_read(checkpoint, tmp_path):
    weights = load_weights(save(checkpoint, tmp_path))
    attention = AttentionBlock.from_weights(weights, "blocks.1.attention")
    assert torch.equal(attention.key.weight, checkpoint["blocks.1.att.key.weight"])


def test_the_old_pytorch_format_loads_too(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_weights(tmp_path / "old.pth")["embedding.embedding.weight"], checkpoint["emb.weight"])


def test_a_model_in_the_stored_dtype_is_not_copied_from_the_disk(checkpoint, tmp_path, monkeypatch):
    path, kept = save(checkpoint, tmp_path), {}
    monkeypatch.setattr(checkpoints, "load_weights", lambda path: kept.update(load_weights(path)) or kept)
    model, _ = load_pretrained(path, dtype=torch.bfloat16)
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == {
        name: tensor.data_ptr() for name, tensor in kept.items()
    }
    if Path("/proc/self/maps").exists():
        lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
        ends = [[int(end, 16) for end in line[0].split("-")] for line in lines]
        assert all(any(first <= tensor.data_ptr() < last for first, last in ends) for tensor in kept.values())


def test_a_loaded_model_is_ready_to_step(checkpoint, tmp_path):
    path = save(checkpoint, tmp_path)
    model, tokenizer = load_pretrained(path)
    assert tokenizer is None and model.tokenizer is None
    assert model.config == RWKVConfig(11, 4, 2, 12) and model.name == str(path) and not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    kept = model.snapshot()
    model.clear_buffers()
    assert all(buffer.shape == (4,) and buffer.equal(kept[name]) for name, buffer in model.state_buffers().items())
    assert not model.blocks[0].attention.memory.normalizer.any()
    probabilities = model(3)
    assert not probabilities.requires_grad and probabilities.sum().item() == pytest.approx(1)
    assert {buffer.dtype for buffer in model.state_buffers().values()} == {torch.float64}


def test_a_model_without_blocks_loads(checkpoint, tmp_path):
    blockless = {name: tensor for name, tensor in checkpoint.items() if not name.startswith("blocks") or "ln0" in name}
    model, _ = load_pretrained(save(blockless, tmp_path))
    assert model.config.n_layer == 0


def test_writing_then_reading_keeps_every_number(random_model, tmp_path):
    model = random_model(dtype=torch.float16)
    save_weights(model, tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["blocks.1.att.time_mix_r"].shape == (1, 1, 8) and stored["emb.weight"].dtype == torch.float16
    again, _ = load_pretrained(tmp_path / "model.safetensors", dtype=torch.float16)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_row_of_int8_is_off_by_half_a_step_at_most():
    sizes = torch.tensor([1e-3, 1.0, 50.0, 0.0, 7.0])
    matrix = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * sizes[:, None]
    numbers, scales = quantize_rows(matrix)
    assert numbers.dtype == torch.int8 and scales.shape == (5,)
    assert ((numbers * scales[:, None] - matrix).abs() <= scales[:, None] * 0.5001).all()
    assert numbers.abs().amax(dim=1).tolist() == [127, 127, 127, 0, 127]


def test_upstreams_names_are_read_back_as_they_were(checkpoint, tmp_path):
    model, _ = load_pretrained(save(checkpoint, tmp_path), dtype=torch.bfloat16)
    again = upstream_weights(model)
    assert again.keys() == checkpoint.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in checkpoint.items())


def test_a_failed_write_leaves_the_old_file(random_model, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_text("the old one")
    model = random_model()
    model.blocks[0].attention.key.weight[0, 0] = 70_000  # float16 ends at 65,504
    with pytest.raises(CheckpointError, match=r"blocks.0.att.key.weight: expected finite numbers in torch.float16"):
        save_weights(model, path)

    def fill_the_disk(weights, path):
        Path(path).write_text("half a file")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints, "save_file", fill_the_disk)
    with pytest.raises(OSError, match="no space"):
        save_weights(model, path, dtype=torch.float32)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_the_transformers_layout_gives_transformers_logits(tmp_path, suffix):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.RwkvForCausalLM(
        transformers.RwkvConfig(
            vocab_size=11,
            hidden_size=4,
            num_hidden_layers=2,
            intermediate_size=12,
            rescale_every=0,
        )
    ).eval()
    for name, parameter in theirs.named_parameters():
        parameter.data.uniform_(0.1, 1) if "time_mix" in name else parameter.data.normal_()
    path = save({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, tmp_path, "model" + suffix)
    ours, _ = load_pretrained(path, dtype=torch.float32)
    tokens = [3, 1, 4, 1, 5, 9]
    with torch.no_grad():
        expected = theirs(torch.tensor([tokens])).logits[0]
    assert torch.allclose(torch.stack([ours.logits(token) for token in tokens]), expected, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# names, and the bundled model


@pytest.fixture
def bundled(random_model, tmp_path, monkeypatch):
    """A folder such as the package's own, with a tiny model in it."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    save_weights(random_model(), folder / "model.safetensors")
    save_tokenizer(folder / "tokenizer.json")
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    (folder / "SHA256SUMS").write_text("".join(f"{sha256}  {name}\n" for name, sha256 in hashes.items()))
    monkeypatch.setattr(checkpoints, "BUNDLED", folder)
    monkeypatch.delenv("RWKV_EXPLAINER_MODEL", raising=False)
    return folder


def test_the_bundled_model_is_the_default(bundled):
    model, tokenizer = load_pretrained()
    assert model.name == "textbook" and model.tokenizer is tokenizer
    assert tokenizer.token_to_id("token7") == 7
    assert next(model.parameters()).dtype == torch.float64
    assert next(load_pretrained("textbook", dtype=torch.float32)[0].parameters()).dtype == torch.float32


def test_the_environment_names_the_default(bundled, checkpoint, tmp_path, monkeypatch):
    path = save(checkpoint, tmp_path)
    monkeypatch.setenv("RWKV_EXPLAINER_MODEL", str(path))
    assert load_pretrained()[0].name == str(path)
    assert load_pretrained("textbook")[0].name == "textbook"
    monkeypatch.setenv("RWKV_EXPLAINER_MODEL", "")
    assert load_pretrained()[0].name == "textbook"


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_bundled_file_with_another_hash_is_refused(bundled, file):
    content = bytearray((bundled / file).read_bytes())
    content[-3] ^= 1
    (bundled / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{file}: expected sha256 .* got .*damaged"):
        load_pretrained("textbook")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "SHA256SUMS"])
def test_a_bundled_file_that_is_missing(bundled, file):
    (bundled / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file}: the bundled model is not .*install the package again"):
        load_pretrained("textbook")


def test_a_bundled_file_without_a_hash_is_refused(bundled):
    lines = (bundled / "SHA256SUMS").read_text().splitlines()
    (bundled / "SHA256SUMS").write_text(lines[0] + "\n")
    with pytest.raises(CheckpointError, match="tokenizer.json: .*its line in .*SHA256SUMS is missing"):
        load_pretrained("textbook")


def test_an_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(CheckpointError) as caught:
        load_pretrained("RWKV-4-pile-14B ")
    assert "did you mean 'rwkv-4-pile-14b'?" in str(caught.value)
    assert all(name in str(caught.value) for name in ("textbook", *PILE))
    with pytest.raises(CheckpointError, match="'gpt2': expected a model's name or the path of a file, got neither. T"):
        load_pretrained("gpt2")


def test_the_tokenizer_beside_a_file_comes_with_it(checkpoint, tmp_path):
    path = save(checkpoint, tmp_path)
    save_tokenizer(tmp_path / "20B_tokenizer.json")
    assert load_pretrained(path)[1].get_vocab_size() == 11
    save_tokenizer(tmp_path / "tokenizer.json", tokens=12)
    with pytest.raises(CheckpointError, match="tokenizer.json: expected at most 11 tokens.* got 12"):
        load_pretrained(path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer.json: expected a tokenizer"):
        load_pretrained(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_dtype_must_be_of_floats(checkpoint, random_model, tmp_path, dtype):
    with pytest.raises(CheckpointError, match=f"dtype: expected a float dtype of 16 bits or more.* got {dtype}"):
        load_pretrained(save(checkpoint, tmp_path), dtype=dtype)
    with pytest.raises(CheckpointError, match=f"dtype: .* got {dtype}"):
        save_weights(random_model(), tmp_path / "other.safetensors", dtype=dtype)


@pytest.mark.parametrize(
    "name, says", [("none/model.safetensors", "no folder .*none: make it"), ("", "got a folder: name")]
)
def test_where_no_file_can_be_written(random_model, tmp_path, name, says):
    with pytest.raises(CheckpointError, match=says):
        save_weights(random_model(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------------
# files that are no models


def without(checkpoint, prefix):
    return {name: tensor for name, tensor in checkpoint.items() if not name.startswith(prefix)}


def having(name, tensor):
    return lambda checkpoint: checkpoint | {name: tensor}


BAD = {  # what is done to a good checkpoint: what the error says
    "missing key": (lambda c: without(c, "blocks.1.att.key"), "missing: blocks.1.att.key.weight; left over: none"),
    "missing block": (lambda c: without(c, "blocks.0.att"), "missing: blocks.0.att.* and 5 more; left over: none"),
    "unexpected key": (having("blocks.0.pos_emb_x", torch.ones(4)), "missing: none; left over: blocks.0.pos_emb_x"),
    "misshaped matrix": (
        having("blocks.1.ffn.value.weight", torch.ones(12, 4)),
        r"blocks.1.ffn.value.weight: expected shape \(4, 12\), that is \(channels, intermediate_size\), got \(12, 4\)",
    ),
    "flat mix": (having("blocks.0.att.time_mix_k", torch.ones(4)), r"expected shape \(1, 1, 4\).* got \(4,\)"),
    "flat table": (having("emb.weight", torch.ones(44)), r"emb.weight: expected .*vocab_size, channels.* got \(44,\)"),
    "scalar": (having("blocks.0.ffn.key.weight", torch.tensor(1.0)), "blocks.0.ffn.key.weight: expected shape"),
    "integers": (having("head.weight", torch.ones(11, 4).char()), "head.weight: expected floats, got torch.int8"),
    "NaN": (having("blocks.0.att.time_decay", torch.tensor([1, 2, torch.nan, 4])), "time_decay: expected finite"),
    "infinity": (having("blocks.0.ln0.bias", torch.tensor([1, 2, torch.inf, 4])), "ln0.bias: expected finite"),
    "RWKV-4a": (having("blocks.1.tiny_q.weight", torch.ones(2, 4)), "RWKV-4, got RWKV-4a.*has blocks.1.tiny_q.weight"),
    "RWKV-4b": (having("blocks.0.att.qq.weight", torch.ones(2, 4)), "RWKV-4, got RWKV-4b.*has blocks.0.att.qq.weight"),
    "RWKV-4b, mixes": (having("blocks.0.att.time_mix_qq", torch.ones(4)), "RWKV-4, got RWKV-4b.*att.time_mix_qq"),
    "RWKV-5": (having("blocks.0.att.ln_x.weight", torch.ones(4)), "RWKV-4, got RWKV-5: it has blocks.0.att.ln_x"),
    "RWKV-5, gates": (having("blocks.0.att.gate.weight", torch.ones(4, 4)), "RWKV-4, got RWKV-5: .*att.gate.weight"),
    "RWKV-6": (
        lambda c: c | {"blocks.0.att.ln_x.weight": torch.ones(4), "blocks.0.att.time_maa_x": torch.ones(4)},
        "RWKV-4, got RWKV-6: it has blocks.0.att.time_maa_x",
    ),
    "RWKV-7": (
        lambda c: c | {"blocks.0.att.ln_x.weight": torch.ones(4), "blocks.0.att.x_r": torch.ones(4)},
        "RWKV-4, got RWKV-7: it has blocks.0.att.x_r",
    ),
    "converted RWKV-5": (having("rwkv.blocks.0.attention.gate.weight", torch.ones(4)), "got RWKV-5 or later"),
    "another architecture": (lambda c: {"wte.weight": c["emb.weight"]}, "with emb.weight or .*got wte.weight"),
    "a wrapper's names": (lambda c: {f"_orig_mod.{name}": t for name, t in c.items()}, "begin with '_orig_mod.'.*take"),
    "two wrappers' names": (lambda c: {f"module.net.{name}": t for name, t in c.items()}, "begin with 'module.net.'"),
    "an adapter alone": (lambda c: {"base_model.model.key.lora_A.weight": torch.ones(2, 4)}, "LoRA.* merge it"),
    "an adapter": (having("blocks.0.att.key.lora_A", torch.ones(2, 4)), "LoRA.* merge it"),
    "no head": (lambda c: {name: t for name, t in c.items() if name != "head.weight"}, "missing: head.weight.*tied"),
    "float8": (having("ln_out.weight", torch.ones(4).to(torch.float8_e4m3fn)), "expected floats, got torch.float8"),
    "nothing": (lambda c: {}, "RWKV-4 with emb.weight or .*got none"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("change, says", BAD.values(), ids=BAD)
def test_a_bad_checkpoint_is_refused_by_name(checkpoint, tmp_path, change, says, suffix):
    path = save(change(checkpoint), tmp_path, "bad" + suffix)
    with pytest.raises(CheckpointError, match=f"^{path}: .*{says}"):
        load_weights(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(checkpoint, tmp_path, suffix, part):
    path = save(checkpoint, tmp_path, "model" + suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CheckpointError, match=f"^{path}: expected .*(cut off: get it again|was not loaded)"):
        load_pretrained(path)


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="a pointer of Git LFS .*git lfs pull"):
        load_weights(path)


@pytest.mark.parametrize(
    "tensor, says",
    [
        (torch.ones(11, 4).to_sparse(), "head.weight: expected a plain tensor, got one of layout torch.sparse_coo"),
        (torch.ones(11, 4, device="meta"), "head.weight: expected numbers, got a tensor of PyTorch's meta device"),
        (
            torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
            r"\(11, 4\).* a nested tensor",
        ),
    ],
    ids=["sparse", "meta", "nested"],
)
def test_a_tensor_of_an_unusual_kind_is_refused(checkpoint, tmp_path, tensor, says):
    with pytest.raises(CheckpointError, match=says):
        load_weights(save(checkpoint | {"head.weight": tensor}, tmp_path))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_model_in_parts_is_told_how_to_become_whole(checkpoint, tmp_path, suffix):
    first, *others = checkpoint
    save({first: checkpoint[first]}, tmp_path, "model-00001-of-00002" + suffix)
    save({name: checkpoint[name] for name in others}, tmp_path, "model-00002-of-00002" + suffix)
    (tmp_path / f"model{suffix}.index.json").write_text("{}")
    join = "load all parts, join their tensors in one dict"
    for name, got in (
        ("model-00001-of-00002" + suffix, "a whole model, got part 1 of 2"),
        ("model-00002-of-00002" + suffix, "a whole model, got part 2 of 2"),
        (f"model{suffix}.index.json", "tensors, got the list of the files"),
        ("", "a file, got a folder; the model in it is in parts"),
    ):
        with pytest.raises(CheckpointError, match=f"expected {got}.*{join}"):
            load_pretrained(tmp_path / name)
    assert load_weights(save(checkpoint, tmp_path, "model-00001-of-00001" + suffix))


def test_a_folder_says_which_file_to_name(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="got a folder; no .safetensors, .pth.* is in it"):
        load_pretrained(tmp_path)
    save(checkpoint, tmp_path)
    with pytest.raises(CheckpointError, match="got a folder; name the file in it: model.pth"):
        load_pretrained(tmp_path)


def test_a_model_that_rwkv_converted_is_named(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="the package rwkv has converted.*give the file that it was made of"):
        load_weights(save(checkpoint | {"_strategy": "cpu fp32", "_version": 0.7}, tmp_path))


@pytest.mark.parametrize("name", ["RWKV/rwkv-4-169m-pile", "BlinkDL/rwkv-4-pile-169m"])
def test_a_name_of_the_hub_leads_to_ours(name):
    with pytest.raises(CheckpointError, match=f"{name}: .*there is none; did you mean the model 'rwkv-4-pile-169m'"):
        load_pretrained(name)


@pytest.mark.parametrize(
    "name",
    ["x" * 5000, "folder/" + "x" * 5000, "a\0b", "a/\0b.pth", "~nobody-of-this-name/model.pth", "/dev/null", "."],
)
def test_any_name_is_refused_in_words(name):
    """Names that no file can have, users that there are not, devices."""
    with pytest.raises(CheckpointError, match="expected"):
        load_pretrained(name)


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "file", "s3", "git+https"])
def test_an_address_is_to_be_downloaded(scheme):
    with pytest.raises(CheckpointError, match="expected a file, got an address: download it, then"):
        load_pretrained(f"{scheme}://example.org/model.pth")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("chosen", [False, True], ids=["as a notebook loads it", "as the book chooses it"])
def test_a_link_is_loaded_under_its_own_name(checkpoint, tmp_path, monkeypatch, name, chosen):
    """As in the Hugging Face cache: files have a hash for a name, and links beside each other lead to them."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    folder.mkdir(parents=True)
    save(checkpoint, tmp_path, name).rename(blobs / "deadbeef")
    save_tokenizer(blobs / "cafe")
    (blobs / "again").symlink_to("deadbeef")  # a link to a link
    (folder / name).symlink_to("../../blobs/again")
    (folder / "tokenizer.json").symlink_to("../../blobs/cafe")
    monkeypatch.setenv("RWKV_EXPLAINER_MODEL", str(folder / name))
    model, tokenizer = load_pretrained(execution_cache.chosen_model() if chosen else folder / name)
    assert (model.vocab_size, tokenizer.get_vocab_size()) == (11, 11)
    assert model.name == str(folder / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
def test_a_pipe_does_not_make_it_wait(tmp_path):
    os.mkfifo(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="got a device or a pipe"):
        load_pretrained(tmp_path / "model.pth")


def test_a_file_that_may_not_be_read(checkpoint, tmp_path, monkeypatch):
    path = save(checkpoint, tmp_path)

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match=f"{path}: expected a file to read, got: Permission denied"):
        load_weights(path)


@given(start=st.sampled_from([b"", b"PK\3\4", b"\x80\x02", b"\x08" + 7 * b"\0" + b"{"]), content=st.binary(max_size=60))
@settings(deadline=None, max_examples=60, derandomize=True)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.pth", "model.index.json", "tokenizer.json", "model-1-of-2.pt"]
)
def test_any_bytes_under_any_name_are_refused_in_words(tmp_path_factory, name, start, content):
    folder = tmp_path_factory.getbasetemp() / "any bytes"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(start + content)
    with pytest.raises(CheckpointError, match="expected"):
        load_pretrained(folder / name)


@pytest.mark.parametrize("kind", ["bytes", "folder", "link to nothing"])
def test_whatever_is_called_tokenizer_is_read_or_refused(checkpoint, tmp_path, kind):
    path, tokenizer = save(checkpoint, tmp_path), tmp_path / "tokenizer.json"
    make = {"bytes": lambda: tokenizer.write_bytes(b"\xff"), "folder": tokenizer.mkdir}
    make.get(kind, lambda: tokenizer.symlink_to("nowhere"))()
    with pytest.raises(CheckpointError, match="tokenizer.json: expected a tokenizer"):
        load_pretrained(path)


@pytest.mark.parametrize("name", ["MODEL.SAFETENSORS", "blob"])
def test_safetensors_are_known_by_what_is_in_them(checkpoint, tmp_path, name):
    path = save(checkpoint, tmp_path, "model.safetensors").rename(tmp_path / name)
    assert load_weights(path).keys()


class Trap:
    """A thing whose unpickling leaves a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "write",
    [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))],
    ids=["in PyTorch's format", "a bare pickle"],
)
def test_a_pickle_that_would_run_code_is_not_loaded(checkpoint, tmp_path, write):
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    write(checkpoint | {"emb.weight": Trap(trace)}, path)
    with pytest.raises(CheckpointError, match=f"^{path}: expected tensors and nothing else.*could run code"):
        load_pretrained(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "thing, says",
    [
        ({"model": {"emb.weight": torch.ones(2)}, "step": 3}, r"got 'model' \(dict\); .*training run"),
        ({"emb.weight": [1.0]}, r"got 'emb.weight' \(list\)"),
        ({0: torch.ones(2)}, r"got 0 \(Tensor\)"),
        (torch.ones(2), "got 'a Tensor'"),
    ],
)
def test_a_file_of_other_things_is_refused(tmp_path, thing, says):
    with pytest.raises(CheckpointError, match=f"expected a dict of tensors by name, {says}"):
        load_pretrained(save(thing, tmp_path))


def test_a_file_that_is_not_there(tmp_path):
    for name in (tmp_path / "none.pth", str(tmp_path / "none.pth"), "none.safetensors", Path("none")):
        with pytest.raises(CheckpointError, match="none.*: expected a file, there is none; paths start from /"):
            load_pretrained(name)
    with pytest.raises(CheckpointError, match="expected a file, got a folder"):
        load_pretrained(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# memory


def test_this_machine_says_how_much_memory_there_is():
    available = _available_memory()
    assert available is None or 2**20 < available < 2**50


def test_memory_is_measured_in_the_dtype_that_was_asked_for(monkeypatch):
    parameters = 2 * PILE_VOCABULARY * 768 + 4 * 768 + 12 * (13 * 768**2 + 11 * 768)  # the 169M's
    for dtype, size in ((torch.bfloat16, 2), (torch.float32, 4), (torch.float64, 8)):
        monkeypatch.setattr(checkpoints, "_available_memory", lambda: size * parameters)
        checkpoints._require_memory("rwkv-4-pile-169m", dtype)
        monkeypatch.setattr(checkpoints, "_available_memory", lambda: size * parameters - 1)
        with pytest.raises(CheckpointError, match="rwkv-4-pile-169m takes .* are available"):
            checkpoints._require_memory("rwkv-4-pile-169m", dtype)


# ---------------------------------------------------------------------------------------------------------------------
# the Pile family itself, where it can be had


def find_20b_tokenizer() -> Path:
    """The Pile family's tokenizer: where RWKV_EXPLAINER_20B_TOKENIZER says, or in a folder beside the repository."""
    named = os.environ.get("RWKV_EXPLAINER_20B_TOKENIZER")
    found = [Path(named)] if named else sorted(Path(__file__).parents[2].glob(f"*/{TOKENIZER_FILE}"))
    if not found:
        pytest.skip(f"RWKV_EXPLAINER_20B_TOKENIZER names no copy of {TOKENIZER_FILE}, and none lies near")
    return found[0]


def test_the_pile_familys_tokenizer():
    path = find_20b_tokenizer()
    require_sha256(path, TOKENIZER_SHA256)
    tokenizer = Tokenizer.from_file(str(path))
    assert tokenizer.token_to_id("Drosophila") == 37815
    assert tokenizer.get_vocab_size() == PILE_VOCABULARY == 50277
    assert tokenizer.id_to_token(50276) is not None and tokenizer.id_to_token(50277) is None


@pytest.fixture(scope="module")
def pile(request):
    """A function that loads a model of the Pile family, if the tests were started with `-m pretrained`."""

    def load(name):
        if "pretrained" not in request.config.getoption("markexpr"):
            pytest.skip("run `pytest -m pretrained` to download the model and ask it")
        try:
            return load_pretrained(name)[0]
        except CheckpointError as error:
            if not any(reason in str(error) for reason in ("network", "HF_HUB_OFFLINE", "broke off", "available")):
                raise
            pytest.skip(f"cannot be had here: {error}")

    return load


@pytest.fixture(scope="module")
def pile_430m(pile):
    return pile("rwkv-4-pile-430m")


@pytest.mark.pretrained
@pytest.mark.parametrize(
    "layers, prompt, N, answer",
    [
        (0, "Drosophila", 2, " melanospor"),
        (2, "Drosophila", 2, " melanog"),
        (24, "Drosophila", 8, "* and *Drosophila melanogaster*"),
        (
            24,
            DRAGONS,
            20,
            "\n\nThe dragons were discovered by a team of researchers from the University of California, Berkeley, who",
        ),
    ],
    ids=["no layers", "two layers", "all layers", "dragons"],
)
def test_what_the_430m_answers(pile_430m, layers, prompt, N, answer):
    model = RWKVLM(pile_430m.embedding, pile_430m.blocks[:layers], pile_430m.unembedding)
    model.tokenizer = pile_430m.tokenizer
    assert model.generate(prompt, N=N, temperature=0.0) == prompt + answer


@pytest.mark.pretrained
def test_the_169m_is_as_the_catalogue_says(pile):
    model = pile("rwkv-4-pile-169m")
    assert model.config == RWKVConfig(PILE_VOCABULARY, 768, 12, 3072)
    assert all(model.logits(token_id).isfinite().all() for token_id in model.tokenizer.encode(DRAGONS).ids)
