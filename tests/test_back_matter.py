"""The pages behind the chapters: the symbol map against a real checkpoint, the glossary, the package's reference."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from safetensors import safe_open

import cited
import execution_times
import glossary
import package_reference
import symbol_map
from rwkv_explainer.checkpoints import BUNDLED, KEYS
from trees import tree_of

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [path.stem for path in sorted(BOOK.glob("*.ipynb"))]
TITLES = {package_reference.title_of(BOOK / f"{name}.ipynb"): name for name in CHAPTERS}


def page(name: str) -> BeautifulSoup:
    """A page of the built book."""
    path = ROOT / "_build" / "html" / f"{name}.html"
    if not path.exists():
        pytest.skip("the book has not been built: make book")
    return tree_of(path)


def test_the_pages_are_in_the_back_matter():
    files = [entry["file"] for entry in TOC["parts"][-1]["chapters"]]
    assert {"glossary", "notation", "symbol-map", "api", "bibliography", "execution-times"} <= set(files)


# ---------------------------------------------------------------------------------------------------------------------
# symbol map


def whole_names(column: int) -> list[str]:
    """One column of names, whole again; column 0 is ours, 2 upstream's, 3 transformers'."""
    begin = {0: 0, 2: 1, 3: 2}[column]
    return [
        symbol_map.PLACES[place][begin] + row[column].strip("`")
        for place, rows in symbol_map.rows().items()
        for row in rows
    ]


def test_the_symbol_map_has_every_key_of_a_real_checkpoint_and_no_other():
    with safe_open(BUNDLED / "model.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    layers = {name.split(".")[1] for name in shapes if name.startswith("blocks.")}
    mapped = [name.replace("{i}", i) for name in whole_names(2) for i in (layers if "{i}" in name else ["0"])]
    assert sorted(mapped) == sorted(shapes)
    sizes = {
        "1": 1,
        "vocab_size": shapes["emb.weight"][0],
        "channels": shapes["emb.weight"][1],
        "intermediate_size": shapes["blocks.0.ffn.key.weight"][0],
    }
    written = [row[4] for rows in symbol_map.rows().values() for row in rows]
    for name, shape in zip(whole_names(2), written):
        assert [sizes[axis] for axis in re.findall(r"\w+", shape)] == shapes[name.replace("{i}", "0")], name


def test_the_symbol_map_has_every_parameter_of_our_model(random_model):
    names = {re.sub(r"^blocks\.\d+", "blocks.{i}", name) for name in random_model().state_dict()}
    assert sorted(whole_names(0)) == sorted(names)


def test_the_symbol_map_has_the_names_of_transformers():
    assert sorted(whole_names(3)) == sorted(key.hf_name for key in KEYS)
    transformers = pytest.importorskip("transformers")
    import torch

    config = transformers.RwkvConfig(vocab_size=5, hidden_size=4, intermediate_size=6, num_hidden_layers=2)
    with torch.device("meta"):
        theirs = transformers.RwkvForCausalLM(config).state_dict()
    assert {re.sub(r"blocks\.1\.", "blocks.{i}.", name) for name in theirs if ".blocks.0." not in name} == {
        name for name in whole_names(3) if ".0." not in name
    }


def test_every_chapter_of_the_symbol_map_is_a_chapter():
    named = {row[-1] for rows in symbol_map.rows().values() for row in rows}
    assert named and named <= set(TITLES)


def test_the_remembered_tensors_are_those_of_the_model(random_model):
    text = (BOOK / "symbol-map.md").read_text(encoding="utf-8")
    section = text.split("## What is remembered")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.*]+)` \|.*\|.*\|.*\|", section, re.MULTILINE)
    plain = random_model().blocks[0].state_buffers()
    assert {re.sub(r"\w+_mixer", "*_mixer", name) for name in plain} == set(rows)


def test_the_symbol_map_is_on_its_page():
    tables = page("symbol-map").select("article table")
    shown = [cell.get_text() for table in tables for cell in table.select("tbody tr td:first-child")]
    expected = [row[0].strip("`") for rows in symbol_map.rows().values() for row in rows]
    assert shown[: len(expected)] == expected


# ---------------------------------------------------------------------------------------------------------------------
# glossary


def glossary_terms() -> dict[str, str]:
    """Each term of the glossary's source, and the document that builds it."""
    text = (BOOK / "glossary.md").read_text(encoding="utf-8").split("```{glossary}\n")[1].split("```")[0]
    return {
        entry.splitlines()[0]: re.search(r"\{doc\}`([\w-]+)`", entry)[1]
        for entry in re.split(r"\n(?=\S)", text.strip())
        if entry.strip()
    }


def test_the_glossary_is_sorted_and_names_chapters():
    terms = glossary_terms()
    assert list(terms) == sorted(terms, key=str.lower)
    assert set(terms.values()) <= set(CHAPTERS)
    assert glossary.ORDINARY <= set(terms)


def test_every_term_stands_in_its_chapter():
    for term, chapter in glossary_terms().items():
        cells = json.loads((BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
        prose = " ".join("".join(cell["source"]) for cell in cells).replace("\n", " ")
        assert glossary.pattern(term).search(prose.replace("*", "")), (term, chapter)


@pytest.mark.parametrize(
    "term, text, found",
    [
        ("gate", "The gates open.", "gates"),
        ("gate", "A sluicegate.", None),
        ("gate", "a gated MLP", None),
        ("half-life", "Half-life first", "Half-life"),
        ("one-hot", "a one-hot-like", None),
        ("RNN mode", "rnn mode", None),
        ("vocabulary", "two vocabularies", "vocabularies"),
        ("top-p", "with top-p, say", "top-p"),
    ],
)
def test_what_counts_as_a_use_of_a_term(term, text, found):
    use = glossary.pattern(term).search(text)
    assert (use and use[0]) == found


def test_only_running_text_is_marked():
    """Not the names of chapters, links, code, words that are being defined, tables, or what a cell displayed."""
    paragraph = nodes.paragraph()
    paragraph += [nodes.Text("free "), nodes.emphasis("", "title"), nodes.literal("", "code"), nodes.strong("", "word")]
    paragraph += nodes.reference("", "", nodes.inline("", "chapter"))  # as a link to a chapter is built
    output = nodes.container("", nodes.paragraph("", "output"), classes=["cell"])
    table = nodes.table("", nodes.entry("", nodes.paragraph("", "cell")))
    tree = nodes.section("", nodes.title("", "heading"), paragraph, output, table)
    assert [str(text) for text in glossary.running_text(tree)] == ["free "]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_page_marks_a_term_once_and_leads_to_its_entry(chapter):
    built, entries = page(chapter), page("glossary")
    terms = glossary_terms()
    seen = [link["href"].partition("#")[2] for link in built.select("article a.term")]
    assert len(seen) == len(set(seen)), "marked twice"
    for link in built.select("article a.term"):
        entry = entries.find(id=link["href"].partition("#")[2])
        assert entry and link["href"].startswith("glossary.html#")
        assert link["data-note"] == entry.find_next("dd").p.get_text().replace("\n", " ")
        assert terms[entry.get_text().rstrip("#")] != chapter, "introduced here"


def test_chapters_do_quote_the_glossary():
    marked = [len(page(chapter).select("article a.term")) for chapter in CHAPTERS]
    assert sum(marked) >= 3 * len(CHAPTERS) and max(marked) <= 20


# ---------------------------------------------------------------------------------------------------------------------
# bibliography, execution times


def test_every_entry_of_the_bibliography_is_cited():
    paths = sorted([*BOOK.glob("*.md"), *BOOK.glob("*.ipynb")])
    sources = [(path.stem, path.read_text(encoding="utf-8") + cited.docstrings(path.stem)) for path in paths]
    found = cited.pages_by_entry(BOOK / "references.bib", sources)
    assert len(found) > 30 and [key for key, pages in found.items() if not pages] == []
    assert "api" in found["kneser1995backing"] and "why-rwkv" in found["hochreiter1997lstm"]
    assert "where-rwkv-went-next" in found["widrow1960switching"]


@pytest.mark.parametrize(
    "text, is_cited",
    [
        ("as in {cite:p}`ba2016layernorm`.", True),
        ("as in {cite:t}`ba2016layernorm2`.", False),
        ("[Ba et al.](https://arxiv.org/abs/1607.06450)", True),
        ("[another](https://arxiv.org/abs/1607.064501)", False),
        ("Ba, Kiros and Hinton 2016", False),
    ],
)
def test_what_counts_as_a_citation(text, is_cited):
    entry = cited.parse_file(BOOK / "references.bib").entries["ba2016layernorm"]
    assert cited.cites(text, "ba2016layernorm", entry) == is_cited


def test_the_bibliography_says_which_pages_cite_an_entry():
    entries = page("bibliography").select("article .citation")
    lines = [entry.find_all("p")[-1] for entry in entries]
    assert len(lines) > 30 and all(line.get_text().startswith("Cited in ") and line.a for line in lines)


def test_execution_times_name_the_machine():
    assert re.fullmatch(r".+, \d+ cores, with Python [\d.]+ and PyTorch \S+", execution_times.machine())
    assert "These pages were made on " in page("execution-times").article.get_text()


# ---------------------------------------------------------------------------------------------------------------------
# the package's reference


def test_the_package_has_about_a_hundred_names_to_offer():
    """Not all that there is: what one wants to do, with an example for each group."""
    assert 90 <= len(package_reference.documented()) <= 125
    text = package_reference.PAGE.read_text(encoding="utf-8")
    groups = text.split("\n## ")[1:]
    assert len(groups) == len(package_reference.groups()) >= 8
    for group in groups:
        assert group.count("```python") == 1, group.partition("\n")[0]


def test_the_examples_run():
    """One after the other, as a reader would type them; only the check of an exercise is about something else."""
    text = package_reference.PAGE.read_text(encoding="utf-8")
    names = {"torch": torch}
    with redirect_stdout(StringIO()):
        for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            exec(code, names)


def test_a_name_that_there_is_not_is_refused(tmp_path, monkeypatch):
    (tmp_path / "api.md").write_text("```{package-names}\nrwkv_explainer.model: RWKVLM Transformer\n```\n")
    monkeypatch.setattr(package_reference, "PAGE", tmp_path / "api.md")
    for cached in (package_reference.modules, package_reference.documented):
        cached.cache_clear()
    with pytest.raises(ValueError, match="rwkv_explainer.model has no such Transformer"):
        package_reference.documented()
    monkeypatch.undo()
    for cached in (package_reference.modules, package_reference.documented):
        cached.cache_clear()


def test_every_public_name_has_its_place():
    built = page("api")
    entries = {tag["id"] for tag in built.select("article dt[id]")}
    assert set(package_reference.documented()) <= entries
    assert {f"{obj.__module__}.{name}" for name, obj in package_reference.public_names().items()} <= entries


def test_a_chapter_without_a_title_is_refused(tmp_path):
    cells = [{"cell_type": "markdown", "source": ["No heading here."]}]
    (tmp_path / "new.ipynb").write_text(json.dumps({"cells": cells}))
    with pytest.raises(ValueError, match="new.ipynb: expected the chapter's title in its first cell"):
        package_reference.title_of(tmp_path / "new.ipynb")


def test_signatures_are_as_written():
    built = page("api")
    step = built.find(id="rwkv_explainer.model.WKVMemory.read").get_text(" ", strip=True)
    assert re.sub(r"\s", "", step).startswith("read(keys:Embedding,values:Embedding)→Embedding")
    link = built.find(id="rwkv_explainer.model.WKVMemory.read").find("a", string="Embedding")
    assert link["href"] == "#rwkv_explainer.shapes.Embedding"
    shape = built.find(id="rwkv_explainer.shapes.Memory").get_text()
    assert "Float[Tensor, '*batch {self.channels}']" in shape


def test_what_a_function_returns_is_told_in_one_piece():
    """Signatures have the types; a sentence with a colon is not one."""
    built = page("api")
    assert "Return type" not in built.get_text()
    read = built.find(id="rwkv_explainer.parallel.read").find_parent("dl").get_text()
    assert "Returns:\nProbabilities for the token after each one: (*batch, time, vocab_size), or" in read


def test_docstrings_lead_to_chapters():
    links = {link["href"] for link in page("api").select("article section a[href$='.html']")}
    assert {f"{TITLES[title]}.html" for title in ("Attention and memory", "The gated MLP", "Time decay")} <= links


@pytest.mark.parametrize(
    "line, marked",
    [
        ("of shape (*batch, channels)", r"of shape (\*batch, channels)"),
        ("its *buffers* are", "its *buffers* are"),
        ("see `load_weights`", "see :py:obj:`load_weights <rwkv_explainer.checkpoints.load_weights>`"),
        ("give `N` more", "give ``N`` more"),
        ('chapter "Time decay".', "chapter :doc:`Time decay </time-decay>`."),
        ("<|endoftext|>", r"<\|endoftext\|>"),
    ],
)
def test_docstrings_are_plain_text(line, marked):
    assert package_reference.marked_up(line, "rwkv_explainer.checkpoints.load_pretrained", TITLES) == marked
