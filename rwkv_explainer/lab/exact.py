"""The exact probability of a row of atlas text, for whoever knows the facts and the grammar by heart.

A row of `training.atlas_row` is drawn by a known recipe, so the best prediction of its next token can be computed: keep
every sentence that the row may be in the middle of, with its probability, and drop those that the next token refutes.
That is filtering, as in a hidden Markov model. Its loss is the floor that no model can get below in the long run.
Chapter "Training".
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from string import Formatter

from tokenizers import Tokenizer

from rwkv_explainer.lab.atlas import ALIAS, ASKED, GIVEN, INVERSE, OWN, SHARES, Fact, Grammar, carriers, topics
from rwkv_explainer.tokens import END_OF_TEXT_ID

__all__ = ["ExactAtlas"]

GOES_ON = (1, 2 / 3, 1 / 2, 0)  # a text has one, two or three sentences: whether another follows after so many
LISTS = ((" -", ";", True), (":", "\n", False), (",", ";", True), (" =", ",", True))  # between, end, and then a space?
DRAWS = 3  # of facts that stand in a list beside the first

Slot = tuple[str, bool]  # its name, and whether a space stands before it
Found = tuple[dict[int, float], float]  # where a sentence may end, with its probability; and that it goes on beyond


@dataclass
class Node:
    """A place in the phrasings of a grammar, reached by tokens and slots; probabilities are the phrasings'."""

    next: dict[int | Slot, "Node"] = field(default_factory=dict)
    mass: float = 0.0  # of all phrasings that come by here
    end: float = 0.0  # of those that end here


@dataclass
class Voice:
    """A grammar, and who speaks by it: a fact under one of its names, with its probability."""

    roots: tuple[Node, Node]  # at a text's start, and after another sentence
    weights: list[float]
    names: dict[Slot, dict[int, list[tuple[tuple[int, ...], int]]]]  # by slot and first token: tokens, who


@dataclass
class Heading:
    """A list of facts of one relation in one direction."""

    starts: tuple[tuple[int, ...], tuple[int, ...]]  # at a text's start, and after another sentence
    first: dict[Fact, float]  # the probability that this is the list, and this its first fact
    others: tuple[Fact, ...]
    given: str
    asked: str


class ExactAtlas:
    """What whoever knows these relations of the atlas, and the grammar, predicts of a row.

    Args:
        tokenizer: of the rows.
        relations: by name; none means all, which takes long.
    """

    def __init__(self, tokenizer: Tokenizer, relations: tuple[str, ...] = ()):
        self.tokenizer, self.cut = tokenizer, {}
        speakers: dict[int, list[tuple[float, dict[str, str]]]] = defaultdict(list)
        grammars: dict[int, Grammar] = {}
        lists: dict[tuple[str, str], Heading] = {}
        for about in topics(relations):
            for direction, grammar in about.grammars.items():
                inverse = INVERSE if "inverse" in about.grammars else 0.0
                weight = (inverse if direction == "inverse" else 1 - inverse) / len(topics(relations))
                own = OWN if about.own and direction == "forward" else 0.0
                names = len(about.names) if direction == "forward" else 1
                for spoken, share in ((grammar, 1 - own), (about.own, own)):
                    if not share:
                        continue
                    grammars[id(spoken)] = spoken
                    for i, slots in enumerate(about.names[:names]):
                        name = 1.0 if names == 1 else ALIAS / (names - 1) if i else 1 - ALIAS
                        speakers[id(spoken)].append((weight * share * name, slots))
                if grammar.list:
                    key = (about.fact.relation, direction)
                    if key not in lists:
                        starts = tuple(self.tokens(f"{space}{grammar.list}:") for space in ("", " "))
                        others = about.neighbors[direction]
                        lists[key] = Heading(starts, {}, others, GIVEN[direction], ASKED[direction])
                    share = SHARES["list"] / sum(SHARES[shape] for shape in grammar.shapes)
                    lists[key].first[about.fact] = weight * (1 - own) * share
        self.headings = list(lists.values())
        self.voices = [self.voice(grammars[key], spoken) for key, spoken in speakers.items()]

    def loss(self, row: Sequence[int]) -> float:
        """The mean surprise of a row's tokens but the first, given those before, in nats. Infinite if it cannot be."""
        whole, first = self.probability(row), self.probability(row[:1])
        return -math.log(whole / first) / (len(row) - 1) if whole else math.inf

    def probability(self, row: Sequence[int]) -> float:
        """That a row begins like this. A row begins with a new text, and may end anywhere."""
        row = list(row)
        at = [[0.0] * len(GOES_ON) for _ in range(len(row) + 1)]  # a text has had so many sentences, and now?
        at[0][0], total = 1.0, 0.0
        for start in range(len(row)):
            for after, before in ((False, at[start][:1]), (True, [0.0, *at[start][1:]])):
                if not any(p * on for p, on in zip(before, GOES_ON)):
                    continue
                ends, beyond = self.sentence(row, start, after)
                total += beyond * sum(p * on for p, on in zip(before, GOES_ON))
                for end, p_sentence in ends.items():
                    for count, (p, on) in enumerate(zip(before, GOES_ON[:-1])):
                        at[end][count + 1] += p * on * p_sentence
            if row[start] == END_OF_TEXT_ID:
                at[start + 1][0] += sum(p * (1 - on) for p, on in zip(at[start], GOES_ON))
        return total + at[-1][0]

    def tokens(self, text: str) -> tuple[int, ...]:
        """The ids of some words, which are cut up once."""
        if text not in self.cut:
            self.cut[text] = tuple(self.tokenizer.encode(text).ids)
        return self.cut[text]

    # -----------------------------------------------------------------------------------------------------------------
    # one sentence

    def sentence(self, row: list[int], start: int, after: bool) -> Found:
        """A sentence that begins here."""
        ends: dict[int, float] = defaultdict(float)
        beyond = 0.0
        for voice in self.voices:
            for node, at, who in walk(voice, row, start, voice.roots[after]):
                weight = sum(voice.weights if who is None else (voice.weights[i] for i in who))
                if at > len(row):
                    beyond += node.mass * weight
                else:
                    ends[at] += node.end * weight
        for heading in self.headings:
            for between, end, spaced in LISTS:
                beyond += self.items(row, start, after, heading, (between, end, spaced), ends) / len(LISTS)
        return ends, beyond

    def voice(self, grammar: Grammar, spoken: list[tuple[float, dict[str, str]]]) -> Voice:
        """A grammar's phrasings as two trees, and its speakers by what they fill the slots with."""
        roots = Node(), Node()
        shares = {shape: SHARES[shape] for shape in grammar.shapes}
        for shape, cores in grammar.cores.items():
            each = shares[shape] / sum(shares.values()) / len(carriers()[shape]) / len(cores)
            for carrier in range(len(carriers()[shape])):
                for core in range(len(cores)):
                    for root, space in zip(roots, ("", " ")):
                        self.grow(root, grammar.sentence(shape, carrier, core), space, each)
        names: dict[Slot, dict[int, list]] = defaultdict(lambda: defaultdict(list))
        for slot in ((name, spaced) for name in spoken[0][1] for spaced in (False, True)):
            for who, (_, slots) in enumerate(spoken):
                tokens = self.tokens(" " * slot[1] + slots[slot[0]])
                names[slot][tokens[0]].append((tokens, who))
        return Voice(roots, [weight for weight, _ in spoken], names)

    def grow(self, node: Node, phrasing: str, before: str, probability: float) -> None:
        """Add a phrasing below a root."""
        path: list[int | Slot] = []
        for literal, slot, *_ in Formatter().parse(phrasing):
            literal = before + literal
            before = ""
            spaced = slot is not None and literal.endswith(" ")
            path += self.tokens(literal[:-1] if spaced else literal)
            path += [(slot, spaced)] if slot is not None else []
        node.mass += probability
        for key in path:
            node = node.next.setdefault(key, Node())
            node.mass += probability
        node.end += probability

    def items(
        self, row: list[int], start: int, after: bool, heading: Heading, way: tuple[str, str, bool], ends: dict
    ) -> float:
        """A list that begins here, in one of four ways to write it: that it goes on beyond; where it ends, to `ends`.

        The facts beside the first are drawn with repetition, and what has been drawn before is not said again.
        """
        between, end, spaced = way
        beyond = 0.0
        at = match(row, start, heading.starts[after])
        if at is None:
            return 0.0
        if at > len(row):
            return sum(heading.first.values())
        count = len(heading.others)
        places: list[tuple[int, tuple[Fact, ...], list[float], str]] = [(at, (), [1.0, 0.0, 0.0, 0.0], " ")]
        while places:
            at, said, draws, space = places.pop()
            for fact in heading.others if said else heading.first:
                if fact in said:
                    continue
                after_draw = [0.0, *(p / count for p in draws[:-1])] if said else [heading.first[fact], 0.0, 0.0, 0.0]
                item = (
                    *self.tokens(space + fact.slots[heading.given]),
                    *self.tokens(between),
                    *self.tokens(" " + fact.slots[heading.asked]),
                )
                to = match(row, at, item)
                if to is None or not sum(after_draw):
                    continue
                if to > len(row):
                    beyond += sum(after_draw)
                    continue
                now = (*said, fact)
                for draw in range(DRAWS):
                    after_draw[draw + 1] += after_draw[draw] * len(now) / count
                if to == len(row):
                    beyond += after_draw[DRAWS] + sum(after_draw[:DRAWS]) * (count - len(now)) / count
                    continue
                if (last := match(row, to, self.tokens("."))) is not None:
                    if last < len(row):
                        ends[last] += after_draw[DRAWS] / len(LISTS)
                    else:
                        beyond += after_draw[DRAWS]
                if (following := match(row, to, self.tokens(end))) is not None:
                    places.append((following, now, after_draw, " " if spaced else ""))
        return beyond


def match(row: list[int], at: int, tokens: Sequence[int]) -> int | None:
    """Where these tokens end if they stand here, beyond the row's end if it ends among them; None if they do not."""
    part = row[at : at + len(tokens)]
    return at + len(tokens) if part == list(tokens[: len(part)]) else None


def walk(voice: Voice, row: list[int], start: int, root: Node) -> Iterator[tuple[Node, int, list[int] | None]]:
    """Every phrasing that the row agrees with from here on: (where, at which place of the row, who may be speaking).

    A place beyond the row's end stands for all that goes on beyond it, and everyone may be speaking if it is None.
    """
    places: list[tuple[Node, int, list[int] | None]] = [(root, start, None)]
    while places:
        node, at, who = places.pop()
        if at >= len(row):
            yield node, len(row) + 1, who
            continue
        if node.end:
            yield node, at, who
        if (following := node.next.get(row[at])) is not None:
            places.append((following, at + 1, who))
        for slot, following in node.next.items():
            if isinstance(slot, int):
                continue
            found: dict[int, list[int]] = defaultdict(list)  # by the name's end
            for tokens, speaker in voice.names[slot].get(row[at], ()):
                if (who is None or speaker in who) and (to := match(row, at, tokens)) is not None:
                    found[min(to, len(row))].append(speaker)
            places += [(following, to, speakers) for to, speakers in found.items()]
