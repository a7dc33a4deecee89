"""The atlas: a table of facts, and the sentences that a small grammar makes of it.

A small model cannot have read the whole web. The bundled one has read textbooks and this atlas, so that every fact it
is asked for in the book is a fact that it had a chance to learn, and whose right answer is known.

A fact is asked forward (the subject is given: *Who wrote Hamlet?*) and, where the answer is unique, in the inverse (the
object is given: *Herman Melville wrote*). Phrasings are of three sets: *seen* ones, which training draws too; *unseen*
ones, two a direction, which training never draws; and *foreign* ones, written by people who had read neither.
"""

import re
import tomllib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib import resources
from typing import Literal, no_type_check

import numpy as np

__all__ = [
    "ASKED",
    "DIRECTIONS",
    "Direction",
    "Fact",
    "GIVEN",
    "Grammar",
    "INVERSE",
    "PHRASINGS",
    "Phrasing",
    "Question",
    "Relation",
    "all_facts",
    "direct_answer",
    "find",
    "grammar",
    "kinds",
    "load_atlas",
    "nats_per_sentence",
    "prompt",
    "questions",
    "sample_text",
    "say",
    "subject_in",
    "topics",
]

Direction = Literal["forward", "inverse"]
Phrasing = Literal["seen", "unseen", "foreign"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "inverse")
PHRASINGS: tuple[Phrasing, ...] = ("seen", "unseen", "foreign")
GIVEN = {"forward": "subject", "inverse": "object"}
ASKED = {"forward": "object", "inverse": "subject"}


# ---------------------------------------------------------------------------------------------------------------------
# the table


@dataclass(frozen=True)
class Fact:
    """One line of the atlas, such as landmark-city: The Eiffel Tower, Paris."""

    relation: str
    subject: str
    object: str
    aliases: tuple[str, ...] = ()  # other names of the subject
    kinds: tuple[str, str] = ("subject", "object")  # what kinds of things these are
    titles: bool = False  # a leading "The" belongs to the name
    asks: tuple[str, ...] = ()  # questions about this fact alone, without the question mark
    says: tuple[str, ...] = ()  # clauses about this fact alone

    @cached_property
    def slots(self) -> dict[str, str]:
        """What the slots of a phrasing are filled with."""
        return slots(inside(self.subject, self.titles), inside(self.object))


@dataclass(frozen=True)
class Cores:
    """How a relation is spoken of in one direction; `data/grammar.toml` says what each list holds."""

    nouns: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    direct: tuple[str, ...] = ()
    indirect: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    list: str = ""
    what: str = "what"
    be: str = "is"
    answer: str = ""


@dataclass(frozen=True)
class Relation:
    """Facts of one kind, and the words for them."""

    name: str
    kinds: tuple[str, str]  # what the subject and the object are
    facts: tuple[Fact, ...]
    cores: dict[Direction, Cores]
    several: bool = False  # an inverse sentence stays true where an object has more subjects than one
    shared: frozenset[str] = frozenset()  # objects with subjects that the table does not list
    main: frozenset[str] = frozenset()  # subjects asked for in the inverse though the object has others

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Those in which the relation is asked."""
        return tuple(direction for direction in DIRECTIONS if direction in self.cores)

    @cached_property
    def asked(self) -> dict[Direction, tuple[Fact, ...]]:
        """The facts that may be asked in each direction: those that have a single answer."""
        objects = Counter(fact.object for fact in self.facts)
        alone = tuple(
            f for f in self.facts if f.object not in self.shared and (f.subject in self.main or objects[f.object] == 1)
        )
        return {direction: self.facts if direction == "forward" else alone for direction in self.directions}

    @cached_property
    def said(self) -> dict[Direction, tuple[Fact, ...]]:
        """The facts of which training speaks in each direction."""
        best = {fact.object for fact in self.facts if fact.subject in self.main}
        inverse = (
            tuple(
                f
                for f in self.facts
                if f.object not in self.shared and (f.subject in self.main or f.object not in best)
            )
            if self.several
            else None
        )
        return {
            direction: inverse if inverse and direction == "inverse" else facts
            for direction, facts in self.asked.items()
        }


def read_data(name: str) -> dict:
    """A TOML file of the package's data."""
    return tomllib.loads(resources.files("rwkv_explainer").joinpath("data", name).read_text(encoding="utf-8"))


@cache
def load_atlas() -> tuple[Relation, ...]:
    """Every relation of `data/atlas.toml`, with its facts, and its words from `data/grammar.toml`."""
    grammar = read_data("grammar.toml")
    return tuple(
        Relation(
            name=entry["name"],
            kinds=tuple(entry["kinds"]),
            facts=tuple(read_facts(entry)),
            cores={direction: read_cores(cores) for direction, cores in grammar[entry["name"]].items()},
            several=entry.get("several", False),
            shared=frozenset(entry.get("shared", ())),
            main=frozenset(entry.get("main", ())),
        )
        for entry in read_data("atlas.toml")["relation"]
    )


def read_cores(entry: dict) -> Cores:
    """One direction's lists, made unchangeable."""
    return Cores(**{name: value if isinstance(value, str) else tuple(value) for name, value in entry.items()})


def read_facts(entry: dict) -> Iterator[Fact]:
    """The facts of a relation's block of lines; the comment at the head of `atlas.toml` says how it is written."""
    kind = entry["kinds"][1]
    for block in re.split(r"\n(?![?>] )", entry["facts"].strip()):
        line, *own = block.split("\n")
        if line.startswith("["):
            kind = line.strip("[]")
            continue
        names, _, answer = line.rpartition(" = ")
        subject, *aliases = names.split(" | ")
        asks, says = ([text[2:] for text in own if text[0] == mark] for mark in "?>")
        yield Fact(
            entry["name"],
            subject,
            answer,
            tuple(aliases),
            (entry["kinds"][0], kind),
            entry.get("titles", False),
            tuple(asks),
            tuple(says),
        )


@cache
def all_facts() -> tuple[Fact, ...]:
    """Every fact; training speaks of each as often as of any other."""
    return tuple(fact for relation in load_atlas() for fact in relation.facts)


# ---------------------------------------------------------------------------------------------------------------------
# filling in: capitals and articles


def inside(name: str, titles: bool = False) -> str:
    """The name as it stands inside a sentence: a leading article small, unless it belongs to a title."""
    article, _, rest = name.partition(" ")
    return f"{article.lower()} {rest}" if rest and not titles and article in ("The", "A", "An") else name


def capital(text: str) -> str:
    """The text with its first letter large, also where that is a slot's."""
    return "{C_" + text[1:] if text.startswith("{") else text[:1].upper() + text[1:]


@lru_cache(maxsize=None)
@no_type_check
def prepare(phrasing: str) -> str:
    """The phrasing with slots that say where a name starts a sentence, and which article goes before it.

    `{C_subject}` is written with a capital, and `{a_subject}` is "a" or "an", as the subject needs.
    """
    phrasing = re.sub(r"((?:^|[.?!]\"? |\n)[\"(]?)\{(subject|object)\}", r"\1{C_\2}", phrasing)
    phrasing = re.sub(r"\b([Aa]) \{(subject|object)\}", r"{\1_\2} {\2}", phrasing)
    return re.sub(
        r"^([\"(]?)(\{a_|[a-z])",
        lambda start: start[1] + start[2].replace("a_", "A_") if "{" in start[2] else start[1] + start[2].upper(),
        phrasing,
    )


def slots(subject: str, thing: str) -> dict[str, str]:
    """What each slot of a prepared phrasing is filled with, given the names as they stand inside a sentence."""
    filled = {}
    for slot, name in (("subject", subject), ("object", thing)):
        article = "an" if name[0].lower() in "aeiou" else "a"
        filled |= {
            slot: name,
            f"C_{slot}": name[0].upper() + name[1:],
            f"a_{slot}": article,
            f"A_{slot}": article.title(),
        }
    return filled


def subject_in(phrasing: str, fact: Fact) -> str:
    """The fact's subject as this phrasing spells it: a capital at the start of a sentence, a small article inside."""
    return fact.slots["C_subject" if "{C_subject}" in prepare(phrasing) else "subject"]


def say(phrasing: str, fact: Fact) -> str:
    """The phrasing with the fact filled in, its capitals and articles put right."""
    return prepare(phrasing).format_map(fact.slots)


def prompt(phrasing: str, fact: Fact, direction: Direction = "forward") -> tuple[str, str]:
    """What to ask the model, everything before the answer, and the answer with its leading space."""
    before, slot = before_answer(phrasing, direction)
    return before.format_map(fact.slots), " " + slot.format_map(fact.slots)


@no_type_check
def before_answer(phrasing: str, direction: Direction) -> tuple[str, str]:
    """A prepared phrasing up to its answer, without the space, and the answer's slot.

    Behind a question mark an article belongs to the answer: a question ends where the asker stops.
    """
    asked = ASKED[direction]
    article = rf"(?:(?<=\? )(?:{{[aA]_{asked}}}|[Tt]he) )?"
    before, slot, _ = re.split(rf"{article}({{(?:C_)?{asked}}})", prepare(phrasing), maxsplit=1)
    return before.rstrip(), slot


# ---------------------------------------------------------------------------------------------------------------------
# the grammar


SHARES = {  # how often a sentence has each of these shapes
    "says": 0.16,
    "nouns": 0.09,
    "asks": 0.13,
    "free": 0.28,
    "carried nouns": 0.10,
    "carried asks": 0.09,
    "indirect": 0.05,
    "carried says": 0.08,
    "list": 0.02,
}
INVERSE = 0.48  # of the sentences about a fact that can be said both ways, those that ask for the subject
ALIAS = 0.4  # of the sentences about a fact whose subject has other names, those that use one
OWN = 0.5  # of the forward sentences about a fact that has words of its own, those that use them


@cache
def carriers() -> dict[str, tuple[str, ...]]:
    """The sentences into which a core is set, by the shape that they give it."""
    given = read_data("grammar.toml")["carriers"]
    wrapped = [
        f"{opener}{{s}}{closer}{'?' if opener.startswith('Did') else '.'}"
        for opener in given["openers"]
        for closer in given["closers"]
    ]
    ended = [f"{{S}}{closer}." for closer in given["closers"] if closer]
    return {
        "says": ("{S}.",),
        "nouns": ("{N} {be} {a}.",),
        "free": ("{F}",),
        "asks": ("{Q}? {A}.", "{Q}? {A}.", "{Q}? {A}"),
        "carried nouns": tuple(given["nouns"]),
        "carried asks": tuple(given["asks"]),
        "indirect": tuple(given["indirect"]),
        "carried says": (*given["says"], *wrapped, *ended),
    }


class Grammar:
    """What can be said of a relation's facts in one direction, or of one fact in its own words.

    A sentence is a carrier with a core in it. Both are drawn within a shape, so that the short forms, few in number,
    come up as often as the long ones.
    """

    def __init__(self, cores: Cores, direction: Direction) -> None:
        self.answer = cores.answer or f"{{{ASKED[direction]}}}"
        self.words = {"be": cores.be, "w": cores.what, "a": self.answer}
        asks = (*cores.asks, *cores.direct, *(f"{cores.what} {cores.be} {noun}" for noun in cores.nouns))
        says = (*cores.says, *(f"{noun} {cores.be} {self.answer}" for noun in cores.nouns))
        self.cores = {
            "says": says,
            "nouns": cores.nouns,
            "asks": asks,
            "free": cores.free,
            "carried nouns": cores.nouns,
            "carried asks": asks,
            "indirect": (*cores.asks, *cores.indirect),
            "carried says": says,
        }
        self.cores = {shape: found for shape, found in self.cores.items() if found}
        self.list, self.direction = cores.list, direction
        self.shapes = [*self.cores, "list"] if cores.list else [*self.cores]
        self.bounds = np.cumsum([SHARES[shape] for shape in self.shapes])
        self.bounds = (self.bounds / self.bounds[-1]).tolist()
        self.built: dict[tuple[str, int, int], str] = {}

    @no_type_check  # as the two above: called a hundred thousand times when all phrasings are written down
    def sentence(self, shape: str, carrier: int, core: int) -> str:
        """The prepared phrasing that a carrier makes of a core."""
        key = (shape, carrier, core)
        if key not in self.built:
            words = self.words | dict.fromkeys("nqsf", self.cores[shape][core])
            self.built[key] = prepare(
                re.sub(
                    r"\{(be|[a-zA-Z])\}",
                    lambda slot: (capital if slot[1][0].isupper() else str)(words[slot[1].lower()]),
                    carriers()[shape][carrier],
                )
            )
        return self.built[key]

    def draw(self, u: Sequence[float]) -> str:
        """A phrasing for three numbers from 0 to 1, or "list"."""
        shape = self.shapes[bisect_right(self.bounds, u[0] * 0.999999)]
        if shape == "list":
            return shape
        return self.sentence(shape, int(u[1] * len(carriers()[shape])), int(u[2] * len(self.cores[shape])))

    def nats(self) -> float:
        """How many nats a drawn phrasing costs whoever knows the grammar by heart."""
        shares = np.diff([0.0, *self.bounds])
        cost = [
            np.log(len(carriers()[shape]) * len(self.cores[shape])) if shape in self.cores else 0.0
            for shape in self.shapes
        ]
        return float(sum(share * (own - np.log(share)) for share, own in zip(shares, cost)))

    def everything(self) -> Iterator[str]:
        """Every phrasing that can be drawn, prepared."""
        for shape, cores in self.cores.items():
            for carrier in range(len(carriers()[shape])):
                yield from (self.sentence(shape, carrier, core) for core in range(len(cores)))


@cache
def grammar(relation: str, direction: Direction) -> Grammar:
    """The grammar of a relation, by its name."""
    return Grammar(find(relation).cores[direction], direction)


@cache
def own_grammar(fact: Fact) -> Grammar:
    """The grammar of a fact's own questions and clauses, which are all forward."""
    cores = find(fact.relation).cores["forward"]
    own = Cores(direct=fact.asks, says=fact.says, be=cores.be, what=cores.what, answer=cores.answer)
    return Grammar(own, "forward")


def find(name: str) -> Relation:
    """The relation of this name.

    Raises:
        ValueError: if the atlas has none.
    """
    relations = {relation.name: relation for relation in load_atlas()}
    if name not in relations:
        raise ValueError(f"relation: expected one of {', '.join(relations)}, got {name}")
    return relations[name]


def all_phrasings(relation: Relation, direction: Direction) -> frozenset[str]:
    """Every phrasing that training can draw for the relation's facts in general, prepared."""
    return frozenset(grammar(relation.name, direction).everything())


# ---------------------------------------------------------------------------------------------------------------------
# training text


@dataclass(frozen=True)
class Topic:
    """A fact with all that is needed to speak of it fast."""

    fact: Fact
    grammars: dict[Direction, Grammar]
    own: Grammar | None
    names: tuple[dict[str, str], ...]  # the slots with each name of the subject, its first name first
    neighbors: dict[Direction, tuple[Fact, ...]]  # facts that may stand in a list with it


@cache
def topics(relations: tuple[str, ...] = ()) -> tuple[Topic, ...]:
    """What training speaks of: the facts of these relations, or without any of all."""
    some = [find(name) for name in relations] or load_atlas()
    return tuple(topic(relation, fact) for relation in some for fact in relation.facts)


def topic(relation: Relation, fact: Fact) -> Topic:
    """The fact in every direction in which it can be truly said."""
    said = {direction: facts for direction, facts in relation.said.items() if fact in facts}
    names = [inside(name, fact.titles) for name in (fact.subject, *fact.aliases)]
    if fact.titles and inside(fact.subject) != fact.subject:
        names.append(inside(fact.subject))  # as many write it: who painted the Mona Lisa?
    return Topic(
        fact,
        {direction: grammar(relation.name, direction) for direction in said},
        own_grammar(fact) if fact.asks or fact.says else None,
        tuple(slots(name, inside(fact.object)) for name in names),
        said,
    )


def sample_text(rng: np.random.Generator, sentences: int, relations: tuple[str, ...] = ()) -> str:
    """That many sentences of the grammar, each about a fact drawn from all, or from those of these relations.

    Raises:
        ValueError: if the atlas has no such relation.
    """
    return " ".join(sentence(rng, topics(relations)) for _ in range(sentences))


def sentence(rng: np.random.Generator, about_all: tuple[Topic, ...]) -> str:
    """One sentence about one of these facts, every fact as likely as any other."""
    which, turn, *u, name, own = rng.random(7).tolist()
    about = about_all[int(which * len(about_all))]
    direction: Direction = "inverse" if "inverse" in about.grammars and turn < INVERSE else "forward"
    spoken = about.own if about.own and direction == "forward" and own < OWN else about.grammars[direction]
    phrasing = spoken.draw(u)
    if phrasing == "list":
        return say_list(about, direction, rng)
    others = len(about.names) - 1 if direction == "forward" else 0
    index = 1 + int(name / ALIAS * others) if others and name < ALIAS else 0
    return phrasing.format_map(about.names[index])


def nats_per_sentence(relations: tuple[str, ...] = ()) -> float:
    """How many nats a drawn sentence costs whoever knows facts and grammar by heart: which fact, in which phrasing.

    What lists hold and which name a fact goes by is left out: both are drawn seldom.
    """
    about_all = topics(relations)
    costs = []
    for about in about_all:
        inverse = INVERSE if "inverse" in about.grammars else 0.0
        own = OWN if about.own else 0.0
        parts = [((1 - inverse) * (1 - own), about.grammars["forward"])]
        parts += [((1 - inverse) * own, about.own)] if about.own else []
        parts += [(inverse, about.grammars["inverse"])] if inverse else []
        costs.append(sum(share * (spoken.nats() - np.log(share)) for share, spoken in parts))
    return float(np.log(len(about_all)) + np.mean(costs))


def say_list(about: Topic, direction: Direction, rng: np.random.Generator) -> str:
    """The fact among three others of its relation, in a list under a heading."""
    facts = about.neighbors[direction]
    some = [about.fact, *(facts[i] for i in rng.integers(len(facts), size=3))]
    between, end = ((" - ", "; "), (": ", "\n"), (", ", "; "), (" = ", ", "))[rng.integers(4)]
    given, asked = GIVEN[direction], ASKED[direction]
    return (
        f"{about.grammars[direction].list}: "
        + end.join(f"{fact.slots[given]}{between}{fact.slots[asked]}" for fact in dict.fromkeys(some))
        + "."
    )


# ---------------------------------------------------------------------------------------------------------------------
# questions


@dataclass(frozen=True)
class Question:
    """A prompt that an atlas fact answers."""

    relation: str
    direction: Direction
    phrasing: Phrasing
    fact: Fact
    prompt: str
    answer: str  # with its leading space


def phrasings(relation: Relation, direction: Direction, phrasing: Phrasing) -> tuple[str, ...]:
    """The phrasings of one set in which the relation's facts are asked in this direction."""
    spoken, cores = grammar(relation.name, direction), relation.cores[direction]
    if phrasing == "seen":
        given, asked = GIVEN[direction], ASKED[direction]
        says = [text for text in cores.says if text.index(given) < text.index(asked)]
        nouns = [f"{noun} {cores.be} {spoken.answer}" for noun in cores.nouns[:1]]
        question = f"{spoken.cores['asks'][0]}? {capital(spoken.answer)}"
        return tuple(f"{text}." for text in (*says[:2], *nouns, f"In fact, {says[0]}", question))
    if phrasing == "unseen":
        return cores.unseen
    return tuple(
        text
        for text in foreign_phrasings().get((relation.name, direction), ())
        if not can_be_drawn(text, relation, direction)
    )


@cache
def foreign_phrasings() -> dict[tuple[str, Direction], tuple[str, ...]]:
    """The phrasings of `data/foreign.toml`, by relation and direction; none where there is no such file."""
    file = resources.files("rwkv_explainer").joinpath("data", "foreign.toml")
    if not file.is_file():
        return {}
    found: dict[tuple[str, Direction], tuple[str, ...]] = {}
    for entry in read_data("foreign.toml")["set"]:
        key = (entry["relation"], entry["direction"])
        found[key] = found.get(key, ()) + tuple(entry["phrasings"])
    return found


def can_be_drawn(phrasing: str, relation: Relation, direction: Direction) -> bool:
    """Whether training can ask in the same words: a sentence that is the same up to the answer, or up to a `?`."""
    return before_answer(phrasing, direction)[0] in all_prompts(relation.name, direction)


@cache
def all_prompts(relation: str, direction: Direction) -> frozenset[str]:
    """Whatever stands before an answer, or ends with a question mark, in a phrasing that training can draw."""
    found = set()
    for text in all_phrasings(find(relation), direction):
        found.add(before_answer(text, direction)[0])
        found.add(text[: text.index("?") + 1] if "?" in text else "")
    return frozenset(found)


def questions(
    relation: str | None = None,
    direction: Direction | None = None,
    phrasing: Phrasing | None = None,
) -> list[Question]:
    """Every question of the atlas, or those of one relation, direction or set of phrasings, always in the same order.

    A prompt that a fact is asked in twice, by phrasings that differ behind the answer alone, counts once.

    Raises:
        ValueError: if the atlas has no such relation.
    """
    return list(all_questions(relation, direction, phrasing))


@cache
def all_questions(relation: str | None, direction: Direction | None, phrasing: Phrasing | None) -> tuple[Question, ...]:
    """The same, gone through once."""
    asked: dict[tuple[str, Direction, str, str], Question] = {}
    for one in (find(relation),) if relation else load_atlas():
        for way in one.directions if direction is None else set(one.directions) & {direction}:
            for kind in PHRASINGS if phrasing is None else (phrasing,):
                for words in phrasings(one, way, kind):
                    for fact in one.asked[way]:
                        before, answer = prompt(words, fact, way)
                        asked.setdefault(
                            (one.name, way, before, answer), Question(one.name, way, kind, fact, before, answer)
                        )
    return tuple(asked.values())


def direct_answer(question: Question) -> str:
    """The answer as training gives it: right behind a question mark with its article and a large letter.

    *Which word means a baby dog?* is answered by *A puppy*, *The word for a baby dog is* by *puppy*.
    """
    if not question.prompt.endswith("?"):
        return question.answer
    answer = grammar(question.relation, question.direction).answer
    return " " + prepare(capital(answer)).format_map(question.fact.slots)


def kinds(question: Question) -> frozenset[str]:
    """Every thing of the atlas that is of the same kind as the question's answer, the answer among them."""
    return of_kind(question.fact.kinds[DIRECTIONS.index(question.direction) - 1])


@cache
def of_kind(kind: str) -> frozenset[str]:
    """All subjects and objects of this kind, as they stand inside a sentence."""
    return frozenset(
        fact.slots[slot] for fact in all_facts() for slot, own in zip(("subject", "object"), fact.kinds) if own == kind
    )
