"""The package as others get it: installed somewhere else, whole, light, and as the README says."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jedi
import pytest

import rwkv_explainer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rwkv_explainer"
HEAVY = {"matplotlib", "torchview", "pygraphviz", "transformers", "huggingface_hub", "beartype", "IPython"}


def python(code: str, *path: Path) -> str:
    """What a new Python prints when it runs `code`, away from the repository."""
    setup = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n"
    command = [sys.executable, "-W", "error", "-c", setup + code]
    done = subprocess.run(command, cwd=Path(sys.prefix), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """The folder into which pip installed a copy of the repository, without what it depends on."""
    repository, target = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("target")
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, repository)
    shutil.copytree(PACKAGE, repository / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(repository)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_installation_is_whole(installed):
    def files(folder: Path) -> set[str]:
        return {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(installed / PACKAGE.name) == files(PACKAGE)
    licences = {path.name for path in installed.glob("*.dist-info/licenses/*")}
    assert licences == {"LICENSE", "LICENSE-TEXT"}


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
