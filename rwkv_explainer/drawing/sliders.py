"""Figures with sliders, which answer in a notebook and on a page.

    slide(draw, temperature=(0.1, 2.0, 0.1))    # draw is a function with a default for each slider

In a notebook every move calls `draw`. A page has no kernel: while the book is built, `draw` is called once for each
position of the sliders, and the page carries what it returned, the numbers of a `Live` figure or the pictures of a
`Plot`. Without a script, and in print, a page shows the figure that `draw` makes without arguments.
"""

import gzip
import inspect
import itertools
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ipywidgets import HTML, Checkbox, Dropdown, SelectionSlider, VBox, Widget

from rwkv_explainer.drawing.figure import STYLE as PLOT_STYLE
from rwkv_explainer.drawing.figure import Plot
from rwkv_explainer.drawing.live import Live, wrap

__all__ = ["BUILDING", "slide"]

BUILDING = "RWKV_EXPLAINER_BUILDING"  # the environment variable that is set while the book is built
MOST_BYTES = 150_000  # that one figure may add to a page, compressed
MOST_PLOTS = 64  # each takes about half a second to draw

Value = float | int | bool | str


@dataclass(frozen=True)
class Control:
    """What the reader moves: an argument's name, its values in their order, and where it begins."""

    name: str
    values: tuple[Value, ...]
    start: int  # the place of the first value in `values`

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")

    @property
    def words(self) -> list[str]:
        """The values as they are written beside the control."""
        return [f"{v:g}" if isinstance(v, float) else str(v) for v in self.values]

    def widget(self) -> Widget:
        """For a notebook. A figure takes a moment: it is drawn when a slider is let go."""
        if self.values == (False, True):
            return Checkbox(value=self.values[self.start], description=self.label)
        options = list(zip(self.words, self.values))
        if isinstance(self.values[0], str):
            return Dropdown(options=options, value=self.values[self.start], description=self.label)
        value = self.values[self.start]
        return SelectionSlider(options=options, value=value, description=self.label, continuous_update=False)

    def html(self) -> str:
        """For a page: the browser's own control, whose value is a place in `values`."""
        if self.values == (False, True):
            checked = " checked" * self.start
            return f'<label><input type="checkbox" autocomplete="off"{checked}>{escape(self.label)}</label>'
        if isinstance(self.values[0], str):
            options = "".join(
                f'<option value="{n}"{" selected" * (n == self.start)}>{escape(word)}</option>'
                for n, word in enumerate(self.words)
            )
            return f'<label>{escape(self.label)} <select autocomplete="off">{options}</select></label>'
        return (
            f'<label><span>{escape(self.label)}: <span class="lv-value">{escape(self.words[self.start])}</span></span>'
            f'<input type="range" min="0" max="{len(self.values) - 1}" value="{self.start}" autocomplete="off" '
            f'data-values="{escape("|".join(self.words))}"></label>'
        )


class Sliders(VBox):
    """Controls above the figure that they change. Without a running kernel, the figure that they began with."""

    def __init__(self, draw: Callable[..., Plot | Live], controls: Sequence[Control]):
        self.draw, self.still = draw, draw()
        self.sliders = {control.name: control.widget() for control in controls}
        self.picture = HTML(self.still._repr_html_())  # an Output would make programs that run notebooks wait forever
        super().__init__([*self.sliders.values(), self.picture])
        for slider in self.sliders.values():
            slider.observe(self.update, names="value")

    def update(self, change: object) -> None:
        """Draw the figure anew, as the sliders stand."""
        self.picture.value = self.draw(**{name: slider.value for name, slider in self.sliders.items()})._repr_html_()

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        return super()._repr_mimebundle_(**options) | {"text/html": self.still._repr_html_()}


@dataclass(frozen=True)
class Moving:
    """A figure with controls for a page: the first picture, and what live.js needs for all others."""

    still: Plot | Live
    html: str

    def _repr_html_(self) -> str:
        return self.html


def slide(draw: Callable[..., Plot | Live], **ranges: Sequence[Value]) -> Sliders | Moving:
    """The figure that `draw` makes, with a control for each of its arguments.

    Args:
        draw: returns a figure; every argument has a default, where its control begins.
        ranges: for each argument its values. `(0.1, 2.0, 0.1)`: from, to, and the step (1 for whole numbers, else 0.1),
            a slider. A list of texts: a choice. `(False, True)`: a switch.

    Returns:
        controls and figure, which a notebook shows by itself, and a page where the book is being built.

    Raises:
        ValueError: an argument has no range or no default, a range has no argument, a default is none of its values, or
            the figure would weigh more on a page than it may: the message says what to do.
    """
    starts = {name: parameter.default for name, parameter in inspect.signature(draw).parameters.items()}
    if starts.keys() != ranges.keys() or inspect.Parameter.empty in starts.values():
        raise ValueError(
            f"slide: expected arguments of {draw.__name__} with a default and a range each, got the "
            f"arguments {inspect.signature(draw)} and ranges for {', '.join(ranges) or 'none'}"
        )
    controls = [make_control(name, start, ranges[name]) for name, start in starts.items()]
    return move_on_page(draw, controls) if os.environ.get(BUILDING) else Sliders(draw, controls)


def make_control(name: str, start: Value, values: Sequence[Value]) -> Control:
    """The control of one argument, which begins at `start`."""
    if isinstance(values, tuple) and not isinstance(values[0], bool):
        low, high, *step = values
        if not low <= start <= high:
            raise ValueError(f"The slider {name} goes from {low} to {high}; it cannot begin at {start!r}.")
        values = steps(low, high, step[0] if step else 1 if isinstance(low, int) and isinstance(high, int) else 0.1)
    place = next((n for n, value in enumerate(values) if value == start or is_close(value, start)), None)
    if place is None:
        raise ValueError(
            f"The control {name} has the values {', '.join(map(str, values))}; it cannot begin at {start!r}."
        )
    return Control(name, tuple(values), place)


def is_close(one: Value, other: Value) -> bool:
    return not isinstance(one, str) and not isinstance(other, str) and math.isclose(one, other, abs_tol=1e-9)


def steps(low: float | int, high: float | int, step: float | int) -> tuple[float | int, ...]:
    """The numbers from low to high, whole ones if all three are, without the digits that addition leaves."""
    count = int(math.floor((high - low) / step + 1e-9)) + 1
    whole = all(isinstance(number, int) for number in (low, high, step))
    return tuple(low + n * step if whole else float(f"{low + n * step:.10g}") for n in range(count))


# ---------------------------------------------------------------------------------------------------------------------
# on a page


def move_on_page(draw: Callable[..., Plot | Live], controls: Sequence[Control]) -> Moving:
    """Call `draw` for every position of the controls, the last one moving first, and pack what it returns."""
    still = draw()
    count = math.prod(len(control.values) for control in controls)
    if isinstance(still, Plot) and count > MOST_PLOTS:
        raise ValueError(
            f"slide: {count} positions are too many to draw as pictures: expected {MOST_PLOTS} at most. Let "
            f"{draw.__name__} return a figure of numbers (drawing/live.py), or make the steps larger."
        )
    positions = itertools.product(*(control.values for control in controls))
    figures = [draw(**dict(zip([control.name for control in controls], position))) for position in positions]
    start = 0
    for control in controls:
        start = start * len(control.values) + control.start
    frames = pack_numbers(figures, start) if isinstance(still, Live) else pack_pictures(figures, start)
    style = PLOT_STYLE if isinstance(still, Plot) else ""
    picture = still.picture() if isinstance(still, Live) else f'<div class="rwkv-figure">{still.pictures()}</div>'
    shown = f'<div class="lv-controls" hidden>{"".join(control.html() for control in controls)}</div>'
    html = style + wrap(picture, still.alt, still.caption, frames, shown)
    if (weight := len(gzip.compress(html.encode()))) > MOST_BYTES:
        raise ValueError(
            f"slide: {count} positions of {draw.__name__} take {weight / 1000:.0f} kB, compressed: expected "
            f"{MOST_BYTES / 1000:.0f} at most. Make the steps larger, or let it return a figure of numbers."
        )
    return Moving(still, html)


def pack_numbers(figures: Sequence[Live], start: int) -> dict[str, object]:
    """The first frame whole, and of each frame what differs from it; None stands for a series that stays as it is."""
    whole = [figure.data | {"alt": figure.alt, "caption": figure.caption} for figure in figures]
    base = whole[start]
    frames = [{key: value for key, value in frame.items() if base.get(key) != value} for frame in whole]
    for frame in frames:
        if "series" in frame:
            pairs = itertools.zip_longest(frame["series"], base["series"][: len(frame["series"])])
            frame["series"] = [None if one == first else one for one, first in pairs]
    return {"base": base, "frames": frames, "start": start}


def pack_pictures(figures: Sequence[Plot], start: int) -> dict[str, object]:
    """Every element that pictures are made of, once, and for each frame which of them it takes."""
    places: dict[str, int] = {}
    frames = []
    for figure in figures:
        html = re.sub(r"\bf[0-9a-f]{8}-(?=\d)", "frame-", figure.pictures())  # ids: one frame at a time is on the page
        parts = re.findall(r"<[^>]*>|[^<]+", f'<div class="rwkv-figure">{html}</div>')
        picture = [places.setdefault(part, len(places)) for part in parts]
        frames.append({"picture": picture, "alt": figure.alt, "caption": figure.caption})
    return {"base": {}, "frames": frames, "pieces": list(places), "start": start}
