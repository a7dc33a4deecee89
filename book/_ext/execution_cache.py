"""Sphinx extension: a chapter runs again whenever anything that its outputs depend on has changed.

jupyter-cache recognizes an executed chapter by its cells alone. A chapter that computes with the package would so keep
showing what an older package computed. Hence the cache's folder is named after the rest: the package's sources and
data, the bundled weights, the pinned tools and the chosen model. Any change means another folder, in which nothing has
run yet.

Chapters that have to run do so before Sphinx reads the first page, one on each processor, four at most, and leave
what came out in that folder. MyST-NB, which would run one after the other, then finds all of them there.

Sphinx itself does not notice a changed style sheet; so that pages get it, the static files' hash is made a setting.
"""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger

LOGGER = getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
CHOSEN_MODEL = "RWKV_EXPLAINER_MODEL"  # the environment variable that `load_pretrained` reads
TOKENIZERS = "tokenizer.json", "20B_tokenizer.json"  # what it looks for beside a model's file
AT_ONCE = 4  # chapters, however many processors there are: each takes up to a gigabyte
THREADS = "OMP_NUM_THREADS"  # read by PyTorch
BUILDING = "RWKV_EXPLAINER_BUILDING"  # read by `claims.py` (a false claim stops the build) and `sliders.py`


def fingerprint(root: Path, model: str = "") -> str:
    """A short name for everything but the chapters that the chapters' outputs depend on.

    Args:
        root: the repository.
        model: the chosen model, a name or a path; of a file at that path, and of a tokenizer beside it, size and time
            of change count too.
    """
    package = root / "rwkv_explainer"
    files = [path for path in package.rglob("*") if path.is_file() and not is_scratch(path.relative_to(package))]
    digest = hash_files(root, [root / "requirements.txt", *files])
    digest.update(f"model {model}\n".encode())
    if os.path.isfile(model):  # unlike Path.is_file, False for any text that is no path
        for file in filter(Path.is_file, (Path(model), *(Path(model).with_name(name) for name in TOKENIZERS))):
            digest.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def hash_files(root: Path, files: list[Path]) -> "hashlib._Hash":
    """A hash over the files' paths below `root` and their contents."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest


def is_scratch(path: Path) -> bool:
    """Compiled files, and what editors and file managers leave behind: no chapter reads them."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def chosen_model() -> str:
    """The model that the chapters will load; a path made absolute, since they run in the folder book.

    Links are kept: in the Hugging Face cache, the name and the tokenizer are the link's, not those of the file behind.
    """
    model = os.environ.get(CHOSEN_MODEL, "")
    path = Path(os.path.expanduser(model))
    return str(path.absolute()) if os.path.isfile(path) else model


def configure(app: Sphinx, config: Config) -> None:
    """Point MyST-NB to this state's cache, and note the state of the static files."""
    os.environ[CHOSEN_MODEL] = model = chosen_model()
    os.environ[BUILDING] = "1"
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache" / fingerprint(ROOT, model))
    static = [path for path in Path(app.srcdir, "_static").rglob("*") if path.is_file()]
    config.static_files = hash_files(Path(app.srcdir), static).hexdigest()


def run_chapters(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Run those of these pages that are notebooks and have not run yet, one on each of up to four processors.

    Only where MyST-NB looks into the cache. One that fails is left to it: it runs it again and reports it in its place.
    """
    if app.config.nb_execution_mode != "cache":
        return
    place = app.config.nb_execution_cache_path
    cache = get_cache(place)
    chapters = {}  # by their cells, as in the cache: two at once must not write to the same place
    notebooks = [path for path in (str(env.doc2path(name)) for name in docnames) if path.endswith(".ipynb")]
    for path in sorted(notebooks, key=os.path.getsize, reverse=True):  # no long one is left to run alone at the end
        cache.add_nb_to_project(path)
        _, key = cache.create_hashed_notebook(cache.get_project_notebook(path).nb)
        chapters.setdefault(key, path)

    def run(path: str) -> None:
        executor = load_executor("local-serial", get_cache(place), LOGGER)
        executor.run_and_cache(filter_uris=[path], timeout=app.config.nb_execution_timeout)

    with one_thread_each(), ThreadPoolExecutor(min(AT_ONCE, os.cpu_count() or 1)) as pool:
        list(pool.map(run, chapters.values()))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Start processes that compute with one thread: each has a processor of its own."""
    before = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, "1")
    yield
    if before is None:
        del os.environ[THREADS]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("static_files", "", rebuild="html")
    app.connect("config-inited", configure)
    app.connect("env-before-read-docs", run_chapters)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
