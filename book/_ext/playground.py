"""Sphinx extension: the bundled model, alive in the pages that ask for it, and in no other.

A page asks with lines of HTML. What stands between the tags is said where there is no playground, as in a notebook.

    <div class="rwkv-playground">The whole playground, its first example at once.</div>
    <div class="rwkv-playground" data-panels="text ends" data-texts="One text | Another">Only these panels, as a figure
    of a chapter. If one of its texts is in `playground_numbers.EXAMPLES`, that is there when the reader gets near, and
    the model comes when it is asked for; else a button loads all. data-layer and data-channel say where to look first,
    counted from 1, channels from the one that forgets fastest; data-channel-index names a channel by its index in the
    model's tensors, from 0.</div>

From `book/_playground` and the bundled model this makes the folder `playground` of the built book: the scripts, the
weights as int8 numbers with a scale a row, the tokenizer, and a few examples worked out beforehand with those weights.
All of it are classic scripts, numbers in base64, so that a page works from a server and from the disk alike. What is
made is kept, named by a hash of all that it is made of.

The tokenizer's code and the assembler for the kernel come from npm; `make install` put them into the environment.
Where they could not be had, the page has the examples, and says so.
"""

import base64
import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from functools import cache
from html import escape, unescape
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.console import bold

from execution_cache import fingerprint

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "book" / "_playground"
BUNDLED = ROOT / "rwkv_explainer" / "bundled"
PACKAGES = Path(sys.prefix) / "playground" / "node_modules"  # where `make install` puts what comes from npm
STYLE = "playground.css"
SCRIPTS = ("data.js", "kernel.js", "text.js", "model.js", "experiments.js", "pictures.js", "app.js")  # of a figure
ALL_SCRIPTS = (*SCRIPTS[:-1], "checkpoint.js", SCRIPTS[-1])  # of the whole playground, which loads them at once
PLACE = re.compile(r'<div class="rwkv-playground"( [^>]*)?>.*?</div>', re.DOTALL)
CHUNK = 720_000  # bytes of weights in a file, so that loading shows its progress

logger = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------------------------------
# the folder


@cache
def version() -> str:
    """A short name for everything that the playground is made of."""
    return short_hash(numbers_version(), Path(__file__), *sorted(SOURCES.glob("*")), PACKAGES / ".package-lock.json")


@cache
def numbers_version() -> str:
    """The same for weights and examples alone, which take longer: the package, its model, and how it is asked."""
    return short_hash(fingerprint(ROOT), Path(__file__).with_name("playground_numbers.py"))


def short_hash(name: str, *files: Path) -> str:
    digest = hashlib.sha256(name.encode())
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()[:12]


def make(folder: Path) -> None:
    """Make all files of the playground in `folder`, unless they are there. What takes long is kept beside it."""
    if (folder / "examples.html").exists():
        return
    manifest, data, examples = numbers(folder.parent / f"numbers-{numbers_version()}.pickle")
    parts = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    whole = PACKAGES.is_dir()
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for i, example in enumerate(examples):
        write(new / f"example-{i}.js", f"example{i}", example)
    if whole:
        for i, part in enumerate(parts):
            write(new / f"weights-{i}.js", f"weights{i}", base64.b64encode(part).decode())
        (new / "tokenizer.js").write_text(tokenizer_script(), encoding="utf-8")
    write(new / "kernel.js", "kernel", base64.b64encode(assemble()).decode() if whole else None)
    for source in SOURCES.glob("*.js"):
        shutil.copy(source, new)
    (new / STYLE).write_text(style_sheet(), encoding="utf-8")
    download = size(new, "weights-*.js") + size(new, "tokenizer.js")
    told = {"bytes": len(data), "chunks": len(parts), "chunk": CHUNK, "download": download, "whole": whole}
    told["checkpoint"] = checkpoint_names()
    write(new / "data.js", "manifest", manifest | told)
    (new / "examples.html").write_text(examples_in_words(examples), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def checkpoint_names() -> dict[str, list]:
    """What the page has to know to open an RWKV-4 from a file: its tensors' names, and how other architectures look."""
    from rwkv_explainer.checkpoints import KEYS, OTHER_ARCHITECTURES

    keys = [
        {"upstream": key.upstream_name, "hf": key.hf_name, "name": key.name, "shape": key.stored_shape} for key in KEYS
    ]
    return {"keys": keys, "others": list(OTHER_ARCHITECTURES.items())}


def numbers(kept: Path) -> tuple[dict, bytes, list[dict]]:
    """What `playground_numbers.everything` gives, worked out once."""
    if not kept.exists():
        from playground_numbers import everything  # needs PyTorch, which takes seconds to load

        logger.info(bold("playground: ") + "rounding the weights and working out the examples")
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(".new")
        new.write_bytes(pickle.dumps(everything()))
        new.rename(kept)
    return pickle.loads(kept.read_bytes())


def size(folder: Path, pattern: str) -> int:
    """How many bytes these files take."""
    return sum(path.stat().st_size for path in folder.glob(pattern))


def write(path: Path, name: str, value: object) -> None:
    """A classic script that hands over a value."""
    said = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text(f"(globalThis.rwkvPlayground ??= {{}}).{name} = {said};\n", encoding="utf-8")


def style_sheet() -> str:
    """The style sheet, with the book's hues."""
    from rwkv_explainer.drawing.palette import css_hues  # the package brings PyTorch

    return css_hues(".rwkv-playground") + "\n" + (SOURCES / STYLE).read_text(encoding="utf-8")


def tokenizer_script() -> str:
    """The tokenizer's library, wrapped so that it leaves nothing else behind, and the tokenizer's data."""
    library = PACKAGES / "@huggingface" / "tokenizers"
    licence = "/*! @huggingface/tokenizers, Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0 */"
    code = (library / "dist" / "tokenizers.min.cjs").read_text(encoding="utf-8")
    data = json.dumps(json.loads((BUNDLED / "tokenizer.json").read_text(encoding="utf-8")), separators=(",", ":"))
    # Decoding must not tidy spaces up, or a token's text would depend on the one before it.
    return f"""{licence}
(function (playground) {{ const module = {{ exports: {{}} }}; let exports = module.exports;
{code}
playground.makeTokenizer = (data) => new module.exports.Tokenizer(data, {{ clean_up_tokenization_spaces: false }});
playground.tokenizerData = {data};
}})((globalThis.rwkvPlayground ??= {{}}));
"""


def assemble() -> bytes:
    """The kernel as WebAssembly."""
    command = ["node", str(SOURCES / "assemble.cjs"), str(PACKAGES / "wabt"), str(SOURCES / "kernel.wat")]
    return subprocess.run(command, check=True, capture_output=True, env=environment()).stdout


def environment() -> dict[str, str]:
    """With the environment's own node first."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


# ---------------------------------------------------------------------------------------------------------------------
# the pages


def examples_in_words(examples: list[dict]) -> str:
    """What a page without scripts shows: each example's answer, continuation, and what each layer would have said."""
    parts = []
    for example in examples:
        prompt, moments = example["prompt"], example["moments"]
        said = moments[prompt - 1]
        rows = "".join(f"<tr><td>{visible(text)}</td><td>{p:.1%}</td></tr>" for _, p, text in said["next"][:5])
        layers = "".join(
            f"<tr><td>{i or 'embedding'}</td><td>{visible(best[0][2])}</td><td>{best[0][1]:.1%}</td></tr>"
            for i, best in enumerate(said["lens"])
        )
        parts.append(
            f"<section><p><strong>{escape(example['text'])}</strong>{escape(example['after'])}</p>"
            f"<table><thead><tr><th>next token</th><th>probability</th></tr></thead><tbody>{rows}</tbody></table>"
            "<details><summary>What each layer would have said</summary><table><thead><tr><th>after layer</th>"
            f"<th>likeliest</th><th>probability</th></tr></thead><tbody>{layers}</tbody></table></details></section>"
        )
    return "\n".join(parts)


def visible(token: str) -> str:
    """A token's text as HTML, its spaces made visible."""
    return escape(token.replace(" ", "·").replace("\n", "↵"))


def whole(prefix: str, made: Path) -> str:
    """The playground's HTML: the examples in words, which the scripts replace."""
    scripts = "".join(f'<script defer src="{prefix}{name}{stamp()}"></script>' for name in ALL_SCRIPTS)
    return (
        f'<link rel="stylesheet" href="{prefix}{STYLE}{stamp()}"><div class="rwkv-playground" {where(prefix)}>'
        '<div class="rwkv-playground-words"><noscript><p>The playground needs scripts, and this browser runs none. '
        "Here is what the model answered when this page was built.</p></noscript>\n"
        f"{(made / 'examples.html').read_text(encoding='utf-8')}</div></div>{scripts}"
    )


def figure(prefix: str, made: Path, asked: str) -> str:
    """A chapter's figure before it is live, and its button. `asked`: the page's own attributes."""
    stored = " data-stored" * is_stored(made, asked)
    alive = size(made, "weights-*.js") > 0
    first = ("weights-*.js", "tokenizer.js") if alive else ("example-0.js",)
    megabytes = sum(size(made, name) for name in (*first, STYLE, *SCRIPTS)) / 1e6
    does = "Make it live" if alive else "Show examples"
    return (
        f'<div class="rwkv-playground" role="region" aria-label="Live figure" tabindex="-1"{asked}{stored} '
        f'{where(prefix)} data-files="{STYLE} {" ".join(SCRIPTS)}"><button type="button" class="rwkv-start" hidden>'
        f"{does}: loads {megabytes:.1f} MB</button><noscript><p>Here the model runs in the page. That needs "
        "scripts, and this browser runs none.</p></noscript></div>"
        f"<script>{(SOURCES / 'start.js').read_text(encoding='utf-8')}</script>"
    )


def is_stored(made: Path, asked: str) -> bool:
    """Whether one of the texts that a figure shows is an example, worked out beforehand."""
    texts = re.search(r'data-texts="([^"]*)"', asked)
    manifest = json.loads((made / "data.js").read_text(encoding="utf-8").partition(" = ")[2].rstrip(";\n"))
    known = {example["text"] for example in manifest["examples"]}
    return bool(texts) and not known.isdisjoint(unescape(texts[1]).split(" | "))


def where(prefix: str) -> str:
    """A classic script cannot ask where it lies once it runs later, so it is told."""
    return f'data-folder="{prefix}" data-stamp="{stamp()}"'


def stamp() -> str:
    return f"?v={version()}"


def made_in(app: Sphinx) -> Path:
    """The folder that holds this version's files, made if need be."""
    folder = Path(app.outdir).parent / ".playground" / version()
    make(folder)
    for other in folder.parent.iterdir():  # what older versions left
        if other.is_dir() and other != folder:
            shutil.rmtree(other)
        elif other.is_file() and numbers_version() not in other.name:
            other.unlink()
    return folder


def fill(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Put the playground where a page asks for it."""
    body = context.get("body") or ""
    if PLACE.search(body):
        prefix = context["pathto"]("playground/", 1)
        made = made_in(app)
        figures = PLACE.sub(lambda place: figure(prefix, made, place[1]) if place[1] else whole(prefix, made), body)
        context["body"] = figures


def note(app: Sphinx, doctree) -> None:
    """Remember which pages ask for a playground."""
    if any(PLACE.search(node.astext()) for node in doctree.findall() if node.tagname == "raw"):
        app.env.metadata[app.env.docname]["playground"] = True


def copy(app: Sphinx, error: Exception | None) -> None:
    """Put the files beside the pages, unless this version's are there already."""
    if error or app.builder.format != "html" or not any("playground" in data for data in app.env.metadata.values()):
        return
    made, target = made_in(app), Path(app.outdir) / "playground"
    stamp = target / "version"
    if not stamp.exists() or stamp.read_text() != version():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target, ignore=shutil.ignore_patterns("examples.html"))
        stamp.write_text(version())


def configure(app: Sphinx, config: Config) -> None:
    """Pages are written anew when the playground changes."""
    config.playground_version = version()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("playground_version", "", rebuild="html")
    app.connect("config-inited", configure)
    app.connect("doctree-read", note)
    app.connect("html-page-context", fill)
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
