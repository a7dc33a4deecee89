"""Three tasks that tell memories apart: recall, recall with overwriting, and following a ball under swapped cups.

Chapter "Where RWKV went next". Every sequence is drawn at random, so no model can learn the answers, only the task.

**Recall** is multi-query associative recall (Arora et al. 2023, https://arxiv.org/abs/2312.04927) with one change:
a token tells a whole pair, the embeddings of key and value added, where theirs spells a pair in two tokens. Finding out
that two neighbors belong together is a task of its own, and not the memory's.
**Overwriting** tells a key several values; the newest counts.
**Cups**: a ball lies under one of n cups. With each token two cups trade places, or nothing happens. With two cups this
is parity. The swaps of n cups generate all n! permutations: the state tracking of Merrill et al. 2024,
https://arxiv.org/abs/2404.08819, which is hard for constant depth from five things on.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Generator, Tensor

__all__ = [
    "LENGTH",
    "SILENT",
    "TASKS",
    "Task",
    "any_of_the_keys_values",
    "any_told_value",
    "draw_cups",
    "draw_recall",
    "start_cup_share",
]

Ids = Int[Tensor, "batch time parts"]  # a token's parts, whose embeddings add up
Answers = Int[Tensor, "batch time"]  # what is to be said at each token, `SILENT` where nothing is asked
Difficulty = tuple[int, ...]

SILENT = -100  # what PyTorch's cross entropy leaves out
KEYS, VALUES, CUPS = 32, 16, 5
BLANK_KEY, BLANK_VALUE, ASKED = 0, KEYS + 1, KEYS + VALUES + 2  # ids of recall's parts: keys, then values
PAIRS = tuple(itertools.combinations(range(CUPS), 2))  # the swaps, a token each


@dataclass(frozen=True)
class Task:
    """A kind of sequence, at the difficulties that a model is trained on and at those that it is asked about.

    A difficulty is the arguments of `draw`: (random, batch, *difficulty) to ids and answers.
    """

    name: str
    draw: Callable[..., tuple[Tensor, Tensor]]
    trained: Sequence[Difficulty]  # drawn with equal probability, one a batch
    asked: Sequence[Difficulty]
    vocabulary: int
    answers: int

    def batch(self, random: Generator, size: int) -> tuple[Ids, Answers]:
        """A batch to train on, all of one difficulty."""
        difficulty = self.trained[int(torch.randint(len(self.trained), (), generator=random))]
        return self.draw(random, size, *difficulty)


# ---------------------------------------------------------------------------------------------------------------------
# recall, and recall with overwriting


def draw_recall(random: Generator, batch: int, keys: int, times: int, slots: int) -> tuple[Ids, Answers]:
    """`keys` keys, each told `times` times in an order drawn at random; then `slots` questions.

    The first `slots` tokens tell: what they do not need for the pairs is blank, at random places. Each of the last
    `slots` tokens names a key that was told, and is to be answered with its newest value.
    """
    names = torch.rand(batch, KEYS, generator=random).argsort(dim=1)[:, :keys]  # (batch, keys), no key twice
    told = torch.rand(batch, keys * times, generator=random).argsort(dim=1) % keys  # (batch, pairs): whose turn it is
    values = torch.randint(VALUES, told.shape, generator=random)  # (batch, pairs)
    places = torch.rand(batch, slots, generator=random).argsort(dim=1)[:, : keys * times].sort(dim=1).values
    newest = torch.zeros(batch, keys, dtype=torch.long)
    for whose, value in zip(told.T, values.T):  # (batch,) each, in the order of telling
        newest[torch.arange(batch), whose] = value
    question = torch.randint(keys, (batch, slots), generator=random)  # (batch, slots)

    key_part = torch.full((batch, 2 * slots), BLANK_KEY)
    value_part = torch.full((batch, 2 * slots), BLANK_VALUE)
    key_part.scatter_(1, places, 1 + names.gather(1, told))
    value_part.scatter_(1, places, BLANK_VALUE + 1 + values)
    key_part[:, slots:], value_part[:, slots:] = 1 + names.gather(1, question), ASKED
    answers = torch.full((batch, 2 * slots), SILENT)
    answers[:, slots:] = newest.gather(1, question)
    return torch.stack([key_part, value_part], dim=2), answers


def any_told_value(keys: int) -> float:
    """How often one of the values told, drawn at random, is the right one.

    Where keys are told again, as often is the value told last of all: it is the newest of its own key, and questions
    ask for each key alike.
    """
    return 1 / keys + (1 - 1 / keys) / VALUES


def any_of_the_keys_values(times: int) -> float:
    """How often one of a key's own values, drawn at random, is its newest."""
    return 1 / times + (1 - 1 / times) / VALUES


# ---------------------------------------------------------------------------------------------------------------------
# a ball under swapped cups

NOTHING = len(PAIRS)  # the token at which no cup moves; then come the tokens that put the ball under a cup


def swaps_of(cups: int) -> Tensor:
    """The tokens that may come when there are this many cups: all swaps of two of them, and nothing. (tokens,)"""
    return torch.tensor([n for n, pair in enumerate(PAIRS) if max(pair) < cups] + [NOTHING])


def moves() -> Tensor:
    """Where a token takes the ball from each cup: (tokens, cups)."""
    table = torch.arange(CUPS).repeat(len(PAIRS) + 1, 1)  # (tokens, cups)
    for token, (i, j) in enumerate(PAIRS):
        table[token, [i, j]] = torch.tensor([j, i])
    return table


def draw_cups(random: Generator, batch: int, cups: int, length: int) -> tuple[Ids, Answers]:
    """The ball is put under one of `cups` cups, then `length` tokens follow. At each, the answer is the ball's cup."""
    ball = torch.randint(cups, (batch,), generator=random)  # (batch,)
    choices = swaps_of(cups)
    tokens = choices[torch.randint(len(choices), (batch, length), generator=random)]  # (batch, length)
    table, seen = moves(), [ball]
    for token in tokens.T:
        seen.append(table[token, seen[-1]])
    ids = torch.cat([NOTHING + 1 + ball[:, None], tokens], dim=1)  # (batch, 1 + length)
    return ids[:, :, None], torch.stack(seen, dim=1)


def start_cup_share(cups: int, first: int, last: int) -> float:
    """How often the ball is where it started, on average over the first to the last token of a span.

    Of the tokens, cups - 1 move the ball. Each token brings its distribution nearer to uniform by one factor.
    """
    factor = 1 - cups / len(swaps_of(cups))
    return sum(1 / cups + (1 - 1 / cups) * factor**t for t in range(first, last + 1)) / (last + 1 - first)


# ---------------------------------------------------------------------------------------------------------------------
# the three, with their difficulties

LENGTH = 31  # tokens after the one that places the ball, in training
TASKS = {
    task.name: task
    for task in (
        Task(
            "recall",
            draw_recall,
            trained=[(keys, 1, 16) for keys in (2, 4, 8, 16)],
            asked=[(keys, 1, max(16, keys)) for keys in (2, 4, 8, 16, 24, 32)],
            vocabulary=KEYS + VALUES + 3,
            answers=VALUES,
        ),
        Task(
            "overwriting",
            draw_recall,
            trained=[(4, 1, 16), (4, 2, 16), (4, 4, 16), (8, 1, 16), (8, 2, 16)],
            asked=[(4, times, max(16, 4 * times)) for times in (1, 2, 3, 4, 6, 8)],
            vocabulary=KEYS + VALUES + 3,
            answers=VALUES,
        ),
        Task(
            "cups",
            draw_cups,
            trained=[(cups, LENGTH) for cups in (2, 3, 4, 5)],
            asked=[(cups, 127) for cups in (2, 3, 4, 5)],
            vocabulary=len(PAIRS) + 1 + CUPS,
            answers=CUPS,
        ),
    )
}
