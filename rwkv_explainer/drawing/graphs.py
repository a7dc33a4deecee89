"""Draws a module as a graph: which pieces the tensors flow through, and which shapes they have on the way.

    display_graph(make_graph(AttentionBlock(channels=8), torch.zeros(8), depth=1))

torchview records one step of the module. Graphviz places the boxes; its libraries come with pygraphviz, so nothing else
has to be installed. Depth 0 shows the module as one box, each further depth opens the boxes of the one before. What
remembers is orange. Where a module that remembers stands open, its memory is drawn too: what it held, and what it keeps
for the next token. What has been learned is blue; in an open module it comes in as an input, with its name.
"""

import copy
import hashlib
import inspect
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from html import escape
from unittest import mock
from xml.etree import ElementTree

import graphviz
import pygraphviz
import torch
from torch import Tensor, nn
from torchview.computation_graph import ComputationGraph
from torchview.computation_node import ModuleNode, NodeContainer, TensorNode
from torchview.computation_node.base_node import Node
from torchview.recorder_tensor import RecorderTensor, creation_ops_wrapper, module_forward_wrapper
from torchview.torchview import get_recorder_tensor

from rwkv_explainer.drawing.palette import css_hues

__all__ = ["Drawing", "Graph", "display_graph", "make_graph"]

SVG = "http://www.w3.org/2000/svg"
OUTLINES = {  # in Graphviz' words, for each kind of node
    "module": {"class": "module named", "shape": "box", "fontname": "Arial bold"},
    "function": {"class": "function", "shape": "box"},
    "plain": {"class": "plain named", "shape": "box", "fontname": "Arial bold"},  # neither learned nor remembers
    "remembering": {"class": "remembering named", "shape": "box", "fontname": "Arial bold"},
    "memory": {"class": "memory", "shape": "cylinder"},
    "learned": {"class": "learned", "shape": "oval", "margin": "0,0"},
    "end": {"class": "end named", "shape": "plaintext", "fontname": "Arial bold"},
}
SMALLEST = 0.75  # a graph that is wider than the page shrinks to this, and no further: then it scrolls in its own box

# Text and lines take the page's own colour, and the hues are a thin wash over its ground: good on light and on dark.
STYLE = (
    "<style>\n"
    + css_hues(".rwkv-graph", 2)
    + """
.rwkv-graph { margin: 1rem 0; } .rwkv-graph > div { overflow-x: auto; }
.rwkv-graph svg { display: block; background: none; font-family: Arial, Helvetica, "Liberation Sans", sans-serif; }
.rwkv-graph text { font-size: 13px; fill: currentColor; } .rwkv-graph .node text + text { font-size: 12px; }
.rwkv-graph .named > text:first-of-type { font-weight: bold; }
.rwkv-graph path { fill: none; stroke: currentColor; }
.rwkv-graph .edge path { stroke-opacity: .55; } .rwkv-graph .edge polygon { fill: currentColor; opacity: .55; }
.rwkv-graph .cluster path { stroke-opacity: .45; stroke-dasharray: 4 3; }
.rwkv-graph .cluster text { font-size: 12px; paint-order: stroke; stroke-width: 4px; stroke-linejoin: round;
  stroke: var(--pst-color-background, var(--jp-layout-color0, transparent)); }
.rwkv-graph .module path, .rwkv-graph .learned ellipse {
  fill: var(--rwkv-hue-1); fill-opacity: .15; stroke: var(--rwkv-hue-1); }
.rwkv-graph .function path { stroke-opacity: .4; }
.rwkv-graph .memory path, .rwkv-graph .remembering path {
  fill: var(--rwkv-hue-2); fill-opacity: .15; stroke: var(--rwkv-hue-2); }
.rwkv-graph figcaption { font-size: .9em; }
.rwkv-graph summary { margin-top: .5rem; cursor: pointer; font-size: .9em; }
.rwkv-graph pre { overflow-x: auto; font-size: .8em; }
</style>"""
)


@dataclass(frozen=True)
class Graph:
    """One recorded step of a module. `print` shows it as a list, `display_graph` as a picture."""

    title: str
    text: str  # a line for each input, module, function and output, in the order of the data's flow
    source: str  # the graph in Graphviz' language

    def __str__(self) -> str:
        return f"{self.title}\n{self.text}"


@dataclass(frozen=True)
class Drawing:
    """A graph as SVG, with the same as a list below it, to unfold. Notebooks show it by themselves."""

    graph: Graph
    svg: str

    def _repr_html_(self) -> str:
        summary, text = f"{escape(self.graph.title)}, as a list", escape(self.graph.text)
        return (
            f'{STYLE}<figure class="rwkv-graph"><div tabindex="0">{self.svg}</div>'
            f"<figcaption>{legend(self.graph)}</figcaption>"
            f"<details><summary>{summary}</summary><pre>{text}</pre></details></figure>"
        )


def make_graph(module: nn.Module, input_data: int | Tensor | Sequence[int | Tensor], depth: int) -> Graph:
    """Record one step of a copy of `module`. The module itself stays as it is.

    Args:
        module: the whole model or any piece of it.
        input_data: what to call it with: a tensor or an id, or several where it takes several arguments.
        depth: how far to open it; 0 is one box. PyTorch's own layers, such as Linear, always stay closed.

    Raises:
        TypeError: if `module` is not one.
        ValueError: if `depth` is negative, if a piece refuses its input (it says which, and what would fit), or if the
            module returns no tensor that it made of its input.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a module, such as Mixer(channels=8), got {module!r:.80}")
    if depth < 0:
        raise ValueError(f"depth: expected 0 (one box) or more, got {depth}")
    values = input_data if isinstance(input_data, Sequence) else [input_data]
    if wrong := [value for value in values if not isinstance(value, int | Tensor)]:
        raise TypeError(f"input_data: expected a tensor, an id, or several of them, got {type(wrong[0]).__name__}")
    recording = Recording(module, [get_recorder_tensor(torch.as_tensor(value)) for value in values], depth)
    name = type(module).__name__
    title = f"{name}, opened to depth {depth}" if depth else f"{name} as one box"
    source = recording.visual_graph.source.replace("style=dashed", "style=rounded")  # the frames around open modules
    return Graph(title, "\n".join(recording.lines), source)


def display_graph(graph: Graph) -> Drawing:
    """Lay the graph out. The last line of a cell shows what this returns, and so does `display`."""
    with silence():
        svg = ElementTree.fromstring(pygraphviz.AGraph(graph.source).draw(format="svg", prog="dot"))
    kept = ("viewBox", "class", "transform", "d", "points", "x", "y", "cx", "cy", "rx", "ry", "text-anchor")
    for element in svg.iter():  # where things are; how they look is for STYLE to say
        element.attrib = {name: element.attrib[name] for name in kept if name in element.attrib}
        for number in element.findall(f"{{{SVG}}}title"):  # Graphviz' numbers for the nodes would show as tooltips
            element.remove(number)
    for frame in svg[0].findall(f"{{{SVG}}}g[@class='cluster']"):  # its name, its last element, goes above the arrows
        svg[0].append(ElementTree.Element(f"{{{SVG}}}g", {"class": "cluster"}))
        svg[0][-1].append(frame[-1])
        frame.remove(frame[-1])
    first, *_, last = graph.text.splitlines()
    words = {
        "title": graph.title,
        "desc": f"From {first} to {last}. {legend(graph)} The list below the picture names every step.".replace(
            "  ", " "
        ),
    }
    figure = "graph-" + hashlib.sha256(repr(graph).encode()).hexdigest()[:12]  # ids differ between a page's graphs
    for position, (tag, text) in enumerate(words.items()):
        svg.insert(position, ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{figure}-{tag}"}))
        svg[position].text = text
    width = float(svg.attrib["viewBox"].split()[2])
    svg.attrib |= {
        "role": "img",
        "aria-labelledby": f"{figure}-title {figure}-desc",
        "style": f"width: 100%; min-width: {math.ceil(SMALLEST * width)}px; max-width: {width:.0f}px; height: auto",
    }
    ElementTree.register_namespace("", SVG)
    return Drawing(graph, ElementTree.tostring(svg, encoding="unicode"))


def legend(graph: Graph) -> str:
    """What the colors in this graph mean."""
    seen = {"remembers": "Orange remembers", "learned": "blue is learned"}
    drawn = {"remembers": r'class="?(memory|remembering)', "learned": r'class="?(module|learned)'}
    found = [words for kind, words in seen.items() if re.search(drawn[kind], graph.source)]
    return f"{', '.join(found).capitalize()}." if found else ""


class Recording(ComputationGraph):
    """torchview's record of one step, with our words and outlines, with memory, and without loose ends."""

    def __init__(self, module: nn.Module, inputs: list[RecorderTensor], depth: int):
        paper = {"fontname": "Arial", "bgcolor": "transparent", "ranksep": "0.3", "nodesep": "0.05", "pad": "0.05"}
        look = {
            "fontname": "Arial",
            "fontsize": "12",
            "style": "rounded",
            "height": "0",
            "width": "0",
            "margin": "0.07,0.06",
        }
        canvas = graphviz.Digraph(strict=True, graph_attr=paper, node_attr=look, edge_attr={"arrowsize": "0.6"})
        roots = NodeContainer(x.tensor_nodes[0] for x in inputs)
        super().__init__(canvas, roots, depth=depth, expand_nested=True, roll=False)
        self.lines: list[str] = []
        self.remarks: dict[int, tuple[str, str]] = {}  # by id of the node: its kind, and what stands beside its name
        self.ends: list[Node] = []  # what the step is for: the outputs, and what is kept in memory
        self.running: list[tuple[nn.Module, tuple[object, ...], dict[str, Node]]] = []  # the innermost module last
        for name, root in zip(inspect.signature(module.forward).parameters, roots):
            root.name = "input" if name == "input" else f"input {name}"
        # a twin with the same parameters, and with a memory of its own as soon as it runs (see `enter`)
        shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
        self.twin = copy.deepcopy(module, shared).eval()
        self.parts = {id(part): (part, full_name(self.twin, path)) for path, part in self.twin.named_modules()}
        self.take_step(inputs)
        self.name_nodes()
        self.render_nodes()
        self.render_edges()
        self.lines.sort(key=lambda line: line.startswith("output "))  # torchview meets the output inside its last part

    def take_step(self, inputs: list[RecorderTensor]) -> None:
        """Run the twin. torchview's own `draw_graph` would replace torch.as_tensor too, and lose the ids in it."""
        for part in self.twin.modules():
            part.register_forward_pre_hook(self.enter)
            part.register_forward_hook(self.leave)
        with mock.patch.object(nn.Module, "__call__", module_forward_wrapper(self)), torch.no_grad():
            try:
                outputs = self.twin(*inputs)
            except Exception as error:
                part, given, _ = self.running[-1]
                got = ", ".join(f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else repr(x) for x in given)
                raise ValueError(
                    f"input_data: {self.parts[id(part)][1]} expects {expected(part)}, got {got}; "
                    f"{(str(error) or type(error).__name__).replace('RecorderTensor', 'tensor').splitlines()[0]}"
                ) from error
        made = [output for output in tensors_in(outputs) if isinstance(output, RecorderTensor)]
        if not made:
            raise ValueError(
                f"module: expected a {type(self.twin).__name__} that makes tensors of its input, got one that returns "
                f"{type(outputs).__name__} {outputs!r:.60} and uses the input for none of it; return what it computes"
            )
        for output in made:
            node = output.tensor_nodes[-1]
            node.name = "output"
            self.ends.append(node)

    def enter(self, part: nn.Module, given: tuple[object, ...]) -> None:
        """Before a module runs: let each of its buffers and parameters come out of a node of that name."""
        record = creation_ops_wrapper(torch.clone, self)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name], _ = self.pass_through(name, "memory", "memory", record(buffer))
        if not is_torchs_own(part):  # such as Linear, which never opens
            for name, parameter in part.named_parameters(recurse=False):
                part._parameters[name], _ = self.pass_through(name, "learned", "learned", record(parameter))
        self.running.append((part, given, {n: b.tensor_nodes[-1] for n, b in part.named_buffers(recurse=False)}))

    def leave(self, part: nn.Module, given: tuple[object, ...], output: object) -> list[Tensor] | None:
        """After a module has run: let each buffer that it wrote go into a node of that name.

        Of the outermost module only the tensors go on, in a row: torchview finds none in a dataclass or a set.
        """
        _, _, before = self.running.pop()
        for name, buffer in part.named_buffers(recurse=False):
            if isinstance(buffer, RecorderTensor) and buffer.tensor_nodes[-1] is not before[name]:
                self.ends.append(self.pass_through(name, "memory", "for the next token", buffer)[1])
        return (tensors_in(output) or None) if part is self.twin else None  # None: the output as it is

    def pass_through(self, name: str, kind: str, remark: str, tensor: RecorderTensor) -> tuple[RecorderTensor, Node]:
        """The tensor, recorded as what comes out of a function of this name, and that function's node."""

        def same(x: Tensor) -> Tensor:
            return x.view_as(x)

        same.__name__ = name
        passed = RecorderTensor.__torch_function__(same, (RecorderTensor,), (tensor,))
        node = next(iter(passed.tensor_nodes[-1].parents))
        self.remarks[id(node)] = kind, f"{remark} {list(passed.shape)}"
        return passed, node

    def name_nodes(self) -> None:
        """Name modules as the code does, and find what leads to an end: a check of the input, say, does not."""
        self.alive: set[int] = set()
        pending = list(self.ends)
        while pending:
            node = pending.pop()
            if id(node) not in self.alive:
                self.alive.add(id(node))
                pending.extend(node.parents)
                if isinstance(node, ModuleNode):
                    part, node.name = self.parts[node.compute_unit_id]
                    node.is_container &= is_torchs_own(part)  # torchview's word for a box that never opens
                elif node.name.startswith("__"):  # 1 - x is recorded as x.__rsub__(1)
                    node.name = node.name.strip("_")
                elif node.name == "to":
                    node.name = "empty-pass"  # which torchview leaves out: another dtype is not worth a box

    def is_node_visible(self, node: Node) -> bool:
        return id(node) in self.alive and super().is_node_visible(node)

    def collect_graph(self, **kwargs: object) -> None:
        node = kwargs["cur_node"]
        if isinstance(node, ModuleNode) and id(node) in self.alive and not self.is_node_visible(node):
            self.lines.append("  " * node.depth + f"{node.name} {shapes(node)}")  # it stands open: a frame, not a box
        if isinstance(node, ModuleNode) or id(node) in self.alive:
            super().collect_graph(**kwargs)

    def add_node(self, node: Node, subgraph: graphviz.Digraph | None = None) -> None:
        """Draw a node, and write its line."""
        kind, remark = self.remarks.get(id(node), ("function", ""))
        kind = {ModuleNode: "module", TensorNode: "end"}.get(type(node), kind)
        if kind == "module":
            part = self.parts[node.compute_unit_id][0]
            kind = "remembering" if [*part.buffers()] else "module" if [*part.parameters()] else "plain"
        says = f"{remark or shapes(node)}{' (remembers)' * (kind == 'remembering')}"
        self.lines.append("  " * node.depth + f"{node.name} {says}")
        name, _, kind_of_module = node.name.partition(": ")
        plain = kind == "function" and len(set(node.input_shape + node.output_shape)) == 1  # one shape in and out
        small = "" if plain else f"{kind_of_module} {remark or shapes(node)}".strip()
        self.id_dict.setdefault(node.node_id, len(self.id_dict))
        canvas = self.visual_graph if subgraph is None or kind == "end" else subgraph
        canvas.node(str(self.id_dict[node.node_id]), label(name, small), **OUTLINES[kind])
        self.node_set.add(id(node))


def tensors_in(outputs: object) -> list[Tensor]:
    """All tensors in what a module returned: a tensor, or dicts, rows and dataclasses of such, one in the other."""
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    if is_dataclass(outputs) and not isinstance(outputs, type):
        outputs = [getattr(outputs, field.name) for field in fields(outputs)]
    if isinstance(outputs, list | tuple | set | frozenset):
        return [tensor for part in outputs for tensor in tensors_in(part)]
    return [outputs] if isinstance(outputs, Tensor) else []


def label(name: str, small: str) -> str:
    """A node's name, with what stands below it in small type; in short lines, so that graphs stay narrow."""
    small = small.replace("for the next token", "for the next\ntoken")
    return f"{name}\n{small}".strip()


def shapes(node: Node) -> str:
    """A tensor's shape, or what goes into a step and what comes out: "[8], [8] → [8]"."""
    if isinstance(node, TensorNode):
        return str(list(node.tensor_shape))
    return " → ".join(", ".join(str(list(shape)) for shape in side) for side in (node.input_shape, node.output_shape))


def full_name(root: nn.Module, path: str) -> str:
    """What the code calls a part, and its class: "attention: AttentionBlock", "blocks[0]: RWKVBlock"."""
    *_, owner, name = ["", *path.split(".")]
    name = f"{owner}[{name}]" if name.isdigit() else name
    return (f"{name}: " if name else "") + type(root.get_submodule(path)).__name__


def is_torchs_own(part: nn.Module) -> bool:
    """Whether PyTorch wrote what the module does, so that there is nothing of ours to see inside."""
    return isinstance(part, nn.Linear) or type(part).forward.__module__.startswith("torch.")


def expected(part: nn.Module) -> str:
    """What a module can be called with, in the words of its annotations, its own sizes filled in."""
    if is_torchs_own(part):
        return f"what fits {part}"
    signature = str(inspect.signature(part.forward)).partition(" -> ")[0].replace("jaxtyping.", "")
    return re.sub(r"\{self\.(\w+)\}", lambda size: str(getattr(part, size[1])), signature)


@contextmanager
def silence() -> Iterator[None]:
    """Keep Graphviz' libraries from grumbling about the system's fonts onto the page."""
    errors = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
