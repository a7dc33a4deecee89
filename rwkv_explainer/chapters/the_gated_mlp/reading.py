"""What chapter "The gated MLP" hears while a model reads: its latents, its gates, and what silencing a latent does."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn, sigmoid

from rwkv_explainer.model import RWKVLM

__all__ = ["TEXT", "Reading", "find_selective", "read_favored", "read_text", "share_named", "silence_each"]

TEXT = (
    "In physics, energy is the capacity to do work. The kinetic energy of a moving body depends on its mass and on the "
    "square of its velocity. When the body falls, its potential energy turns into kinetic energy, and the total energy "
    "stays the same. In biology, the cell is the smallest unit of life. A membrane surrounds every cell and controls "
    "which molecules can pass. In the nucleus, the DNA holds the instructions for making proteins, and the ribosomes "
    "read these instructions and build each protein from amino acids. In economics, the price of a good depends on "
    "supply and on demand. When the price rises, buyers want less of the good, and sellers offer more of it. A tax on "
    "the good moves the price, and it changes how much is sold. The Eiffel Tower is located in the city of Paris. The "
    "capital of Japan is Tokyo."
)
PLACES = 5  # of a latent that are looked at: where it is most active


@dataclass(frozen=True)
class Reading:
    """What was heard at each token of a text."""

    ids: list[int]
    latents: Float[Tensor, "layers time hidden"]  # after the nonlinearity
    gates: Float[Tensor, "layers time channels"]
    probabilities: Float[Tensor, "time vocabulary"]  # of the next token

    def top_places(self, layer: int) -> Int[Tensor, "places hidden"]:
        """Where each latent of a layer is most active, the strongest place first."""
        return self.latents[layer].topk(min(PLACES, len(self.ids)), dim=0).indices


def read_text(model: RWKVLM, ids: Sequence[int]) -> Reading:
    """Read a text from its beginning, listening to every gated MLP."""
    mlps = [block.gated_mlp for block in model.blocks]
    latents, receptances = [], []
    hooks = [mlp.nonlinearity.register_forward_hook(lambda m, i, output: latents.append(output)) for mlp in mlps]
    hooks += [mlp.receptance.register_forward_hook(lambda m, i, output: receptances.append(output)) for mlp in mlps]
    model.clear_buffers()
    probabilities = torch.stack([model(token_id) for token_id in ids])  # (time, vocabulary)
    for hook in hooks:
        hook.remove()
    model.clear_buffers()
    shape = (len(ids), len(mlps))  # noted token by token, and in each from layer to layer
    return Reading(
        list(ids),
        torch.stack(latents).unflatten(0, shape).transpose(0, 1),
        sigmoid(torch.stack(receptances)).unflatten(0, shape).transpose(0, 1),
        probabilities,
    )


def find_selective(reading: Reading, layer: int, count: int = 1) -> list[int]:
    """The latents of a layer whose activation lies most in their five strongest places, by the chapter's rule.

    The places hold three different tokens or more, and even the fifth is stronger than nine in ten of the layer's
    activations that are not zero.
    """
    active = reading.latents[layer]  # (time, hidden)
    places = reading.top_places(layer)  # (places, hidden)
    strongest = active.gather(0, places)  # (places, hidden)
    share = strongest.sum(dim=0) / active.sum(dim=0).clamp(min=1e-9)  # (hidden,)
    found = torch.tensor(reading.ids)[places].sort(dim=0).values  # (places, hidden)
    varied = 1 + (found.diff(dim=0) != 0).sum(dim=0) >= 3
    awake = active[active > 0]
    strong = strongest[-1] > (awake.quantile(0.9) if len(awake) else 0.0)
    return (share * varied * strong).topk(count).indices.tolist()


def read_favored(model: RWKVLM, reading: Reading, layer: int, count: int = 6) -> Int[Tensor, "hidden count"]:
    """The tokens that each latent's value favors, through the gates as they stand where the latent is most active."""
    values = model.blocks[layer].gated_mlp.value.weight.T  # (hidden, channels)
    let_in = values * reading.gates[layer][reading.top_places(layer)[0]]  # (hidden, channels)
    # The unembedding's LayerNorm has a bias, which favors some tokens whatever comes in. It is what the unembedding
    # says of zeros; without it, what is left is the value's doing.
    bias = model.unembedding.logits(torch.zeros_like(let_in[0]))  # (vocabulary,)
    return (model.unembedding.logits(let_in) - bias).topk(count).indices


def share_named(reading: Reading, layer: int, favored: Int[Tensor, "hidden count"]) -> float:
    """How often the token that came next, at a latent's strongest places, is one of those that it favors."""
    places = reading.top_places(layer)  # (places, hidden)
    following = torch.tensor([*reading.ids[1:], -1])[places]  # (places, hidden)
    counts: Bool[Tensor, "places hidden"] = reading.latents[layer].gather(0, places) > 0
    counts = counts & (following >= 0)
    named = (following[..., None] == favored).any(dim=-1) & counts
    return (named.sum() / counts.sum().clamp(min=1)).item()


def silence_each(
    model: RWKVLM, ids: Sequence[int], layer: int, latents: Sequence[int]
) -> Float[Tensor, "latents vocabulary"]:
    """What follows a text when one of these latents is silent at its last token: a row for each of them."""
    model.clear_buffers()
    if len(ids) > 1:
        model.read(list(ids[:-1]), last_only=True)
    before = model.snapshot()  # all that the model remembers before it reads the last token
    rows = range(len(latents))

    def silence_one_per_row(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output[rows, latents] = 0.0

    model.restore({key: memory.expand(len(latents), -1) for key, memory in before.items()})
    hook = model.blocks[layer].gated_mlp.nonlinearity.register_forward_hook(silence_one_per_row)
    probabilities = model(torch.full((len(latents),), ids[-1]))  # (latents, vocabulary)
    hook.remove()
    model.clear_buffers()
    return probabilities
