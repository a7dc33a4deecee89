"""A real browser for tests: find Chromium, install it where that is possible, and listen to what a page does.

    python tests/browser.py     installs the distribution's Chromium if there is none, or says why it cannot

`conftest.py` makes fixtures of this: `browser`, `built_book` (the book, copied away from where it was built) and `site`
(the same behind a web server, under a sub-path). A test opens a page like so:

    with visit(browser, f"{site}/index.html", width=360, scheme="dark") as page:
        ...
    # leaving the block fails the test if the page wrote an error to the console, asked for something that was not
    # there, or asked for anything that did not come with the book

`what_is_serious` is axe-core's judgment of an open page.
"""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, Request

NAMES = (
    "chromium-headless-shell",  # has no window, nor the pages that make up one: a quarter less time for a page
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
)
STILL = "*, ::before, ::after { transition: none !important; }"  # for what is asked right after a change
# Nothing scrolls any more: where a wheel or the focus leads is reached in many steps, slow ones on a busy machine.
RESTED = """async () => {
    for (let before = NaN, still = 0; still < 20; before = scrollY) {
        await new Promise(requestAnimationFrame);
        still = scrollY === before ? still + 1 : 0;
    }
}"""
PATIENCE = 180_000  # milliseconds that a step may take: machines stall
# Equations are set and fonts are there, and then all that waits for its turn has had one.
SETTLED = """async () => {
    await window.MathJax?.startup?.promise;
    await document.fonts.ready;
    await new Promise(done => requestIdleCallback(done, {timeout: 2000}));
}"""
# axe-core looks at every element. These need no second look, and are most of a chapter: of code, the words of one kind,
# whose classes and those around them are the same, have one color, so the first to be seen stays; the shapes inside a
# drawing that does not move, and the signs inside an equation, are left out, but in the place that is asked about.
THIN_OUT = """within => {
    const kinds = new Set(), others = [];
    for (const word of document.querySelectorAll(":is(.highlight pre, dt.sig) span:not(:has(*))")) {
        if (word.closest(within)) continue;
        const around = [word.checkVisibility()];
        for (let e = word; e; e = e.parentElement) around.push(e.className);
        const kind = around.join("/");
        if (kinds.has(kind)) others.push(word);
        kinds.add(kind);
    }
    others.forEach(word => word.remove());  // after all have been asked
    for (const drawing of document.querySelectorAll(".rwkv-graph svg, .rwkv-figure svg"))
        if (!drawing.closest(within)) drawing.replaceChildren();
    for (const equation of document.querySelectorAll("mjx-container"))
        if (!equation.closest(within)) equation.replaceChildren();
    for (const place of document.querySelectorAll("article *"))  // a shade behind words, at whose color axe gives up
        if (getComputedStyle(place).backgroundImage.includes("gradient")) place.style.backgroundImage = "none";
}"""


def find_chromium() -> str | None:
    """The path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def install_chromium() -> str:
    """Install the distribution's Chromium if there is none, asking for no password. Returns what came of it."""
    if path := find_chromium():
        return f"Browser tests: with {path}."
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    skipped = "the browser tests will be skipped. Install Chromium or Chrome to run them"
    if not shutil.which("apt-get"):
        return f"Browser tests: no Chromium here, and no apt-get to install it with: {skipped}."
    if root and (not shutil.which("sudo") or subprocess.run([*root, "true"], capture_output=True).returncode):
        return f"Browser tests: no Chromium here, and no right to install it: {skipped}: sudo apt-get install chromium."
    subprocess.run([*root, "apt-get", "update", "-q"], capture_output=True)
    for package in NAMES[:2]:  # not every distribution has the first
        install = [*root, "apt-get", "install", "-q", "-y", "--no-install-recommends", package]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode == 0:
            break
    if path := find_chromium():
        return f"Browser tests: installed {path}."
    return f"Browser tests: no Chromium, and apt-get could not install it: {skipped}. It said: {done.stderr.strip()}"


def launch(playwright: Playwright, path: str) -> Browser:
    """Chromium with a profile of its own, which is empty and goes away with it. It finds no host but this one."""
    return playwright.chromium.launch(executable_path=path, args=list(FLAGS))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each in the tests' output."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """A static web server, as plain as they come. Gives its address."""
    server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(QuietHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def visit(
    browser: Browser, address: str, width: int = 1280, height: int = 900, scheme: str = "light", **context: object
) -> Iterator[Page]:
    """A page, loaded, in a context of its own, so that nothing is remembered from another one.

    Args:
        browser: the fixture of that name.
        address: http or file; what lies in the same folder or below belongs to the page, everything else does not.
        width: of the window, in CSS pixels.
        height: the same.
        scheme: what the reader's system asks for, "light" or "dark".
        **context: further settings, in the words of Playwright's `new_context`.

    Raises:
        AssertionError: on leaving, naming every error in the console, every failed request and every one that left.
    """
    opened = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **context)
    opened.set_default_timeout(PATIENCE)
    page = opened.new_page()
    wrong = listen(page, address.partition("?")[0].rpartition("/")[0])
    try:
        page.goto(address, wait_until="load")
        page.evaluate(SETTLED)
        yield page
    finally:
        opened.close()
    assert not wrong, "\n    ".join([f"{address} at {width} px, {scheme}:", *wrong])


def choose_theme(page: Page, scheme: str) -> None:
    """Light or dark, as the button of that name chooses."""
    page.evaluate("scheme => Object.assign(document.documentElement.dataset, {mode: scheme, theme: scheme})", scheme)


def what_is_serious(page: Page, within: str | dict | None = None) -> list[tuple]:
    """What axe-core finds serious or critical: each rule, how many elements break it, and the first of them.

    The page is thinned out for it, so that nothing else can be asked of its code, drawings and equations afterwards.

    Args:
        within: a selector, or more of axe's words for where to look; the whole page but drawings and equations if None.
    """
    named = "a, button, summary, h1, h2, h3, h4, caption, th"  # which may have their names from what is in them
    page.evaluate(THIN_OUT, f"{within}, {named}" if isinstance(within, str) else named)
    within = within or {"exclude": [["article svg"], ["mjx-container"]]}
    found = Axe().run(page, within, {"resultTypes": ["violations"], "preload": False}).response["violations"]
    return [
        (
            rule["id"],
            len(rule["nodes"]),
            [node["html"][:160] + node["failureSummary"][:200] for node in rule["nodes"][:4]],
        )
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def listen(page: Page, home: str) -> list[str]:
    """A list that fills with what goes wrong on the page from now on."""
    wrong: list[str] = []

    def asked(request: Request) -> None:
        if not request.url.startswith((home, "data:", "blob:")):
            wrong.append(f"asked for what is not the book's: {request.url:.200}")

    page.on("request", asked)
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url:.200}, {request.failure}"))
    page.on("response", lambda r: wrong.append(f"status {r.status}: {r.url:.200}") if r.status >= 400 else None)
    page.on("console", lambda said: wrong.append(f"console: {said.text:.500}") if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(f"script: {str(error):.500}"))
    return wrong


if __name__ == "__main__":
    print(install_chromium(), file=sys.stderr)
