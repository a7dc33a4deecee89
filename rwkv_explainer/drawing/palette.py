"""The book's colors, in one place: figures, graphs and the cover take them from here.

Hues are told apart by all eyes, also those that lack one kind of cone; `tests/test_palette.py` measures it.
"""

from dataclasses import dataclass

__all__ = ["DARK", "LIGHT", "Theme", "color_names", "css_colors", "css_hues", "dark_rule", "on_dark"]


@dataclass(frozen=True)
class Theme:
    """What a figure is drawn on and with, in CSS' notation."""

    ink: str  # text and lines
    faint: str  # grids and frames
    hues: tuple[str, ...]  # for data, in this order
    sequence: str  # matplotlib's name of the color map from little to much
    low: str  # the same for maps that a page colors itself: nothing, ...
    high: str  # ... and all, with a mixture of both between them
    ground: str  # the page behind: figures are transparent, marks on the color map may need it


LIGHT = Theme(
    ink="#22272e",
    faint="#d4d8de",
    sequence="Purples",
    low="#f4f2f8",
    high="#43147d",
    ground="#ffffff",
    hues=("#0072b2", "#d55e00", "#00a060", "#813670", "#4a3e00", "#848e9d"),
)
DARK = Theme(
    ink="#e3e6ea",
    faint="#4a505a",
    sequence="magma",
    low="#232932",
    high="#fbd594",
    ground="#14181e",
    hues=("#56b4e9", "#f0913f", "#12915a", "#c065a8", "#f0e442", "#ffffff"),
)
# The page, JupyterLab, Colab and VS Code each have their own word for dark.
DARK_PAGES = (
    'html[data-theme="dark"]',
    '[data-jp-theme-light="false"]',
    'html[theme="dark"]',
    "body.vscode-dark",
    "body.vscode-high-contrast:not(.vscode-high-contrast-light)",
)


def on_dark(*selectors: str) -> str:
    """The same CSS selectors, for when the page around is dark."""
    return ", ".join(f"{page} {selector}" for page in DARK_PAGES for selector in selectors)


def dark_rule(selector: str, declarations: str) -> str:
    """A CSS rule for when the page around is dark. Paper is white, whatever the screen was."""
    return f"@media not print {{ {on_dark(selector)} {{ {declarations} }} }}"


def css_hues(selector: str, count: int = len(LIGHT.hues)) -> str:
    """CSS that names the first hues --rwkv-hue-1, --rwkv-hue-2 and so on, light or dark, for what a selector finds."""
    light, dark = (" ".join(f"--rwkv-hue-{n}: {p.hues[n - 1]};" for n in range(1, count + 1)) for p in (LIGHT, DARK))
    return f"{selector} {{ {light} }}\n{dark_rule(selector, dark)}"


def css_colors(selector: str) -> str:
    """CSS that names all colors of a theme: the hues, and --rwkv-ink, -faint, -ground, -low and -high."""
    names = "ink", "faint", "ground", "low", "high"
    light, dark = (" ".join(f"--rwkv-{name}: {getattr(theme, name)};" for name in names) for theme in (LIGHT, DARK))
    return f"{css_hues(selector)}\n{selector} {{ {light} }}\n{dark_rule(selector, dark)}"


def color_names() -> dict[tuple[str, str], str]:
    """The CSS variable for each pair of colors that mean the same in the light and in the dark theme."""
    names = {(LIGHT.ink, DARK.ink): "ink", (LIGHT.faint, DARK.faint): "faint", (LIGHT.ground, DARK.ground): "ground"}
    hues = {pair: f"hue-{n}" for n, pair in enumerate(zip(LIGHT.hues, DARK.hues), 1)}
    return {pair: f"var(--rwkv-{name})" for pair, name in (names | hues).items()}
