"""The book's page on performance, made of what `compare_implementations.py` and `book.py` measured.

    python benchmarks/report.py

Reads `benchmarks/results/*.json`; writes `book/performance.md`, its figure in it. Whatever
has not been measured yet is left out, and the page says so.
"""

import argparse
import json
import statistics
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
    """One dtype's table: everyone's medians, our ratio to the better of the others, the machine's limit."""
    measured, bounds = data["measured"], limits(data, dtype)
    columns = [f"ours {dtype}", f"rwkv {dtype}", f"transformers {dtype}"]
    columns = [column for column in columns if column in measured]
    if dtype == "float32" and "ours float64" in measured:
        columns.append("ours float64")
    names = [column.removesuffix(f" {dtype}").replace("ours float64", "ours, float64") for column in columns]
    header = ["", *names, "ratio to the better other", "limit"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for task, (name, unit, _) in ROWS.items():
        cells = [shown(task, measured[column][task]) if task in measured[column] else "" for column in columns]
        ratio = ratios(measured, task, f"ours {dtype}", dtype)
        limit = f"{bounds[task]:,.0f}" if task in bounds else ""
        lines.append(f"| {name}, {unit} | " + " | ".join(cells) + f" | {with_spread(ratio)} | {limit} |")
    return lines


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
    lines = [f"Measured on {book['processor']} with {book['cores']} cores.", ""] if "processor" in book else []
    lines += ["| stage | seconds |", "|---|---:|"]
    names = {
        "install": "install, from a clean checkout",
        "execute": "execute all chapters",
        "render": "render all pages",
        "rebuild": "build again after one chapter changed",
    }
    lines += [f"| {name} | {s[key]:,.0f} |" for key, name in names.items() if key in s]
    if book.get("chapters"):
        lines += ["", "| chapter | seconds to run | page, kB |", "|---|---:|---:|"]
        lines += [f"| {c['title']} | {c['seconds']:,.1f} | {c['bytes'] / 1000:,.0f} |" for c in book["chapters"]]
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# figure


def plot_ratios(data: dict) -> Plot:
    """Speed beside the faster of the other two, where 1 is as fast, for decode and prefill."""
    bars = []
    for dtype in ("float32", "bfloat16"):
        for task in ("decode", "prefill 256", "prefill 1024"):
            if values := ratios(data["measured"], task, f"ours {dtype}", dtype):
                bars.append((f"{ROWS[task][0]}, {dtype}", values))

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

**Decode** writes token by token. Each token needs every matrix once, so memory bandwidth is the limit: the bandwidth,
as one sum over 256 MB shows it, divided by the bytes of all matrices. **Prefill** reads a whole text; its limit is
the rate of one large product, divided by the multiply-adds of a token. Both are measured in the same run with plain
PyTorch calls, so a row can come out a little above its limit. **Time to first token** is loading plus reading
{prompt} tokens, in a process that has imported its libraries. **Peak memory** is the most that a process held while
it loaded, read 1,024 tokens and wrote {decoded}, its libraries included. A **ratio** is ours divided by theirs: above
1 is better for speeds, below 1 for times and memory. Where a speed swings from round to round, the median of the
ratios is not the ratio of the medians.

{tables}

## A step of training

{training}

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
- Nearly all time goes into products of matrices. PyTorch has several libraries for them, and which one is the fastest
  depends on the processor's maker and on the dtype. So `Linear` times them at the first large product.
- The memory reads all chunks of a text in one batched product for each channel, each chunk scaled by its own largest
  key. Only a small sum is carried from chunk to chunk.
- Key, value and receptance have different inputs, since each has a mixer of its own. Joining their three products into
  one would need the same input, or twice the arithmetic. We did not.
- Loading maps the file into memory and reads a matrix only when it is needed: so the first token pays for it.
- A long text goes through the blocks in segments of 512 tokens, whose activations stay in the processor's cache.
- Most of the peak memory is the mapped file, whose pages the system shares and takes back as it likes."""


def write_page(results: Path, book_folder: Path) -> None:
    """Write the page, from the folder `results`: a file for each processor, and the book's."""
    files = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    book, training = files.pop("book", None), files.pop("training", None)
    not_yet = "*Not measured yet.*"
    playground = ROOT / "benchmarks" / "playground.md"
    parts = {"playground": playground.read_text(encoding="utf-8").strip() if playground.exists() else not_yet}
    parts |= {"book": "\n".join(table_of_book(book)) if book else not_yet, "notes": NOTES, "prompt": 32, "decoded": 16}
    parts["training"] = table_of_training(training) if training else not_yet
    parts["tables"] = "\n\n".join(section_of(data) for data in files.values()) or not_yet
    (book_folder / "performance.md").write_text(PAGE.format(**parts), encoding="utf-8")


def table_of_training(data: dict) -> str:
    """Ways to compute a step's gradients, measured in turns within one run."""
    machine = data["machine"]
    lines = [
        f"On one core of {machine['processor']}, the ways in turns, load average {machine['load']:g}:",
        "",
        "| gradients by | tokens per second of CPU time | times as fast, median of the turns |",
        "|---|---|---|",
    ]
    for way, row in data["measured"].items():
        ratio = row["times as fast, median of the turns"]
        lines.append(f"| {way} | {row['tokens a second of the processor']:,} | {ratio:.2f} |")
    return "\n".join(lines)


def section_of(data: dict) -> str:
    """All that was measured on one processor."""
    figure = plot_ratios(data)._repr_html_()
    tables = (f"### {dtype}\n\n" + "\n".join(table_of(data, dtype)) for dtype in ("float32", "bfloat16"))
    words = " ".join([in_words(data), data.get("note", "")]).strip()
    return "\n\n".join([f"## {data['machine']['processor']}", words, figure, *tables, *failed(data)])


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
