"""What the text says of the model, held against the model.

    claim("Here the answer needs the memories", emptied < 0.1, control=whole > 0.9, whole=whole, emptied=emptied)

A sentence of a chapter has such a claim beside it. While the book is built with its own model, a claim that does not
hold stops the build; elsewhere, on another model or after a reader's changes, its line says that it does not hold here.
What is true of every model is a `theorem`: its check is made a second time, of a wrong formula, which it must refuse.
What runs have shown that take too long for a page is `recorded`: its check is made of the record and of a control.
What a page itself finds out with random numbers, or by training something small, is no theorem; it is `measured`.
`tally()` at a chapter's end counts and lists them. `make claims` tries whether each claim can fail (tools/claims.py).
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from rwkv_explainer.generation import print_anywhere

__all__ = ["Claim", "ClaimFails", "Tally", "claim", "measured", "recorded", "tally", "theorem"]

BUILD = "RWKV_EXPLAINER_BUILDING"  # the environment variable that is set while the book is built
METADATA = "rwkv_explainer_claim"  # where a notebook's output carries a claim, for tools
COMPARES = re.compile(r"\b(than|only|alone|without|because|needs?|needed|enough|depends?|carry|carries)\b", re.I)
EMPHASIS = re.compile(r"\*([^*]+)\*")  # as Markdown writes it
SHOWN_AT_MOST = 8  # numbers of one list


class ClaimFails(AssertionError):
    """A sentence of the book that is not true of the model that it speaks of."""


@dataclass(frozen=True)
class Claim:
    """One sentence, and what came of holding it against the model. Notebooks show it by themselves, as one line."""

    gist: str
    statement: bool  # whether the condition came true
    control: bool | None = None  # whether the control did; None if there is none
    numbers: dict[str, str] = field(default_factory=dict)  # what the condition was computed from, as it is shown
    mathematics: bool = False  # a theorem, so true of every model
    of_record: bool = False  # of numbers that the repository carries, whatever model the page speaks of
    of_measurement: bool = False  # of what the page draws or trains itself, whatever model it speaks of

    @property
    def holds(self) -> bool:
        """A statement whose control fails says nothing, so both must have come true."""
        return self.statement and self.control is not False

    def __str__(self) -> str:
        shown = " · ".join(f"{name} {number}" for name, number in self.numbers.items())
        return f"{self.gist} ({shown})" if shown else self.gist

    def __repr__(self) -> str:
        return f"{'✓' if self.holds else '✗ does not hold here:'} {self}"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, str], dict[str, object]]:
        fields = vars(self) | {"holds": self.holds}
        return {"text/plain": repr(self), "text/html": self.to_html("div")}, {METADATA: fields}

    def to_html(self, tag: str) -> str:
        """The line as an HTML element, in the colors of the page around."""
        kind = "holds" if self.holds else "fails"
        words = EMPHASIS.sub(r"<em>\1</em>", escape(repr(self)))
        return f'<{tag} class="rwkv-claim" data-claim="{kind}" style="font-size: .85em">{words}</{tag}>'


stated: dict[str, Claim] = {}  # the claims of this kernel by their gist, so that a cell that runs again counts once


def claim(gist: str, condition: object, *, control: object = None, **numbers: object) -> None:
    """Hold a sentence about the model against the model, and show a line that says whether it holds.

    Args:
        gist: the sentence, short.
        condition: a truth value, computed from the numbers of the page.
        control: a truth value too: what the sentence compares with came out as it should, such as the whole model, an
            untrained one, another prompt, chance. A sentence with a word such as "only", "needs" or "than" has one.
        numbers: what the two are computed from, to be shown: a number, or a few, under a name for each.

    Raises:
        ClaimFails: in a build with the book's own model, if condition or control is not true.
        ValueError: if there are no numbers to show, or a sentence that compares has no control.
        TypeError: if condition or control is not a truth value, or a number is no number.
    """
    if not numbers:
        raise ValueError(f"claim({gist!r}): expected the numbers that it rests on, such as whole=0.9, got none")
    if control is None and (word := COMPARES.search(gist)):
        raise ValueError(
            f"claim({gist!r}): the word {word[0]!r} compares, so expected a control, such as control=whole > 0.9, got "
            "none; say what it is compared with, or say it without the word"
        )
    shown = {name.replace("_", " "): show(name, number) for name, number in numbers.items()}
    state(
        Claim(
            gist,
            truth(f"claim({gist!r}): condition", condition),
            None if control is None else truth(f"claim({gist!r}): control", control),
            shown,
        )
    )


def theorem(gist: str, check: Callable[[Any], object], *, right: Any, wrong: Any) -> None:
    """Hold a sentence that is true of every model against a check that tells it from a wrong one.

    Args:
        gist: the sentence, short.
        check: takes what is to be checked, a formula or what came out of it, and returns a truth value.
        right: what the check must accept.
        wrong: the same with a mistake in it, which the check must refuse.

    Raises:
        ClaimFails: in a build with the book's own model, if the check refuses `right`.
        ValueError: if the check accepts `wrong`: then it says nothing of `right` either.
        TypeError: if the check returns no truth value.
    """
    if truth(f"theorem({gist!r}): check(wrong)", check(wrong)):
        raise ValueError(
            f"theorem({gist!r}): expected a check that refuses the wrong formula, got one that accepts it; "
            "make the check sharper, or the formula wrong"
        )
    state(Claim(gist, truth(f"theorem({gist!r}): check(right)", check(right)), mathematics=True))


def recorded(gist: str, check: Callable[[Any], object], *, record: Any, control: Any, **numbers: object) -> None:
    """Hold a sentence about runs that take too long for a page against the record of them.

    Args:
        gist: the sentence, short.
        check: takes a record and returns a truth value.
        record: the one that the repository carries.
        control: the same with something exchanged that the sentence is about, such as two models' numbers. The check
            must refuse it.
        numbers: what the sentence rests on, as for `claim`.

    Raises:
        ClaimFails: in a build with the book's own model, if the check refuses the record.
        ValueError: if the check accepts the control, or there are no numbers to show.
        TypeError: if the check returns no truth value, or a number is no number.
    """
    if not numbers:
        raise ValueError(f"recorded({gist!r}): expected the numbers that it rests on, such as right=0.9, got none")
    holds, shown = against(f"recorded({gist!r})", check, record, control, numbers)
    state(Claim(gist, holds, numbers=shown, of_record=True))


def measured(gist: str, check: Callable[[Any], object], *, found: Any, control: Any, **numbers: object) -> None:
    """Hold a sentence about what this page measured, on random numbers or in a small training run, against it.

    Args:
        gist: the sentence, short.
        check: takes a measurement and returns a truth value.
        found: what the page measured.
        control: the same with something exchanged that the sentence is about. The check must refuse it.
        numbers: how often it was drawn or trained, such as `tables=40`, and what else the sentence rests on.

    Raises:
        ClaimFails: in a build with the book's own model, if the check refuses what was found.
        ValueError: if the check accepts the control, or there are no numbers to show.
        TypeError: if the check returns no truth value, or a number is no number.
    """
    if not numbers:
        raise ValueError(f"measured({gist!r}): expected how often it was drawn, such as tables=40, got none")
    holds, shown = against(f"measured({gist!r})", check, found, control, numbers)
    state(Claim(gist, holds, numbers=shown, of_measurement=True))


def against(
    where: str, check: Callable[[Any], object], found: Any, control: Any, numbers: dict[str, object]
) -> tuple[bool, dict[str, str]]:
    """What a check says of what was found, after it has refused the control; and the numbers as they are shown."""
    if truth(f"{where}: check(control)", check(control)):
        raise ValueError(
            f"{where}: expected a check that refuses the control, got one that accepts it; make the check "
            "sharper, or exchange in the control what the sentence is about"
        )
    shown = {name.replace("_", " "): show(name, number) for name, number in numbers.items()}
    return truth(f"{where}: check(found)", check(found)), shown


def state(claim: Claim) -> None:
    """Keep a claim for the tally, show its line, and stop a build of which it is not true."""
    stated[claim.gist] = claim
    display(claim) if InteractiveShell.initialized() else print_anywhere(repr(claim))
    if not claim.holds and os.environ.get(BUILD) and speaks_of_bundled():
        which = "the control came out wrong" if claim.statement else "the statement is not true"
        raise ClaimFails(f"{claim}: {which}; mend the sentence, or what it is computed from")


def speaks_of_bundled() -> bool:
    """Whether chapters load the model that their sentences speak of."""
    return os.environ.get("RWKV_EXPLAINER_MODEL", "") in ("", "textbook")


@dataclass(frozen=True)
class Tally:
    """The claims of a page. Notebooks show it by themselves: one folded line, which opens to the list."""

    claims: Sequence[Claim]

    @property
    def line(self) -> str:
        """How many claims there are, of which kind, and how many hold."""
        every = len(self.claims)
        holding = sum(claim.holds for claim in self.claims)
        proven = sum(claim.mathematics for claim in self.claims)
        kept = sum(claim.of_record for claim in self.claims)
        drawn = sum(claim.of_measurement for claim in self.claims)
        counts = {
            "against the model": every - proven - kept - drawn,
            "against a record": kept,
            "against runs of this page": drawn,
            "as mathematics": proven,
        }
        kinds = [f"{count} {how}" for how, count in counts.items() if count]
        counted = f"{every} statements on this page were" if every != 1 else "1 statement on this page was"
        verdict = f"{holding} of them {'holds' if holding == 1 else 'hold'} here" if holding < every else "all hold"
        return f"{'✓' if holding == every else '✗'} {counted} checked, {in_a_row(kinds) or 'none'}: {verdict}"

    def __repr__(self) -> str:
        return "\n".join([self.line, *(f"  {claim!r}" for claim in self.claims)])

    def _repr_html_(self) -> str:
        items = "".join(claim.to_html("li") for claim in self.claims)
        fold = f'<summary style="cursor: pointer">{escape(self.line)}</summary>'
        plain = "list-style: none; margin: 0; padding: 0 0 0 1em"
        return f'<details class="rwkv-tally">{fold}<ul style="{plain}">{items}</ul></details>'


def tally() -> Tally:
    """All that this page has claimed so far, counted and listed."""
    return Tally(tuple(stated.values()))


def in_a_row(words: Sequence[str]) -> str:
    """One, two and three."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def truth(what: str, value: object) -> bool:
    """A truth value as Python's own; a comparison of one number with another brings NumPy's or PyTorch's."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.numel() == 1:
        return bool(value)
    if type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"{what}: expected a truth value, such as p > 0.9, got {describe(value)}")


def show(name: str, value: object) -> str:
    """A number as the line shows it: four digits, two if it is small, the whole ones if large; of a list, each."""
    value = value.tolist() if hasattr(value, "tolist") else value  # PyTorch's and NumPy's
    if isinstance(value, (list, tuple)) and 0 < len(value) <= SHOWN_AT_MOST:
        return ", ".join(show(name, one) for one in value)
    if isinstance(value, (bool, str)):
        return {True: "yes", False: "no"}.get(value, str(value))
    if isinstance(value, (int, float)):
        whole, small = isinstance(value, int) or abs(value) >= 1000, abs(value) < 0.1
        digits = ",.0f" if whole else ".2g" if small else ".4g"
        return format(value, digits).replace("-", "−")
    raise TypeError(f"{name}: expected a number, or up to {SHOWN_AT_MOST}, got {describe(value)}")


def describe(value: object) -> str:
    """What something is, for a message."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    return f"{len(value)} entries" if isinstance(value, (list, tuple)) else f"{value!r:.80}"
