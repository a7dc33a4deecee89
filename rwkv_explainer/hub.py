"""The Pile family: where its files are, and how they come here, whole or not at all.

Everything goes through `huggingface_hub`, into its own cache, so that HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean here
what they mean elsewhere. A download that was interrupted leaves NAME.incomplete behind, and the next call goes on from
there. A file gets its own name only after its sha256 was found right.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


class CheckpointError(ValueError):
    """A model that cannot be had as it was asked for. Says which file, what was expected, what came, and what to do."""


@dataclass(frozen=True)
class PileModel:
    """One of the models that the paper trained on the Pile."""

    name: str
    layers: int
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
TOKENIZER_BYTES = 2467981
TOKENIZER_SHA256 = "56ac4821e129d2c520fdaba60abd920fa852ada51b45c0dd52bbb6bd8c985ade"
TOKENIZER_FOLDER = "https://raw.githubusercontent.com/BlinkDL/ChatRWKV/9ad503fc9e3a7ffe46e6c48f5d6d59cbd2940e11"


def fetch_weights(model: PileModel) -> Path:
    """The model's file in the hub's cache, downloaded if it is not there, its sha256 verified once.

    Raises:
        CheckpointError: if the file cannot be had, or is not the one that was asked for.
    """
    hub = client()
    cached = hub.try_to_load_from_cache(model.repository, model.file)
    if not isinstance(cached, str):
        check_online(hub, model.name)
        url = hub.hf_hub_url(model.repository, model.file)
        with explained(hub, url):
            found = hub.get_hf_file_metadata(url)
        if not (found.etag and found.size and found.commit_hash):
            raise CheckpointError(
                f"{url}: expected a hub's headers (ETag, Content-Length, X-Repo-Commit), got {found}"
                "; is HF_ENDPOINT the address of a hub?"
            )
        folder = hub.file_download.repo_folder_name(repo_id=model.repository, repo_type="model")
        blob = Path(hub.constants.HF_HUB_CACHE, folder, "blobs", found.etag)
        download(hub, url, found.location, blob, found.size, model.sha256)
        with explained(hub, url):  # the client finds the file there, and only gives it its name
            cached = hub.hf_hub_download(model.repository, model.file)
    check_sha256_once(Path(cached), model.sha256)
    return Path(cached)


def fetch_tokenizer() -> Path:
    """The Pile family's tokenizer in the hub's cache of assets, downloaded if it is not there, its sha256 verified.

    RWKV_EXPLAINER_TOKENIZER_URL names another web folder that holds the file.

    Raises:
        CheckpointError: if the file cannot be had, or is not the one that was asked for.
    """
    hub = client()
    target = Path(hub.constants.HF_ASSETS_CACHE, "rwkv-explainer", TOKENIZER_FILE)
    if not target.exists():
        check_online(hub, TOKENIZER_FILE)
        folder = os.environ.get("RWKV_EXPLAINER_TOKENIZER_URL") or TOKENIZER_FOLDER
        url = f"{folder.rstrip('/')}/{TOKENIZER_FILE}"
        download(hub, url, url, target, TOKENIZER_BYTES, TOKENIZER_SHA256)
    check_sha256(target, TOKENIZER_SHA256)
    return target


def client() -> ModuleType:
    """The hub's own client, which only the Pile family needs."""
    try:
        import huggingface_hub
        import huggingface_hub.file_download
    except ImportError as error:
        raise CheckpointError(
            "the Pile models come through the package huggingface_hub, which is not installed: "
            "python -m pip install 'huggingface_hub>=2.4'"
        ) from error
    return huggingface_hub


def check_online(hub: ModuleType, what: str) -> None:
    """Refuse to download where the reader has asked for no network."""
    if hub.constants.HF_HUB_OFFLINE:
        raise CheckpointError(
            f"{what} is not in the cache ({hub.constants.HF_HOME}), and HF_HUB_OFFLINE forbids to "
            "download it: unset HF_HUB_OFFLINE, or set HF_HOME to the cache that has it"
        )


# ---------------------------------------------------------------------------------------------------------------------
# the download


def download(hub: ModuleType, url: str, location: str, target: Path, size: int, sha256: str) -> None:
    """Bring `url` to `target`, going on from what an earlier call left. One process at a time; the others wait.

    Args:
        location: where the bytes of `url` are, if it is elsewhere.

    Raises:
        CheckpointError: if it does not come whole, or has another sha256 than expected. Then there is no `target`.
    """
    partial = target.with_name(target.name + ".incomplete")
    with explained(hub, url, partial):
        target.parent.mkdir(parents=True, exist_ok=True)
        with hub.utils.WeakFileLock(target.with_name(target.name + ".lock")):
            if target.exists():
                return
            receive(hub, url, location, partial, size)
            try:
                check_sha256(partial, sha256)
            except CheckpointError as error:
                partial.unlink()
                raise CheckpointError(
                    f"{url} sent another file, or a damaged one, which was deleted; call again; if "
                    f"it stays so, that place does not have the right file ({error})"
                ) from None
            os.replace(partial, target)


def receive(hub: ModuleType, url: str, location: str, partial: Path, size: int) -> None:
    """Add to `partial` what is still missing of `size` bytes."""
    done = partial.stat().st_size if partial.exists() else 0
    if done > size:  # then it was never the beginning of this file
        partial.unlink()
        done = 0
    free = shutil.disk_usage(partial.parent).free
    if free < size - done:
        raise CheckpointError(
            f"{url}: needs {in_words(size - done)} on the disk of {partial.parent}, where "
            f"{in_words(free)} are free; make room, or set HF_HOME to a folder on a larger disk"
        )
    headers = hub.utils.build_hf_headers(token=False) | {"Accept-Encoding": "identity"}  # not zipped
    with open(partial, "ab") as file:
        hub.file_download.http_get(
            location,
            file,
            resume_size=done,
            headers=headers,
            expected_size=size,
            displayed_filename=url.rpartition("/")[2],
        )
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def explained(hub: ModuleType, url: str, partial: Path | None = None) -> Iterator[None]:
    """Turn what goes wrong on the way into a CheckpointError that says what to do. `partial` keeps what came."""
    try:
        yield
    except (hub.errors.HTTPError, OSError) as error:
        if partial and type(error) is OSError and error.errno is None:  # the client's sign for a wrong length
            partial.unlink()
        kept = partial.stat().st_size if partial and partial.exists() else 0
        raise CheckpointError(f"{url}: {explain(hub, error, partial, kept)}") from error


def explain(hub: ModuleType, error: Exception, partial: Path | None, kept: int) -> str:
    """What went wrong with a download that left `kept` bytes, and what to do."""
    why = f"{type(error).__name__}: {error}".partition("\n")[0]
    if isinstance(error, hub.errors.HfHubHTTPError):
        return (
            f"expected the file, got HTTP status {error.response.status_code}; if HF_ENDPOINT or "
            "RWKV_EXPLAINER_TOKENIZER_URL names a mirror, does the mirror have it?"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"the disk is full; {in_words(kept)} are kept in {partial}: make room and call again to go on from "
            "there, or delete it and set HF_HOME to a folder on a larger disk"
        )
    if isinstance(error, OSError) and error.filename:
        return f"cannot be written ({why}); set HF_HOME to a folder of yours"
    if kept:
        return f"broke off ({why}); call again to go on: {in_words(kept)} are kept in {partial}"
    return f"did not come ({why}); is there a network? Nothing is kept: call again"


# ---------------------------------------------------------------------------------------------------------------------
# is it the right file?


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose contents are not those that the hash was taken of."""
    with open(path, "rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        raise CheckpointError(
            f"{path}: expected sha256 {expected}, got {got}; it is damaged, or another version: "
            f"delete {path.resolve()} and get it again"
        )


def check_sha256_once(path: Path, expected: str) -> None:
    """As `check_sha256`, but a file that was found right is hashed again only when its size or its time changes."""
    file = path.resolve()  # the cache's names are links
    about = file.stat()
    seal, sealed = file.with_name(file.name + ".verified"), f"{expected} {about.st_size} {about.st_mtime_ns}\n"
    if seal.exists() and seal.read_text() == sealed:
        return
    check_sha256(path, expected)
    try:
        seal.write_text(sealed)
    except OSError:
        pass  # a cache that is not ours to write to: it is hashed every time


def in_words(size: int | float) -> str:
    """A number of bytes, for people: 4.2 GB, 13 kB."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:  # what rounds to 1000 has the next unit
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
