"""Figures of chapter "The zero-layer model"."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import torch
from jaxtyping import Float
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.drawing.figure import Plot, draw
from rwkv_explainer.drawing.live import Live, live_bars, live_heatmap, live_lines
from rwkv_explainer.drawing.palette import Theme
from rwkv_explainer.drawing.sliders import Moving, Sliders, slide
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.tokens import END_OF_TEXT_ID, token_name

__all__ = ["live_temperatures", "live_transitions", "plot_ring", "touch_association"]

WORDS = ("Eiffel", "because", "United", "music", "king", "science", "Los", "water")
PLAYERS = 8
GUESSES = 4  # of each model, in the game's bars


# ---------------------------------------------------------------------------------------------------------------------
# the game of free association


@dataclass(frozen=True)
class Turn:
    """One player's turn: all words so far, and what may come next for one who heard the last and one who heard all."""

    said: tuple[int, ...]
    last_heard: Float[Tensor, " vocab_size"]
    all_heard: Float[Tensor, " vocab_size"]


def touch_association(model: RWKVLM, tokenizer: Tokenizer) -> Moving | Sliders:
    """Play free association: choose the first word and the player.

    Each player is the zero-layer model, who has heard the last word alone. The whole model has heard all of them.
    """
    games = {word: play(model, tokenizer.encode(f" {word}").ids) for word in WORDS}

    def turn(first_word: str = WORDS[0], player: int = 1) -> Live:
        return live_turn(games[first_word][player - 1], tokenizer, player)

    return slide(turn, first_word=list(WORDS), player=(1, PLAYERS))


@torch.no_grad()
def play(model: RWKVLM, first_word: Sequence[int]) -> list[Turn]:
    """All turns of a game. Each player says the follower that is likeliest for one who has heard the last word."""
    model.clear_buffers()
    for token_id in (END_OF_TEXT_ID, *first_word[:-1]):
        model(token_id)
    said, turns = tuple(first_word), []
    for _ in range(PLAYERS):
        last_heard = model.unembedding(model.embedding(said[-1]))  # (vocab_size)
        turns.append(Turn(said, last_heard, model(said[-1])))
        said = (*said, int(last_heard.argmax()))
    model.clear_buffers()
    return turns


def live_turn(turn: Turn, tokenizer: Tokenizer, player: int) -> Live:
    """The likeliest answers of a player, and of the whole model in the same place."""
    answers = {"has heard the last word": turn.last_heard, "has heard every word": turn.all_heard}
    likeliest = [each.topk(GUESSES).indices.tolist() for each in answers.values()]
    shown = list(dict.fromkeys(sum(likeliest, [])))
    names = [token_name(token_id, tokenizer) for token_id in shown]
    said = " | ".join(token_name(token_id, tokenizer) for token_id in turn.said)
    (own, p), (other, q) = (
        (token_name(ids[0], tokenizer), each[ids[0]].item()) for ids, each in zip(likeliest, answers.values())
    )
    heard = f"only {token_name(turn.said[-1], tokenizer)}" if player > 1 else "the first word"
    return live_bars(
        {title: each[shown] for title, each in answers.items()},
        names,
        limits=(0, 1),
        caption=f"So far: {said}. Player {player} has heard {heard} and says {own} ({p:.0%}). The whole model has "
        f"heard everything and would say {other} ({q:.0%}).",
    )


# ---------------------------------------------------------------------------------------------------------------------
# the chain


def live_transitions(
    probabilities: Float[Tensor, "tokens vocab_size"], tokens: Sequence[str], name: Callable[[int], str], count: int = 9
) -> Live:
    """A piece of a Markov chain's table: a row for each token, a column for each of the likeliest followers.

    Columns stand in the order of the rows that they are likeliest in, so that rows with the same followers form a
    block. Cells below one percent are empty.

    Args:
        probabilities: of every follower right after each token.
        tokens: the tokens that came.
        name: of a follower, by its id.
        count: of columns.
    """
    followers = probabilities.amax(dim=0).topk(count).indices.tolist()
    followers.sort(
        key=lambda follower: (int(probabilities[:, follower].argmax()), -probabilities[:, follower].max().item())
    )
    cells = probabilities[:, followers]  # (tokens, count)
    names = [name(follower) for follower in followers]
    first = [name(int(row.argmax())) for row in probabilities]
    shared = [f"{token.strip()} → {follower}" for token, follower in zip(tokens, first)]
    return live_heatmap(
        cells.masked_fill(cells < 0.01, torch.nan),
        tokens,
        names,
        label="how probable each follower is, in percent: the token that is there down, its follower across",
        caption=f"The largest number of each row says where the chain goes next: {', '.join(shared)}.",
        limits=(0, 1),
    )


def plot_ring(ring: Sequence[int], walks: Sequence[Sequence[int]], name: Callable[[int], str]) -> Plot:
    """A loop of a greedy chain as a ring, and walks that flow into it as rivers do.

    Args:
        ring: the tokens of the loop in their order.
        walks: from a start to the first token of the ring, that one included. At least one.
        name: of a token, by its id.
    """
    places = river_places(ring, walks)
    longest = max(hops for _, hops in places.values()) or 1
    entries = [walk[-1] for walk in walks]
    mouth = max(ring, key=entries.count)
    reach = 0.6 if len(ring) > 30 else 1.0  # from the ring, of radius 1, to the farthest source

    def river(one: int, other: int) -> list[tuple[float, float]]:
        """The way of one hop, around the ring and towards it, never across it."""
        (start, far), (end, near) = places[one], places[other]
        pieces = 1 + int(abs(end - start) / 0.05)
        way = [n / pieces for n in range(pieces + 1)]
        points = [(start + (end - start) * part, 1 + reach * (far + (near - far) * part) / longest) for part in way]
        return [(radius * sin(angle), radius * cos(angle)) for angle, radius in points]  # clockwise from the top

    steps = {(one, other) for walk in walks for one, other in zip(walk, walk[1:])}

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        edge = 1.03 + reach
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
        axes.axis("off")
        rivers = [river(one, other) for one, other in sorted(steps)]
        axes.add_collection(LineCollection(rivers, colors=theme.hues[0], linewidths=0.7, alpha=0.7))
        axes.add_collection(
            LineCollection(
                [arc(places, *pair) for pair in zip(ring, [*ring[1:], ring[0]])], colors=theme.hues[1], linewidths=2.5
            )
        )
        room = 9.8 / (72 * min(figure.get_size_inches()) / (2 * edge))  # the angle that a line of text takes
        last = -room
        for token in ring:
            angle = places[token][0]
            if angle - last >= room and 2 * pi - angle >= room / 2:
                last = angle
                left = angle > pi
                x, y = 0.96 * sin(angle), 0.96 * cos(angle)
                axes.text(
                    x,
                    y,
                    name(token),
                    fontsize=7.5,
                    rotation=90 - angle * 180 / pi + 180 * left,
                    rotation_mode="anchor",
                    ha="left" if left else "right",
                    va="center",
                )
        axes.text(0, 0, f"{len(ring)}\ntoken{'s' * (len(ring) > 1)}", ha="center", va="center")

    hops = sorted(len(walk) - 1 for walk in walks)
    return draw(
        paint,
        f"A ring of {len(ring)} tokens, named where there is room, and lines that flow into it from outside, "
        f"{len(walks)} walks in all, many of them joined long before they reach the ring.",
        size=(6.4, 6.4),
        caption=f"{len(walks)} walks from random tokens, each from the outer end of a line to the ring: half of them "
        f"need at most {hops[len(hops) // 2]} hops, the longest {hops[-1]}. More of them enter at {name(mouth)} than "
        f"anywhere else, {entries.count(mouth)}. The chain goes round clockwise; tokens are named where there is room.",
    )


def river_places(ring: Sequence[int], walks: Sequence[Sequence[int]]) -> dict[int, tuple[float, int]]:
    """For each token its angle, clockwise from the top, and its number of hops to the ring.

    A token of the ring gets one share of the circle for itself and one for what flows into it; tokens before it divide
    its part of the circle by the number of sources behind each.
    """
    before: dict[int, list[int]] = {}
    for one, other in sorted({step for walk in walks for step in zip(walk, walk[1:])}):
        before.setdefault(other, []).append(one)
    order, sources = list(ring), {}
    for token in order:  # grows while it is read: tokens nearer to the ring come first
        order.extend(before.get(token, []))
    for token in reversed(order):
        sources[token] = sum(sources[one] for one in before.get(token, [])) or int(token not in ring)
    total = sum(sources[token] for token in ring) or 1
    places, begin = {}, 0.0
    stack = []
    for token in ring:
        width = pi / len(ring) + pi * sources[token] / total
        stack.append((token, begin, width, 0))
        begin += width
    while stack:
        token, begin, width, hops = stack.pop()
        places[token] = (begin + width / 2, hops)
        for one in before.get(token, []):
            part = width * sources[one] / sources[token]
            stack.append((one, begin, part, hops + 1))
            begin += part
    return places


def arc(places: dict[int, tuple[float, int]], one: int, other: int) -> list[tuple[float, float]]:
    """The piece of the ring from one of its tokens to the next, clockwise."""
    start, end = places[one][0], places[other][0]
    end += 2 * pi * (end <= start)
    pieces = 1 + int((end - start) / 0.05)
    angles = [start + (end - start) * n / pieces for n in range(pieces + 1)]
    return [(sin(angle), cos(angle)) for angle in angles]


# ---------------------------------------------------------------------------------------------------------------------
# the loss


def live_temperatures(temperatures: Sequence[float], losses: dict[str, Sequence[float]], blind: float) -> Live:
    """The loss of several models when their logits are divided by a temperature, beside that of blind guessing.

    Args:
        temperatures: rising, above 0.
        losses: for each model its loss at each temperature.
        blind: the loss of giving every token the same probability.
    """
    found = []
    for title, values in losses.items():
        best = min(range(len(values)), key=lambda n: values[n])
        found.append(f"{title} {temperatures[best]:.2g}, with a loss of {values[best]:.2f}")
    return live_lines(
        temperatures,
        {**losses, "guessing blindly": [blind] * len(temperatures)},
        xlabel="temperature",
        ylabel="loss per token",
        xlog=True,
        caption=f"Best temperatures: {'; '.join(found)}. Guessing blindly costs {blind:.2f} at any temperature. "
        "No first guess changes anywhere along these lines.",
    )
