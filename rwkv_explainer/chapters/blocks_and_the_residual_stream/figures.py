"""Figures of chapter "Blocks and the residual stream"."""

from collections.abc import Sequence
from html import escape

import torch
from IPython.display import HTML
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.chapters.blocks_and_the_residual_stream.reading import Damage, read_layers
from rwkv_explainer.drawing.anatomy import STYLE
from rwkv_explainer.drawing.anatomy_panels import arrow, box, circle, label, line, operation, path
from rwkv_explainer.drawing.live import Live, live_bars, live_heatmap, live_lines
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.tokens import token_name

__all__ = ["draw_streams", "live_cuts", "live_guesses", "live_left", "live_shares", "live_sizes"]

TOLD = 5  # of the likeliest tokens, in the map of guesses


# ---------------------------------------------------------------------------------------------------------------------
# what the model would say early


def live_guesses(model: RWKVLM, tokenizer: Tokenizer, text: str) -> Live:
    """A map of first guesses: the tokens of a text across, layers upwards; shaded by what the token to come is given.

    After the last token comes what the whole model says.

    Args:
        model: reads the text from its beginning.
        tokenizer: its own.
        text: with at least one token.
    """
    ids = tokenizer.encode(text).ids
    early = model.unembedding(read_layers(model, ids))  # (layers + 1, time, vocab_size)
    answer = int(early[-1, -1].argmax())
    upcoming = torch.tensor([*ids[1:], answer])
    given = early[:, torch.arange(len(ids)), upcoming]  # (layers + 1, time)
    best = early.topk(TOLD, dim=-1)
    names = {i: token_name(i, tokenizer) for i in {*best.indices.flatten().tolist(), *ids, answer}}
    rows = range(len(early) - 1, -1, -1)
    texts = [[names[i] for i in best.indices[layer, :, 0].tolist()] for layer in rows]
    first = best.indices[:, -1, 0].tolist()
    return live_heatmap(
        given.flip(0),
        [str(layer) for layer in rows],
        [names[i] for i in ids],
        label="first guesses after each token, layers upwards (0: none); shade: the probability of what does come next",
        limits=(0, 1),
        texts=texts,
        told=[
            [tell(best.indices[layer, n].tolist(), best.values[layer, n].tolist(), names) for n in range(len(ids))]
            for layer in rows
        ],
        caption=f"After the last token, the first guesses from the bottom up: {in_turn([names[i] for i in first])}. In "
        f"the end {names[answer]} has {given[-1, -1]:.2%}.",
        alt=f"A map of {len(early)} layers by {len(ids)} tokens, a first guess in each cell. In the last column, from "
        f"the bottom up: {in_turn([names[i] for i in first])}.",
    )


def tell(ids: Sequence[int], probabilities: Sequence[float], names: dict[int, str]) -> str:
    """The likeliest tokens with their probabilities."""
    return ", ".join(f"{names[i]} {p:.0%}" for i, p in zip(ids, probabilities))


def in_turn(names: Sequence[str]) -> str:
    """Names, one after the other, those that are repeated once."""
    kept = [name for n, name in enumerate(names) if n == 0 or name != names[n - 1]]
    return ", ".join(kept)


# ---------------------------------------------------------------------------------------------------------------------
# the stream with its blocks


COLUMN, FIRST, RISE = 118, 20, 116  # from stream to stream, the first one's place, and from block to block
PART = 68, 27  # the size of attention and of gated MLP


def draw_streams(tokens: Sequence[str], said: str, layers: int) -> HTML:
    """Three tokens side by side, each with its stream and the blocks along it, upwards; memory leads to the right.

    Args:
        tokens: the first three of a text.
        said: what the model says after the third.
        layers: how many blocks the model has.
    """
    names = ["1", "2", str(layers)][: max(layers, 1)]
    height = 96 + RISE * len(names) + 44
    bottom = height - 64  # where the streams begin
    shapes = []
    for n, token in enumerate(tokens[:3]):
        x = FIRST + n * COLUMN
        shapes.append(path(f"M{x - 5},{bottom} V46 h10 V{bottom} Z", "river"))
        shapes.append(box(x - 14, bottom, 100, 24) + label(x + 36, bottom + 16, "embedding", "name"))
        shapes.append(arrow((x, bottom + 42), (x, bottom + 26)) + label(x + 36, bottom + 45, token, "bold"))
        shapes.append(box(x - 14, 24, 100, 22) + label(x + 36, 39, "unembedding", "name"))
        if n == 2:
            shapes.append(arrow((x, 24), (x, 8)) + label(x + 36, 15, said, "bold"))
        for row, name in enumerate(names):
            shapes.append(draw_block(x, bottom - RISE * row, name if n == 0 else "", last=n == 2))
    if layers > 3:  # blocks that are left out
        y = bottom - RISE * (len(names) - 1) + 1
        shapes += [circle(FIRST + n * COLUMN, y + dy, 1.6, "pip") for n in range(3) for dy in (-6, 0, 6)]
    alt = (
        f"Three tokens, {', '.join(tokens[:3])}, side by side. Above each, a stream rises from the embedding to the "
        "unembedding. Along it stand the blocks, each with attention and gated MLP, which read the stream on thin "
        "lines and add to it at plus signs. In each block, both hand something on to the next token."
    )
    caption = (
        "The wide grey bands are the residual streams, one a token: nothing stands on them but plus signs. Of "
        f"{layers} blocks {len(names)} are drawn. Each part reads a normalized copy (ln) and adds its update. Time "
        "goes to the right: the orange arrows, from attention to attention and from MLP to MLP, are all that a "
        "token hands on."
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 {height}" role="img">'
        f"<title>{escape(alt)}</title>"
        f"{''.join(shapes)}</svg>"
    )
    style = "max-width:34rem;margin:0 auto"
    return HTML(
        f'{STYLE}<figure class="rwkv-anatomy"><div style="{style}">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def draw_block(x: int, bottom: int, name: str, last: bool) -> str:
    """One block along the stream at x: attention below, gated MLP above, and what they hand on to the right."""
    width, high = PART
    shapes = [box(x - 12, bottom - RISE + 9, 104, RISE - 16, "frame", 7)]
    for y, part in ((bottom - 38, "attention"), (bottom - 83, "gated MLP")):
        left, under = x + 20, y + high / 2 + 4  # of the part
        shapes += [
            line((x, y + 9), (left, y + 9)) + circle(x + 12, y + 9, 6.5) + label(x + 12, y + 12.2, "ln", "small"),
            box(left, y - high / 2 + 4, width, high) + label(left + width / 2, y + 8, part, "name"),
            arrow((left, y - 4), (x + 9, y - 4)),
            operation(x, y - 4, "+"),
        ]
        if not last:
            start, end = left + 0.7 * width, left + COLUMN + 0.3 * width
            shapes.append(path(f"M{start:g},{under:g} v7 H{end:g} v-4", "remembered flow"))
            shapes.append(path(f"M{end:g},{under:g} l-3.5,6 h7 Z", "dot remembered"))
    if name:
        shapes.append(label(x + 88, bottom - RISE + 20, f"block {name}", "small end"))
    return "".join(shapes)


def live_sizes(entered: Float[Tensor, "sources time channels"]) -> Live:
    """How long the stream is after each layer, and how long the updates are that each layer adds: means over tokens.

    Args:
        entered: the embedding and all updates, of attention and gated MLP in turn.
    """
    stream = entered.cumsum(dim=0)[::2].norm(dim=-1).mean(dim=-1)  # (layers + 1,)
    updates = entered[1:].norm(dim=-1).mean(dim=-1)  # (2 * layers,)
    nothing = torch.full((1,), torch.nan, dtype=updates.dtype)
    more = int((updates[1::2] > updates[0::2]).sum())
    return live_lines(
        range(len(stream)),
        {
            "residual stream": stream,
            "attention's update": torch.cat([nothing, updates[0::2]]),
            "gated MLP's update": torch.cat([nothing, updates[1::2]]),
        },
        xlabel="after layer (0: the embedding)",
        ylabel="length of the vector",
        ylim=(0, 1.05 * stream.max().item()),
        names=[str(n) for n in range(len(stream))],
        digits=1,
        caption=f"The stream begins with a length of {stream[0]:.0f} and ends with {stream[-1]:.0f}. The gated MLP "
        f"adds a longer vector than attention in {more} of {len(stream) - 1} layers.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# blocks taken out


def live_left(found: Damage, shown: Sequence[int]) -> Live:
    """A map: for some prompts, how probable the answer still is with each block taken out.

    Args:
        found: what the damage did.
        shown: which of its prompts.
    """
    layers = found.left.shape[1] - 1
    kept = found.kept[:, 1:].double().mean()
    return live_heatmap(
        found.left[list(shown)],
        [found.prompts[n].subject for n in shown],
        ["none", *(str(n) for n in range(1, layers + 1))],
        label="the answer's probability in percent, by the block that was taken out",
        limits=(0, 1),
        caption=f"{len(shown)} of {len(found.prompts)} prompts. In all {len(found.prompts)} together, {kept:.0%} of "
        "the cuts leave the answer the first guess.",
    )


def live_shares(found: Damage, prompt: int, taken_out: int, answer: str) -> Live:
    """What each layer adds to the logit of the answer, in the whole model and with one layer taken out.

    Args:
        found: what the damage did.
        prompt: which of its prompts.
        taken_out: a layer from 1, or 0 for none.
        answer: its name.
    """
    whole, without = found.shares[prompt, 0], found.shares[prompt, taken_out]
    layers = len(whole) - 1
    series = {"whole model": whole}
    logit = (whole.sum() + found.bias[prompt]).item()
    caption = f"{answer}: the shares sum to a logit of {logit:.1f}, a probability of {found.left[prompt, 0]:.2%}."
    if taken_out:
        series[f"without layer {taken_out}"] = without.masked_fill(torch.arange(1 + layers) == taken_out, torch.nan)
        logit_without = (without.sum() + found.bias[prompt]).item()
        caption = (
            f"{answer}: without layer {taken_out} the shares sum to {logit_without:.1f}, where the whole model has "
            f"{logit:.1f}. The probability goes from {found.left[prompt, 0]:.2%} to "
            f"{found.left[prompt, taken_out]:.2%}."
        )
    return live_bars(
        series,
        ["embedding", *(f"layer {n}" for n in range(1, layers + 1))],
        limits=(min(0.0, found.shares.min().floor().item()), found.shares.max().ceil().item()),
        digits=1,
        caption=caption,
    )


def live_cuts(found: Damage) -> Live:
    """The answer's mean probability over all prompts, with each block taken out, and with the stream cut there."""
    layers = found.left_by_cut.shape[1]
    out, cut = found.left[:, 1:].mean(dim=0), found.left_by_cut.mean(dim=0)
    return live_bars(
        {"block taken out": out, "stream cut": cut},
        [f"layer {n}" for n in range(1, layers + 1)],
        limits=(0, 1),
        caption=f"Means over {len(found.prompts)} prompts. The answers keep {out.mean():.0%} of probability without a "
        f"block, and {cut.mean():.0%} where the stream is cut; at layer 1 the cut takes out the embedding and nothing "
        f"else, and leaves {cut[0]:.0%}.",
    )
