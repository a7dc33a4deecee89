"""The book's colors, in one place: figures, graphs and the cover take them from here.

Hues are told apart by all eyes, also those that lack one kind of cone; `tests/test_palette.py` measures it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """What a figure is drawn on and with, in CSS' notation."""

    ink: str  # text and lines
    faint: str  # grids and frames
    hues: tuple[str, ...]  # for data, in this order
    sequence: str  # matplotlib's name of the color map from little to much
    ground: str  # the page behind: figures are transparent, marks on the color map may need it


LIGHT = Theme(
    ink="#22272e",
    faint="#d4d8de",
    sequence="Purples",
    ground="#ffffff",
    hues=("#0072b2", "#d55e00", "#00a060", "#813670", "#4a3e00", "#848e9d"),
)
DARK = Theme(
    ink="#e3e6ea",
    faint="#4a505a",
    sequence="magma",
    ground="#14181e",
    hues=("#56b4e9", "#f0913f", "#12915a", "#c065a8", "#f0e442", "#ffffff"),
)
# The page, JupyterLab and Colab each have their own word for dark.
DARK_PAGES = 'html[data-theme="dark"]', '[data-jp-theme-light="false"]', 'html[theme="dark"]'


def on_dark(*selectors: str) -> str:
    """The same CSS selectors, for when the page around is dark."""
    return ", ".join(f"{page} {selector}" for page in DARK_PAGES for selector in selectors)


def css_hues(selector: str, count: int = len(LIGHT.hues)) -> str:
    """CSS that names the first hues --rwkv-hue-1, --rwkv-hue-2 and so on, light or dark, for what a selector finds."""
    light, dark = (" ".join(f"--rwkv-hue-{n}: {p.hues[n - 1]};" for n in range(1, count + 1)) for p in (LIGHT, DARK))
    return f"{selector} {{ {light} }}\n{on_dark(selector)} {{ {dark} }}"
