"""From files to models: the names of the tensors, reading and writing them, and `load_pretrained`.

A checkpoint holds a model's tensors under the names of the architecture's own training code. `KEYS` says which of our
parameters each one is; reading, writing and the book's symbol map all go by this one table.
"""

import difflib
import os
import pickle
import re
import subprocess
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rwkv_explainer.hub import (
    PILE,
    PILE_VOCABULARY,
    TOKENIZER_FILE,
    CheckpointError,
    fetch_tokenizer,
    fetch_weights,
    format_bytes,
    require_sha256,
)
from rwkv_explainer.model import RWKVLM, StableWKVMemory
from rwkv_explainer.piece import RWKVConfig

__all__ = [
    "BUNDLED",
    "KEYS",
    "OTHER_ARCHITECTURES",
    "Key",
    "find_bundled",
    "keys_of",
    "load_pretrained",
    "load_weights",
    "model_from_weights",
    "on_meta_device",
    "quantize_dequantize",
    "quantize_rows",
    "save_weights",
    "upstream_weights",
]

BUNDLED = Path(__file__).parent / "bundled"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
REPORT_ABOVE = 4e9  # bytes: a model that takes more memory says so while it is loaded


# ---------------------------------------------------------------------------------------------------------------------
# the names


@dataclass(frozen=True)
class Key:
    """One tensor of a model: what it is called where, its shape, the paper's letter. `{i}` is the number of a block."""

    upstream_name: str  # in the checkpoints of the architecture's own code
    hf_name: str  # in those converted for the transformers library
    name: str  # in our models
    stored_shape: tuple[str, ...]  # in a checkpoint
    paper_symbol: str = ""

    @property
    def shape(self) -> tuple[str, ...]:
        """Its shape in our models."""
        return tuple(size for size in self.stored_shape if size != "1")


CHANNELS, SQUARE, MIX = ("channels",), ("channels", "channels"), ("1", "1", "channels")
KEYS = [
    Key("emb.weight", "rwkv.embeddings.weight", "embedding.embedding.weight", ("vocab_size", "channels")),
    *(
        Key(f"blocks.0.ln0.{p}", f"rwkv.blocks.0.pre_ln.{p}", f"embedding.normalize_emb.{p}", CHANNELS)
        for p in ("weight", "bias")
    ),
    *(
        Key(f"blocks.{{i}}.{ln}.{p}", f"rwkv.blocks.{{i}}.{ln}.{p}", f"blocks.{{i}}.{ln}.{p}", CHANNELS)
        for ln in ("ln1", "ln2")
        for p in ("weight", "bias")
    ),
    *(
        Key(
            f"blocks.{{i}}.att.{theirs}",
            f"rwkv.blocks.{{i}}.attention.{converted}",
            f"blocks.{{i}}.attention.{ours}",
            *rest,
        )
        for theirs, converted, ours, *rest in (
            ("time_decay", "time_decay", "memory.log_decay", CHANNELS, r"\log w"),
            ("time_first", "time_first", "memory.log_gain", CHANNELS, "u"),
            ("time_mix_k", "time_mix_key", "key_mixer.weight", MIX, "mu_k"),
            ("time_mix_v", "time_mix_value", "value_mixer.weight", MIX, "mu_v"),
            ("time_mix_r", "time_mix_receptance", "receptance_mixer.weight", MIX, "mu_r"),
            ("key.weight", "key.weight", "key.weight", SQUARE, "W_k"),
            ("value.weight", "value.weight", "value.weight", SQUARE, "W_v"),
            ("receptance.weight", "receptance.weight", "receptance.weight", SQUARE, "W_r"),
            ("output.weight", "output.weight", "output.weight", SQUARE, "W_o"),
        )
    ),
    *(
        Key(
            f"blocks.{{i}}.ffn.{theirs}",
            f"rwkv.blocks.{{i}}.feed_forward.{converted}",
            f"blocks.{{i}}.gated_mlp.{ours}",
            *rest,
        )
        for theirs, converted, ours, *rest in (
            ("time_mix_k", "time_mix_key", "mlp_mixer.weight", MIX, "mu'_k"),
            ("time_mix_r", "time_mix_receptance", "receptance_mixer.weight", MIX, "mu'_r"),
            ("key.weight", "key.weight", "key.weight", ("intermediate_size", "channels"), "W'_k"),
            ("receptance.weight", "receptance.weight", "receptance.weight", SQUARE, "W'_r"),
            ("value.weight", "value.weight", "value.weight", ("channels", "intermediate_size"), "W'_v"),
        )
    ),
    *(Key(f"ln_out.{p}", f"rwkv.ln_out.{p}", f"unembedding.normalize_unemb.{p}", CHANNELS) for p in ("weight", "bias")),
    Key("head.weight", "head.weight", "unembedding.unembedding.weight", ("vocab_size", "channels")),
]

OTHER_ARCHITECTURES = {  # pattern of a tensor's name: the architecture it belongs to
    r"\.att\.(x_r|a0|r_k)$": "RWKV-7",
    r"\.att\.time_maa": "RWKV-6",
    r"\.att\.(ln_x|gate|time_faaaa)": "RWKV-5",
    r"\.att\.(time_mix_)?(qq|kk|vv|oo)": "RWKV-4b, a variant with an attention matrix in every block",
    r"\.tiny_(q|k|v|ln|mask)": "RWKV-4a, a variant with an attention matrix in one block",
    r"\.attention\.(ln_x|gate|time_maa|time_faaaa)": "RWKV-5 or later, converted for the transformers library",
}


def keys_of(n_layer: int) -> list[tuple[Key, int | None]]:
    """Every tensor of a model with this many blocks: its row of the table, and which block it stands in."""
    whole = [(key, None) for key in KEYS if "{i}" not in key.name]
    return whole + [(key, i) for i in range(n_layer) for key in KEYS if "{i}" in key.name]


# ---------------------------------------------------------------------------------------------------------------------
# reading


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Every tensor in a model's file, under our names and in our shapes, in the stored dtype.

    The file is a `.safetensors` or PyTorch file (`.pth`, `.pt`, `.bin`) of an RWKV-4, in the layout of the
    architecture's own code or of the transformers library. It is memory-mapped: a tensor is read when it is used, so
    put a new file in its place, as `save_weights` does, rather than write into it. (The transformers library rescales
    its layers while it generates, unless `rescale_every` is 0. A model that it saves afterwards is another one, and
    nothing in the file tells.)

    Raises:
        CheckpointError: if it is not such a file, or a tensor in it is missing, unexpected or misshaped, or a vector is
            not finite. Matrices would have to be read for that.
    """
    path = Path(path)
    stored = _load_tensors(path)
    _require_rwkv4(path, stored)
    layout = next((layout for layout in ("upstream_name", "hf_name") if getattr(KEYS[0], layout) in stored), None)
    if layout is None:
        raise CheckpointError(
            f"{path}: expected an RWKV-4 with {KEYS[0].upstream_name} or {KEYS[0].hf_name}, got "
            f"{_abbreviate(stored)}; {_advice((), stored)}"
        )
    sizes, layers = _stored_sizes(path, stored, layout)
    rows = {getattr(key, layout).format(i=i): (key, i) for key, i in keys_of(layers)}
    if rows.keys() != stored.keys():
        missing, left_over = rows.keys() - stored.keys(), stored.keys() - rows.keys()
        raise CheckpointError(
            f"{path}: expected the {len(rows)} tensors of an RWKV-4 with {layers} blocks; missing: "
            f"{_abbreviate(missing)}; left over: {_abbreviate(left_over)}; "
            f"{_advice(missing, left_over)}"
        )
    for name, (key, _) in rows.items():
        _require_tensor(f"{path}: {name}", stored[name], key.stored_shape, sizes)
    return {
        key.name.format(i=i): stored[name].detach().reshape([sizes[size] for size in key.shape])
        for name, (key, i) in rows.items()
    }


def _advice(missing: Collection[str], left_over: Collection[str]) -> str:
    """What is probably the matter with a file that has other tensors than expected, and what to do."""
    if any("lora" in name.lower() for name in left_over):
        return "it has an adapter (LoRA) that is not merged: merge it into the matrices first"
    tables = (KEYS[0].upstream_name, KEYS[0].hf_name)
    for prefix in (name.removesuffix(table) for name in left_over for table in tables if name.endswith(f".{table}")):
        if all(name.startswith(prefix) for name in left_over):
            return f"its names begin with {prefix!r}, which a wrapper such as PyTorch's puts there: take it off"
    if set(missing) == {"head.weight"}:
        return "is its head tied to its embedding? Then save a copy of the embedding as head.weight; else get it again"
    if not missing:
        return "is it the file of another architecture?"
    return "the file is not whole, or of a variant: get it again"


def _load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by the names that they have there."""
    _require_file(path)
    try:
        if path.suffix.lower() == ".safetensors" or _is_safetensors(path):
            return load_file(path)
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\3\4"  # what PyTorch writes; only this can stay on the disk until it is used
        with warnings.catch_warnings(action="ignore"):  # it wonders at pickles that we are about to refuse
            stored = torch.load(path, map_location="cpu", mmap=is_zip, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected tensors and nothing else, got no PyTorch file, or one with other "
            "things, which could run code while they are loaded; it was not loaded. If it is yours, "
            "save model.state_dict() alone, or a .safetensors"
        ) from error
    except Exception as error:  # a damaged file can make its reader raise anything
        why = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path}: expected a whole model's file, got {format_bytes(path.stat().st_size)} that cannot "
            f"be read ({why:.200}); it may be cut off: get it again"
        ) from error
    if isinstance(stored, dict) and "_strategy" in stored:
        raise CheckpointError(
            f"{path}: expected a model as it was published, got one that the package rwkv has converted for a "
            "strategy, which changes numbers: give the file that it was made of"
        )
    entries = stored.items() if isinstance(stored, dict) else [(f"a {type(stored).__name__}", None)]
    for name, value in entries:
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise CheckpointError(
                f"{path}: expected a dict of tensors by name, got {name!r} ({type(value).__name__}); "
                "if it is the file of a training run, save its model.state_dict() alone"
            )
    return stored


def _require_file(path: Path) -> None:
    """Refuse what is no file with a whole model in it, as far as its name and its first bytes tell."""
    if os.path.isdir(path):
        raise CheckpointError(f"{path}: expected a file, got a folder; {_advice_on_folder(path)}")
    if re.match(r"[a-z][a-z0-9+.-]+:[/\\]", str(path), re.IGNORECASE):
        raise CheckpointError(f"{path}: expected a file, got an address: download it, then give the file's path")
    if not os.path.exists(path):  # False also for names that no file could have
        near = _nearest_model(path.name)
        hint = f"; did you mean the model {near!r}?" if near else ""
        raise CheckpointError(
            f"{str(path):.200}: expected a file, there is none{hint or f'; paths start from {Path.cwd()}'}"
        )
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: expected a file, got a device or a pipe; copy what comes from it into a file")
    try:
        with open(path, "rb") as file:
            start = file.read(42)
    except OSError as error:
        raise CheckpointError(f"{path}: expected a file to read, got: {error.strerror}; may you read it?") from error
    if start == b"version https://git-lfs.github.com/spec/v1":
        raise CheckpointError(f"{path}: expected tensors, got a pointer of Git LFS to them: run `git lfs pull`")
    if path.name.endswith(".index.json"):
        raise CheckpointError(f"{path}: expected tensors, got the list of the files that they are in; {_JOIN}")
    if (part := re.search(r"-0*(\d+)-of-0*(\d+)\.", path.name)) and part[2] != "1":
        raise CheckpointError(f"{path}: expected a whole model, got part {part[1]} of {part[2]}; {_JOIN}")


_JOIN = "load all parts, join their tensors in one dict, and save that with safetensors.torch.save_file"


def _advice_on_folder(folder: Path) -> str:
    """Which file in a folder to name."""
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    if any("-of-" in name for name in names):
        return f"the model in it is in parts: {_JOIN}"
    return f"name the file in it: {_abbreviate(names)}" if names else f"no {', '.join(SUFFIXES)} is in it"


def _is_safetensors(path: Path) -> bool:
    """Whether a file of any name begins as safetensors do: with the length of a header, and the header."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def _require_rwkv4(path: Path, names: Iterable[str]) -> None:
    """Refuse the other RWKVs."""
    for pattern, architecture in OTHER_ARCHITECTURES.items():
        for name in names:
            if re.search(pattern, name):
                raise CheckpointError(
                    f"{path}: expected an RWKV-4, got {architecture}: it has {name}; this book has "
                    f"the plain RWKV-4 alone, as in {', '.join(PILE)}"
                )


def _stored_sizes(path: Path, stored: Mapping[str, Tensor], layout: str) -> tuple[dict[str, int], int]:
    """The sizes by which to measure every tensor, and the number of blocks."""
    table = stored[getattr(KEYS[0], layout)]
    if table.dim() != 2:
        raise CheckpointError(
            f"{path}: {getattr(KEYS[0], layout)}: expected shape (vocab_size, channels), got "
            f"{tuple(table.shape)}; get the file again"
        )
    vocab_size, channels = table.shape
    middle = stored.get(
        next(getattr(key, layout) for key in KEYS if "intermediate_size" in key.stored_shape).format(i=0)
    )
    intermediate_size = middle.shape[0] if middle is not None and middle.dim() else 4 * channels
    blocks = {match[1] for name in stored if (match := re.search(r"\bblocks\.(\d+)\.(?!ln0|pre_ln)", name))}
    return {"1": 1, "vocab_size": vocab_size, "channels": channels, "intermediate_size": intermediate_size}, len(blocks)


def _require_tensor(what: str, tensor: Tensor, axes: tuple[str, ...], sizes: Mapping[str, int]) -> None:
    """Refuse a tensor that is not what its place in the model asks for."""
    shape = tuple(sizes[axis] for axis in axes)
    if tensor.is_nested or tensor.shape != shape:
        raise CheckpointError(
            f"{what}: expected shape {shape}, that is ({', '.join(axes)}), got "
            f"{'a nested tensor' if tensor.is_nested else tuple(tensor.shape)}; is it an RWKV-4?"
        )
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        raise CheckpointError(f"{what}: expected floats, got {tensor.dtype}; turn a quantized model into floats first")
    if tensor.is_meta:
        raise CheckpointError(
            f"{what}: expected numbers, got a tensor of PyTorch's meta device: save it with its numbers"
        )
    if tensor.layout is not torch.strided:
        raise CheckpointError(
            f"{what}: expected a plain tensor, got one of layout {tensor.layout}: save its to_dense()"
        )
    if max(shape) == tensor.numel() and not tensor.isfinite().all():  # matrices would have to be read for it
        raise CheckpointError(
            f"{what}: expected finite numbers, got NaN or infinity; it is damaged, or "
            "what made it overflowed: get it again"
        )


def _abbreviate(names: Collection[str]) -> str:
    """The first few of many names."""
    first = ", ".join(sorted(names)[:4]) or "none"
    return first + (f" and {len(names) - 4} more" if len(names) > 4 else "")


# ---------------------------------------------------------------------------------------------------------------------
# writing


def upstream_weights(model: RWKVLM) -> dict[str, Tensor]:
    """The model's tensors under upstream's names and in upstream's shapes: what the architecture's own code reads."""
    ours = model.state_dict()
    rows = [(key, i, ours[key.name.format(i=i)]) for key, i in keys_of(model.config.n_layer)]
    return {key.upstream_name.format(i=i): tensor[(None,) * key.stored_shape.count("1")] for key, i, tensor in rows}


def save_weights(model: RWKVLM, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the model as safetensors, in upstream's layout. Whatever happens, `path` is never half a file.

    Raises:
        CheckpointError: if a number is too large for `dtype`, or not a number; if `dtype` is not a float dtype of at
            least 16 bits, or `path` cannot be a file.
    """
    path = Path(path)
    _require_float(dtype)
    if path.is_dir() or not path.parent.is_dir():
        raise CheckpointError(
            f"{path}: expected the name of a file in a folder that is there, got "
            f"{'a folder: name a file in it' if path.is_dir() else f'no folder {path.parent}: make it first'}"
        )
    weights = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in upstream_weights(model).items()}
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{path}: {name}: expected finite numbers in {dtype}, got NaN or infinity; nothing "
                "was written. Did training overflow? Else write torch.bfloat16 or torch.float32"
            )
    new = path.with_name(path.name + ".new")
    try:
        save_file(weights, new)
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def quantize_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """int8 numbers (rows, columns) and a float32 scale for each row (rows,): its largest becomes 127 or -127."""
    scales = matrix.abs().amax(dim=1).float() / 127  # (rows,)
    numbers = (matrix / scales.clamp(min=1e-30).to(matrix)[:, None]).round()  # (rows, columns)
    return numbers.to(torch.int8), scales


def quantize_dequantize(tensor: Tensor) -> Tensor:
    """What `quantize_rows` keeps of a matrix, as float64; vectors, which are few, as they are in float32."""
    if tensor.dim() < 2:
        return tensor.float()
    numbers, scales = quantize_rows(tensor)
    return numbers.double() * scales.double()[:, None]  # (rows, columns)


# ---------------------------------------------------------------------------------------------------------------------
# whole models


def load_pretrained(
    name_or_path: str | Path | None = None, dtype: torch.dtype | None = None
) -> tuple[RWKVLM, Tokenizer | None]:
    """A trained model and its tokenizer, ready to step.

    Args:
        name_or_path: "textbook", which is part of this package; a model of the Pile family, such as "rwkv-4-pile-169m",
            which is downloaded when it is first asked for; or the path of a file, see `load_weights`. None stands for
            what the environment variable RWKV_EXPLAINER_MODEL says, and otherwise for "textbook".
        dtype: what the model computes in. None stands for float32 for the Pile family, float64 for the others. Apple's
            GPUs have no float64: ask for torch.float32 before moving a model to one.

    Returns:
        The model, which has read nothing and records no gradients, and its tokenizer, which is also `model.tokenizer`:
        for a path, the `tokenizer.json` or `20B_tokenizer.json` beside it, or None.

    Raises:
        CheckpointError: if there is no such model, it cannot be had or read, there is not enough memory for it, or
            `dtype` is not a float dtype of at least 16 bits.
    """
    if dtype is not None:
        _require_float(dtype)
    name = str(name_or_path or os.environ.get("RWKV_EXPLAINER_MODEL") or "textbook")
    if name in PILE:
        dtype = dtype or torch.float32
        _require_memory(name, dtype)
        tokenizer, weights = fetch_tokenizer(), fetch_weights(PILE[name])
    elif name == "textbook":
        weights, tokenizer = find_bundled()
    elif isinstance(name_or_path, Path) or Path(name).name != name or name.endswith(SUFFIXES) or os.path.exists(name):
        weights = Path(os.path.expanduser(name))
        beside = (os.path.join(weights.parent, file) for file in ("tokenizer.json", TOKENIZER_FILE))
        tokenizer = next((Path(file) for file in beside if os.path.lexists(file)), None)
    else:
        raise CheckpointError(_unknown_model(name))
    model = model_from_weights(load_weights(weights), dtype or torch.float64)
    model.name = name
    model.tokenizer = _load_tokenizer(tokenizer, model.vocab_size) if tokenizer else None
    return model, model.tokenizer


def _require_float(dtype: torch.dtype) -> None:
    """Refuse dtypes in which no model can be computed."""
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1):
        raise CheckpointError(f"dtype: expected a float dtype of 16 bits or more, such as torch.float32, got {dtype!r}")


def model_from_weights(weights: Mapping[str, Tensor], dtype: torch.dtype) -> RWKVLM:
    """A model of `StableWKVMemory` with these tensors as its parameters, converted where their dtype is another."""
    weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    with on_meta_device():
        model = RWKVLM.from_weights(weights, memory_class=StableWKVMemory)
    return model.requires_grad_(False).eval()


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Build modules on the meta device, without initialization: `load_state_dict(..., assign=True)` fills them."""
    with torch.device("meta"), _SkipRandomInit():
        yield


class _SkipRandomInit(TorchFunctionMode):
    """Skips `normal_`, which on meta tensors would import torch's decompositions: over a second."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return kwargs["tensor"] if function is nn.init.normal_ else function(*args, **kwargs)


def find_bundled() -> tuple[Path, Path]:
    """The bundled model's files, each compared with its line in SHA256SUMS."""
    sums = BUNDLED / "SHA256SUMS"
    if not sums.exists():
        raise CheckpointError(f"{sums}: the bundled model is not here; install the package again")
    words = sums.read_text().split()
    expected = dict(zip(words[1::2], words[::2]))
    files = BUNDLED / "model.safetensors", BUNDLED / "tokenizer.json"
    for file in files:
        if not file.exists() or file.name not in expected:
            raise CheckpointError(
                f"{file}: the bundled model is not whole: the file or its line in {sums} is missing; "
                "install the package again"
            )
        require_sha256(file, expected[file.name])
    return files


def _load_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer in a file, if the model has a row for each of its tokens."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no narrower one
        raise CheckpointError(f"{path}: expected a tokenizer of the tokenizers library, got: {error}") from error
    if tokenizer.get_vocab_size() > vocab_size:
        raise CheckpointError(
            f"{path}: expected at most {vocab_size} tokens, as the model beside it has rows, got "
            f"{tokenizer.get_vocab_size()}; it is another model's tokenizer"
        )
    return tokenizer


def _unknown_model(name: str) -> str:
    """That there is no such model, and which ones there are."""
    nearest = difflib.get_close_matches(name.lower(), _NAMES, n=1, cutoff=0.5)
    return (
        f"{name[:200]!r}: expected a model's name or the path of a file, got neither"
        + (f"; did you mean {nearest[0]!r}?" if nearest else ".")
        + f" There are: {', '.join(_NAMES)}"
    )


_NAMES = ("textbook", *PILE)


def _nearest_model(name: str) -> str | None:
    """The model that others call by the same words in another order, such as rwkv-4-169m-pile."""
    words = sorted(name.lower().split("-"))
    return next((known for known in _NAMES if sorted(known.split("-")) == words), None)


# ---------------------------------------------------------------------------------------------------------------------
# is there memory for it?


def _require_memory(name: str, dtype: torch.dtype) -> None:
    """Say how much memory a large model of the Pile family takes, and refuse it where there is not as much."""
    pile = PILE[name]
    with on_meta_device():
        model = RWKVLM.from_config(RWKVConfig(PILE_VOCABULARY, pile.channels, pile.n_layer, 4 * pile.channels))
    needed = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    if needed >= REPORT_ABOVE:
        print(f"{name} takes {format_bytes(needed)} of memory in {dtype}.", flush=True)
    available = _available_memory()
    if available is not None and available < needed:
        raise CheckpointError(
            f"{name} takes {format_bytes(needed)} of memory in {dtype}, and {format_bytes(available)} are "
            "available; close something, choose dtype=torch.bfloat16, or a smaller model"
        )


def _available_memory() -> int | None:
    """Bytes of memory that a model could take, or None where the machine does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()  # Linux
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:  # macOS says only how much there is in all
        return int(subprocess.run(["sysctl", "-n", "hw.memsize"], capture_output=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
