"""Where the book is published: `_config.yml` keeps one address, which first cells and `CITATION.cff` repeat.

    make publish-to REPOSITORY=https://github.com/someone/the-book    writes that address
    make publish-to REPOSITORY=nowhere                                takes it back
    make publish-to                                                   writes it anew: for a new chapter or version

With an address, every chapter's page has launch buttons, and its first cell installs the package from there where it is
missing. Buttons and cells lead to the tag of the package's version, so that page, chapter and package belong together.
Without an address there are no buttons, and the first cell says where the package comes from.
"""

import json
import re
import sys
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

ROOT = Path(__file__).resolve().parents[1]
CELL = "install"  # the id of every chapter's first code cell
BLOCK = re.compile(r"^ *# Written by `make publish-to`.*?# End of what `make publish-to` writes\.\n", re.DOTALL | re.M)

SETTINGS = """\
      # Written by `make publish-to`: the published repository, or "". Launch buttons need one.
      repository_url: "{address}"
      repository_branch: v{version}
      path_to_docs: book
      launch_buttons:
        notebook_interface: jupyterlab
        binderhub_url: "{binder}"
        colab_url: "{colab}"
      # End of what `make publish-to` writes.
"""

PUBLISHED = """\
# Where this book's package is missing, as in Colab, this cell installs it: once, in a minute or two.
import subprocess, sys
from importlib.metadata import distributions
from importlib.util import find_spec

VERSION, SOURCE = "{version}", "rwkv-explainer[book] @ git+{address}@v{version}"
if not find_spec("rwkv_explainer"):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SOURCE], check=True)
for package in distributions(name="rwkv-explainer"):
    if package.version != VERSION:
        print(f"This chapter is for version {{VERSION}} of its package; installed is {{package.version}}. To mend it,")
        print(f'run   %pip install "{{SOURCE}}"   and restart the kernel.')
"""

UNPUBLISHED = """\
# This chapter runs with this book's package. Where the package is there, this cell does nothing.
from importlib.metadata import distributions
from importlib.util import find_spec

VERSION, MEND = "{version}", 'in the book\\'s repository, run   pip install ".[book]"'
if not find_spec("rwkv_explainer"):
    raise ModuleNotFoundError(f"This chapter needs the package rwkv_explainer. To install it, {{MEND}}")
for package in distributions(name="rwkv-explainer"):
    if package.version != VERSION:
        print(f"This chapter is for version {{VERSION}} of its package; installed is {{package.version}}. To mend it,")
        print(f"take both from one place: {{MEND}}   and restart the kernel.")
"""


def check_address(address: str) -> str:
    """The address as it is kept: without a slash or `.git` at its end.

    Raises:
        ValueError: it is no public repository that Binder opens; the message says what is wrong.
    """
    url = urlsplit(address)
    path = url.path.removesuffix("/").removesuffix(".git")
    host = url.hostname or ""
    parts = path.split("/")[1:]
    if url.scheme != "https":
        problem = "it does not begin with https://"
    elif "@" in url.netloc:
        problem = "it holds a user name, which everybody would read"
    elif url.query or url.fragment:
        problem = "it goes on after the repository's name"
    elif host != "github.com" and "gitlab" not in host.split("."):
        problem = f"Binder finds repositories on github.com and on GitLab servers, and this is {host or 'no server'}"
    elif len(parts) < 2 or host == "github.com" and len(parts) > 2:
        problem = "it is not of the form server/owner/name"
    elif not all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", part) for part in parts):
        problem = "its owner or its name has characters that no repository has"
    else:
        return f"https://{url.netloc}{path}"
    raise ValueError(
        f"No book can be published at {address!r}: {problem}. Give the address of a repository as its page shows it, "
        "such as https://github.com/someone/the-book, or `nowhere` to take an address back."
    )


def package_version(root: Path = ROOT) -> str:
    """The package's version, read off its source: importing it would import PyTorch."""
    source = (root / "rwkv_explainer/__init__.py").read_text("utf-8")
    return re.search(r'^__version__ = "(.+)"$', source, re.M)[1]


def published_at(root: Path = ROOT) -> str:
    """The address that `_config.yml` keeps, or ""."""
    block = BLOCK.search((root / "_config.yml").read_text("utf-8"))[0]
    return re.search(r'repository_url: "(.*)"$', block, re.M)[1]


def settings(address: str, version: str) -> str:
    """The lines of `_config.yml` that follow from the address."""
    return SETTINGS.format(
        address=address,
        version=version,
        binder="https://mybinder.org" if address else "",
        colab="https://colab.research.google.com" if urlsplit(address).hostname == "github.com" else "",
    )


def citation(text: str, address: str, version: str) -> str:
    """The text of `CITATION.cff` with this version, and with the address where there is one."""
    lines = [line for line in text.splitlines() if not line.startswith(("version:", "repository-code:"))]
    lines += [f"version: {version}", *([f"repository-code: {address}"] if address else [])]
    return "\n".join(lines) + "\n"


def first_cell(address: str, version: str) -> dict:
    """The first code cell of every chapter. The page leaves it out; a notebook shows it."""
    code = (PUBLISHED if address else UNPUBLISHED).format(address=address, version=version).strip()
    source = code.splitlines(keepends=True)
    return {
        "cell_type": "code",
        "id": CELL,
        "metadata": {"tags": ["remove-cell"]},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }


def stamped(chapter: str, address: str, version: str) -> str:
    """A chapter's text, a notebook in JSON, with its first cell as it should be."""
    notebook = json.loads(chapter)
    cells = [cell for cell in notebook["cells"] if cell.get("id") != CELL]
    first = next((i for i, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
    cells.insert(first, first_cell(address, version))
    notebook["cells"] = cells
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def stamp(root: Path, address: str) -> list[Path]:
    """Write the address into the settings, the citation and every chapter. What is right already stays untouched.

    Returns:
        the files that changed.
    """
    version = package_version(root)
    config, cite = root / "_config.yml", root / "CITATION.cff"
    wanted = {
        config: BLOCK.sub(lambda _: settings(address, version), config.read_text("utf-8")),
        cite: citation(cite.read_text("utf-8"), address, version),
    }
    for chapter in sorted((root / "book").glob("*.ipynb")):
        wanted[chapter] = stamped(chapter.read_text("utf-8"), address, version)
    changed = [path for path, text in wanted.items() if path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], "utf-8")
    return changed


def hub_links(hub: str, root: Path = ROOT) -> list[str]:
    """Links that copy the published book into a student's folder on a JupyterHub with nbgitpuller, and open a chapter.

    Raises:
        ValueError: the book has no address yet, or the hub's is none.
    """
    address = published_at(root)
    if not address:
        raise ValueError("The book has no address yet: run `make publish-to REPOSITORY=https://…` first.")
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", hub):
        raise ValueError(f"{hub!r} is not the address of a JupyterHub, such as HUB=https://hub.example.edu.")
    folder = f"lab/tree/{address.rsplit('/', 1)[1]}/book"
    links = []
    for chapter in sorted((root / "book").glob("*.ipynb")):
        query = {"repo": address, "urlpath": f"{folder}/{chapter.name}"}  # no tag: nbgitpuller updates branches only
        links.append(f"{hub.rstrip('/')}/hub/user-redirect/git-pull?{urlencode(query, quote_via=quote, safe='')}")
    return links


def publish(repository: str) -> str:
    """Do what `make publish-to` asks for, and say what was done."""
    if repository == "nowhere":
        address = ""
    else:
        address = check_address(repository) if repository else published_at()
    changed = stamp(ROOT, address)
    report = f"Written: {', '.join(path.name for path in changed)}." if changed else "All is as it should be."
    if not address:
        return f"{report}\nThe book has no address: pages have no launch buttons."
    tag = f"v{package_version()}"
    return (
        f"{report}\nThe book's address is {address}.\n"
        f"Buttons and first cells lead to its tag {tag}. To publish, commit, then\n"
        f"  git tag {tag}\n  git push {address} HEAD {tag}"
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    try:
        print("\n".join(hub_links(arguments[1])) if arguments[:1] == ["links"] else publish("".join(arguments)))
    except ValueError as error:
        sys.exit(str(error))
