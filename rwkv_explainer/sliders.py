"""Figures with sliders: in a notebook they answer, on a page they stand still.

    slide(draw, temperature=(0.1, 2.0, 0.1))    # draw is a function with a default for each slider

A page has no kernel that could draw another picture. It shows the one that `draw` makes without arguments.
"""

import os
from collections.abc import Callable

from ipywidgets import interactive

from rwkv_explainer.plots import Plot

STILL = "RWKV_EXPLAINER_STILL"  # the environment variable that is set while the book is built


class Sliders(interactive):
    """Sliders above the figure that they change. Without a running kernel, the figure that they began with."""

    still: Plot

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
        ValueError: a default lies outside its range.
    """
    still = draw()
    if os.environ.get(STILL):
        return still
    sliders = Sliders(draw, {"auto_display": True}, **ranges)
    sliders.still = still
    defaults = sliders.signature().parameters
    for slider in sliders.kwargs_widgets:
        slider.continuous_update = False  # a figure takes a moment: draw it when the slider is let go
        start = defaults[slider.description].default
        if slider.value != start:
            low, high = slider.min, slider.max
            raise ValueError(f"The slider {slider.description} goes from {low} to {high}; it cannot begin at {start!r}.")
    return sliders
