"""The course around the book: its minutes, votes, goals and examination are about the chapters as they are."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import editions
from editions import EXAMINATION, questions_alone, write_examination
from exercises import TITLE, exercises_of, source
from package_reference import title_of
from rwkv_explainer.chapters.the_whole_model.exercises import multiplications
from rwkv_explainer.chapters.the_whole_model.exercises import parameters as parameters_of
from rwkv_explainer.lab import atlas

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
CHAPTERS = {title_of(path): json.loads(path.read_text(encoding="utf-8")) for path in sorted(BOOK.glob("*.ipynb"))}
GUIDE = (BOOK / "teachers-guide.md").read_text(encoding="utf-8")
VOTES = (BOOK / "votes.md").read_text(encoding="utf-8")
WHY = (BOOK / "why-rwkv.md").read_text(encoding="utf-8")
MINUTES = {  # as the chapters say how long they take to read
    "about ten minutes": 10,
    "a quarter of an hour": 15,
    "about twenty minutes": 20,
    "about half an hour": 30,
    "about forty minutes": 40,
    "about three quarters of an hour": 45,
    "about an hour": 60,
}


def prose(page: str) -> str:
    """The text of a page, or of a chapter's Markdown cells."""
    if page == "why-rwkv":
        return WHY
    cells = json.loads((BOOK / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")


def minutes_to_read(page: str) -> int:
    said = re.search(r"\*\*It takes\*\* [^.\n]*", prose(page))[0]
    return next(minutes for words, minutes in MINUTES.items() if words in said)


def minutes_of_exercises(page: str) -> int:
    return sum(int(match["minutes"]) for match in TITLE.finditer(prose(page)))


# ---------------------------------------------------------------------------------------------------------------------
# eight weeks


def test_each_chapter_has_its_week_and_the_minutes_are_the_chapters_own():
    rows = re.findall(r"^\| \d \| (\{doc\}.*) \| (\d+) \| (\d+) \|$", GUIDE, re.MULTILINE)
    weeks = [(re.findall(r"`([a-z-]+)`", pages), int(read), int(do)) for pages, read, do in rows]
    assert len(weeks) == 8
    assert sorted(page for pages, *_ in weeks for page in pages) == sorted(
        ["why-rwkv", *(path.stem for path in BOOK.glob("*.ipynb"))]
    )
    for pages, read, do in weeks:
        found = sum(map(minutes_to_read, pages)), sum(map(minutes_of_exercises, pages[pages[0] == "why-rwkv" :]))
        assert (read, do) == found, pages
    reading, doing = (sum(week[i] for week in weeks) / 60 for i in (1, 2))
    said = re.search(r"all reading takes about (.+?) hours, all exercises about (.+?), the", " ".join(GUIDE.split()))
    hours = {"seven and a half": 7.5, "seven and three quarter": 7.75, "eight": 8, "thirteen": 13}
    assert abs(reading - hours[said[1]]) <= 0.125 and abs(doing - hours[said[2]]) <= 0.25


# ---------------------------------------------------------------------------------------------------------------------
# goals


def goals() -> dict[str, list[tuple[str, str]]]:
    """Each chapter's goals and the exercises that ask for them, as the guide's table has them."""
    table: dict[str, list] = {}
    rows = GUIDE.split("## Goals and exercises")[1].split("\n## ")[0].split("| --- | --- | --- |\n")[1]
    for row in rows.strip().splitlines():
        chapter, goal, asked = (cell.strip() for cell in row.strip("|").split("|"))
        title = chapter.strip("*") or title
        table.setdefault(title, []).append((goal, asked))
    return table


def exercise_titles(chapter: dict) -> dict[str, bool]:
    """The exercises' titles, and whether they have a check."""
    return {
        TITLE.match(source(exercise.statement))["title"]: bool(exercise.answer) for exercise in exercises_of(chapter)
    }


def test_every_goal_has_an_exercise_and_every_exercise_its_place():
    assert goals().keys() == CHAPTERS.keys()
    everywhere = {
        title: checked for chapter in CHAPTERS.values() for title, checked in exercise_titles(chapter).items()
    }
    for chapter, rows in goals().items():
        named = set()
        for goal, asked in rows:
            assert goal and asked, (chapter, goal)
            parts = re.split("; ", re.sub(r"(; )?examination, questions? [\d and]+", "", asked))
            for part in filter(None, parts):
                name, other = part.partition(", in ")[::2]
                title = name.strip("*")
                assert everywhere[title] != name.startswith("*"), f"{title}: those without a check are in italics"
                assert title in exercise_titles(CHAPTERS[other.strip("*") if other else chapter]), (chapter, title)
                named |= set() if other else {title}
            assert any(parts) or "examination, question" in asked, f"{chapter}, {goal}: no exercise"
        assert named == exercise_titles(CHAPTERS[chapter]).keys(), chapter


def test_the_guide_names_no_exercise_that_there_is_not():
    """In the list of misconceptions, and wherever else an exercise stands in italics beside its chapter."""
    table = GUIDE.split("the exercise that meets it |")[1].split("\n\n")[0]
    titles = {title for chapter in CHAPTERS.values() for title in exercise_titles(chapter)} | CHAPTERS.keys()
    last = [row.strip("|").split("|")[-1] for row in table.strip().splitlines()[1:]]
    named = [name for cell in last for name in re.findall(r"\*([^*]+)\*", cell)]
    known = titles | {"What training found, and what it was given"}  # a section
    assert len(last) > 10 and set(named) <= known, set(named) - known


# ---------------------------------------------------------------------------------------------------------------------
# votes


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("\n> ", " "))


@pytest.mark.parametrize("title", ["Why RWKV", *CHAPTERS])
def test_every_question_has_its_votes(title):
    page = "why-rwkv" if title == "Why RWKV" else next(p.stem for p in BOOK.glob("*.ipynb") if title_of(p) == title)
    asked = [
        plain(text) for text in re.findall(r"^> \*\*Predict\.\*\* ((?:.+\n?)+?)(?:\n|\Z)", prose(page), re.MULTILINE)
    ]
    section = VOTES.split(f"\n## {title}\n")[1].split("\n## ")[0]
    entries = re.findall(r'^(?:★ )?"(.+)"\n: (.+(?:\n  .+)*)\n: (.+(?:\n  .+)*)$', section, re.MULTILINE)
    assert len(entries) == section.count('"\n: ')
    for quote, right, others in entries:
        assert sum(quote in question for question in asked) == 1, quote
        assert "**" in right and "*" in others, quote
    for question in asked:
        assert sum(quote in question for quote, *_ in entries) == 1, question


# ---------------------------------------------------------------------------------------------------------------------
# projects and examination


def test_each_project_has_a_rubric_in_four_levels_and_its_notebook():
    text = (BOOK / "projects.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| ([^|]+) \| `([a-z-]+)\.ipynb` \|", text, re.MULTILINE)
    assert len(names) == 4
    for title, _ in names:
        section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
        (row,) = re.findall(r"^\| \*\*what is special here\*\* \|(.*)\|$", section, re.MULTILINE)
        assert len(row.split("|")) == 4
        assert "**Question.**" in section and "**Handed in.**" in section


def test_the_examination_has_twenty_questions_worth_six_points_each():
    parts = re.split(r"^## (\d+)\. .+$", EXAMINATION.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [int(number) for number in parts[1::2]] == list(range(1, 21))
    for number, text in zip(parts[1::2], parts[2::2]):
        question, answer, marking = re.split(r"\*\*(?:Model answer|Marking)\.\*\*", text)
        assert len(question.split()) > 20, number
        assert len(answer.split()) > 60, number
        assert sum(map(int, re.findall(r"(?<![\w.])(\d):", marking))) == 6, number


def test_students_get_the_questions_and_not_the_answers(tmp_path):
    write_examination(tmp_path / "teachers")
    students, teachers = (
        (tmp_path / "teachers" / name).read_text(encoding="utf-8")
        for name in ("examination.md", "examination-answers.md")
    )
    assert teachers == EXAMINATION.read_text(encoding="utf-8") and teachers.count("**Model answer.**") == 20
    assert students.count("\n## ") == 20
    assert not re.search("model answer|marking|for teachers", students, re.IGNORECASE)
    question = teachers.split("## 7. No query\n\n")[1].split("\n\n")[0]
    assert question in students
    assert questions_alone(students) == students


def test_a_course_has_the_examination_beside_what_students_get(tmp_path, monkeypatch):
    monkeypatch.setattr(editions, "nbgrader", lambda *command: None)
    editions.write_course(tmp_path, ["training"], seed=0)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert {"teachers/examination.md", "teachers/examination-answers.md", "source/training/training.ipynb"} <= files
    assert "Model answer" not in (tmp_path / "source/training/training.ipynb").read_text(encoding="utf-8")


def test_the_answers_are_on_no_page_of_the_book():
    """Nor in anything that a page is made of."""
    answers = re.findall(r"\*\*Model answer\.\*\* ((?:\S+\s+){8})", EXAMINATION.read_text(encoding="utf-8"))
    places = [*BOOK.rglob("*.md"), *BOOK.glob("*.ipynb"), *(ROOT / "_build" / "html").rglob("*.html")]
    for path in places:
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert not any(" ".join(answer.split()) in text for answer in answers), path


def test_the_examination_questions_that_the_guide_names_are_there():
    named = {
        int(n) for words in re.findall(r"examination, questions? ([\d and]+)", GUIDE) for n in re.findall(r"\d+", words)
    }
    assert named and named <= set(range(1, 21))


# ---------------------------------------------------------------------------------------------------------------------
# the atlas's data sheet


def sheet_numbers() -> dict[str, int]:
    """What the data sheet tells in numbers, computed from the package's data, with words that stand beside them."""
    facts, relations = atlas.all_facts(), atlas.load_atlas()
    ways = [(relation, direction) for relation in relations for direction in relation.directions]
    forms = [len(atlas.all_phrasings(relation, direction)) for relation, direction in ways]
    subjects = Counter(fact.subject for fact in facts)
    foreign = atlas.foreign_phrasings()
    continent = {fact.subject: fact.object for fact in atlas.find("country-continent").facts}
    landmarks = Counter(continent.get(fact.object) for fact in atlas.find("landmark-country").facts)
    sizes = {relation.name: len(relation.facts) for relation in relations}
    asked = {kind: len(atlas.questions(phrasing=kind)) for kind in atlas.PHRASINGS}
    assert max(sizes, key=sizes.get) == "landmark-city" and min(sizes, key=sizes.get) == "temperature"
    return {
        "{} facts in": len(facts),
        "facts in {} relations,": len(relations),
        " {} different subjects": len(subjects),
        "`landmark-city`, with {} facts": max(sizes.values()),
        "`temperature`, with {}.": min(sizes.values()),
        "{} other names stand": sum(len(fact.aliases) for fact in facts),
        "beside {} of the subjects": sum(bool(fact.aliases) for fact in facts),
        "{} facts have questions or clauses": sum(bool(fact.asks or fact.says) for fact in facts),
        "It is so for {} facts": sum(len(relation.asked.get("inverse", ())) for relation in relations),
        "in {} of the relations": sum("inverse" in relation.directions for relation in relations),
        "between {} and": min(forms),
        "and {} phrasings for each": max(forms),
        "of which there are {}. Two": len(ways),
        "has {} phrasings by another author": sum(map(len, foreign.values())),
        "the {} that training cannot": sum(len(atlas.phrasings(atlas.find(r), d, "foreign")) for r, d in foreign),
        "{} whole prompts": len(atlas.read_data("foreign.toml")["try"]),
        "{} questions in words": asked["seen"],
        "{} in words kept back": asked["unseen"],
        "{} in foreign ones": asked["foreign"],
        "of the {} landmarks": landmarks.total() - landmarks[None],
        "{} are in Europe": landmarks["Europe"],
        "and {} in Africa": landmarks["Africa"],
        "{} subjects stand in more": sum(count > 1 for count in subjects.values()),
        "{} objects are marked": sum(len(relation.shared) for relation in relations),
        "of which there are {}, so that": len({kind for fact in facts for kind in fact.kinds}),
        "{} in a hundred ask": round(100 * atlas.INVERSE),
        "recall of {} well-known": len(facts),
    }


def test_the_data_sheet_says_what_the_data_hold():
    lines = (BOOK / "data-sheet.md").read_text(encoding="utf-8").splitlines()
    text = " ".join(" ".join(line for line in lines if not line.startswith("|")).split())
    for words, number in sheet_numbers().items():
        assert words.format(f"{number:,}") in text, (words, number)
    told = {int(n.replace(",", "")) for n in re.findall(r"(?<![\w.|-])\d[\d,]*\d(?![\w%])", text)}
    assert told <= {*sheet_numbers().values()}, "a number that no data gave"


def test_the_data_sheets_table_has_every_relation():
    rows = re.findall(r"^\| `([a-z-]+)` \|(.*)\|$", (BOOK / "data-sheet.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == [relation.name for relation in atlas.load_atlas()]
    for name, row in rows:
        relation = atlas.find(name)
        size, (thing, count) = len(relation.facts), Counter(f.object for f in relation.facts).most_common(1)[0]
        commonest = f"{thing}, {count / size:.0%}" if count / size >= 0.1 else ""
        expected = [str(size), str(len(relation.asked.get("inverse", ())) or "–"), commonest]
        assert [cell.strip() for cell in row.split("|")] == expected


# ---------------------------------------------------------------------------------------------------------------------
# how to read the paper

TABLE_2 = [  # the paper's: layers, channels, parameters, operations for a token
    (12, 768, 1.693e8, 2.613e8),
    (24, 1024, 4.304e8, 7.573e8),
    (24, 2048, 1.515e9, 2.823e9),
    (32, 2560, 2.985e9, 5.710e9),
    (32, 4096, 7.393e9, 1.437e10),
    (40, 5120, 1.415e10, 2.778e10),
]


@pytest.mark.parametrize("layers, channels, parameters, operations", TABLE_2)
def test_what_the_page_says_of_the_papers_second_table(layers, channels, parameters, operations):
    """The exercises' answers give its columns; the formula that its text prints for the second one does not."""
    sizes = 50_277, channels, layers
    assert parameters_of(*sizes) == pytest.approx(parameters, rel=4e-4)
    assert 2 * multiplications(*sizes) == pytest.approx(operations, rel=4e-4)
    assert 2 * (multiplications(*sizes) + 50_277 * channels) > 1.01 * operations


def test_the_page_on_the_paper_goes_through_all_of_it_and_to_every_chapter():
    text = (BOOK / "how-to-read-the-paper.md").read_text(encoding="utf-8")
    for section in range(1, 8):
        assert re.search(rf"^## .*\bsection {section}\b", text, re.MULTILINE | re.IGNORECASE), section
    assert all(re.search(rf"^\*\*{letter}, ", text, re.MULTILINE) for letter in "DEFGHIJ")
    ends = {"strings-tokens-probabilities", "embedding-and-unembedding", "the-zero-layer-model"}  # no section of it
    named = set(re.findall(r"\{doc\}`([a-z-]+)`", text))
    assert {path.stem for path in BOOK.glob("*.ipynb")} - ends <= named
