"""The book's page on performance, made of what `field.py` and `book.py` measured.

    python benchmarks/report.py

Reads `benchmarks/results/*.json`; writes `book/performance.md` and its figure, for light and for dark pages. Whatever
has not been measured yet is left out, and the page says so.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from rwkv_explainer.drawing.figure import Plot, draw
from rwkv_explainer.drawing.palette import Theme

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS_OF_A_BLOCK = 4 + 8 + 1  # matrices of channels x channels: attention, the MLP's two wide ones, its gates
ROWS = {  # a row's task in the measurements, its name, its unit, whether more is better
    "first token": ("time to first token", "s", False),
    "decode": ("decode", "tokens/s", True),
    "prefill 256": ("prefill of 256", "tokens/s", True),
    "prefill 1024": ("prefill of 1,024", "tokens/s", True),
    "load": ("load time", "s", False),
    "peak memory": ("peak memory", "MB", False),
}
TARGETS = {  # ratios to the faster, or the smaller, of the other two
    ("float32", "decode"): 1.2,
    ("float32", "prefill 1024"): 1.5,
    ("float32", "load"): 0.5,
    ("float32", "peak memory"): 0.8,
    ("bfloat16", "decode"): 1.6,
}
OTHERS = ("rwkv", "transformers")
Measured = dict[str, dict[str, list[float]]]


# ---------------------------------------------------------------------------------------------------------------------
# numbers


def shown(task: str, values: list[float]) -> str:
    """The median, in the row's unit."""
    value = statistics.median(values)
    if task == "peak memory":
        return f"{value / 1e6:,.0f}"
    rate = 1 / value if ROWS[task][2] else value
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"


def ratios(measured: Measured, task: str, ours: str, dtype: str) -> list[float]:
    """Ours to the better of the others in this dtype, round by round: a multiple of its speed, time or memory."""
    others = [measured[f"{name} {dtype}"][task] for name in OTHERS if task in measured.get(f"{name} {dtype}", {})]
    mine = measured.get(ours, {}).get(task)
    if not others or not mine:
        return []
    pairs = zip(mine, map(min, zip(*others)))
    return [best / own if ROWS[task][2] else own / best for own, best in pairs]


def with_spread(values: list[float]) -> str:
    """The median, with the lowest and the highest; nothing where nothing was measured."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""


def limits(data: dict, dtype: str) -> dict[str, float]:
    """Tokens a second that this machine's memory and arithmetic allow."""
    measured, sizes = data["measured"].get(f"limits {dtype}", {}), data["sizes"]
    if not measured:
        return {}
    blocks = sizes["layers"] * PARAMETERS_OF_A_BLOCK * sizes["channels"] ** 2
    head = sizes["vocabulary"] * sizes["channels"]
    width = {"float32": 4, "bfloat16": 2}[dtype]
    bandwidth, rate = (statistics.median(measured[task]) for task in ("bandwidth", "matrix rate"))
    prefill = {f"prefill {n}": rate / (blocks + head / n) for n in (256, 1024)}
    return {"decode": bandwidth / (width * (blocks + head)), **prefill}


# ---------------------------------------------------------------------------------------------------------------------
# tables


def table_of(data: dict, dtype: str) -> list[str]:
    """One dtype's table: everyone's medians, our ratio to the better of the others, the target, the machine's limit."""
    measured, bounds = data["measured"], limits(data, dtype)
    columns = [f"ours {dtype}", f"ours, compiled {dtype}", f"rwkv {dtype}", f"transformers {dtype}"]
    columns = [column for column in columns if column in measured]
    if dtype == "float32" and "ours float64" in measured:
        columns.append("ours float64")
    names = [column.removesuffix(f" {dtype}").replace("ours float64", "ours, float64") for column in columns]
    header = ["", *names, "ratio to the better other", "target", "limit"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for task, (name, unit, more) in ROWS.items():
        cells = [shown(task, measured[column][task]) if task in measured[column] else "" for column in columns]
        ratio = ratios(measured, task, f"ours {dtype}", dtype)
        target = TARGETS.get((dtype, task))
        wanted = f"{'≥' if more else '≤'} {target}" if target else ""
        limit = f"{bounds[task]:,.0f}" if task in bounds else ""
        lines.append(f"| {name}, {unit} | " + " | ".join(cells) + f" | {with_spread(ratio)} | {wanted} | {limit} |")
    return lines


def verdicts(data: dict) -> list[str]:
    """A table of what we aimed at: our ratios, in bold where they got there."""

    def row(what: str, aim: str, task: str, dtype: str, beside: str, reached: Callable[[float], bool]) -> str:
        found = [ratios(data["measured"], task, f"{kind} {dtype}", beside) for kind in ("ours", "ours, compiled")]
        medians = [statistics.median(values) if values else None for values in found]
        cells = ["" if m is None else f"**{m:.2f}**" if reached(m) else f"{m:.2f}" for m in medians]
        return f"| {what} | {aim} | {cells[0]} | {cells[1]} |"

    lines = ["| to the better of the two others | aim | ours | ours, compiled |", "|---|---:|---:|---:|"]
    for (dtype, task), target in TARGETS.items():
        name, _, more = ROWS[task]
        what, aim = f"{name} in {dtype}, {'times as fast' if more else 'share'}", f"{'≥' if more else '≤'} {target}"
        lines.append(row(what, aim, task, dtype, dtype, target.__le__ if more else target.__ge__))
    across = "decode in bfloat16, times as fast as theirs in float32"
    return lines + [row(across, "", "decode", "bfloat16", "float32", lambda ratio: False)]


def in_words(data: dict) -> str:
    """On what, and how, it was measured."""
    m, sizes = data["machine"], data["sizes"]
    size = f"{sizes['layers']} × {sizes['channels']}, {sizes['vocabulary']:,} tokens"
    return (
        f"Measured on {m['processor']} with {m['cores']} cores, threads for each: {m['threads']}, load average "
        f"before the start: {m['load']:.1f}; Python {m['python']}, PyTorch {m['torch']}, rwkv {m['rwkv']}, "
        f"transformers {m['transformers']}. The model: {size}, random numbers. Rounds: {data['rounds']}. Numbers "
        "are medians over the rounds; ratios are medians of the rounds' own ratios, with the lowest and highest."
    )


def table_of_book(book: dict) -> list[str]:
    """How long the book takes, and how heavy its pages are."""
    s = book["stages"]
    lines = ["| stage | seconds |", "|---|---:|"]
    names = {
        "install": "install, from a clean checkout",
        "execute": "execute all chapters",
        "render": "render all pages",
        "rebuild": "build again after one chapter changed",
    }
    lines += [f"| {name} | {s[key]:,.0f} |" for key, name in names.items() if key in s]
    if book.get("chapters"):
        lines += ["", "| chapter | seconds to run | page, KB |", "|---|---:|---:|"]
        lines += [f"| {c['title']} | {c['seconds']:,.1f} | {c['bytes'] / 1000:,.0f} |" for c in book["chapters"]]
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# figure


def plot_ratios(data: dict) -> Plot:
    """Speed beside the faster of the other two, where 1 is as fast, for decode and prefill."""
    bars = []
    for dtype in ("float32", "bfloat16"):
        for task in ("decode", "prefill 256", "prefill 1024"):
            for name in ("ours", "ours, compiled"):
                values = ratios(data["measured"], task, f"{name} {dtype}", dtype)
                if values and (name == "ours" or task == "decode"):
                    bars.append((f"{ROWS[task][0]}, {dtype}{', compiled' if 'compiled' in name else ''}", values))

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for y, (name, values) in enumerate(bars):
            middle = statistics.median(values)
            axes.barh(y, middle, color=theme.hues[0], height=0.6)
            axes.plot([min(values), max(values)], [y, y], color=theme.ink, linewidth=1.5)
        axes.axvline(1, color=theme.hues[1], linewidth=1.5)
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="speed, as a multiple of the faster of the other two", xlim=(0, None))

    words = "; ".join(f"{name}: {statistics.median(values):.2f}" for name, values in bars)
    alt = f"Bars of our speed as a multiple of the faster of the other two. {words}."
    return draw(paint, alt, (7.2, 0.6 + 0.36 * len(bars)))


# ---------------------------------------------------------------------------------------------------------------------
# page


PAGE = """# Performance

How fast is a package that is written to be read? We put it beside the two that others use: the architecture's own
`rwkv`, and the RWKV in transformers. All three load the same random checkpoint in the shape of the 169M, live in
processes of their own, and take turns, round by round, so that whatever else the machine does hits all alike.

{machine}

{figure}

**Decode** writes token by token. Each token needs every matrix once, so the memory's pace is the limit: the bytes of
all matrices over the bandwidth, measured in the same run as the time that one sum over 256 MB takes. **Prefill** reads
a text at once; its limit is the multiply-adds over the rate of one large product, measured in the same run. Both are
taken with plain PyTorch calls, so a row can come out a little above its limit. **Time to first token** is loading plus
reading {prompt} tokens, in a process that has imported its libraries. **Peak memory** is the most that a process held
while it loaded, read 1,024 tokens and wrote {decoded}, its libraries included. Where a speed swings from round to
round, the median of the ratios is not the ratio of the medians.

## float32

{float32}

## bfloat16

{bfloat16}

## What we aimed at

In bold: reached.

{verdicts}

## What helped, and what did not

{notes}

## The book itself

{book}

How long each chapter took when these very pages were made is told in {{doc}}`execution-times`.

## The playground

{playground}

`make bench` measures the models, `make booktimes` the book, `benchmarks/playground.py --write` the playground.
"""

NOTES = """\
- In float32, the processor spends nearly all its time in matrix products. PyTorch hands them to one library and has
  another one on board, oneDNN. On one core of an AMD EPYC, by processor time, that one was 1.2 times as fast for single
  vectors and 1.1 to 1.2 times for 1,024. `products.py` takes it where no gradients are asked for.
- The memory reads all chunks of a text in one batched product for each channel, each chunk scaled by its own largest
  key. Only a small sum is carried from chunk to chunk.
- Key, value and receptance have different inputs, since each has a mixer of its own. Joining their three products into
  one would need the same input, or twice the arithmetic. We did not.
- `products.compile_steps()` multiplies single vectors by code that `torch.compile` makes. It needs a C++ compiler and
  some seconds at the first step; nothing in the book needs it. On that same core, all of a token's products took 33 ms
  of processor time instead of 46 in float32, and 20 instead of 38 in bfloat16.
- Loading maps the file into memory and reads nothing until it is needed: so the first token pays for it.
- A long text goes through the blocks in segments of 512 tokens, whose numbers stay in the processor's cache. For 1,024
  tokens, alone and on one thread, that took 2.3 s of processor time instead of 2.4, and 0.87 GB at its peak instead of
  0.99.
- Most of that peak is the mapped file, whose pages the system shares and takes back as it likes: 0.67 GB with the
  libraries' own. Besides, our process held 0.19 GB after 1,024 tokens, of which 0.15 came with PyTorch."""


def write_page(results: Path, book_folder: Path) -> None:
    """Write the page and its figure of what lies in the folder `results`."""
    files = results / "field.json", results / "book.json"
    field, book = (json.loads(file.read_text()) if file.exists() else None for file in files)
    not_yet = "*Not measured yet.*"
    playground = ROOT / "benchmarks" / "playground.md"
    parts = {"playground": playground.read_text(encoding="utf-8").strip() if playground.exists() else not_yet}
    parts |= {"book": "\n".join(table_of_book(book)) if book else not_yet, "notes": NOTES, "prompt": 32, "decoded": 16}
    if field:
        plot = plot_ratios(field)
        for theme, svg in (("light", plot.light), ("dark", plot.dark)):
            (book_folder / f"performance-{theme}.svg").write_bytes(svg)
        image = "```{{image}} performance-{0}.svg\n:class: only-{0}\n:alt: {1}\n```"
        images = (image.format(theme, plot.alt) for theme in ("light", "dark"))
        parts["figure"] = "\n\n".join(["::::{container} rwkv-figure", *images, "::::"])
        parts |= {dtype: "\n".join(table_of(field, dtype)) for dtype in ("float32", "bfloat16")}
        parts |= {"machine": in_words(field), "verdicts": "\n".join(verdicts(field) + [""] + failed(field)).strip()}
    else:
        parts |= dict.fromkeys(("figure", "verdicts"), "") | dict.fromkeys(("machine", "float32", "bfloat16"), not_yet)
    (book_folder / "performance.md").write_text(PAGE.format(**parts), encoding="utf-8")


def failed(data: dict) -> list[str]:
    """A line for everyone who could not be measured."""
    return [f"- {name} did not run: `{error}`" for name, error in data["failed"].items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--book", type=Path, default=ROOT / "book", help="the folder that the page goes to")
    args = parser.parse_args()
    write_page(args.results, args.book)


if __name__ == "__main__":
    main()
