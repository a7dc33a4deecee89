"""A chapter on its own, as it is opened elsewhere: in an empty folder, by a Python that has nothing of the project.

Colab is the pattern: PyTorch and a kernel are there, and the chapter's first cell brings the rest, in the newest
versions that there are, from the published repository, for which a local one stands in. `make test` runs the quickest
chapter so; `make test-colab` runs all of them.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest

from browser import serve
from pack import LEFT_OUT, pack
from publish import package_version, stamp
from trees import tree_of

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
QUICKEST = "embedding-and-unembedding"
KERNEL = "elsewhere"


def run(*command: object, **options) -> str:
    """What a command prints; all that it said where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---------------------------------------------------------------------------------------------------------------------
# away from the repository and from its environment


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Iterator[Path]:
    """The working tree as it is, as a git repository that knows its address, behind a web server."""
    root = tmp_path_factory.mktemp("published") / "the-book"
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    with serve(root.parent) as address:
        stamp(root, f"{address}/{root.name}/.git")
        git = ("git", "-C", root, "-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        run(*git, "init", "--quiet")
        run(*git, "add", "--all")
        run(*git, "commit", "--quiet", "--message", "Published")
        run(*git, "tag", f"v{package_version(root)}")
        run(*git, "update-server-info")
        yield root


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> dict[str, str]:
    """The environment in which Jupyter finds the kernel `elsewhere`: a new Python, with PyTorch and nothing else."""
    folder = tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries=0", "--timeout=20", f"--dest={folder}"]
    asked = subprocess.run([*pip, "ipykernel"], capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"pip reaches no registry: {asked.stderr.strip().splitlines()[-1]}")
    python = new_python(folder)
    run(python, "-m", "pip", "install", "--quiet", "ipykernel")
    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": KERNEL}
    kernel = folder / "jupyter" / "kernels" / KERNEL
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME", "RWKV_EXPLAINER_MODEL"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return environment | {"JUPYTER_PATH": str(folder / "jupyter")}


def new_python(folder: Path) -> Path:
    """A new environment in `folder`, with PyTorch and nothing else: its `python`."""
    venv.create(folder / "python", with_pip=True)
    python = folder / "python" / "bin" / "python"
    borrow_torch(folder / "torch")
    site_packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site_packages, "torch.pth").write_text(f"{folder / 'torch'}\n")
    return python


def borrow_torch(folder: Path) -> None:
    """Links to the PyTorch of these tests and to the GPU libraries that came with it, which would be gigabytes."""
    names = {found.name for found in distributions() if found.name.startswith(("nvidia-", "cuda-", "triton"))}
    folder.mkdir()
    for found in (distribution("torch"), *map(distribution, names)):
        for top in {path.parts[0] for path in found.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))


@pytest.mark.parametrize(
    "chapter", [pytest.param(name, marks=() if name == QUICKEST else pytest.mark.colab) for name in CHAPTERS]
)
def test_a_chapter_alone_in_an_empty_folder_runs(published, elsewhere, tmp_path, chapter):
    """From top to bottom, with the package that its first cell installed from the published repository."""
    notebook = json.loads((published / "book" / f"{chapter}.ipynb").read_text("utf-8"))
    where = {
        "cell_type": "code",
        "id": "where",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": "import rwkv_explainer, sys; print(rwkv_explainer.__file__.startswith(sys.prefix))",
    }
    notebook["cells"].append(where)
    alone = tmp_path / "alone" / f"{chapter}.ipynb"
    alone.parent.mkdir()
    alone.write_text(json.dumps(notebook), "utf-8")
    execute = Path(sys.prefix, "bin", "jupyter-execute")
    run(execute, f"--kernel_name={KERNEL}", "--inplace", "--timeout=900", alone, env=elsewhere)
    cells = [cell for cell in json.loads(alone.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in cells if cell["execution_count"] is None and "".join(cell["source"]).strip()] == []
    assert "".join(cells[-1]["outputs"][0]["text"]).strip() == "True"
    assert [path.name for path in alone.parent.iterdir()] == [alone.name], "a chapter left files behind"


# ---------------------------------------------------------------------------------------------------------------------
# `make lab`


@pytest.fixture
def lab(tmp_path):
    """JupyterLab as `make lab` starts it, in an empty folder: its address and its key."""
    jupyter = Path(sys.prefix, "bin", "jupyter-lab")
    if not jupyter.exists():
        pytest.skip("JupyterLab is not installed here: `make lab` installs it")
    folder, runtime = tmp_path / "empty", tmp_path / "runtime"
    folder.mkdir()
    settings = {"JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    command = [str(jupyter), "--no-browser", "--port=0", "--allow-root", "--notebook-dir", str(folder)]
    server = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (found := list(runtime.glob("jpserver-*.json"))) or not listens(json.loads(found[0].read_text())):
            assert server.poll() is None, "JupyterLab stopped"
            time.sleep(0.2)
        yield json.loads(found[0].read_text()) | {"runtime": runtime}
    finally:
        server.terminate()
        server.wait()


def listens(server: dict) -> bool:
    """Whether it answers: it writes its file before it does."""
    with socket.socket() as line:
        return line.connect_ex(("localhost", server["port"])) == 0


def ask(lab: dict, path: str, data: dict | None = None) -> bytes:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(lab["url"] + path, body, {"Authorization": f"token {lab['token']}"})
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def test_lab_has_the_kernel_that_has_everything(lab):
    """Also for a notebook outside the repository."""
    from jupyter_client import BlockingKernelClient

    assert b"JupyterLab" in ask(lab, "lab")
    default = json.loads(ask(lab, "api/kernelspecs"))["default"]
    kernel = json.loads(ask(lab, "api/kernels", {"name": default}))["id"]
    client = BlockingKernelClient(connection_file=str(lab["runtime"] / f"kernel-{kernel}.json"))
    client.load_connection_file()
    client.start_channels(hb=False)  # a kernel on a busy machine may miss a heartbeat, which comes every second
    try:
        client.wait_for_ready(timeout=120)
        code = f"import sys, beartype, torchview, rwkv_explainer.drawing.sliders; assert sys.prefix == {sys.prefix!r}"
        reply = client.execute(code, reply=True, timeout=300)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()


# ---------------------------------------------------------------------------------------------------------------------
# `make zip`


@pytest.fixture(scope="module")
def unzipped(built_book, tmp_path_factory) -> Path:
    """The built book after `make zip`, unzipped somewhere else."""
    folder = tmp_path_factory.mktemp("a disk")
    pack(built_book, folder / "rwkv-explained.zip")
    with zipfile.ZipFile(folder / "rwkv-explained.zip") as archive:
        archive.extractall(folder / "unzipped")
    return folder / "unzipped"


def test_zip_is_one_folder_and_whole(unzipped, built_book):
    assert [path.name for path in unzipped.iterdir()] == ["rwkv-explained"]

    def files(root: Path) -> dict[str, int]:
        names = {path.relative_to(root): path.stat().st_size for path in root.rglob("*") if path.is_file()}
        return {name.as_posix(): size for name, size in names.items() if name.parts[0] not in LEFT_OUT}

    assert files(unzipped / "rwkv-explained") == files(built_book)
    assert set(CHAPTERS) <= {path.stem for path in (unzipped / "rwkv-explained").glob("*.html")}


def test_zip_names_no_place_outside_of_itself(unzipped):
    """No path of the machine that built it, nothing from the root of a site, nothing that another host would serve."""
    found = []
    for path in unzipped.rglob("*.html"):
        text = path.read_text("utf-8")
        found += [(path.name, own) for own in {str(ROOT), sys.prefix, str(Path.home())} - {"/"} if f"{own}/" in text]
        found += [(path.name, host) for host in re.findall(r"unpkg|jsdelivr|cdnjs|requirejs", text)]
        soup = tree_of(path)
        loaded = soup.select("[src], link[href]:not([rel=canonical])")
        places = [tag.get("src") or tag["href"] for tag in loaded]
        places += [tag["href"] for tag in soup.select("a[href^='/']")]
        found += [(path.name, place) for place in places if re.match(r"https?:|//?|file:", place)]
    assert found == []


def test_sliders_move_without_a_kernel(unzipped):
    """The widget needs a kernel and a script from elsewhere: a page has the browser's own controls in its place."""
    for chapter in CHAPTERS:
        cells = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
        sliders = sum("slide(" in "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        page = unzipped / "rwkv-explained" / f"{chapter}.html"
        assert "vnd.jupyter.widget" not in page.read_text("utf-8")
        cells = tree_of(page).select("div.cell:has(.cell_input)")
        cells = [cell for cell in cells if "slide(" in cell.select_one(".cell_input").get_text()]
        drawn = [cell for cell in cells if cell.select_one(".cell_output .rwkv-live .lv-controls")]
        assert len(drawn) == sliders, chapter


def test_nothing_is_packed_without_a_built_book(tmp_path):
    with pytest.raises(FileNotFoundError, match="make book"):
        pack(tmp_path, tmp_path / "book.zip")


def test_a_pack_that_breaks_off_leaves_the_old_one(tmp_path, monkeypatch):
    site, target = tmp_path / "site", tmp_path / "book.zip"
    site.mkdir()
    (site / "index.html").write_text("first")
    pack(site, target)
    before = target.read_bytes()
    (site / "index.html").write_text("second")

    def no_room(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(zipfile.ZipFile, "write", no_room)
    with pytest.raises(OSError, match="no space left"):
        pack(site, target)
    assert target.read_bytes() == before
