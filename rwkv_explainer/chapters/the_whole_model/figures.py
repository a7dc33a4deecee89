"""Figures of chapter "The whole model"."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import torch

from rwkv_explainer.drawing.figure import Plot
from rwkv_explainer.drawing.live import Live, live_bars, live_lines, side_by_side
from rwkv_explainer.generation import sample
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.tokens import END_OF_TEXT_ID

__all__ = ["CHANNELS", "DRAGONS", "LAYERS", "VOCABULARIES"]
__all__ += ["count_by_kind", "live_kept", "live_parameters", "side_by_side", "tell"]

DRAGONS = (  # the prompt that RWKV's makers try out their models with, typing error included
    "\nIn a shocking finding, scientist discovered a herd of dragons living in a remote, previously unexplored valley, "
    "in Tibet. Even more surprising to the researchers was the fact that the dragons spoke perfect Chinese."
)

# the sizes of `live_parameters`; the models of this book's chapters are among them
LAYERS = [1, 2, 4, 8, 12, 24, 32, 40]
CHANNELS = [64, 128, 256, 512, 768, 1024, 2048, 5120]
VOCABULARIES = [256, 8192, 50277]


# ---------------------------------------------------------------------------------------------------------------------
# what the model writes


@dataclass(frozen=True)
class Story(Plot):
    """A text that stands where a picture would, so that sliders can choose among several."""

    text: str = ""

    def pictures(self) -> str:
        return f'<p style="min-height:9em;margin:0">… {escape(self.text)} …</p>'


@torch.no_grad()
def tell(model: RWKVLM, beginning: str, temperatures: Sequence[float], draws: int = 12, N: int = 30) -> Callable:
    """Several continuations of one text at each temperature, all of them from one reading.

    Args:
        model: with a tokenizer, as `load_pretrained` returns it; its memory is cleared first.
        beginning: what is read.
        temperatures: for each of them, stories are drawn as a batch.
        draws: how many stories at each temperature.
        N: how many tokens each story has, unless the model ends it before.

    Returns:
        a function of `continuation`, from 1, and `temperature`, which returns that story as a figure for `slide`.
    """
    model.clear_buffers()
    expected = model.read(model.tokenizer.encode(beginning).ids, last_only=True)  # (vocab_size,)
    bookmark = {name: buffer.expand(draws, -1) for name, buffer in model.snapshot().items()}  # each (draws, channels)
    random = torch.Generator().manual_seed(0)
    stories = {}
    for temperature in temperatures:
        model.restore(bookmark)
        p, steps = expected.expand(draws, -1), []  # (draws, vocab_size)
        for _ in range(N):
            steps.append(sample(p, temperature=temperature, top_p=0.9, generator=random))  # (draws,)
            p = model(steps[-1])  # (draws, vocab_size)
        texts = torch.stack(steps, dim=1).tolist()  # draws lists of N ids
        stories[temperature] = [model.tokenizer.decode(until_end(ids)).strip() for ids in texts]

    def story(continuation: int = 1, temperature: float = temperatures[len(temperatures) // 2]) -> Story:
        told = stories[temperature]
        again = sum("dragon" in text for text in told)
        caption = (
            f"Continuation {continuation} of {draws} at temperature {temperature:g}. Dragons are mentioned again in "
            f"{again} of these {draws}."
        )
        text = told[continuation - 1]
        return Story(f"The model goes on: {text}", b"", b"", caption=caption, text=text)

    return story


def until_end(ids: list[int]) -> list[int]:
    """The ids before the first end of a text."""
    return ids[: ids.index(END_OF_TEXT_ID)] if END_OF_TEXT_ID in ids else ids


# ---------------------------------------------------------------------------------------------------------------------
# what it is made of


def count_by_kind(layers: int, channels: int, vocabulary: int) -> dict[str, int]:
    """How many parameters each kind of piece has in a model of these sizes, whose MLP is four times as wide inside.

    Each half of a block counts with the LayerNorm before it, and each table with the LayerNorm beside it.
    """
    table, norm = vocabulary * channels, 2 * channels
    return {
        "embedding": table + norm,
        "attention": layers * (4 * channels**2 + 5 * channels + norm),  # four matrices; three mixers, decay and gain
        "gated MLP": layers * (9 * channels**2 + 2 * channels + norm),  # 4 + 4 + 1 squares; two mixers
        "unembedding": table + norm,
    }


def live_parameters(layers: int = 8, channels: int = 256, vocabulary: int = 8192) -> Live:
    """Where a model of these sizes keeps its parameters: the share of each kind of piece."""
    counts = count_by_kind(layers, channels, vocabulary)
    total = sum(counts.values())
    most = max(counts, key=counts.get)
    tables = (counts["embedding"] + counts["unembedding"]) / total
    of_memory = 2 * layers * channels / total
    return live_bars(
        {"": [count / total for count in counts.values()]},
        list(counts),
        limits=(0, 0.7),
        caption=f"{written(total)} parameters. The {most} has the most; the two tables hold {tables:.0%} of all, the "
        f"memories' decays and gains {of_memory:.3%}.",
    )


def written(count: int) -> str:
    """A large count in words."""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.1f} {word}"
    return f"{count:,}"


def live_kept(lengths: Sequence[int], kept: Sequence[int], cached: Sequence[int]) -> Live:
    """How many numbers are remembered after texts of several lengths, in RWKV-4 and in a Transformer of its size."""
    return live_lines(
        lengths,
        {"RWKV-4, counted": kept, "a Transformer's cache": cached},
        xlabel="tokens read",
        ylabel="numbers kept",
        xlog=True,
        ylog=True,
        digits=0,
        caption=f"After {lengths[-1]:,} tokens RWKV-4 keeps {kept[-1]:,} numbers, as after the first. A Transformer "
        f"keeps {cached[-1]:,}, {cached[-1] / kept[-1]:.0f} times as many.",
    )
