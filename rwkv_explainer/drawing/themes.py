"""One SVG for light and for dark pages: the colors of the palette become CSS variables, which the page fills in.

A figure is drawn in both themes. Where the two pictures differ in a color of the palette alone, one of them is kept,
with the color's name; where they differ in more, as a map in another color scale does, both parts are kept, and the
page shows one of them.
"""

import copy
import hashlib
import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from rwkv_explainer.drawing.palette import color_names

__all__ = ["merge_themes"]

COLOR = re.compile(r"#[0-9a-fA-F]{6}\b")
UNNEEDED = "metadata", "style"  # a style sheet inside a picture would be the whole page's


def merge_themes(light: bytes, dark: bytes, style: str = "") -> str:
    """The picture as part of a page.

    Args:
        light: the picture as SVG, drawn in the light theme.
        dark: the same in the dark theme.
        style: the CSS class that the picture gets.
    """
    name = "f" + hashlib.sha256(light + style.encode()).hexdigest()[:8]  # ids differ between a page's pictures
    one, other = (parse_bare(rename_ids(svg.decode(), name)) for svg in (light, dark))
    parts = merge_elements(one, other)
    for part in parts:
        width = float(part.attrib["viewBox"].split()[2]) * 96 / 72  # points to pixels
        part.attrib |= {"aria-hidden": "true", "style": f"max-width: {width:.0f}px"}
        part.set("class", f"{part.get('class', '')} {style}".strip())
        for unneeded in ("width", "height", "version"):
            part.attrib.pop(unneeded, None)
    return "".join(ElementTree.tostring(part, encoding="unicode") for part in parts)


def rename_ids(svg: str, prefix: str) -> str:
    """Ids that are used get short names in their order, the same in both themes. The others go."""
    used = set(re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg))
    names: dict[str, str] = {}

    def declare(found: re.Match) -> str:
        if found[1] not in used:
            return ""
        return f' id="{names.setdefault(found[1], f"{prefix}-{len(names)}")}"'

    svg = re.sub(r' id="([^"]+)"', declare, svg)
    svg = re.sub(r'href="#([^"]+)"', lambda found: f'href="#{names[found[1]]}"', svg)
    return re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{names[found[1]]})", svg)


def parse_bare(svg: str) -> Element:
    """The elements of an SVG without comments, namespaces and what a page does not need."""
    root = ElementTree.fromstring(svg)
    for element in list(root.iter()):
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.text = element.tail = None
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in UNNEEDED:
                parent.remove(child)
    return root


def merge_elements(light: Element, dark: Element) -> list[Element]:
    """One element for both themes, or, where that cannot be, one for each."""
    attributes = merge_attributes(light.attrib, dark.attrib)
    if light.tag != dark.tag or len(light) != len(dark) or attributes is None:
        return [marked(light, "rwkv-light"), marked(dark, "rwkv-dark")]
    merged = Element(light.tag, attributes)
    for pair in zip(light, dark):
        merged.extend(merge_elements(*pair))
    return [merged]


def marked(element: Element, style: str) -> Element:
    element = copy.deepcopy(element)
    element.set("class", style)
    return element


def merge_attributes(light: dict[str, str], dark: dict[str, str]) -> dict[str, str] | None:
    """The attributes with the names of the palette's colors, or None where they differ in more than these."""
    if light.keys() != dark.keys():
        return None
    merged = {name: merge_colors(light[name], dark[name]) for name in light}
    return None if None in merged.values() else merged


def merge_colors(light: str, dark: str) -> str | None:
    """A text in which colors that mean the same are named; None if the two differ in more."""
    if light == dark:
        return light
    pairs = list(zip(COLOR.findall(light), COLOR.findall(dark)))
    named = [one if one == other else color_names().get((one, other)) for one, other in pairs]
    if COLOR.sub("", light) != COLOR.sub("", dark) or None in named:
        return None
    names = iter(named)
    return COLOR.sub(lambda _: next(names), light)
