"""Slides of the chapters, made of the built book: HTML that opens from the disk, with all that is alive in it.

    python tools/slides.py SITE FOLDER [CHAPTER ...]    what `make slides` calls

A chapter's page already has what a lecture needs, in its order. Each figure becomes a slide, with its caption as the
headline; so do formulas, tables, and the code that is the idea, which is the code that the page does not fold. A
question (**Predict.**) is a slide on which the answer waits; the takeaways come last. The text between them goes into
the notes for the speaker: what introduces a section to its first slide, all else to the slide that it follows.

Figures keep their scripts, those of book/_static. Of a library for slides nothing would be left but the keys: such a
library wants the arrow keys and the scale of the page for itself, and so do sliders and figures that are read by
keyboard. slides.css and slides.js are all there is.
"""

import argparse
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(__file__).parent
OWN = ["slides.css", "slides.js"]
STYLES = ["pygments.css", "book.css"]  # of the book's _static, and of its scripts those that figures and answers need
SCRIPTS = ["documentation_options.js", "tokens.js", "buckets.js", "words.js", "live.js", "book.js", "predict.js"]
FIGURES = ".rwkv-live, .rwkv-figure, .rwkv-graph, .rwkv-anatomy, .rwkv-tokens, .rwkv-playground, img"
LEFT_OUT = {"proof", "claim", "answer", "solution", "target", "remove-input"}  # cells that are no part of a lecture
MATHJAX = """<script>
window.MathJax = { options: { enableMenu: false }, chtml: { matchFontHeight: false } };
</script>
<script defer src="_static/mathjax/tex-chtml.js"></script>"""
GOALS = "After this chapter you can"


@dataclass
class Slide:
    """What stands on a slide, and what is said to it."""

    heading: str
    shown: list[Tag] = field(default_factory=list)
    notes: list[Tag] = field(default_factory=list)
    kind: str = ""  # CSS classes
    above: str = ""  # a few words over the heading

    def html(self, number: int, count: int) -> str:
        shown, notes = ("\n".join(map(str, tags)) for tags in (self.shown, self.notes))
        return f"""<article class="bd-article slide {self.kind}" id="{number}" tabindex="-1"
 aria-roledescription="slide" aria-label="{number} of {count}: {escape(self.heading)}">
<header>{f"<p>{escape(self.above)}</p>" if self.above else ""}<h1>{escape(self.heading)}</h1></header>
<div class="stage"><div class="sized"><div class="content">
{shown}
</div></div></div>
<div class="notes" role="note" aria-label="Notes for the speaker" tabindex="0">
{notes}
</div>
</article>"""


# ---------------------------------------------------------------------------------------------------------------------
# a page's parts


def tags_of(cell: Tag) -> set[str]:
    """The tags of a cell, which pages keep as classes."""
    return {name.removeprefix("tag_") for name in cell.get("class", [])}


def is_cell(part: Tag) -> bool:
    return "cell" in part.get("class", [])


def is_of(part: Tag, *names: str) -> bool:
    return bool(set(names) & set(part.get("class", [])))


def parts_of(part: Tag) -> list[Tag]:
    """The tags directly inside, without scripts that stand alone: a playground's own goes with it."""
    return [child for child in part.find_all(recursive=False) if child.name != "script"]


def on_slide(part: Tag) -> list[Tag]:
    """What of this part of a page belongs on a slide: nothing, if it is text."""
    if is_of(part, "rwkv-playground"):
        script = part.find_next_sibling()
        return [part, script] if script is not None and script.name == "script" else [part]
    if is_cell(part):
        return on_slide_of_cell(part)
    whole = is_of(part, "math", "exercise", "pst-scrollable-table-container") or part.name in ("table", "figure")
    return [part] if whole or part.select_one(FIGURES) else []


def on_slide_of_cell(cell: Tag) -> list[Tag]:
    """Of a cell the pictures and tables; else code that is not folded, with what it prints."""
    if LEFT_OUT & tags_of(cell):
        return []
    code = [part for part in parts_of(cell) if is_of(part, "cell_input")]
    return [output for output in outputs_of(cell) if is_picture(output)] or code + outputs_of(cell) * bool(code)


def outputs_of(cell: Tag) -> list[Tag]:
    """What a cell shows, also where the page folds it."""
    return [output for part in cell.select(".cell_output") for output in parts_of(part)]


def is_picture(output: Tag) -> bool:
    return bool(output.find("table") or output.select_one(FIGURES))


def said(part: Tag) -> list[Tag]:
    """What of a part is not on a slide and belongs to the notes."""
    shown = on_slide(part)
    if is_cell(part):
        outputs = [] if LEFT_OUT & tags_of(part) else [o for o in outputs_of(part) if is_of(o, "text_markdown")]
        return [child for output in outputs if output not in shown for child in parts_of(output)]
    return [part] if part.name in ("p", "ul", "ol", "dl", "blockquote", "div") and not shown else []


# ---------------------------------------------------------------------------------------------------------------------
# a page as slides


def slides_of(page: BeautifulSoup, question: str) -> list[Slide]:
    """The slides of a built chapter.

    Args:
        page: its page, which is taken apart.
        question: what the chapter asks, for the first slide.
    """
    top = page.select_one("article.bd-article > section")
    tidy(top)
    title = top.find("h1", recursive=False)
    number = title.select_one(".section-number")
    above = f"Chapter {number.extract().get_text().strip(' .')}" if number else ""
    for mark in top.select(".section-number"):
        mark.decompose()
    first = Slide(title.get_text().strip(), [paragraph(question)], kind="title", above=above)
    title.decompose()
    found = [first, *slides_of_section(top, first.heading, first)]
    last = [slide for slide in found if slide.kind == "takeaways"]
    return [slide for slide in found if slide.kind != "takeaways"] + last


def slides_of_section(section: Tag, heading: str, before: Slide | None = None) -> Iterator[Slide]:
    """A section's slides, then those of the sections in it. `before`: a slide that takes the text at the beginning."""
    kind = "takeaways" if section.get("id") == "takeaways" else ""
    waiting: list[Tag] = []  # text in front of the first slide
    last = before
    parts = [part for part in parts_of(section) if part.name != "section"]
    for part in [inner for part in parts for inner in opened(part)]:
        slide = slide_of(part, heading)
        if slide:
            slide.kind = kind or slide.kind
            slide.notes, waiting = waiting + slide.notes, []
            last = slide
            yield slide
        elif last:
            last.notes += said(part)
        else:
            waiting += said(part)
    if waiting:
        yield text_slide(heading, waiting, kind)
    for inner in section.find_all("section", recursive=False):
        if inner.get("id") != "exercises":
            title = inner.find(["h2", "h3", "h4"], recursive=False).extract()
            yield from slides_of_section(inner, title.get_text().strip())


def opened(part: Tag) -> list[Tag]:
    """A part by itself; an answer goes with its question, and what readers play with in it comes after both."""
    if not is_of(part, "predict-answer"):
        return [part]
    return list(part.select(".rwkv-playground"))


def slide_of(part: Tag, heading: str) -> Slide | None:
    """The slide that a part of a page makes, if it makes one."""
    if is_of(part, "predict-question"):
        return prediction(part, heading)
    if part.name == "p" and part.get_text().strip().startswith(GOALS):
        return Slide(heading, [part])
    shown = on_slide(part)
    return Slide(heading, shown, said(part), kind_of(shown)) if shown else None


def prediction(question: Tag, heading: str) -> Slide:
    """A question, and what answers it. The answer's words are for the speaker, unless there is nothing else."""
    answer = question.find_next_sibling()
    if answer is None or not is_of(answer, "predict-answer"):
        return Slide(heading, [question], kind="predict")
    parts = [part for part in parts_of(answer) if not is_of(part, "rwkv-playground")]
    shown = [tag for part in parts for tag in on_slide(part)]
    words = [tag for part in parts for tag in said(part)]
    if not shown:
        return Slide(heading, [question, answer], kind="predict")
    box = new_tag("div", id=answer.get("id"), attrs={"class": answer["class"]})
    box.extend(shown)
    return Slide(heading, [question, box], words, f"predict {kind_of(shown)}".strip())


def text_slide(heading: str, text: list[Tag], kind: str) -> Slide:
    """A section without a picture: its first paragraph or, for the takeaways, all of it. The rest is notes."""
    count = len(text) if kind else 1
    return Slide(heading, text[:count], text[count:], kind or "words")


def kind_of(shown: list[Tag]) -> str:
    """Several pictures stand side by side."""
    return "several" if sum(bool(tag.find("figure")) for tag in shown) > 1 else ""


def paragraph(text: str) -> Tag:
    tag = new_tag("p")
    tag.string = text
    return tag


def new_tag(name: str, **attributes: object) -> Tag:
    return BeautifulSoup("", "html.parser").new_tag(name, **attributes)


def tidy(top: Tag) -> None:
    """Take out what only a page needs. Links lead nowhere from here, but for those to other hosts and chapters."""
    for mark in top.select("a.headerlink, details.above-input, .exercise details"):
        mark.decompose()
    for link in top.find_all("a"):
        place = link.get("href", "") or link.get("xlink:href", "")
        chapter = place.partition("#")[0].removesuffix(".html")
        if (ROOT / "book" / f"{chapter}.ipynb").is_file() and chapter:
            link["href"] = f"{chapter}.html"
        elif not place.startswith("http"):
            link.unwrap()


# ---------------------------------------------------------------------------------------------------------------------
# files


def deck(chapter: str, site: Path, question: str) -> tuple[str, int]:
    """A chapter's slides as a page, and how many there are."""
    page = BeautifulSoup((site / f"{chapter}.html").read_text(encoding="utf-8"), "html.parser")
    slides = slides_of(page, question)
    body = "\n".join(slide.html(number, len(slides)) for number, slide in enumerate(slides, 1))
    styles = [f'<link rel="stylesheet" href="{name}">' for name in [*(f"_static/{name}" for name in STYLES), OWN[0]]]
    scripts = [f'<script src="_static/{name}"></script>' for name in SCRIPTS] + [f'<script src="{OWN[1]}"></script>']
    mathjax = [MATHJAX] if 'class="math' in body else []
    return whole_page(slides[0].heading, [*styles, *scripts, *mathjax], f"<main>\n{body}\n</main>"), len(slides)


def whole_page(title: str, head: list[str], body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
{chr(10).join(head)}
</head>
<body>
{body}
</body>
</html>
"""


def questions(site: Path) -> dict[str, str]:
    """What each chapter asks, by the cards of the book's first page."""
    page = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    cards = page.select(".chapter-cards a")
    return {card["href"].removesuffix(".html"): card.select_one(".card-question").get_text() for card in cards}


def chapters() -> list[str]:
    """The chapters' names in the book's order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    names = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [name for name in names if (ROOT / "book" / f"{name}.ipynb").is_file()]


def write(site: Path, folder: Path, names: list[str]) -> None:
    """The slides of these chapters in a folder that needs nothing else, and a page that lists them.

    Raises:
        FileNotFoundError: there is no built book in `site`.
        SystemExit: there is no such chapter, or the folder holds something else than slides.
    """
    if not (site / "index.html").is_file():
        raise FileNotFoundError(f"There is no built book in {site}: it has no index.html. Run `make book` first.")
    if unknown := set(names) - set(chapters()):
        raise SystemExit(f"no chapter: {', '.join(sorted(unknown))}; there are {', '.join(chapters())}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / OWN[1]).exists():
        raise SystemExit(f"{folder} holds something else than slides: name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "_static").mkdir(parents=True)
    asked, links = questions(site), []
    for name in names or chapters():
        html, count = deck(name, site, asked.get(name, ""))
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
        title = re.search("<title>(.*)</title>", html)[1]
        links.append(f'<li><a href="{name}.html">{title}</a>, {count} slides. {escape(asked.get(name, ""))}</li>')
    listed = f"<main class='decks'><h1>Slides</h1><ol>{''.join(links)}</ol></main>"
    style = f'<link rel="stylesheet" href="{OWN[0]}">'
    (folder / "index.html").write_text(whole_page("Slides", [style], listed), encoding="utf-8")
    for name in OWN:
        shutil.copy(TOOLS / name, folder)
    for name in STYLES + SCRIPTS:
        shutil.copy(site / "_static" / name, folder / "_static")
    for part in ("_static/mathjax", "playground"):
        if (site / part).is_dir():
            shutil.copytree(site / part, folder / part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path, help="the built book")
    parser.add_argument("folder", type=Path, help="where the slides go; older slides there go")
    parser.add_argument("chapters", nargs="*", help="names of chapters; all, if none is given")
    args = parser.parse_args()
    write(args.site, args.folder, args.chapters)
    print(f"The slides are in {args.folder}: open index.html there, without a server or a network.")


if __name__ == "__main__":
    main()
