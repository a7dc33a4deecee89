"""Every page of the built book, as axe-core judges it.

A file of its own, the first in the alphabet: of all tests these take longest, and two processes share the files.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe

from browser import visit
from test_pages import PAGES, switch

AXE_SKIPS = {"exclude": [["article svg"], ["mjx-container"]]}  # drawings and equations: thousands of tiny elements


@pytest.mark.parametrize("name", PAGES)
def test_accessible(browser, site, name):
    """axe-core finds nothing serious: contrast, landmarks, names, roles, order. Its notes on lesser things may stay."""
    told = []
    with visit(browser, f"{site}/{name}.html") as page:
        for scheme, width in (("light", 1440), ("dark", 360)):
            switch(page, scheme, width)
            page.wait_for_timeout(500)  # colours change gradually
            found = Axe().run(page, AXE_SKIPS, {"resultTypes": ["violations"], "preload": False}).response["violations"]
            told += [
                (scheme, width, f["id"], len(f["nodes"]), [node["html"][:160] for node in f["nodes"][:4]])
                for f in found
                if f["impact"] in ("serious", "critical")
            ]
    assert told == []
