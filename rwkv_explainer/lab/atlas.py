"""The atlas: a table of facts, and the sentences that are made from it.

A small model cannot have read the whole web. The bundled one has read textbooks and this atlas, so that every fact it
is asked for in the book is a fact that it had a chance to learn, and whose right answer is known.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np


@dataclass(frozen=True)
class Fact:
    """One line of the atlas, such as landmark-city: The Eiffel Tower, Paris."""

    relation: str
    subject: str
    object: str
    aliases: tuple[str, ...] = ()  # other names of the subject
    weight: int = 1  # how often it comes up in training, beside the other facts


@dataclass(frozen=True)
class Relation:
    """Facts of one kind, and the sentences that can be made of each."""

    name: str
    kind: str  # what the object is
    phrasings: tuple[str, ...]  # subject first, object last; trained on
    unseen: tuple[str, ...]  # the same, kept out of training
    reverse: tuple[str, ...]  # object first; trained on, never asked
    facts: tuple[Fact, ...]


@cache
def load_atlas() -> tuple[Relation, ...]:
    """Every relation of `data/atlas.toml`, with its facts."""
    text = resources.files("rwkv_explainer").joinpath("data/atlas.toml").read_text(encoding="utf-8")
    return tuple(
        Relation(
            name=entry["name"],
            kind=entry["kind"],
            phrasings=tuple(entry["phrasings"]),
            unseen=tuple(entry["unseen"]),
            reverse=tuple(entry["reverse"]),
            facts=tuple(Fact(relation=entry["name"], **fact | {"aliases": tuple(fact.get("aliases", ()))})
                        for fact in entry["facts"]),
        )
        for entry in tomllib.loads(text)["relation"]
    )


def subject_in(phrasing: str, fact: Fact) -> str:
    """The fact's subject as this phrasing spells it: a capital at the start of a sentence, a small article inside."""
    if phrasing.startswith("{subject}"):
        return fact.subject[0].upper() + fact.subject[1:]
    article, _, rest = fact.subject.partition(" ")
    return f"{article.lower()} {rest}" if rest and article in ("The", "A", "An") else fact.subject


def say(phrasing: str, fact: Fact) -> str:
    """The phrasing with the fact filled in, its capitals put right."""
    sentence = phrasing.format(subject=subject_in(phrasing, fact), object=fact.object)
    return sentence[0].upper() + sentence[1:]


def prompt(phrasing: str, fact: Fact) -> tuple[str, str]:
    """What to ask the model, and the answer with its leading space: everything before the object, and the object."""
    before = phrasing[: phrasing.index("{object}")].rstrip()
    return say(before, fact), f" {fact.object}"


def sample_text(rng: np.random.Generator, sentences: int) -> str:
    """That many sentences, each about a fact drawn by its weight, in a phrasing drawn from those trained on."""
    relations = {relation.name: relation for relation in load_atlas()}
    facts, weights = all_facts()
    said = []
    for fact in rng.choice(facts, size=sentences, p=weights):
        relation = relations[fact.relation]
        said.append(say(str(rng.choice(relation.phrasings + relation.reverse)), fact))
    return " ".join(said)


@cache
def all_facts() -> tuple[np.ndarray, np.ndarray]:
    """Every fact, and the share of the atlas sentences that speak of it."""
    facts = [fact for relation in load_atlas() for fact in relation.facts]
    weights = np.array([fact.weight for fact in facts], dtype=float)
    return np.array(facts, dtype=object), weights / weights.sum()
