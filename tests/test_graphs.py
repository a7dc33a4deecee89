"""The graphs: picture and words agree, every piece is there, the module is left alone, and no program is needed."""

import inspect
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pygraphviz
import pytest
import torch
from torch import Tensor, nn

from rwkv_explainer.drawing.graphs import STYLE, display_graph, make_graph
from rwkv_explainer.model import (
    RWKV,
    RWKVLM,
    AttentionBlock,
    GatedMLP,
    Mixer,
    RWKVBlock,
    SquaredReLU,
    StableWKVMemory,
    TokenEmbedding,
    Unembedding,
    WKVMemory,
)

SVG = "{http://www.w3.org/2000/svg}"
ONE_HOT = torch.eye(11)[3]
X = torch.ones(8)


class Placeholder(nn.Identity):
    """A module of the reader's own that does nothing yet."""


class Counter(nn.Module):
    """Remembers in place, as models elsewhere do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(8))
        self.register_buffer("unused", torch.zeros(8))

    def forward(self, x):
        return x * self.seen.add_(1)


def whole(layers: int = 1) -> RWKVLM:
    return RWKVLM(TokenEmbedding(11, 8), RWKV(*(RWKVBlock(8) for _ in range(layers))), Unembedding(8, 11))


def block_of_placeholders() -> RWKVBlock:
    block = RWKVBlock(8)
    block.attention, block.gated_mlp = Placeholder(), nn.Identity()
    return block


# every kind of module and input that the chapters draw, and how deep it goes
DRAWN = {
    "model, one-hot": (whole, ONE_HOT, 5),
    "model, id": (whole, 3, 5),
    "model, batch of ids": (lambda: whole(2), torch.tensor([3, 1]), 5),
    "model without blocks": (lambda: RWKVLM(TokenEmbedding(11, 8), nn.Identity(), Unembedding(8, 11)), 3, 3),
    "blocks": (lambda: RWKV(RWKVBlock(8), RWKVBlock(8)), X, 4),
    "no blocks": (RWKV, X, 1),
    "placeholders": (block_of_placeholders, X, 2),
    "attention": (lambda: AttentionBlock(8), X, 2),
    "gated MLP": (lambda: GatedMLP(8), X, 2),
    "memory": (lambda: WKVMemory(8), (X, X + 1), 1),
    "mixer": (lambda: Mixer(8), X, 1),
    "squared ReLU": (SquaredReLU, X, 1),
    "embedding, one-hot": (lambda: TokenEmbedding(11, 8), ONE_HOT, 2),
    "embedding, id": (lambda: TokenEmbedding(11, 8), 3, 2),
    "unembedding": (lambda: Unembedding(8, 11), X, 2),
    "memory in place": (Counter, X, 1),
}
AT_EVERY_DEPTH = [
    pytest.param(build, given, depth, id=f"{name}, depth {depth}")
    for name, (build, given, deepest) in DRAWN.items()
    for depth in range(deepest + 1)
]


def figure_of(graph) -> ElementTree.Element:
    """What a notebook shows, parsed: fails where it is not well formed."""
    return ElementTree.fromstring(display_graph(graph)._repr_html_().removeprefix(STYLE))


@pytest.mark.parametrize(("build", "given", "depth"), AT_EVERY_DEPTH)
def test_picture_and_words_agree(build, given, depth):
    graph = make_graph(build(), given, depth)
    figure = figure_of(graph)
    svg = figure.find(f"div/{SVG}svg")
    title, desc = (svg.find(f"*[@id='{name}']") for name in svg.get("aria-labelledby").split())
    assert (svg.get("role"), title.tag, desc.tag) == ("img", f"{SVG}title", f"{SVG}desc")
    assert title.text == graph.title and type(build()).__name__ in title.text
    first, *_, last = lines = graph.text.splitlines()
    assert first.startswith("input") and last.startswith("output [") and first in desc.text and last in desc.text
    assert figure.find("details/pre").text == graph.text

    texts = [group.find(f"{SVG}text") for group in svg.iter(f"{SVG}g")]
    drawn = [text.text.partition(":")[0] for text in texts if text is not None]
    if "\n  " in graph.text:
        drawn.append(type(build()).__name__)  # it stands open: the title names it, no frame is drawn around the whole
    assert sorted(drawn) == sorted(re.match(r" *(input \w+|[^ :]+)", line)[0].strip() for line in lines)


@pytest.mark.parametrize(("build", "given", "depth"), AT_EVERY_DEPTH)
def test_data_flows_from_the_inputs_and_the_memory_to_the_outputs_and_the_memory(build, given, depth):
    graph = pygraphviz.AGraph(make_graph(build(), given, depth).source)
    edges = [(int(tail), int(head)) for tail, head in graph.edges()]
    kinds = {int(node): node.attr["class"] for node in graph.nodes()}  # numbered in the order of the text's lines
    assert all(tail < head or kinds[head] == "end named" for tail, head in edges)
    tails, heads = map(set, zip(*edges))
    assert {kinds[number] for number in tails - heads} <= {"end named", "memory", "learned"}
    assert {kinds[number] for number in heads - tails} <= {"end named", "memory"}
    assert kinds.keys() == {number for edge in edges for number in edge}
    assert not any(kinds[int(node)] == "end named" for frame in graph.subgraphs() for node in frame.nodes())


def test_an_open_model_names_every_module_with_its_place_and_class():
    model, place, found = whole(2), [], {}
    for line in make_graph(model, 3, 5).text.splitlines():
        module = re.fullmatch(r"(?P<indent>(?:  )+)(?:\w+\[)?(?P<name>\w+)\]?: (?P<kind>\w+) \[.*", line)
        if module:
            place[len(module["indent"]) // 2 - 1 :] = [module["name"]]
            found[".".join(place)] = module["kind"]
    assert found == {path: type(part).__name__ for path, part in model.named_modules() if path}


def test_shapes_are_those_of_the_step():
    lines = {line.strip() for line in make_graph(whole(), torch.tensor([3, 1]), 4).text.splitlines()}
    assert {
        "input token [2]",
        "embedding: Embedding [2] → [2, 8]",
        "memory: WKVMemory [2, 8], [2, 8] → [2, 8] (remembers)",
        "key: Linear [2, 8] → [2, 32]",
        "output [2, 11]",
    } <= lines


@pytest.mark.parametrize(
    ("build", "memory"),
    [
        (lambda: Mixer(8), ["last_x"]),
        (lambda: WKVMemory(8), ["contents", "normalizer"]),
        (Counter, ["seen"]),
    ],
)
def test_memory_is_drawn_where_it_is_read_and_where_it_is_written(build, memory):
    lines = make_graph(build(), (X, X) if build().__class__ is WKVMemory else X, 1).text.splitlines()
    assert [line for line in lines if " memory [" in line] == [f"  {name} memory [8]" for name in memory]
    assert [line for line in lines if "next" in line] == [f"  {name} for the next token [8]" for name in memory]


@pytest.mark.parametrize(
    ("build", "learned"),
    [
        (lambda: Mixer(8), ["weight"]),
        (lambda: WKVMemory(8), ["log_gain", "log_decay"]),
        (lambda: StableWKVMemory(8), ["log_gain", "log_decay"]),
        (Counter, []),
        (lambda: nn.Linear(8, 8), []),
    ],
)
def test_what_is_learned_comes_in_as_an_input(build, learned):
    graph = make_graph(build(), (X, X) if "WKV" in type(build()).__name__ else X, 1)
    assert [line for line in graph.text.splitlines() if " learned [" in line] == [f"  {n} learned [8]" for n in learned]
    drawn = pygraphviz.AGraph(graph.source)
    nodes = [node for node in drawn.nodes() if node.attr["class"] == "learned"]
    assert all(drawn.in_degree(node) == 0 and drawn.out_degree(node) > 0 for node in nodes)
    assert sorted(node.attr["label"].split()[0] for node in nodes) == sorted(learned)


@pytest.mark.parametrize("depth", range(6))
def test_every_box_that_remembers_is_orange_and_no_other(depth):
    model = whole()
    graph = make_graph(model, 3, depth)
    kinds = {"RWKVLM", "RWKV", "RWKVBlock", "AttentionBlock", "GatedMLP", "Mixer", "WKVMemory"}
    learned = {"TokenEmbedding", "Embedding", "LayerNorm", "Linear", "Unembedding"}
    boxes = {"remembering named": set(), "module named": set(), "plain named": set()}
    drawn = pygraphviz.AGraph(graph.source)
    for node in drawn.nodes():
        if node.attr["class"] in boxes:
            boxes[node.attr["class"]].add(node.attr["label"].split()[depth > 0])
    assert boxes["remembering named"] <= kinds and boxes["module named"] <= learned
    assert boxes["plain named"] <= {"SquaredReLU"} and sum(map(len, boxes.values())) > 0
    orange = [line for line in graph.text.splitlines() if line.endswith("(remembers)")]
    assert {re.search(r"(\w+) \[", line)[1] for line in orange} == boxes["remembering named"]
    assert ("Orange remembers" in display_graph(graph).svg) and ("lue is learned" in display_graph(graph).svg) == (
        depth > 0
    )


def test_a_graph_of_a_piece_fits_a_phone():
    """At 360 pixels, of which the page's margins take 32, none of these has to scroll."""
    for module, given in ((WKVMemory(8), (X, X)), (Mixer(8), X), (AttentionBlock(8), X), (GatedMLP(8), X)):
        svg = display_graph(make_graph(module, given, 1)).svg
        assert int(re.search(r"min-width: (\d+)px", svg)[1]) <= 328, type(module).__name__


@pytest.mark.parametrize("given", [3, torch.tensor([3, 1]), ONE_HOT.double()])
def test_a_check_of_the_input_or_another_dtype_is_no_step(given):
    assert not re.search(r"\b(min|max|le|lt|any|to) \[", make_graph(whole(), given, 5).text)


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_untouched(fails):
    model = whole().train()
    model(torch.tensor([3, 1]))  # with gradients: its memory hangs on to them, and cannot simply be deep-copied
    before = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers(remove_duplicate=False)}
    weights = {name: (parameter, parameter.clone()) for name, parameter in model.named_parameters()}
    call, as_tensor = nn.Module.__call__, torch.as_tensor
    if fails:
        with pytest.raises(ValueError, match="clear_buffers"):
            make_graph(model, 3, depth=5)
    else:
        make_graph(model, torch.tensor([3, 1]), depth=5)
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for held, found in ((before, buffers), (weights, dict(model.named_parameters()))):
        assert held.keys() == found.keys()
        assert all(found[name] is tensor and torch.equal(tensor, value) for name, (tensor, value) in held.items())
    assert all(part.training and not part._forward_hooks and not part._forward_pre_hooks for part in model.modules())
    assert nn.Module.__call__ is call and torch.as_tensor is as_tensor


def test_a_tensor_given_and_a_memory_written_in_place_are_untouched():
    x, counter = torch.ones(8, requires_grad=True), Counter()
    make_graph(counter, x, 1)
    assert torch.equal(counter.seen, torch.zeros(8)) and type(counter.seen) is torch.Tensor
    assert type(x) is torch.Tensor and not hasattr(x, "tensor_nodes") and torch.equal(x, X)


def test_ids_are_unique_on_a_page_and_styles_stay_with_their_figures():
    graphs = [make_graph(whole(), given, depth) for given in (3, ONE_HOT) for depth in range(3)]
    ids = [element.get("id") for graph in graphs for element in figure_of(graph).iter() if element.get("id")]
    assert len(set(ids)) == len(ids) == 2 * len(graphs)
    rules = re.findall(r"([^{}]+)\{[^{}]*\}", STYLE.removeprefix("<style>"))
    selectors = [selector.strip() for rule in rules for selector in rule.split(",")]
    assert [selector for selector in selectors if not re.search(r"(^| )\.rwkv-graph( |$)", selector)] == []


def test_colours_come_from_the_page():
    svg = display_graph(make_graph(whole(), 3, 5)).svg
    assert not re.search(r"black|white|#[0-9a-f]{3}|fill=|stroke=", svg)
    assert "currentColor" in STYLE and not re.search(r"black|white|#(000|fff)", STYLE)


def test_the_same_in_another_process_and_without_any_program():
    """Graphviz' `dot` is not on the PATH, nothing depends on addresses or hash seeds, and the libraries stay silent."""
    code = (
        "from tests.test_graphs import *\nbuild, given, depth = DRAWN['model, id']\n"
        "svg = display_graph(make_graph(build(), given, depth)).svg\nsys.stdout.buffer.write(svg.encode())"
    )
    environment = {**os.environ, "PATH": "", "PYTHONHASHSEED": "7"}
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == display_graph(make_graph(whole(), 3, 5)).svg
    assert b"ontconfig" not in done.stderr


@pytest.mark.parametrize(
    ("module", "given", "depth", "words"),
    [
        (Mixer(8), X, -1, ["depth", "0", "-1"]),
        (Mixer(8), torch.zeros(7), 1, ["Mixer", "*batch 8", "[7]"]),
        (nn.Linear(3, 4), torch.zeros(5), 0, ["Linear", "in_features=3", "[5]"]),
        (block_of_placeholders(), X.double(), 1, ["ln1", "LayerNorm", "float64"]),
        (TokenEmbedding(11, 8), torch.zeros(5), 1, ["TokenEmbedding", "*batch 11", "[5]"]),
        (whole(), 11, 1, ["RWKVLM", "from 0 to 10", "11"]),
        (WKVMemory(8), X, 1, ["WKVMemory", "keys", "values", "[8]"]),
    ],
)
def test_errors_say_which_module_wants_what(module, given, depth, words):
    with pytest.raises(ValueError) as error:
        make_graph(module, given, depth)
    assert all(word in str(error.value) for word in words), error.value
    assert "RecorderTensor" not in str(error.value)


@dataclass
class Both:
    a: Tensor
    b: Tensor


class Returns(nn.Module):
    """Computes x + 1 and 2 x, and gives back whatever `pack` makes of the two."""

    def __init__(self, pack):
        super().__init__()
        self.pack = pack

    def forward(self, x):
        return self.pack(x + 1, 2 * x)


@pytest.mark.parametrize(
    ("pack", "outputs"),
    [
        (lambda a, b: {"a": a, "b": b}, 2),
        (lambda a, b: [a, {"b": (b, a)}], 2),  # each is drawn once
        (lambda a, b: (a, "words", None, torch.zeros(3)), 1),
        (Both, 2),
        (lambda a, b: {a, b}, 2),
        (lambda a, b: [Both(a, b), {"c": a}], 2),
    ],
    ids=["dict", "nested", "with other things", "dataclass", "set", "dataclass in a row"],
)
def test_outputs_come_in_any_container(pack, outputs):
    lines = make_graph(Returns(pack), X, 1).text.splitlines()
    assert lines[-outputs:] == outputs * ["output [8]"] and "output" not in "".join(lines[:-outputs])


@pytest.mark.parametrize("constant", [torch.zeros(3), 3, None, {}, "words", Both], ids=repr)
def test_a_module_that_makes_nothing_of_its_input_is_refused(constant):
    with pytest.raises(
        ValueError, match="module: expected a Returns that makes tensors of its input, got one that ret"
    ):
        make_graph(Returns(lambda a, b: constant), X, 1)


def test_an_error_without_words_is_named():
    def refuse(a, b):
        raise KeyError

    with pytest.raises(ValueError, match="Returns expects .* got torch.float32 .8.; KeyError"):
        make_graph(Returns(refuse), X, 1)


def test_only_tensors_and_ids_go_in():
    with pytest.raises(TypeError, match="input_data: expected a tensor, an id, or several of them, got dict"):
        inspect.unwrap(make_graph)(Returns(lambda a, b: a), {"x": X}, 1)


def test_a_class_is_no_module():
    with pytest.raises(TypeError, match="such as Mixer"):
        inspect.unwrap(make_graph)(Mixer, X, 1)  # as it is where no type checker is on
