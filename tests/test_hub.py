"""The Pile family's download, by the hub's real client, from a hub on this machine that serves a tiny model.

Every way in which a download can go wrong has its test: it ends with a sentence that says what to do, and nothing
half-written is taken for whole.
"""

import errno
import hashlib
import io
import os
import re
import sys
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models

from rwkv_explainer import checkpoints, hub
from rwkv_explainer.checkpoints import CheckpointError, load_pretrained, upstream_weights

client = pytest.importorskip("huggingface_hub")
import huggingface_hub.file_download  # noqa: F401, E402

NAME = "rwkv-4-pile-169m"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FETCHES = {"weights": lambda: hub.fetch_weights(hub.PILE[NAME]), "tokenizer": lambda: hub.fetch_tokenizer()}
CHUNK = 2**14  # what the client writes at a time, small enough for a tiny file to be cut off between two writes


class LoopbackHub(ThreadingHTTPServer):
    """A hub that knows one model and one tokenizer, and keeps a list of what it was asked for.

    As on the real one, a weights file is found at one address and fetched from another.

    Attributes:
        weights, tokenizer: the files, or None for "404".
        status: what every request is answered with, if it is set.
        cuts: after how many bytes each of the next answers breaks off.
    """

    def __init__(self, weights: bytes, tokenizer: bytes):
        super().__init__(("127.0.0.1", 0), Answer)
        self.weights, self.tokenizer = weights, tokenizer
        self.etag = hashlib.sha256(weights).hexdigest()
        self.announced = len(weights)
        self.requests, self.cuts, self.status = [], [], None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> int:
        """How often the weights' bytes were asked for."""
        return self.requests.count(("GET", "/bytes"))


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        if self.refused():
            return
        if self.path != f"/BlinkDL/{NAME}/resolve/main/{hub.PILE[NAME].file}" or self.server.weights is None:
            return self.not_found()
        self.send_response(302)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{self.server.etag}"')
        self.send_header("X-Linked-Size", str(self.server.announced))
        self.send_header("Location", f"http://localhost:{self.server.server_port}/bytes")  # another name: another host
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        if self.refused():
            return
        content = {"/bytes": self.server.weights, "/raw/20B_tokenizer.json": self.server.tokenizer}.get(self.path)
        if content is None:
            return self.not_found()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Connection", "close")  # said, or the client's next request may come on a line being closed
        self.end_headers()
        self.wfile.write(content[start:][: self.server.cuts.pop(0) if self.server.cuts else None])

    def not_found(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def refused(self) -> bool:
        """Keep a note of the request, and answer it with an error if all are."""
        self.server.requests.append((self.command, self.path))
        if self.server.status is None:
            return False
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def files(random_model) -> tuple[bytes, bytes]:
    """The bytes of a model in the Pile family's exact layout, vocabulary and dtype, but tiny, and of a tokenizer."""
    model = random_model(layers=1, channels=4, vocabulary=hub.PILE_VOCABULARY, hidden=16, dtype=torch.bfloat16)
    file = io.BytesIO()
    torch.save(upstream_weights(model), file)
    tokenizer = Tokenizer(models.WordLevel({"Drosophila": 0, "melanogaster": 1}, "Drosophila"))
    return file.getvalue(), tokenizer.to_str().encode()


@pytest.fixture
def loopback(files, tmp_path, monkeypatch):
    """A hub that runs, an empty cache, and a catalogue in which the 169M is the tiny model."""
    weights, tokenizer = files
    monkeypatch.setitem(hub.PILE, NAME, replace(hub.PILE[NAME], sha256=hashlib.sha256(weights).hexdigest()))
    monkeypatch.setattr(hub, "TOKENIZER_SHA256", hashlib.sha256(tokenizer).hexdigest())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    server = LoopbackHub(weights, tokenizer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("RWKV_EXPLAINER_TOKENIZER_URL", f"{server.url}/raw")
    for constant, value in {  # what the client reads from the environment when it is imported
        "HF_HOME": str(tmp_path),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_ASSETS_CACHE": str(tmp_path / "assets"),
        "ENDPOINT": server.url,
        "HF_HUB_OFFLINE": False,
        "DOWNLOAD_CHUNK_SIZE": CHUNK,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():
        monkeypatch.setattr(client.constants, constant, value)
    for module in (client.file_download, client.utils._http):  # they wait between their attempts
        monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    client.close_session()
    yield server
    server.shutdown()
    server.server_close()
    client.close_session()


def blobs(tmp_path: Path) -> Path:
    return tmp_path / "hub" / f"models--BlinkDL--{NAME}" / "blobs"


def whole_files(tmp_path: Path) -> list[Path]:
    """The weights in the cache that have their own name."""
    return [path for path in blobs(tmp_path).glob("*") if path.suffix not in (".lock", ".incomplete", ".verified")]


def assert_right(model) -> None:
    assert model.config.vocab_size == hub.PILE_VOCABULARY and model.config.channels == 4
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.logits(7).isfinite().all()


def test_a_good_download_is_the_clients_own_and_comes_once(loopback, files, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # a progress bar as on a terminal
    model, tokenizer = load_pretrained(NAME)
    assert_right(model)
    assert model.name == NAME and tokenizer.token_to_id("melanogaster") == 1
    assert "100%" in capfd.readouterr().err
    cached = client.try_to_load_from_cache(f"BlinkDL/{NAME}", hub.PILE[NAME].file)
    assert Path(cached).read_bytes() == files[0]
    assert client.hf_hub_download(f"BlinkDL/{NAME}", hub.PILE[NAME].file, local_files_only=True) == cached
    assert not list(tmp_path.rglob("*.incomplete")) and loopback.downloads() == 1
    asked = len(loopback.requests)
    assert_right(load_pretrained(NAME)[0])
    assert len(loopback.requests) == asked


def test_a_download_that_is_cut_off_goes_on_by_itself(loopback, files):
    loopback.cuts = [len(files[1]), 3 * CHUNK + 100, 2 * CHUNK]  # the first answer is the tokenizer's
    assert_right(load_pretrained(NAME)[0])
    assert loopback.downloads() == 3


def test_a_download_that_breaks_off_for_good_leaves_no_file(loopback, files, tmp_path):
    loopback.cuts = [len(files[1]), 3 * CHUNK] + [0] * 20
    with pytest.raises(CheckpointError, match="it did not come .*is there a network.*call again"):
        load_pretrained(NAME)
    assert whole_files(tmp_path) == []
    loopback.cuts.clear()
    assert_right(load_pretrained(NAME)[0])


def test_two_at_once_download_once(loopback):
    with ThreadPoolExecutor(2) as pool:
        paths = set(pool.map(hub.fetch_weights, [hub.PILE[NAME]] * 2))
    assert len(paths) == 1 and loopback.downloads() == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1] + b"?",
        lambda content: content[:-1],
        lambda content: content + b"?",
    ],
    ids=["a changed byte", "a byte less", "a byte more"],
)
def test_another_file_than_announced_is_not_kept(loopback, files, tmp_path, damage):
    loopback.weights = damage(files[0])
    with pytest.raises(CheckpointError, match="sent another file.*expected sha256|it did not come .*call again"):
        load_pretrained(NAME)
    assert whole_files(tmp_path) == []
    assert client.try_to_load_from_cache(f"BlinkDL/{NAME}", hub.PILE[NAME].file) is None
    loopback.weights = files[0]
    assert_right(load_pretrained(NAME)[0])


def test_another_version_of_the_file_is_refused(loopback, files, tmp_path):
    loopback.weights = files[0] + b"more"
    loopback.announced, loopback.etag = len(loopback.weights), hashlib.sha256(loopback.weights).hexdigest()
    with pytest.raises(CheckpointError, match=f"{hub.PILE[NAME].file} sent another file.*{hub.PILE[NAME].sha256}"):
        load_pretrained(NAME)
    assert whole_files(tmp_path) == []


def test_another_tokenizer_is_refused(loopback, files, tmp_path):
    loopback.tokenizer = files[1].replace(b"melanogaster", b"hydeihydeihy")
    with pytest.raises(CheckpointError, match="20B_tokenizer.json sent another file"):
        load_pretrained(NAME)
    assert not list((tmp_path / "assets").rglob("*.json*e"))
    loopback.tokenizer = files[1]
    assert load_pretrained(NAME)[1].token_to_id("melanogaster") == 1


@pytest.mark.parametrize("missing", ["weights", "tokenizer"])
def test_a_file_that_is_not_there(loopback, tmp_path, missing):
    setattr(loopback, missing, None)
    with pytest.raises(CheckpointError, match=rf"{loopback.url}/.*there is no such file \(404\).*mirror"):
        load_pretrained(NAME)
    assert whole_files(tmp_path) == []


@pytest.mark.parametrize(
    "status, words",
    [
        (401, "wants a login for it .401."),
        (403, "refuses to give it .403."),
        (404, "no such file .404."),
        (429, "too many requests from this network .429., as happens when a whole class.*wait a few minutes"),
        (407, "a proxy on the way wants a login .407.: ask whoever"),
        (503, "out of order .HTTP status 503.: wait, then call again"),
    ],
)
@pytest.mark.parametrize("fetch", FETCHES.values(), ids=FETCHES)
def test_each_answer_has_its_own_words(loopback, tmp_path, status, words, fetch):
    loopback.status = status
    with pytest.raises(CheckpointError, match=f"{loopback.url}/.*{words}"):
        fetch()
    assert whole_files(tmp_path) == []


@pytest.mark.parametrize("status", [*range(300, 520), 599, 999])
def test_any_status_says_what_to_do(status):
    """Waiting is advised where it may help, and nowhere else."""
    error = Exception("no")
    error.response = namedtuple("Response", "status_code")(status)
    words = hub._explain(error)
    assert str(status) in words and re.search("call again|mirror|ask whoever|log in", words)
    assert ("wait" in words.replace("waiting will not help", "")) == (
        status in (408, 425, 429) or status >= 500 and status != 511
    )


def test_no_network_and_nothing_cached(loopback, tmp_path):
    loopback.shutdown()
    loopback.server_close()
    with pytest.raises(CheckpointError, match="did not come .ConnectError.*is there a network"):
        load_pretrained(NAME)
    with pytest.raises(CheckpointError, match="is there a network"):
        hub.fetch_weights(hub.PILE[NAME])
    assert whole_files(tmp_path) == []


def test_no_network_and_everything_cached(loopback):
    load_pretrained(NAME)
    loopback.shutdown()
    loopback.server_close()
    assert_right(load_pretrained(NAME)[0])


def test_offline_asks_nobody(loopback, monkeypatch):
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="20B_tokenizer.json is not in the cache .*HF_HUB_OFFLINE forbids"):
        load_pretrained(NAME)
    with pytest.raises(CheckpointError, match=f"{NAME} is not in the cache .*HF_HUB_OFFLINE forbids"):
        hub.fetch_weights(hub.PILE[NAME])
    assert loopback.requests == []
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", False)
    load_pretrained(NAME)
    loopback.requests.clear()
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", True)
    assert_right(load_pretrained(NAME)[0])
    assert loopback.requests == []


def test_a_disk_that_is_too_small_is_found_out_before_the_download(loopback, tmp_path, monkeypatch):
    load_pretrained(NAME)
    for file in whole_files(tmp_path):
        file.unlink()
    loopback.requests.clear()
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(client.file_download.shutil, "disk_usage", lambda path: usage(2000, 1000, 1000))
    with pytest.raises(CheckpointError, match="not enough space on the disk .*make room, or set HF_HOME"):
        load_pretrained(NAME)
    assert loopback.downloads() == 0


@pytest.mark.parametrize("fetch", FETCHES.values(), ids=FETCHES)
def test_a_disk_that_fills_up_meanwhile(loopback, tmp_path, monkeypatch, fetch):
    def write(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", "a file")

    with monkeypatch.context() as full:
        full.setattr(client.file_download, "http_get", write)
        full.setattr(Path, "write_bytes", write)
        with pytest.raises(CheckpointError, match="not enough space on the disk .*make room"):
            fetch()
    assert whole_files(tmp_path) == []
    fetch()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_cache_that_cannot_be_written(loopback, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="cannot be written .*set HF_HOME"):
            load_pretrained(NAME)
    finally:
        tmp_path.chmod(0o700)


def test_a_cache_that_is_no_folder(loopback, tmp_path):
    (tmp_path / "assets").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot be written .*set HF_HOME"):
        load_pretrained(NAME)


def test_a_verified_file_is_hashed_again_only_when_it_changed(loopback, tmp_path, monkeypatch):
    load_pretrained(NAME)
    blob = blobs(tmp_path) / loopback.etag
    with monkeypatch.context() as patch:
        patch.setattr(hub, "require_sha256", lambda path, _: pytest.fail("hashed again") if path == blob else None)
        load_pretrained(NAME)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"expected sha256 .*it is damaged.*delete {blob}"):
        load_pretrained(NAME)
    blob.unlink()
    assert_right(load_pretrained(NAME)[0])


@pytest.mark.parametrize(
    "size, words",
    [
        (999, "999 bytes"),
        (1000, "1 kB"),
        (13_400, "13.4 kB"),
        (999_499, "999 kB"),
        (999_900, "1 MB"),
        (999_900_000, "1.0 GB"),
        (4.24e9, "4.2 GB"),
    ],
)
def test_sizes_as_text(size, words):
    assert hub.format_bytes(size) == words


def test_without_the_client_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="python -m pip install 'huggingface_hub"):
        load_pretrained(NAME)


def test_a_model_that_does_not_fit_is_refused_before_the_download(loopback, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "_available_memory", lambda: 20_000_000_000)
    with pytest.raises(CheckpointError, match="7b takes 29.6 GB .*float32, and 20.0 GB are available; .*bfloat16"):
        load_pretrained("rwkv-4-pile-7b")
    assert "rwkv-4-pile-7b takes 29.6 GB" in capsys.readouterr().out
    assert loopback.requests == []
    monkeypatch.setattr(checkpoints, "_available_memory", lambda: None)
    with pytest.raises(CheckpointError, match="404"):  # without a reading it goes on, as far as this hub lets it
        load_pretrained("rwkv-4-pile-7b")


def test_a_small_model_says_nothing(loopback, capsys):
    load_pretrained(NAME)
    assert capsys.readouterr().out == ""
