"""The Pile family's download, by the hub's real client, from a hub on this machine that serves a tiny model.

Every way in which a download can go wrong has its test: it ends with a sentence that says what to do, nothing
half-written is taken for whole, and what came is not thrown away.
"""

import hashlib
import io
import os
import shutil
import signal
import subprocess
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
CHUNK = 2**14  # what the client writes at a time, small enough for a tiny file to be cut off between two writes


class LoopbackHub(ThreadingHTTPServer):
    """A hub that knows one model and one tokenizer, and keeps a list of what it was asked for.

    As on the real one, a weights file is found at one address and fetched from another.

    Attributes:
        weights, tokenizer: the files, or None for "404".
        cuts: after how many bytes each of the next answers breaks off.
        knows_ranges: whether a download can start in the middle.
        stalled: if set, an answer that breaks off waits for ever instead of closing the connection.
    """

    def __init__(self, weights: bytes, tokenizer: bytes):
        super().__init__(("127.0.0.1", 0), Answer)
        self.weights, self.tokenizer = weights, tokenizer
        self.etag = hashlib.sha256(weights).hexdigest()
        self.announced = len(weights)
        self.requests, self.cuts, self.knows_ranges = [], [], True
        self.stalling, self.stalled, self.released = False, threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ranges(self) -> list[str | None]:
        """The `Range` of each request for the weights' bytes."""
        return [wanted for method, path, wanted in self.requests if method == "GET" and path == "/bytes"]


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.note()
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
        self.note()
        content = {"/bytes": self.server.weights, "/raw/20B_tokenizer.json": self.server.tokenizer}.get(self.path)
        if content is None:
            return self.not_found()
        start = 0
        if self.server.knows_ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not self.server.cuts:
            self.wfile.write(content[start:])
            return
        self.wfile.write(content[start : start + self.server.cuts.pop(0)])
        self.wfile.flush()
        if self.server.stalling:
            self.server.stalled.set()
            self.server.released.wait()
        self.close_connection = True

    def not_found(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def note(self):
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))

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
    monkeypatch.setattr(hub, "TOKENIZER_BYTES", len(tokenizer))
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
    monkeypatch.setattr(client.file_download.time, "sleep", lambda seconds: None)  # between its attempts
    client.close_session()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    client.close_session()


def blobs(tmp_path: Path) -> Path:
    return tmp_path / "hub" / f"models--BlinkDL--{NAME}" / "blobs"


def leftovers(tmp_path: Path) -> dict[str, int]:
    """What a download left in the cache: the sizes of weights that are not whole (".incomplete") and that are ("")."""
    return {path.suffix: path.stat().st_size for path in blobs(tmp_path).glob("*") if path.suffix != ".lock"}


def assert_right(model) -> None:
    assert model.config.vocabulary == hub.PILE_VOCABULARY and model.config.channels == 4
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.logits(7).isfinite().all()


def test_a_good_download_is_the_clients_own_and_comes_once(loopback, files, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # a progress bar as on a terminal
    model, tokenizer = load_pretrained(NAME)
    assert_right(model)
    assert model.name == NAME and tokenizer.token_to_id("melanogaster") == 1
    assert hub.PILE[NAME].file in capfd.readouterr().err
    cached = client.try_to_load_from_cache(f"BlinkDL/{NAME}", hub.PILE[NAME].file)
    assert Path(cached).read_bytes() == files[0]
    assert client.hf_hub_download(f"BlinkDL/{NAME}", hub.PILE[NAME].file, local_files_only=True) == cached
    assert not list(tmp_path.rglob("*.incomplete"))
    assert loopback.ranges() == [None]
    asked = len(loopback.requests)
    assert_right(load_pretrained(NAME)[0])
    assert len(loopback.requests) == asked


def test_a_download_that_is_cut_off_goes_on_by_itself(loopback, files):
    loopback.cuts = [len(files[1]), 3 * CHUNK + 100, 2 * CHUNK]  # the first answer is the tokenizer's
    assert_right(load_pretrained(NAME)[0])
    assert loopback.ranges() == [None, f"bytes={3 * CHUNK}-", f"bytes={5 * CHUNK}-"]


def test_a_download_that_breaks_off_for_good_goes_on_in_the_next_call(loopback, files, tmp_path):
    loopback.cuts = [len(files[1]), 3 * CHUNK] + [0] * 6
    with pytest.raises(CheckpointError, match="broke off.*call again to go on: 49.2 kB are kept in .*incomplete"):
        load_pretrained(NAME)
    assert leftovers(tmp_path) == {".incomplete": 3 * CHUNK}
    loopback.cuts.clear()
    loopback.requests.clear()
    assert_right(load_pretrained(NAME)[0])
    assert loopback.ranges() == [f"bytes={3 * CHUNK}-"]


def test_a_hub_that_knows_no_ranges_starts_over(loopback, files):
    loopback.knows_ranges = False
    loopback.cuts = [len(files[1]), 3 * CHUNK]
    assert_right(load_pretrained(NAME)[0])
    assert loopback.ranges() == [None, f"bytes={3 * CHUNK}-"]


def run_elsewhere(loopback, tmp_path: Path, **environment: str) -> subprocess.Popen:
    """Another process, told by its environment alone where the hub and the cache are, that fetches the weights."""
    script = (
        f"from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}\n"
        "from dataclasses import replace; from rwkv_explainer import hub\n"
        f"print(hub.fetch_weights(replace(hub.PILE[{NAME!r}], sha256={loopback.etag!r})))"
    )
    theirs = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": loopback.url, "OMP_NUM_THREADS": "1"} | environment
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=ours | theirs,
        text=True,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_killed_process_leaves_what_came_and_the_next_one_goes_on(loopback, files, tmp_path):
    loopback.cuts, loopback.stalling = [5 * CHUNK], True
    first = run_elsewhere(loopback, tmp_path)
    try:
        assert loopback.stalled.wait(120), "the other process never asked for the file"
        partial = blobs(tmp_path) / f"{loopback.etag}.incomplete"
        while partial.stat().st_size < 5 * CHUNK:
            assert first.poll() is None
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert leftovers(tmp_path) == {".incomplete": 5 * CHUNK}
    second = run_elsewhere(loopback, tmp_path)
    output, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    assert Path(output.strip()).read_bytes() == files[0]
    assert loopback.ranges() == [None, f"bytes={5 * CHUNK}-"]
    loopback.shutdown()
    offline = run_elsewhere(loopback, tmp_path, HF_HUB_OFFLINE="1")
    assert offline.communicate(timeout=120)[0] == output


def test_two_at_once_download_once(loopback):
    with ThreadPoolExecutor(2) as pool:
        paths = set(pool.map(hub.fetch_weights, [hub.PILE[NAME]] * 2))
    assert len(paths) == 1 and loopback.ranges() == [None]


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
    with pytest.raises(CheckpointError, match="sent another file.*expected sha256|Consistency check.*Nothing is kept"):
        load_pretrained(NAME)
    assert leftovers(tmp_path) == {}
    assert client.try_to_load_from_cache(f"BlinkDL/{NAME}", hub.PILE[NAME].file) is None
    loopback.weights = files[0]
    assert_right(load_pretrained(NAME)[0])


def test_another_version_of_the_file_is_refused(loopback, files, tmp_path):
    loopback.weights = files[0] + b"more"
    loopback.announced, loopback.etag = len(loopback.weights), hashlib.sha256(loopback.weights).hexdigest()
    with pytest.raises(CheckpointError, match=f"{hub.PILE[NAME].file} sent another file.*{hub.PILE[NAME].sha256}"):
        load_pretrained(NAME)
    assert leftovers(tmp_path) == {}


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
    with pytest.raises(CheckpointError, match=f"{loopback.url}/.* got HTTP status 404; .*mirror"):
        load_pretrained(NAME)
    assert leftovers(tmp_path) == {}


def test_no_network_and_nothing_cached(loopback, tmp_path):
    loopback.shutdown()
    loopback.server_close()
    with pytest.raises(CheckpointError, match="did not come .ConnectError.*is there a network.*Nothing is kept"):
        load_pretrained(NAME)
    with pytest.raises(CheckpointError, match="is there a network"):
        hub.fetch_weights(hub.PILE[NAME])
    assert leftovers(tmp_path) == {}


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
    shutil.rmtree(tmp_path / "hub")
    loopback.requests.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with pytest.raises(CheckpointError, match="needs 8.* kB on the disk of .*where 1 kB are free; make room"):
        load_pretrained(NAME)
    assert loopback.ranges() == [] and leftovers(tmp_path) == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a device with no room")
def test_a_disk_that_fills_up_meanwhile(loopback, tmp_path):
    partial = blobs(tmp_path) / f"{loopback.etag}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="the disk is full; .* kept in .*make room and call again"):
        load_pretrained(NAME)
    assert client.try_to_load_from_cache(f"BlinkDL/{NAME}", hub.PILE[NAME].file) is None
    partial.unlink()
    assert_right(load_pretrained(NAME)[0])


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
        patch.setattr(hub, "check_sha256", lambda path, expected: pytest.fail("hashed again") if path == blob else None)
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
def test_sizes_in_words(size, words):
    assert hub.in_words(size) == words


def test_without_the_client_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="python -m pip install 'huggingface_hub"):
        load_pretrained(NAME)


def test_a_model_that_does_not_fit_is_refused_before_the_download(loopback, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "available_memory", lambda: 20_000_000_000)
    with pytest.raises(CheckpointError, match="7b takes 29.6 GB .*float32, and 20.0 GB are available; .*bfloat16"):
        load_pretrained("rwkv-4-pile-7b")
    assert "rwkv-4-pile-7b takes 29.6 GB" in capsys.readouterr().out
    assert loopback.requests == []
    monkeypatch.setattr(checkpoints, "available_memory", lambda: None)
    with pytest.raises(CheckpointError, match="404"):  # without a reading it goes on, as far as this hub lets it
        load_pretrained("rwkv-4-pile-7b")


def test_a_small_model_says_nothing(loopback, capsys):
    load_pretrained(NAME)
    assert capsys.readouterr().out == ""
