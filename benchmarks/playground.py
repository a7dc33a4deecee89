"""How fast the playground is: time a token, time to load and bytes, in Chromium on a throttled processor.

    python benchmarks/playground.py [--book _build/html] [--write]

Opens the built book's page from a local server, once for each throttle and each kind of arithmetic, loads the model
and steps through tokens. `--write` keeps the table in benchmarks/playground.md. Times depend on the machine.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from compare_implementations import processor_name  # noqa: E402

from browser import find_chromium, launch, serve  # noqa: E402

THROTTLES = (1, 4, 6)
KINDS = {"WebAssembly": "", "plain JavaScript": "delete globalThis.WebAssembly"}
STEPS = """count => {
    const { model } = rwkvPlayground, state = model.emptyState(), times = [];
    for (let i = 0; i < count; i++) {
        const start = performance.now();
        model.step(1 + (i * 37) % (model.sizes.vocabulary - 1), state);
        times.push(performance.now() - start);
    }
    return times;
}"""
READY = "document.querySelector('.rwkv-playground .pg-status').textContent.includes('ms each')"


def measure(browser, address: str, throttle: int, before: str) -> dict[str, float]:
    """One page: seconds from the click to the first text read, milliseconds a token, and bytes."""
    context = browser.new_context()
    page = context.new_page()
    if before:
        page.add_init_script(before)
    sizes: dict[bool, int] = {False: 0, True: 0}  # bytes before the click, and after it
    clicked = False

    def count(response) -> None:
        sizes[clicked] += int(response.headers.get("content-length", 0))

    page.on("response", count)
    page.goto(address, wait_until="load")
    page.locator(".pg-lens").wait_for()
    context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": throttle})
    start, clicked = time.perf_counter(), True
    page.locator(".rwkv-playground .pg-main").click()
    page.wait_for_function(READY, timeout=600_000)
    seconds = time.perf_counter() - start
    page.evaluate(STEPS, 10)  # let the engine compile what it will
    times = page.evaluate(STEPS, 40)
    context.close()
    tokens = {"token": statistics.median(times), "best": min(times)}
    return tokens | {"load": seconds, "page": sizes[False], "model": sizes[True]}


def table(found: dict[tuple[str, int], dict[str, float]]) -> str:
    """The figures as Markdown."""
    columns = "arithmetic | processor slowed | ms a token, median | fastest | load the model, s | page, MB | model, MB"
    lines = [f"| {columns} |", "|---" * 7 + "|"]
    for (kind, throttle), figures in found.items():
        lines.append(
            f"| {kind} | {throttle} × | {figures['token']:.1f} | {figures['best']:.1f} "
            f"| {figures['load']:.1f} | {figures['page'] / 1e6:.1f} | {figures['model'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--book", type=Path, default=ROOT / "_build" / "html", help="the built book")
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/playground.md")
    args = parser.parse_args()
    found = {}
    with sync_playwright() as playwright, serve(args.book) as address:
        browser = launch(playwright, find_chromium())
        for kind, before in KINDS.items():
            for throttle in THROTTLES:
                found[kind, throttle] = measure(browser, f"{address}/playground.html", throttle, before)
        version = browser.version
        browser.close()
    words = (
        f"Chromium {version}, {processor_name()}, {os.cpu_count()} cores, load average at the end "
        f"{os.getloadavg()[0]:.0f}; served from the same machine; over 40 tokens. Where the machine has other "
        "work to do, the fastest is nearer to what it can do, but not under throttling, which pauses the "
        "processor now and then and lets some tokens through. The page's bytes include the theme's. Everything is "
        "counted as it lies on the disk, without compression."
    )
    print(f"{table(found)}\n\n{words}")
    if args.write:
        (ROOT / "benchmarks" / "playground.md").write_text(f"{table(found)}\n\n{words}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
