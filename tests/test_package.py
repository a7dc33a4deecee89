"""The package as others get it: installed somewhere else, whole, light, and as the README says."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import jedi
import pytest

import rwkv_explainer
from execution_cache import CHOSEN_MODEL
from test_colab_lab_zip import borrow_torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rwkv_explainer"
HEAVY = {"matplotlib", "torchview", "pygraphviz", "transformers", "huggingface_hub", "beartype", "IPython"}
TOP = ["LICENSE", "LICENSE-TEXT", "MANIFEST.in", "README.md", "pyproject.toml"]  # what the package is built with
PIP = [sys.executable, "-m", "pip"]
OFFLINE = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]


def python(code: str, *path: Path) -> str:
    """What a new Python prints when it runs `code`, away from the repository."""
    setup = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n"
    command = [sys.executable, "-W", "error", "-c", setup + code]
    done = subprocess.run(command, cwd=Path(sys.prefix), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def archives(tmp_path_factory) -> tuple[Path, Path]:
    """The source archive of the files that git has here, and the wheel that was built from it and from nothing else."""
    repository, built = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("built")
    for name in tracked():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, repository / name)
    build = f"import setuptools.build_meta as backend; backend.build_sdist({str(built)!r})"
    run(sys.executable, "-c", build, cwd=repository)
    (source,) = built.glob("*.tar.gz")
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", built, source)
    return source, next(built.glob("*.whl"))


def run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def tracked() -> list[str]:
    """What git has in this repository or would add, the book and the other tests left out."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", PACKAGE.name, "tests", *TOP]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()})


@pytest.fixture(scope="session")
def installed(archives, tmp_path_factory) -> Path:
    """The folder into which pip installed the wheel, without what it depends on."""
    target = tmp_path_factory.mktemp("target")
    run(*PIP, "install", *OFFLINE, "--target", target, archives[1])
    return target


def test_the_archives_are_whole(archives):
    """Both hold every file of the package; the source archive the files at the top too, and no part of the tests."""
    package = {name for name in tracked() if name.startswith(f"{PACKAGE.name}/")}
    with tarfile.open(archives[0]) as source:
        names = {member.name.partition("/")[2] for member in source.getmembers() if member.isfile()}
    made = {name for name in names if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    assert names - made == package | set(TOP)
    with zipfile.ZipFile(archives[1]) as wheel:
        info = f"rwkv_explainer-{rwkv_explainer.__version__}.dist-info"
        assert {name for name in wheel.namelist() if not name.startswith(f"{info}/")} == package
        assert {f"{info}/licenses/LICENSE", f"{info}/licenses/LICENSE-TEXT"} <= set(wheel.namelist())


@pytest.mark.colab
def test_the_wheel_in_an_empty_folder_works(archives, tmp_path):
    """In a new Python with PyTorch and what pip brings along with the wheel: the model answers, and checks judge."""
    venv.create(tmp_path / "python", with_pip=True)
    other = tmp_path / "python" / "bin" / "python"
    borrow_torch(tmp_path / "torch")
    where = subprocess.run(
        [other, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    )
    Path(where.stdout.strip(), "torch.pth").write_text(f"{tmp_path / 'torch'}\n")
    run(other, "-m", "pip", "install", "--quiet", archives[1])
    (tmp_path / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", CHOSEN_MODEL)}
    done = subprocess.run(
        [other, "-c", IN_AN_EMPTY_FOLDER], cwd=tmp_path / "empty", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "city of Paris" in done.stdout
    assert done.stdout.split()[-3:] == ["True", "True", "False"]


IN_AN_EMPTY_FOLDER = """
import sys
import rwkv_explainer as rwkv
from rwkv_explainer.exercises import check

model, tokenizer = rwkv.load_pretrained()
model.generate("The Eiffel Tower is located in the city of", N=3, temperature=0.0)
answers = (lambda half_life: (0.6931472 / half_life).log()), (lambda half_life: 0.6931472 / half_life)
right, wrong = (bool(check("decay-for-half-life", answer)) for answer in answers)
print()
print(rwkv.__file__.startswith(sys.prefix), right, wrong)
"""


def test_installed_package_works(installed):
    """It is imported from where it was installed, finds its data, and tells its version."""
    said = python(
        "from importlib.metadata import version\n"
        "import rwkv_explainer\n"
        "from rwkv_explainer.lab.atlas import load_atlas\n"
        "print(rwkv_explainer.__file__, rwkv_explainer.__version__, version('rwkv-explainer'), len(load_atlas()) > 0)",
        installed,
    )
    version = rwkv_explainer.__version__
    assert said.split() == [str(installed / PACKAGE.name / "__init__.py"), version, version, "True"]


def test_importing_is_light(installed):
    loaded = python("import rwkv_explainer\nprint(*{name.partition('.')[0] for name in sys.modules})", installed)
    assert HEAVY & set(loaded.split()) == set()


def test_every_dependency_is_pinned():
    """Whatever pyproject.toml asks for, requirements.txt pins exactly, once, and without a range."""
    pins = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    names = [normalize(pin.partition("==")[0]) for pin in pins]
    assert len(set(names)) == len(names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    asked = {normalize(re.match(r"[\w.-]+", name)[0]) for name in asked} - {"rwkv-explainer"}
    assert asked - set(names) == set()


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_readme_example_runs(installed):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 10
    said = python(code, installed)
    assert "The Eiffel Tower is located in the city of Paris" in said


EMPTY = {"chapters/playground/figures.py"}  # a chapter without figures of its own
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py" and path.relative_to(PACKAGE).as_posix() not in EMPTY
]


@pytest.mark.parametrize("name", ["rwkv_explainer", "rwkv_explainer.exercises", *MODULES])
def test_a_module_says_what_is_public(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public) and not public.startswith("_"), public


def test_the_package_offers_few_names():
    assert len(rwkv_explainer.__all__) <= 25


COMPLETED = ["generate", "read", "tokenizer", "name", "snapshot", "detach", "clear_buffers", "logits"]


@pytest.mark.parametrize("begins", COMPLETED)
def test_an_editor_completes(begins):
    """By jedi, which runs nothing: what `load_pretrained` returns has these attributes."""
    code = f"import rwkv_explainer as rwkv\nmodel, tokenizer = rwkv.load_pretrained()\nmodel.{begins[:-1]}"
    project = jedi.Project(ROOT)
    names = {completion.name for completion in jedi.Script(code, project=project).complete()}
    assert begins in names
