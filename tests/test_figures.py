"""Figures: the same bytes each time, words that are computed, and what readers try at the edges."""

import json
import re
from xml.etree import ElementTree

import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rwkv_explainer import load_pretrained, tokens
from rwkv_explainer.chapters.attention_and_memory import figures as attention_and_memory_figures
from rwkv_explainer.chapters.causal_trace import figures as causal_trace_figures
from rwkv_explainer.chapters.numerical_stability import figures as numerical_stability_figures
from rwkv_explainer.chapters.time_parallel_mode import figures as time_parallel_mode_figures
from rwkv_explainer.chapters.training import figures as training_figures
from rwkv_explainer.chapters.where_rwkv_went_next import figures as where_rwkv_went_next_figures
from rwkv_explainer.drawing import figure, live, shared
from rwkv_explainer.drawing.palette import DARK, LIGHT

LOSSES, RATES = [3.0, 2.0, 1.0], [0.5, 1.0, 0.5]


@pytest.fixture(scope="module")
def tokenizer():
    return load_pretrained()[1]


def test_a_figure_is_drawn_for_both_papers_and_the_same_each_time():
    once, again = (training_figures.plot_loss_curve(LOSSES, {"even": 2.5}, RATES, window=2) for _ in range(2))
    assert once == again and once.light != once.dark
    html = once._repr_html_()
    assert html.count("<svg") == 2 and html.count(f'role="img" aria-label="{once.alt}"') == 1
    assert not any(color in html.partition("</style>")[2] for color in (*LIGHT.hues, *DARK.hues, LIGHT.ink, DARK.ink))


def plot_map(cells, tokens):
    """A map of numbers with a color bar, drawn by matplotlib."""

    def paint(canvas, theme):
        axes = canvas.subplots()
        figure.color_bar(canvas, figure.heatmap(axes, cells, tokens, tokens[: cells.shape[1]]), axes, "number")

    return figure.draw(paint, "a map")


def test_a_map_keeps_the_colors_of_both_themes():
    """Its scale is another one on dark: these parts, and no others, are there twice."""
    html = plot_map(torch.rand(3, 3), ["a", "b", "c"])._repr_html_()
    light, dark = (re.findall(rf'<(\w+)[^>]*class="rwkv-{theme}"', html) for theme in ("light", "dark"))
    assert light == dark == 4 * ["image"]  # map and color bar, wide and narrow


def test_a_caption_is_seen_and_escaped():
    plot = figure.draw(lambda figure, theme: None, "alt", caption="a < b")
    assert "<figcaption>a &lt; b</figcaption>" in plot._repr_html_()
    assert "figcaption>" not in figure.draw(lambda figure, theme: None, "alt")._repr_html_()


@pytest.mark.parametrize(
    ("token", "shown"),
    [("$$", "$$"), (" $x_1", "·$x_1"), ("\x07", "07"), ("🦜", "F0 9F A6 9C"), ("\u202e", "E2 80 AE"), ("語", "語")],
)
def test_every_token_is_drawn(token, shown):
    """What TeX would read as a formula stands as it is; what no font has, and what is not to be seen, as bytes."""
    trace = plot_map(torch.rand(2, 2), [token, "b"])
    bars = shared.plot_read_shares({f"after {token}": torch.tensor([0.5, 0.5])}, [token, "b"], title=f"of {token}")
    assert shown in drawn_texts(trace) and {shown, f"of {shown.replace('·', ' ')}"} <= drawn_texts(bars)


LONG = ["a" * 300, "हिन्दी" * 3, "<!--<script>" * 4]


@given(st.text(max_size=6) | st.sampled_from(LONG))
@example("$x_{$")
@example("<!--<script>--")
@example("a\x00\u202e")
@settings(deadline=None, max_examples=4, derandomize=True)
def test_any_text_is_drawn_and_the_page_stays_whole(text):
    """A picture that is well formed, without a warning, which fails a test; a script that ends where it should."""
    plot = plot_map(torch.rand(2, 2), [text, "b"])
    bars = shared.plot_read_shares({"after": torch.tensor([0.5, 0.5])}, [text, "b"], title="shares")
    for svg in (plot.light, *plot.narrow, bars.light, *bars.narrow):
        ElementTree.fromstring(svg)
    told = figure.Plot(text, plot.light, plot.dark, caption=text)._repr_html_().partition("</style>")[2]
    assert not {sign for sign in told if not sign.isprintable()} - set("\n\u00a0\u2009\u202f")


@given(st.text(max_size=12) | st.sampled_from(LONG))
@example("</script>")
@example("<!--<script>")
@example("a\x00\u202e")
@settings(deadline=None, derandomize=True)
def test_any_text_stands_in_a_figure_that_the_page_draws(text):
    kept = {
        "bars": live.live_bars({text: [0.1, 0.2]}, [text, "b"], caption=text),
        "lines": live.live_lines([0, 1], {text: [1, 2]}, xlabel=text, ylabel=text, names=[text, "b"], caption=text),
        "heat": live.live_heatmap([[0.1, 0.2]], [text], ["b", text], label=text, caption=text),
    }
    for kind, drawn in kept.items():
        html = drawn._repr_html_().partition("</style>")[2]
        (script,) = BeautifulSoup(html, "html.parser").find_all("script")
        assert json.loads(script.string) == drawn.data and "<" not in script.string, kind
        assert html.rstrip().endswith("</script></figure>")
        hidden = {sign for sign in html if not sign.isprintable()} - set("\n\u00a0\u2009\u202f")
        assert not hidden and drawn.alt.encode(), kind


def test_panels_stand_below_each_other_on_a_phone():
    curves = {"all": where_rwkv_went_next_figures.Recall(torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.0]))}
    plot = where_rwkv_went_next_figures.plot_recall([1, 2], {"one": curves, "two": curves}, rows=2)
    (wide, wide_height), (narrow, narrow_height) = (
        map(float, re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()) for svg in (plot.light, plot.narrow[0])
    )
    assert narrow <= 72 * figure.PHONE and narrow_height > 1.6 * wide_height


def test_a_logarithmic_axis_needs_no_tex():
    assert [figure.plain_power(10.0**n) for n in (-6, -2, 0, 3, 7)] == ["10⁻⁶", "0.01", "1", "1000", "10⁷"]
    assert figure.plain_power(2e6) == "2·10⁶"


def test_pictures_are_lean():
    """Places have two digits after the point, letters keep their size, and hundreds of dots take one path a layer."""
    lives = torch.linspace(0.1, 100, 600).view(2, 300)
    svg = shared.plot_half_lives_before_after(lives, 2 * lives).light.decode()
    assert not re.search(r'\b[dxy]="[^"]*\.\d{3}', svg) and "scale(0.015625)" in svg and "\n " not in svg
    dots = re.findall(r'd="(M[^"]*)"[^>]*opacity: 0\.7', svg)
    assert [path.count("M") for path in dots] == [300, 300]


def test_words_come_from_the_data():
    faded = attention_and_memory_figures.live_fading(half_life=2.0).caption
    assert "A rate of 0.347, a log_decay of -1.06, keeps 71% of a weight with each token" in faded
    baselines = {"the half": 2.1, "nothing": 0.1}
    assert (
        "the half at 2.10, passed by step 3; nothing at 0.10, not reached"
        in training_figures.plot_loss_curve(LOSSES, baselines, RATES, window=2).alt
    )


@pytest.mark.parametrize(
    ("added", "lost"),
    [
        (0, {}),
        (86, {"float32": 7, "bfloat16": 7, "float16": 10}),
        (-20, {"float16": 3}),
        (-120, {"float32": 10, "bfloat16": 10, "float16": 10}),
    ],
)
def test_keys_out_of_range_empty_their_cells(added, lost):
    """And no others: the safe form, in the last row, reads the same with any keys."""
    moved, start = (numerical_stability_figures.live_common_key(number) for number in (added, 0))
    rows = dict(zip(moved.data["rows"], moved.data["cells"]))
    assert {name: cells.count(None) for name, cells in rows.items() if None in cells} == lost
    assert rows["float16, safe"] == pytest.approx(start.data["cells"][-1], abs=0.01)
    assert all(f"{name} at {count}" in moved.caption for name, count in lost.items())


def test_key_ranges_say_in_how_many_layers_float16_ends():
    keys, sums = torch.tensor([[-3.0, 2.0], [-12.0, 9.0]]), torch.tensor([4.0, 11.5])
    figure = numerical_stability_figures.live_key_ranges(keys, sums, overflow=11.1, underflow=-17.3, far=88.7)
    assert figure.caption.startswith("In 1 of 2 layers") and "its highest dot is at 11.5" in figure.caption
    assert "Smallest keys: −12.0 to −3.0; largest keys: 2.0 to 9.0" in figure.alt


def test_a_trace_stands_with_its_layers_up():
    """As what is said goes: the last layer on top, tokens to the right, the subject with a star."""
    grid = torch.tensor([[0.1, 0.2], [0.9, 1.0], [0.1, 0.7]])  # (tokens, layers)
    drawn = causal_trace_figures.live_map(grid, ["The", " tower", " of"], range(1, 2), label="share", limits=(0, 1))
    assert drawn.data["rows"] == ["2", "1"] and drawn.data["columns"] == ["The", "tower★", "of"]
    assert drawn.data["cells"] == [[0.2, 1.0, 0.7], [0.1, 0.9, 0.1]]


def test_a_change_reaches_up_and_to_the_right():
    reached = causal_trace_figures.reach(3, 2, 1, 0, "activation")
    assert reached.tolist() == [[0, 0], [1, 1], [0, 1]]
    assert causal_trace_figures.reach(3, 2, 1, 0, "state").tolist() == [[0, 0], [0, 0], [1, 1]]
    assert causal_trace_figures.reach(3, 2, 1, 1, "activation").sum() == 1, "no layer above remembers it"
    with pytest.raises(ValueError, match="changed: expected one of activation and state, .* got memory"):
        causal_trace_figures.reach(3, 2, 1, 0, "memory")


def test_the_words_of_trace_figures_say_what_was_found():
    draws = {"noise of 3": torch.tensor([0.1, 0.9, 0.2])}
    told = causal_trace_figures.live_draws(0.95, draws, "Paris")
    assert "the total effect is 0.55" in told.caption and "in 1 of them Paris keeps more than half" in told.caption
    assert told.data["series"] == [["", [0.1, 0.2, 0.9]]]
    left = {"emptied": torch.tensor([[0.9, 0.8], [0.0, 0.7]]), "noise": torch.tensor([[0.9, 0.8], [0.6, 0.7]])}
    told = causal_trace_figures.live_severed(left, ["is", "in"], 0.98, layer=1)
    assert "emptied, 0.00 after in; noise, 0.60 after in" in told.caption
    rows = [torch.tensor([[0.1, 0.9], [0.2, 0.6]]), torch.tensor([[0.4, 0.1], [0.3, 0.2]])]
    told = causal_trace_figures.live_columns(rows, ["The Louvre", "Io"], ["Paris", "Jupiter"], 0.5)
    assert told.caption.startswith("1 of 2 facts have a column") and told.data["rows"] == [
        "Louvre: Paris",
        "Io: Jupiter",
    ]
    assert told.data["cells"] == [[0.1, 0.6], [0.3, 0.1]]


def test_a_crossing_is_told_by_the_lengths_around_it():
    lengths = [16, 64, 256]
    told = {
        "before 16 tokens": [2.0, 3.0, 4.0],
        "between 16 and 64 tokens": [0.5, 2.0, 3.0],
        "beyond 64 tokens": [0.5, 0.6, None],
        "beyond 256 tokens": [0.5, 2.0, 0.9],
    }
    assert [time_parallel_mode_figures.crossing(lengths, ratios) for ratios in told.values()] == list(told)


def test_the_slope_of_a_read_touches_it():
    """At the key, and nowhere else does the line of the slope cross the read."""
    picture = time_parallel_mode_figures.live_pull(key=1.0)
    (_, reads, _), (_, slope, _), _ = picture.data["series"]
    here = picture.data["x"].index(1.0)
    assert slope[here] == pytest.approx(reads[here], abs=1e-3)
    assert slope[here + 1] - slope[here] == pytest.approx((reads[here + 1] - reads[here - 1]) / 2, abs=5e-3)
    assert "0.731 × (6 − 4.92) = 0.786" in picture.caption


@pytest.mark.parametrize("time, chunk", [(8, 4), (9, 4), (32, 8)])
def test_every_way_reads_the_whole_past(time, chunk):
    """And each waits for its sources: no node stands above one that it is made of."""
    ways = time_parallel_mode_figures
    for nodes in (ways.loop(time), ways.all_chunks(time, chunk), ways.scan(time)):
        reads = {node.token: node.contains for node in nodes if node.reads}
        assert reads == {token: frozenset(range(-1, token + 1)) for token in range(time)}
        assert all(node.step > source.step for node in nodes for source in node.sources)


def test_a_short_run_has_a_loss_curve():
    assert "from 3.00 to 2.00" in training_figures.plot_loss_curve(LOSSES, {"even": 2.5}, RATES, window=20).alt


@pytest.mark.parametrize("count", [1, 8])
def test_any_number_of_curves_is_drawn(count):
    curve = torch.tensor([0.0, 0.3, 1.0])
    curves = {f"curve {n}": curve * n / count for n in range(count)}
    recalls = {name: where_rwkv_went_next_figures.Recall(values, 0.1 * values) for name, values in curves.items()}
    plot = where_rwkv_went_next_figures.plot_recall([1, 2, 3], {"one panel": recalls}, rows=2)
    assert drawn_texts(plot).issuperset(curves)


def drawn_texts(plot: figure.Plot) -> set[str]:
    """The texts in a picture, which matplotlib notes in comments beside their outlines."""
    return {
        line.strip().removeprefix("<!-- ").removesuffix(" -->")
        for line in plot.light.decode().splitlines()
        if line.strip().startswith("<!-- ")
    }


# ---------------------------------------------------------------------------------------------------------------------
# tokens' names


def test_tokens_are_named_with_what_one_does_not_see(tokenizer):
    (june,) = tokenizer.encode(" June").ids
    assert tokens.token_name(june, tokenizer) == "·June"
    assert tokens.token_name([june, june], tokenizer, space=" ") == " June June"
    assert tokens.token_name(tokenizer.token_to_id("Ċ"), tokenizer) == "↵"
    assert tokens.token_name(99_999, tokenizer) == "#99999"


def test_parts_of_a_character_are_bytes_until_they_are_whole(tokenizer):
    sign_of = {byte: sign for sign, byte in tokens._BYTE_OF.items()}
    parts = [tokenizer.token_to_id(sign_of[byte]) for byte in "ǿ".encode()]
    assert [tokens.token_name(part, tokenizer) for part in parts] == ["C7", "BF"]
    assert tokens.token_name(parts, tokenizer) == "ǿ"
    assert tokens.token_name([tokenizer.token_to_id("a"), parts[0]], tokenizer) == "aC7"


def test_names_fit_a_markdown_table(tokenizer):
    name = tokens.token_formatter(tokenizer)
    bar, quote = tokenizer.token_to_id("|"), tokenizer.token_to_id("`")
    assert name(bar) == "`¦`" and name(quote, bar) == "`ˋ¦`"
