"""The built book as one file: unzip it anywhere and open index.html, without a server and without a network.

python tools/pack.py SITE ZIP    what `make zip` calls
"""

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

LEFT_OUT = {".buildinfo", ".buildinfo.bak", "objects.inv", "reports"}  # the build's own notes


def pack(site: Path, target: Path) -> None:
    """Write the files of a built book into a zip file, in a folder of the zip file's own name: whole, or not at all.

    Raises:
        FileNotFoundError: there is no built book in `site`.
    """
    if not (site / "index.html").is_file():
        raise FileNotFoundError(f"There is no built book in {site}: it has no index.html. Run `make book` first.")
    new = target.with_name(target.name + ".new")
    with ZipFile(new, "w", ZIP_DEFLATED) as archive:
        for path in sorted(site.rglob("*")):
            inside = path.relative_to(site)
            if path.is_file() and inside.parts[0] not in LEFT_OUT:
                archive.write(path, target.stem / inside)
    new.replace(target)


if __name__ == "__main__":
    site, target = map(Path, sys.argv[1:])
    pack(site, target)
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB. Unzip it anywhere and open {target.stem}/index.html.")
