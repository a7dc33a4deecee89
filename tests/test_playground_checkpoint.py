"""A checkpoint of the reader's own in the playground: its int8 numbers are PyTorch's, and what is none is refused."""

import base64
import json
import os
import re
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import playground
from browser import visit
from rwkv_explainer.checkpoints import (
    keys_of,
    load_weights,
    model_from_weights,
    quantize_dequantize,
    quantize_rows,
    upstream_weights,
)
from test_checkpoints import find_20b_tokenizer
from test_playground import folder, idle, lonely, press  # noqa: F401, fixtures

HERE = Path(__file__).parent
TEXT = "Un été à Besançon, and then the river."

pytestmark = pytest.mark.skipif(
    not playground.PACKAGES.is_dir(), reason="needs what `make install` gets from npm, which it could not reach"
)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """The playground's scripts and no weights: what opens a checkpoint needs no other model."""
    root = tmp_path_factory.mktemp("scripts")
    for name in ("text.js", "model.js", "experiments.js", "checkpoint.js"):
        (root / name).write_text((playground.SOURCES / name).read_text(encoding="utf-8"), encoding="utf-8")
    (root / "tokenizer.js").write_text(playground.tokenizer_script(), encoding="utf-8")
    playground.write(root / "kernel.js", "kernel", base64.b64encode(playground.assemble()).decode())
    playground.write(root / "data.js", "manifest", {"checkpoint": playground.checkpoint_names()})
    return root


@pytest.fixture(scope="module")
def opened(scripts):
    """A function that opens checkpoints as the page does, each with a tokenizer: what came of it."""

    def ask(*files: tuple[Path, Path], how: str = "kernel") -> list[dict]:
        job = {"opened": [{"weights": str(w), "tokenizer": str(t), "text": TEXT} for w, t in files]}
        command = ["node", str(HERE / "playground.cjs"), str(scripts), how]
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, env=playground.environment()
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["opened"]

    return ask


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """A byte-level BPE of the 256 bytes and some letters more, as tokenizer.json."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["the river and then the other river and the theatre"] * 9, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


@pytest.fixture(scope="module")
def model(random_model, tokenizer):
    """Random weights, with a row for each token of that tokenizer."""
    vocabulary = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    return random_model(layers=3, channels=32, vocabulary=vocabulary, hidden=80)


def stored(model, dtype: torch.dtype) -> OrderedDict[str, torch.Tensor]:
    """The model's tensors as a checkpoint of the architecture's own code has them."""
    return OrderedDict((name, tensor.to(dtype).contiguous()) for name, tensor in upstream_weights(model).items())


def converted(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same in the layout of the transformers library."""
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    return {key.hf_name.format(i=i): weights[key.upstream_name.format(i=i)] for key, i in keys_of(layers)}


def save(weights: dict[str, torch.Tensor], path: Path) -> Path:
    """In the format that the file's name says."""
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    return path


def unpack(text: str, dtype: type) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype=dtype).copy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["upstream", "transformers"])
def test_an_opened_checkpoint_is_pytorchs(opened, model, tokenizer, tmp_path, dtype, layout):
    """Both formats: every int8 number and scale is that of `quantize_rows`, and the logits are PyTorch's with them."""
    weights = stored(model, dtype) if layout == "upstream" else converted(stored(model, dtype))
    files = [save(weights, tmp_path / f"model{suffix}") for suffix in (".pth", ".safetensors")]
    for path, told in zip(files, opened(*((path, tokenizer) for path in files)), strict=True):
        assert "refused" not in told, told
        assert told["sizes"] == {"vocabulary": model.vocab_size, "channels": 32, "layers": 3, "hidden": 80}
        assert told["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        exact = {name: tensor.double() for name, tensor in load_weights(path).items()}
        assert {name for name, *_ in told["tensors"]} == exact.keys()
        for name, numbers, *scales in told["tensors"]:
            if scales:
                whole, steps = quantize_rows(exact[name])
                assert torch.equal(unpack(numbers, np.int8).view(whole.shape), whole), name
                assert torch.equal(unpack(scales[0], np.float32), steps), name
            else:
                assert torch.equal(unpack(numbers, np.float32), exact[name].float()), name
        ids = Tokenizer.from_file(str(tokenizer)).encode(TEXT).ids
        assert told["ids"] == ids
        same_logits(told["logits"], exact, ids, 1e-3)
        table = quantize_dequantize(exact["embedding.embedding.weight"])
        assert told["std"] == pytest.approx(table.std().item(), rel=1e-6)


def same_logits(got: list[list[float]], weights: dict[str, torch.Tensor], ids: list[int], atol: float) -> float:
    """That these are the logits of PyTorch's model with the same int8 numbers; how far they are off at most."""
    rounded = model_from_weights({name: quantize_dequantize(t) for name, t in weights.items()}, torch.float64)
    expected = torch.stack([rounded.logits(token) for token in ids])
    off = (torch.tensor(got, dtype=torch.float64) - expected).abs().max().item()
    assert off < atol, off
    return off


def test_opened_without_webassembly(opened, random_model, tokenizer, tmp_path):
    """Also where the kernel cannot be used, such as for a number of channels that is no multiple of 16."""
    vocabulary = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    path = save(stored(random_model(2, 12, vocabulary, 30), torch.float32), tmp_path / "model.pth")
    weights = {name: tensor.double() for name, tensor in load_weights(path).items()}
    for how in ("plain", "kernel"):
        [told] = opened((path, tokenizer), how=how)
        same_logits(told["logits"], weights, told["ids"], 1e-3)


def test_many_slices_are_one_file(opened, random_model, tmp_path, tokenizer):
    """A matrix of more than the 8 MB that are read at a time, and a tokenizer of the book's for it."""
    vocabulary = 8192
    path = save(stored(random_model(1, 288, vocabulary, 64), torch.float32), tmp_path / "model.safetensors")
    [told] = opened((path, playground.BUNDLED / "tokenizer.json"))
    table = load_weights(path)["unembedding.unembedding.weight"].double()
    assert table.numel() * 4 > 1 << 23
    numbers = next(numbers for name, numbers, *_ in told["tensors"] if name == "unembedding.unembedding.weight")
    assert torch.equal(unpack(numbers, np.int8).view(table.shape), quantize_rows(table)[0])


# ---------------------------------------------------------------------------------------------------------------------
# what is refused


class Evil:
    """What would run a command where a pickle is loaded as Python does it."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def without(weights: dict, *names: str) -> dict:
    return {name: tensor for name, tensor in weights.items() if name not in names}


OTHERS = {
    "RWKV-5": "blocks.0.att.ln_x.weight",
    "RWKV-6": "blocks.0.att.time_maa_x",
    "RWKV-7": "blocks.0.att.x_r",
}
WRONG = {  # what is done to the tensors of a right file, and what has to be said then
    **{
        name: (lambda w, name=name, other=other: w | {other: torch.zeros(3)}, f"expected an RWKV-4, got {name}")
        for name, other in OTHERS.items()
    },
    "missing": (lambda w: without(w, "blocks.1.att.key.weight"), "missing: blocks.1.att.key.weight"),
    "left over": (lambda w: w | {"blocks.1.extra": torch.zeros(3)}, "left over: blocks.1.extra"),
    "no model": (lambda w: {"a": torch.zeros(3)}, "expected an RWKV-4 with emb.weight"),
    "misshaped": (
        lambda w: w | {"blocks.0.ffn.receptance.weight": torch.zeros(32, 31)},
        r"blocks.0.ffn.receptance.weight: expected the shape \(32,32\), got \(32,31\)",
    ),
    "int8": (lambda w: w | {"head.weight": torch.zeros_like(w["head.weight"], dtype=torch.int8)}, "expected float32"),
    "not finite": (
        lambda w: w | {"head.weight": torch.full_like(w["head.weight"], torch.nan)},
        "head.weight: expected finite numbers",
    ),
    "no head": (lambda w: without(w, "head.weight"), "tied to its embedding"),
    "a wrapper's names": (lambda w: {f"_orig_mod.{name}": t for name, t in w.items()}, "begin with _orig_mod., .*take"),
    "two wrappers' names": (lambda w: {f"module._orig_mod.{n}": t for n, t in w.items()}, "with module._orig_mod., "),
    "an adapter": (lambda w: w | {"blocks.0.att.key.lora_A": torch.zeros(3)}, "merge it into the matrices"),
    "an adapter alone": (lambda w: {"base_model.model.key.lora_A.weight": torch.zeros(3)}, "merge it into the matri"),
    "model-00001-of-00002": (lambda w: without(w, "head.weight"), "part 1 of 2: load all"),
    "infinite vector": (lambda w: w | {"ln_out.bias": torch.full((32,), torch.inf)}, "ln_out.bias: expected finite"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_checkpoints_are_refused_in_words(opened, model, tokenizer, tmp_path, suffix):
    """What came, what was expected, and what to do, with the file's name in front."""
    right = stored(model, torch.float16)
    files = [save(change(right), tmp_path / f"{name}{suffix}") for name, (change, _) in WRONG.items()]
    for path, told, (_, words) in zip(files, opened(*((path, tokenizer) for path in files)), WRONG.values()):
        assert told.get("refused", "it was opened").startswith(f"{path.name}: ")
        assert re.search(words, told["refused"]), told["refused"]


def test_files_that_are_no_whole_checkpoint_are_refused(opened, model, tokenizer, tmp_path):
    """Cut off at any place, of another format, or with things in them that are no tensors."""
    weights = stored(model, torch.float32)
    whole = {suffix: save(weights, tmp_path / f"whole{suffix}").read_bytes() for suffix in (".pth", ".safetensors")}
    told = {}  # a file: what has to be said of it

    def write(name: str, content: bytes, words: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        told[path] = words
        return path

    for suffix, content in whole.items():
        for share in (0.01, 0.5, 0.99):
            write(f"{share} of it{suffix}", content[: int(share * len(content))], "cut off")
    write("empty.pth", b"", "expected a .pth of PyTorch or a .safetensors, got neither")
    write("page.pth", b"<!doctype html><title>Not found</title>" * 9, "got neither")
    write("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull")
    write("garbled.safetensors", b"\x09" + bytes(7) + b"{garbled}" * 30, "not JSON")
    write("long.safetensors", b"\xff" * 8 + b"{}" * 30, "too long")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    told[tmp_path / "old.pth"] = "before PyTorch 1.6"
    torch.save({"model": weights, "step": 7, "rate": 0.1}, tmp_path / "run.pth")
    told[tmp_path / "run.pth"] = r"model.state_dict\(\) alone"
    torch.save({**weights, "_strategy": "cpu fp32"}, tmp_path / "converted.pth")
    told[tmp_path / "converted.pth"] = "converted for a strategy"
    turned = weights | {"head.weight": weights["head.weight"].T.contiguous().T}
    told[save(turned, tmp_path / "turned.pth")] = "head.weight: expected its rows in order"
    with zipfile.ZipFile(tmp_path / "whole.pth") as source, zipfile.ZipFile(tmp_path / "packed.pth", "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
    told[tmp_path / "packed.pth"] = "packs nothing"
    results = opened(*((path, tokenizer) for path in told))
    assert [
        (path.name, said.get("refused", "it was opened"))
        for (path, words), said in zip(told.items(), results, strict=True)
        if not re.search(words, said.get("refused", "it was opened"))
    ] == []


def test_no_code_of_a_file_runs(opened, model, tokenizer, tmp_path):
    """A pickle that names a function is refused, by that name; Python's own reader would have run it."""
    proof = tmp_path / "ran"
    torch.save(stored(model, torch.float32) | {"head.weight": Evil(proof)}, tmp_path / "evil.pth")
    [told] = opened((tmp_path / "evil.pth", tokenizer))
    assert re.search(r"names (posix|nt)\.system, which could run code", told["refused"])
    assert not proof.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert proof.exists()


def test_parameters_and_metadata_are_no_obstacle(opened, model, tokenizer, tmp_path):
    """Files hold `state_dict()`, which carries versions with it, or parameters, which can be trained."""
    weights = stored(model, torch.float32)
    weights._metadata = OrderedDict(version=1)
    trainable = {name: torch.nn.Parameter(tensor) for name, tensor in weights.items()}
    files = [save(weights, tmp_path / "state.pth"), save(trainable, tmp_path / "parameters.pth")]
    assert [told.get("refused") for told in opened(*((path, tokenizer) for path in files))] == [None, None]


def test_other_tokenizers_are_refused_in_words(opened, random_model, model, tokenizer, tmp_path):
    small = save(stored(model, torch.float32), tmp_path / "small.pth")
    large = save(stored(random_model(1, 16, 8192, 16), torch.float32), tmp_path / "large.pth")
    words = Tokenizer(models.WordLevel({"the": 0, "river": 1}, unk_token="the"))
    words.save(str(tmp_path / "words.json"))
    (tmp_path / "vocabulary.txt").write_text("1 'a' 1", encoding="utf-8")
    asked = {
        (small, playground.BUNDLED / "tokenizer.json"): f"as the model has rows, {model.vocab_size}, got 8,192",
        (large, tokenizer): f"as the model has rows, 8,192, got {model.vocab_size}",
        (small, tmp_path / "words.json"): "expected a byte-level BPE .* got WordLevel",
        (small, tmp_path / "vocabulary.txt"): "not JSON",
    }
    for told, expected in zip(opened(*asked), asked.values(), strict=True):
        assert re.search(expected, told.get("refused", "it was opened")), told


# ---------------------------------------------------------------------------------------------------------------------
# in the page


@pytest.fixture(scope="module")
def alone(lonely) -> str:  # noqa: F811
    """The address of a page on the disk with the playground and nothing else."""
    return lonely.as_uri()


def told_of(page) -> str:
    """What the panel says."""
    return page.locator(".pg-own [role=status]").inner_text()


def choose(page, label: str, path: Path, words: str) -> None:
    """Choose a file, and wait until the panel says something of it."""
    page.get_by_label(label).set_input_files(path)
    page.wait_for_function(
        "words => document.querySelector('.pg-own [role=status]').textContent.includes(words)", arg=words
    )


def logits_in(page, ids: list[int]) -> np.ndarray:
    """What the page's model says after each token: (time, vocabulary)."""
    text = page.evaluate(
        """ids => {
        const { model } = rwkvPlayground, state = model.emptyState();
        let text = "";
        for (const id of ids) {
            const bytes = new Uint8Array(model.step(id, state).buffer);
            for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
        }
        return btoa(text);
    }""",
        ids,
    )
    return np.frombuffer(base64.b64decode(text), dtype=np.float32).reshape(len(ids), -1).astype(np.float64)


def test_a_checkpoint_is_opened_in_the_page(browser, alone, model, tokenizer, tmp_path):
    """From the disk: what it is and takes stands there before; then it speaks in all panels. Only code is asked for."""
    path = save(stored(model, torch.float16), tmp_path / "mine.pth")
    ids = Tokenizer.from_file(str(tokenizer)).encode(TEXT).ids
    with visit(browser, alone) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_label("Text", exact=True).fill(TEXT)
        button = page.get_by_role("button", name="Open it")
        choose(page, "Weights", path, "mine.pth is an RWKV-4: 3 layers of 32 channels")
        assert re.search(
            r"in float16, \d+ kB on the disk.* takes \d+ kB of memory, and 4 kB for each token", told_of(page)
        )
        assert button.is_disabled()
        choose(page, "Tokenizer", tokenizer, "Its tokenizer fits")
        button.click()
        page.wait_for_function("document.querySelector('.pg-own [role=status]').textContent.includes('is open')")
        idle(page)
        assert page.locator(".rwkv-playground").get_attribute("data-how") == "WebAssembly"
        weights = {name: tensor.double() for name, tensor in load_weights(path).items()}
        same_logits(logits_in(page, ids).tolist(), weights, ids, 1e-3)
        assert page.locator(".pg-tokens input").last.get_attribute("value") == str(len(ids) - 1)
        assert page.locator(".pg-place fieldset input").count() == 3
        assert page.locator(".pg-lens tbody tr").count() == 4
        assert page.get_by_role("slider", name=re.compile("^Channel")).get_attribute("max") == "31"
        moment = page.locator(".pg-tokens input").nth(5)
        moment.check(force=True)
        press(page, "Trace")
        assert page.locator(".pg-heat-table tbody tr").count() == 1 + int(moment.get_attribute("value"))
        press(page, "Write a token")
        assert [address.rpartition("/")[2].partition("?")[0] for address in asked] == ["tokenizer.js"]
        assert "#" not in page.url
        press(page, "Back to the book’s model")
        assert page.locator(".pg-place fieldset input").count() == 8
        assert page.locator(".pg-lens tbody tr").count() == 9


def test_the_page_says_why_it_refuses(browser, alone, model, tokenizer, tmp_path):
    """Before anything is read; the model that speaks goes on speaking."""
    other = stored(model, torch.float32) | {OTHERS["RWKV-6"]: torch.zeros(3)}
    path = save(other, tmp_path / "six.pth")
    broken = save(WRONG["not finite"][0](stored(model, torch.float32)), tmp_path / "broken.safetensors")
    with visit(browser, alone) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        choose(page, "Weights", path, "six.pth: expected an RWKV-4, got RWKV-6")
        assert page.get_by_role("button", name="Open it").is_disabled()
        choose(page, "Weights", broken, "broken.safetensors is an RWKV-4")
        choose(page, "Tokenizer", tokenizer, "Its tokenizer fits")
        page.get_by_role("button", name="Open it").click()
        page.wait_for_function(
            "document.querySelector('.pg-own [role=status]').textContent.includes('expected finite numbers')"
        )
        idle(page)
        assert page.locator(".pg-lens tbody tr").count() == 9


def test_opening_can_be_stopped(browser, alone, random_model, tmp_path):
    """In the middle of a file of three slices; then the book's model is back, and the same button opens the file."""
    path = save(stored(random_model(1, 288, 8192, 64), torch.float32), tmp_path / "slices.pth")
    with visit(browser, alone) as page:
        page.locator(".pg-lens tbody tr").first.wait_for()
        choose(page, "Weights", path, "slices.pth is an RWKV-4")
        choose(page, "Tokenizer", playground.BUNDLED / "tokenizer.json", "Its tokenizer fits")
        page.evaluate("""async () => {
            const button = [...document.querySelectorAll("button")].find(button => button.textContent === "Open it");
            const told = document.querySelector(".pg-own [role=status]");
            button.click();
            while (!told.textContent.includes("% of the file")) await new Promise(done => setTimeout(done));
            button.click();  // it says "Stop" now
        }""")
        page.wait_for_function("document.querySelector('.pg-own [role=status]').textContent.startsWith('Stopped.')")
        idle(page)
        assert page.locator(".pg-lens tbody tr").count() == 9
        assert "Load the model" in page.locator(".pg-main").inner_text()
        assert not page.get_by_label("Progress of opening").is_visible()
        page.get_by_role("button", name="Open it").click()
        page.wait_for_function("document.querySelector('.pg-own [role=status]').textContent.includes('is open')")


@pytest.mark.large
def test_the_smallest_of_the_pile_is_opened_in_the_page(browser, alone, random_model, tmp_path, request):
    """Its shape, 12 layers of 768 channels and 50,277 tokens, random weights in float16: `pytest -m large`."""
    if "large" not in request.config.getoption("markexpr"):
        pytest.skip("run `pytest -m large`: it takes a minute and some GB of memory")
    tokenizer = find_20b_tokenizer()
    path = tmp_path / "169m.pth"
    save(stored(random_model(12, 768, 50_277, 3072, dtype=torch.float32), torch.float16), path)
    ids = Tokenizer.from_file(str(tokenizer)).encode(TEXT).ids
    with visit(browser, alone) as page:
        page.set_default_timeout(600_000)
        page.locator(".pg-lens tbody tr").first.wait_for()
        page.get_by_label("Text", exact=True).fill(TEXT)
        choose(page, "Weights", path, "12 layers of 768 channels, 50,277 tokens")
        print(told_of(page))
        choose(page, "Tokenizer", tokenizer, "Its tokenizer fits")
        page.get_by_role("button", name="Open it").click()
        page.wait_for_function("document.querySelector('.pg-own [role=status]').textContent.includes('is open')")
        idle(page)
        print(told_of(page), page.locator(".pg-status").inner_text())
        got = logits_in(page, ids).tolist()
        weights = {name: tensor.double() for name, tensor in load_weights(path).items()}
        print(f"logits differ by {same_logits(got, weights, ids, 1e-2):.1e} at most")
