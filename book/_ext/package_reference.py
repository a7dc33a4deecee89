"""Sphinx extension: the package's docstrings and annotations, as they were written, for the page api.md.

The page says which names it has, in groups, by what one wants to do with them:

    ```{package-names}
    rwkv_explainer.lab.decay: decay_rates half_lives
    ```

autodoc imports the package; what it would show of the annotations is what they became: `Float[Tensor, "*batch ..."]`
where the code says `Embedding`. So signatures are taken from the source. Docstrings here are plain text: their stars,
backquotes and indented examples are turned into reStructuredText, the names of the package and the titles of chapters
become links, and what a comment says beside a field or a shape is told too.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PACKAGE = "rwkv_explainer"
PAGE = Path(__file__).resolve().parents[1] / "api.md"
COMMENTED = re.compile(r"^ *(\w+)(?:: [^#]+?)?(?: = [^#]+?)?  # (.+)$")


def groups() -> list[dict[str, list[str]]]:
    """The names that api.md asks for, block by block: of each module, which. No names stand for the module itself."""
    blocks = re.findall(r"^```\{package-names\}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [parse(block.splitlines()) for block in blocks]


def parse(lines: Iterable[str]) -> dict[str, list[str]]:
    """One block: a module and its names on each line."""
    return {module: names.split() for module, _, names in (line.partition(":") for line in lines if line.strip())}


@cache
def modules() -> dict[str, ModuleType]:
    """The package and every module that api.md has names of."""
    return {name: import_module(name) for name in (PACKAGE, *(name for group in groups() for name in group))}


@cache
def documented() -> dict[str, str]:
    """What api.md has an entry for: each full name, and the short one that docstrings use for it.

    Raises:
        ValueError: if the page asks for a name that its module does not offer.
    """
    names = {}
    for module, wanted in ((module, wanted) for group in groups() for module, wanted in group.items()):
        for name in wanted:
            obj = getattr(modules()[module], name, None)
            if obj is None or not inspect.getdoc(obj):
                raise ValueError(f"{PAGE}: expected names with a docstring, but {module} has no such {name}")
            names[f"{module}.{name}"] = name
            methods = vars(obj).items() if inspect.isclass(obj) else ()
            names |= {f"{module}.{name}.{method}": method for method, value in methods if is_told(method, value)}
    return names | {f"{PACKAGE}.shapes.{name}": name for name, _, _ in shapes()}


def is_told(name: str, value: object) -> bool:
    """Whether a class's attribute is a public method or property with a docstring."""
    value = getattr(value, "__func__", value)
    return name[0] != "_" and (inspect.isfunction(value) or isinstance(value, property)) and bool(value.__doc__)


def shapes() -> list[tuple[str, str, str]]:
    """The names in shapes.py: what each is, and what its comment says."""
    source = inspect.getsource(import_module(PACKAGE + ".shapes"))
    lines = source.splitlines()
    return [
        (node.targets[0].id, ast.unparse(node.value), lines[node.lineno - 1].partition("  # ")[2])
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and node.targets[0].id[0] != "_"
    ]


def full_name(short: str, near: str) -> str | None:
    """The entry that a docstring means by a name: the nearest to the object it belongs to, else the only one."""
    short = short.removesuffix("()").removeprefix("rwkv.").removeprefix(PACKAGE + ".")
    while near:
        if f"{near}.{short}" in documented():
            return f"{near}.{short}"
        near = near.rpartition(".")[0]
    ends = [full for full in documented() if full.endswith("." + short)]
    return ends[0] if len(ends) == 1 else None


# ---------------------------------------------------------------------------------------------------------------------
# signatures


def written_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """The arguments and what is returned, word for word as in the source."""
    if what not in ("function", "class", "exception", "method", "property"):
        return signature, returns
    try:
        node = ast.parse(inspect.cleandoc("\n" + inspect.getsource(obj))).body[0]
    except (OSError, TypeError, SyntaxError):
        return signature, returns
    if isinstance(node, ast.ClassDef):
        inits = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        if not inits:
            return fields(node) if hasattr(obj, "__dataclass_fields__") else "", None
        node = inits[0]
    if what == "property":
        return "", None
    if node.args.args and node.args.args[0].arg in ("self", "cls") and what in ("class", "method", "exception"):
        del node.args.args[0]
    returned = ast.unparse(node.returns) if node.returns and node.name != "__init__" else None
    return f"({ast.unparse(node.args)})", None if returned == "None" else returned


def fields(node: ast.ClassDef) -> str:
    """The arguments of a dataclass."""
    parts = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign):
            kept = part.value if not isinstance(part.value, ast.Call) else None  # field(...) says how, not what
            parts.append(
                ast.unparse(part.target)
                + ": "
                + ast.unparse(part.annotation)
                + (f" = {ast.unparse(kept)}" if kept else "")
            )
    return f"({', '.join(parts)})"


# ---------------------------------------------------------------------------------------------------------------------
# docstrings


def as_restructured(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn a docstring into reStructuredText, in place; napoleon reads its sections afterwards."""
    titles = chapters(app.env)
    if what == "module":  # autodoc takes the indentation of an example for the docstring's own
        lines[:] = obj.__doc__.splitlines()
    lines[:] = [line if is_example else marked_up(line, name, titles) for line, is_example in with_examples(lines)]
    for n in [n for n, line in enumerate(lines) if line == "Returns:"]:  # napoleon takes all before a colon for a type
        lines[n + 1] = lines[n + 1].replace("    ", "    : ", 1)
    if what in ("class", "exception") and hasattr(obj, "__dataclass_fields__"):
        told = [match for line in inspect.getsource(obj).splitlines() if (match := COMMENTED.match(line))]
        told = [match for match in told if match[1] in obj.__dataclass_fields__]
        lines += ["", "Attributes:"] * bool(told)
        lines += [f"    {match[1]}: {marked_up(match[2], name, titles)}" for match in told] + [""]
    if what == "module" and name == PACKAGE + ".shapes":
        lines.append("")
        for short, annotation, comment in shapes():
            words = marked_up(comment, name, titles)
            lines += [f".. py:data:: {short}", f"   :type: {annotation}", "", f"   {words}", ""]


def with_examples(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is part of an indented example: those get the colons that make them one."""
    example, before = False, ""
    for n, line in enumerate(lines):
        if line.strip() and not line.startswith(" "):
            example = False
        elif line.startswith("    ") and not example and n and not lines[n - 1].strip() and before[:1] not in ("", " "):
            example = True
            yield "::", True
            yield "", True
        yield line, example
        before = line if line.strip() else before


def marked_up(line: str, near: str, titles: dict[str, str]) -> str:
    """One line: stars and bars as they are, code as code, names and titles as links."""
    parts = re.split(r"`([^`]+)`", line)
    for n, part in enumerate(parts):
        if n % 2 == 0:
            part = re.sub(r"(?<![\w\\])\*(\w[\w ]*)\*(?!\w)|([*|\\])", lambda m: m[0] if m[1] else "\\" + m[2], part)
            part = re.sub(r"(?<=\w)_(?!\w)", r"\\_", part)
            link = lambda m: f":doc:`{m[1]} </{titles[m[1]]}>`" if m[1] in titles else m[0]
            parts[n] = re.sub(r'"([^"]+)"', link, part)
        else:
            known = full_name(part, near) if re.fullmatch(r"[\w.]+(\(\))?", part) else None
            parts[n] = f":py:obj:`{part} <{known}>`" if known and known != near else f"``{part}``"
    return "".join(parts)


@cache
def title_of(path: Path) -> str:
    """The title of a chapter: its first heading.

    Raises:
        ValueError: if the first cell has none.
    """
    first, *_ = json.loads(path.read_text(encoding="utf-8"))["cells"]
    titles = [line[2:].strip() for line in "".join(first["source"]).splitlines() if line.startswith("# ")]
    if not titles:
        raise ValueError(f"{path}: expected the chapter's title in its first cell, such as '# Time decay', found none")
    return titles[0]


def chapters(env: BuildEnvironment) -> dict[str, str]:
    """The chapters' titles, and the names of their documents."""
    paths = {name: Path(env.doc2path(name)) for name in env.found_docs}
    return {title_of(path): name for name, path in paths.items() if path.suffix == ".ipynb"}


# ---------------------------------------------------------------------------------------------------------------------
# the page


class PublicNames(Directive):
    """A table of what `import rwkv_explainer as rwkv` offers, where the page says `{public-names}`."""

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        for module in modules().values():
            env.note_dependency(module.__file__)
        lines = ["| name | what it is |", "|---|---|"]
        for name, obj in sorted(public_names().items(), key=lambda item: item[0].lower()):
            parts = inspect.getdoc(obj).partition("\n")[0].split("`")
            summary = "`".join(part if n % 2 else part.replace("*", "\\*") for n, part in enumerate(parts))
            lines.append(f"| {{py:obj}}`rwkv.{name} <{obj.__module__}.{name}>` | {summary} |")
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source=__file__), self.content_offset, container)
        return container.children


class PackageNames(Directive):
    """An entry for each name of a block `{package-names}`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines = ["```{eval-rst}"]
        for module, names in parse(self.content).items():
            lines += [] if names else [f".. automodule:: {module}", ""]
            for name in names:
                kind = "class" if inspect.isclass(getattr(modules()[module], name)) else "function"
                lines += [f".. auto{kind}:: {module}.{name}"]
                lines += ["   :members:", "   :member-order: bysource"] * (kind == "class") + [""]
        container = nodes.container()
        self.state.nested_parse(StringList([*lines, "```"], source=__file__), self.content_offset, container)
        return container.children


def public_names() -> dict[str, object]:
    """What the package itself offers."""
    package = modules()[PACKAGE]
    return {name: getattr(package, name) for name in package.__all__}


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    """A name in a signature: to its entry if the package has one, else, as it is Python's or a library's, no link."""
    if node.get("refdomain") != "py" or node.get("reftype") not in ("class", "data"):
        return None
    context = ".".join(filter(None, (node.get("py:module"), node.get("py:class"))))
    full = full_name(node["reftarget"], context) if not node["reftarget"].startswith("collections.") else None
    entry = env.get_domain("py").objects.get(full) if full else None
    if not entry:
        return contnode
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, full)


def plain_lines(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.Node | None) -> None:
    """Sphinx writes a long signature's parameters as a definition list without terms; screen readers stumble there."""

    def lines(found: re.Match[str]) -> str:
        return found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")

    context["body"] = re.sub(r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>", lines, context.get("body", ""), flags=re.DOTALL)


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.connect("config-inited", lambda app, config: setattr(config, "napoleon_use_ivar", True))  # fields, not entries
    app.add_directive("public-names", PublicNames)
    app.add_directive("package-names", PackageNames)
    app.connect("autodoc-process-signature", written_signature)
    app.connect("autodoc-process-docstring", as_restructured, priority=400)  # napoleon comes at 500
    app.connect("missing-reference", resolve)
    app.connect("html-page-context", plain_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
