"""Download of the RWKV-4 Pile checkpoints and their tokenizer, verified by sha256.

Everything goes through `huggingface_hub`, into its own cache, so that HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean here
what they mean elsewhere. Writes are atomic: a file gets its name when all of it has come.
"""

import errno
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

__all__ = [
    "CheckpointError",
    "PILE",
    "PILE_VOCABULARY",
    "PileModel",
    "fetch_tokenizer",
    "fetch_weights",
    "format_bytes",
    "require_sha256",
]


class CheckpointError(ValueError):
    """A checkpoint that cannot be found, downloaded or read. Says which file, what was expected, what to do."""


@dataclass(frozen=True)
class PileModel:
    """One of the models that the paper trained on the Pile."""

    name: str
    n_layer: int
    channels: int
    file: str
    sha256: str

    @property
    def repository(self) -> str:
        """Where the hub keeps it."""
        return f"BlinkDL/{self.name}"


PILE_VOCABULARY = 50277
PILE = {
    model.name: model
    for model in (
        PileModel(
            "rwkv-4-pile-169m",
            12,
            768,
            "RWKV-4-Pile-169M-20220807-8023.pth",
            "713c6f6137a08d3a86ab57df4f09ea03563329beb3bbabc23509d6c57aa0f9e2",
        ),
        PileModel(
            "rwkv-4-pile-430m",
            24,
            1024,
            "RWKV-4-Pile-430M-20220808-8066.pth",
            "261e6b8fef1c7c9e08a4dde31bf5caf8e79c4da38126d77977a4707de82a7f64",
        ),
        PileModel(
            "rwkv-4-pile-1b5",
            24,
            2048,
            "RWKV-4-Pile-1B5-20220929-ctx4096.pth",
            "6c97043e1bb0867368249290c97a2fe8ffc5ec12ceb1b5251f4ee911f9982c23",
        ),
        PileModel(
            "rwkv-4-pile-3b",
            32,
            2560,
            "RWKV-4-Pile-3B-20221110-ctx4096.pth",
            "9500633f23d86fbae3cb3cbe7908b97b971e9561edf583c2c5c60b10b02bcc27",
        ),
        PileModel(
            "rwkv-4-pile-7b",
            32,
            4096,
            "RWKV-4-Pile-7B-20230109-ctx4096.pth",
            "9ea1271b25deb6c72bd29f629147d5013cc7d7c69f9715192f6b6b92fca08f64",
        ),
        PileModel(
            "rwkv-4-pile-14b",
            40,
            5120,
            "RWKV-4-Pile-14B-20230313-ctx8192-test1050.pth",
            "9e1b9b44f2a98124d86fe35e298f230e3a4fa7b60431962da282817ae1b0bf32",
        ),
    )
}

TOKENIZER_FILE = "20B_tokenizer.json"
TOKENIZER_SHA256 = "56ac4821e129d2c520fdaba60abd920fa852ada51b45c0dd52bbb6bd8c985ade"
TOKENIZER_FOLDER = "https://raw.githubusercontent.com/BlinkDL/ChatRWKV/9ad503fc9e3a7ffe46e6c48f5d6d59cbd2940e11"


def fetch_weights(model: PileModel) -> Path:
    """The model's file in the hub's cache, downloaded if it is not there, its sha256 verified once.

    Raises:
        CheckpointError: if the file cannot be had, or is not the one that was asked for.
    """
    hub = _import_hub()
    cached = hub.try_to_load_from_cache(model.repository, model.file)
    if isinstance(cached, str):
        _require_sha256_once(Path(cached), model.sha256)
        return Path(cached)
    _require_online(hub, model.name)
    with _as_checkpoint_error(hub, hub.hf_hub_url(model.repository, model.file)), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough free disk space")
        path = Path(hub.hf_hub_download(model.repository, model.file, token=False))
    try:
        _require_sha256_once(path, model.sha256)
    except CheckpointError as error:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise CheckpointError(_another_file(hub.hf_hub_url(model.repository, model.file), error)) from None
    return path


def fetch_tokenizer() -> Path:
    """The Pile family's tokenizer in the hub's cache of assets, downloaded if it is not there, its sha256 verified.

    RWKV_EXPLAINER_TOKENIZER_URL names another web folder that holds the file.

    Raises:
        CheckpointError: if the file cannot be had, or is not the one that was asked for.
    """
    hub = _import_hub()
    target = Path(hub.constants.HF_ASSETS_CACHE, "rwkv-explainer", TOKENIZER_FILE)
    if target.exists():
        require_sha256(target, TOKENIZER_SHA256)
        return target
    _require_online(hub, TOKENIZER_FILE)
    folder = os.environ.get("RWKV_EXPLAINER_TOKENIZER_URL") or TOKENIZER_FOLDER
    url = f"{folder.rstrip('/')}/{TOKENIZER_FILE}"
    partial = target.with_name(f"{target.name}.{os.getpid()}.new")  # two processes may download at the same time
    try:
        with _as_checkpoint_error(hub, url):
            response = hub.utils.get_session().get(url, follow_redirects=True)
            hub.utils.hf_raise_for_status(response)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(response.content)
        require_sha256(partial, TOKENIZER_SHA256)
        os.replace(partial, target)
    except CheckpointError as error:
        raise error if error.__cause__ else CheckpointError(_another_file(url, error)) from None
    finally:
        if target.parent.is_dir():
            partial.unlink(missing_ok=True)
    return target


def _import_hub() -> ModuleType:
    """The hub's own client, which only the Pile family needs."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            "the Pile models come through the package huggingface_hub, which is not installed: "
            "python -m pip install 'huggingface_hub>=2.4'"
        ) from error
    return huggingface_hub


def _require_online(hub: ModuleType, what: str) -> None:
    """Refuse to download where the reader has asked for no network."""
    if hub.constants.HF_HUB_OFFLINE:
        raise CheckpointError(
            f"{what} is not in the cache ({hub.constants.HF_HOME}), and HF_HUB_OFFLINE forbids to "
            "download it: unset HF_HUB_OFFLINE, or set HF_HOME to the cache that has it"
        )


# ---------------------------------------------------------------------------------------------------------------------
# what can go wrong on the way

_MIRROR = "if HF_ENDPOINT or RWKV_EXPLAINER_TOKENIZER_URL names a mirror, does the mirror have it?"
_STATUS = {  # HTTP status of an answer: what it means, and what to do
    401: f"the hub wants a login for it (401), though it is public; {_MIRROR}",
    403: f"the hub refuses to give it (403), though it is public; {_MIRROR}",
    404: f"there is no such file (404); {_MIRROR}",
    407: "a proxy on the way wants a login (407): ask whoever runs this network",
    429: "the hub has too many requests from this network (429), as happens when a whole class starts together: "
    "wait a few minutes, then call again",
    451: "it may not be had from this place, for legal reasons (451); another network or mirror may have it",
    511: "this network wants a login first (511): open any page in a browser, log in, then call again",
}
_PASSES = (408, 425)  # besides all from 500 on: an answer that may be another one in a while


@contextmanager
def _as_checkpoint_error(hub: ModuleType, url: str) -> Iterator[None]:
    """Turn what goes wrong while `url` is downloaded into a CheckpointError that says what to do."""
    try:
        yield
    except (hub.errors.HTTPError, OSError, UserWarning) as error:
        raise CheckpointError(f"{url}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    """What went wrong with a download, and what to do."""
    causes = [error]
    while causes[-1].__cause__ is not None:  # the client wraps what it met
        causes.append(causes[-1].__cause__)
    why = f"{type(causes[-1]).__name__}: {causes[-1]}".partition("\n")[0]
    for cause in causes:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in _STATUS:
            return _STATUS[status]
        if status is not None and (status >= 500 or status in _PASSES):
            return f"the hub is out of order (HTTP status {status}): wait, then call again; {_MIRROR}"
        if status is not None:
            return f"the hub does not answer this (HTTP status {status}), and waiting will not help; {_MIRROR}"
        if isinstance(cause, UserWarning) or getattr(cause, "errno", None) == errno.ENOSPC:
            return f"there is not enough space on the disk ({why}): make room, or set HF_HOME to a larger disk"
        if isinstance(cause, OSError) and cause.filename:
            return f"cannot be written ({why}); set HF_HOME to a folder of yours"
    return f"it did not come ({why}); is there a network? If there is, call again"


def _another_file(url: str, error: Exception) -> str:
    """That a download has the wrong sha256."""
    return (
        f"{url} sent another file, or a damaged one, which was deleted; call again; if it stays so, "
        f"that place does not have the right file ({error})"
    )


# ---------------------------------------------------------------------------------------------------------------------
# is it the right file?


def require_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose contents are not those that the hash was taken of."""
    with open(path, "rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        raise CheckpointError(
            f"{path}: expected sha256 {expected}, got {got}; it is damaged, or another version: "
            f"delete {path.resolve()} and get it again"
        )


def _require_sha256_once(path: Path, expected: str) -> None:
    """As `require_sha256`, but a file that was found right is hashed again only when its size or its time changes."""
    file = path.resolve()  # the cache's names are links
    about = file.stat()
    seal, sealed = file.with_name(file.name + ".verified"), f"{expected} {about.st_size} {about.st_mtime_ns}\n"
    if seal.exists() and seal.read_text() == sealed:
        return
    require_sha256(path, expected)
    try:
        seal.write_text(sealed)
    except OSError:
        pass  # a cache that is not ours to write to: it is hashed every time


def format_bytes(size: int | float) -> str:
    """A number of bytes as text: 4.2 GB, 13 kB."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:  # what rounds to 1000 has the next unit
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
