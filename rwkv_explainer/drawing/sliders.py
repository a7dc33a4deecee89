"""Figures with sliders: in a notebook they answer, on a page they stand still.

    slide(draw, temperature=(0.1, 2.0, 0.1))    # draw is a function with a default for each slider

A page has no kernel that could draw another picture. It shows the one that `draw` makes without arguments.
"""

import inspect
import os
from collections.abc import Callable

from ipywidgets import HTML, VBox, Widget, interactive

from rwkv_explainer.drawing.figure import Plot

STILL = "RWKV_EXPLAINER_STILL"  # the environment variable that is set while the book is built


class Sliders(VBox):
    """Sliders above the figure that they change. Without a running kernel, the figure that they began with."""

    def __init__(self, draw: Callable[..., Plot], sliders: dict[str, Widget]):
        self.draw, self.sliders, self.still = draw, sliders, draw()
        self.picture = HTML(self.still._repr_html_())  # an Output would make programs that run notebooks wait forever
        super().__init__([*sliders.values(), self.picture])
        for slider in sliders.values():
            slider.observe(self.update, names="value")

    def update(self, change: object) -> None:
        """Draw the figure anew, as the sliders stand."""
        self.picture.value = self.draw(**{name: slider.value for name, slider in self.sliders.items()})._repr_html_()

    def _repr_mimebundle_(self, **options) -> dict[str, object]:
        return super()._repr_mimebundle_(**options) | {"text/html": self.still._repr_html_()}


def slide(draw: Callable[..., Plot], **ranges: tuple) -> Plot | Sliders:
    """The figure that `draw` makes, with a slider for each of its arguments.

    Args:
        draw: returns a figure; every argument has a default, where its slider begins.
        ranges: for each argument, from where to where its slider goes, and in which steps: `(0.1, 2.0, 0.1)`.

    Returns:
        sliders and figure, which a notebook shows by itself; the figure alone where the book is being built.

    Raises:
        ValueError: an argument has no range or no default, a range has no argument, or a default is outside its range.
    """
    starts = {name: parameter.default for name, parameter in inspect.signature(draw).parameters.items()}
    if starts.keys() != ranges.keys() or inspect.Parameter.empty in starts.values():
        raise ValueError(
            f"slide: expected arguments of {draw.__name__} with a default and a range each, got the "
            f"arguments {inspect.signature(draw)} and ranges for {', '.join(ranges) or 'none'}"
        )
    for name, start in starts.items():
        low, high, *_ = ranges[name]
        if not low <= start <= high:
            raise ValueError(f"The slider {name} goes from {low} to {high}; it cannot begin at {start!r}.")
    if os.environ.get(STILL):
        return draw()
    return Sliders(draw, {name: make_slider(name, start, ranges[name]) for name, start in starts.items()})


def make_slider(name: str, start: float | int, limits: tuple) -> Widget:
    """One slider that begins at `start`, for whole numbers if its limits are."""
    slider = interactive.widget_from_tuple(limits)
    slider.description = name
    slider.continuous_update = False  # a figure takes a moment: draw it when the slider is let go
    slider.value = start
    return slider
