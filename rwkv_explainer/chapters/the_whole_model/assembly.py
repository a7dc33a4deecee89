"""The classes that a reader built, collected from the notebooks of the chapters that build them."""

import ast
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

import rwkv_explainer
from rwkv_explainer import shapes

__all__ = ["BUILT_IN", "Built", "collect_classes"]

BUILT_IN = {  # what each chapter builds, in an order in which each class finds those that it uses
    "embedding-and-unembedding": ("TokenEmbedding", "Unembedding"),
    "blocks-and-the-residual-stream": ("RWKVBlock", "RWKV"),
    "the-gated-mlp": ("Mixer", "SquaredReLU", "GatedMLP"),
    "attention-and-memory": ("WKVMemory", "AttentionBlock"),
}


@dataclass(frozen=True)
class Built:
    """A class, and where it was found."""

    made: type[nn.Module]
    chapter: str
    origin: str  # "your answer", "the chapter", "its solution", or "the package" where there is no such notebook
    lines: int  # of code


def collect_classes(folder: Path | str = ".") -> dict[str, Built]:
    """The pieces of the model as the notebooks in a folder define them, by name.

    A class is taken from the reader's answer; where the three dots still stand there, from the exercise's solution. In
    its code `rwkv.Mixer` and the like are the classes collected so far. Where a notebook is missing, as in a notebook
    that was opened alone, this book's package has the classes.

    Args:
        folder: where the chapters lie. What they define is run, as a notebook would run it.

    Raises:
        Exception: whatever the reader's own code raises while its class is made.
    """
    built: dict[str, Built] = {}
    for chapter, names in BUILT_IN.items():
        path = Path(folder) / f"{chapter}.ipynb"
        found = dict(definitions(path)) if path.is_file() else {}
        scope = names_in_chapters(built)
        for name, (code, _) in found.items():
            exec(compile(code, f"{chapter}.ipynb, class {name}", "exec"), scope)
        for name in names:
            code, origin = found.get(name, ("", "the package"))
            made = scope[name] if name in found else getattr(rwkv_explainer, name)
            built[name] = Built(made, chapter, origin, len(code.splitlines()))
    return built


def definitions(notebook: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each class that a notebook defines: its name, its code, and whose it is. Of several, one without gaps."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    taken = set()
    for cell in sorted(cells, key=is_solution):  # solutions last
        code = "".join(cell["source"])
        origin = "its solution" if is_solution(cell) else "your answer" if "answer" in tags(cell) else "the chapter"
        for node in classes_in(code):
            if node.name not in taken and not has_gap(node):
                taken.add(node.name)
                yield node.name, (ast.get_source_segment(code, node), origin)


def tags(cell: dict) -> Sequence[str]:
    return cell["metadata"].get("tags", [])


def is_solution(cell: dict) -> bool:
    return "solution" in tags(cell)


def classes_in(code: str) -> list[ast.ClassDef]:
    """The classes of a cell; none of a cell that is not Python, such as one that is half written."""
    try:
        return [node for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    except SyntaxError:
        return []


def has_gap(node: ast.ClassDef) -> bool:
    """Whether three dots still stand where an answer should be."""
    statements = (part.value for part in ast.walk(node) if isinstance(part, ast.Expr | ast.Assign | ast.Return))
    return any(isinstance(value, ast.Constant) and value.value is Ellipsis for value in statements)


def names_in_chapters(built: dict[str, Built]) -> dict[str, object]:
    """What the chapters' set-up cells import, with the reader's classes in place of the package's."""
    own = {name: one.made for name, one in built.items()}
    of_shapes = {name: getattr(shapes, name) for name in shapes.__all__}
    rwkv = SimpleNamespace(**vars(rwkv_explainer) | own)
    torchs = {"torch": torch, "nn": nn, "exp": torch.exp, "sigmoid": torch.sigmoid, "relu": torch.relu}
    return {"__name__": "chapters", **of_shapes, **torchs, **own, "rwkv": rwkv}
