"""What draws: the figure toolkit, the palette, graphs of modules, sliders."""
