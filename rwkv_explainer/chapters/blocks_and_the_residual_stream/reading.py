"""What chapter "Blocks and the residual stream" reads from a model: its stream, layer by layer, whole and damaged."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.lab.atlas import find
from rwkv_explainer.model import RWKVLM

__all__ = ["ASKED", "TEXTS", "Damage", "Prompt", "bias_of", "damage", "known_prompts", "logit_shares"]
__all__ += ["place_tokens", "read_layers", "spread_of"]

TEXTS = (  # of the map on the first screen
    "The Eiffel Tower is located in the city of",
    "The Colosseum is located in the city of",
    "The symbol of the element gold is",
    "Io is a moon of the planet",
    "Drosophila melanogaster is the name of a",
    "The days are Monday, Tuesday, Wednesday,",
    "The cell membrane separates the inside of the",
)
ASKED = {  # relations of the atlas, and for each a sentence that ends before the object
    "landmark-city": "{} is located in the city of",
    "element-symbol": "The symbol of the element {} is",
    "moon-planet": "{} is a moon of the planet",
    "genus-species": "{}",
}
PLACES = "landmark-city", "landmark-country", "capital-country", "country-continent", "moon-planet"


@dataclass(frozen=True)
class Prompt:
    """A beginning of a sentence whose end the model knows."""

    relation: str  # of the atlas
    subject: str
    text: str
    ids: tuple[int, ...]
    answer: int  # the first token of the right end


def read_layers(
    model: RWKVLM, ids: Sequence[int] | Int[Tensor, "time *batch"]
) -> Float[Tensor, "layers_and_one time *batch channels"]:
    """The stream before the first block and after each, at every token of a text. Nothing is remembered from before.

    Args:
        ids: a token for each step, or for each step a batch of them.
    """
    model.clear_buffers()
    by_token = []
    for token_id in ids:
        stream = [model.embedding(token_id)]  # (*batch, channels)
        for block in model.blocks:
            stream.append(block(stream[-1]))
        by_token.append(torch.stack(stream))
    return torch.stack(by_token, dim=1)


def known_prompts(model: RWKVLM, tokenizer: Tokenizer, count: int = 8, sure: float = 0.5) -> list[Prompt]:
    """Of the first facts of each relation in `ASKED`, those that the model knows and is sure of; all, if it knows none.

    Args:
        count: how many facts of each relation are asked, in the atlas's order.
        sure: the probability above which the right answer has to be.
    """
    asked = []
    for relation, phrasing in ASKED.items():
        for fact in find(relation).facts[:count]:
            text = phrasing.format(fact.subject)
            answer = tokenizer.encode(" " + fact.object).ids[0]
            ids = tuple(tokenizer.encode(text).ids)
            asked.append(Prompt(relation, fact.subject.removeprefix("The "), text, ids, answer))
    knows = set()
    for group in same_length(asked):
        p = model.unembedding(read_layers(model, steps(group))[-1, -1])  # (prompts, vocab_size)
        knows |= {prompt for prompt, row in zip(group, p) if row[prompt.answer] > sure}
    return [prompt for prompt in asked if prompt in knows] or asked


def same_length(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """The prompts in groups that can be read as a batch."""
    groups = defaultdict(list)
    for prompt in prompts:
        groups[len(prompt.ids)].append(prompt)
    return list(groups.values())


def steps(group: Sequence[Prompt]) -> Tensor:
    """The tokens of prompts of one length, (time, prompts)."""
    return torch.tensor([prompt.ids for prompt in group]).T


def place_tokens(tokenizer: Tokenizer) -> list[int]:
    """All places that the atlas names as the object of a fact, cities, countries, planets, if they are one token."""
    names = {fact.object for relation in PLACES for fact in find(relation).facts}
    return sorted(ids[0] for name in names if len(ids := tokenizer.encode(" " + name).ids) == 1)


# ---------------------------------------------------------------------------------------------------------------------
# who writes the answer


def logit_shares(
    model: RWKVLM,
    entered: Float[Tensor, "sources *batch channels"],
    tokens: Tensor,
    spread: Tensor | None = None,
) -> Float[Tensor, "sources *batch"]:
    """What each vector in the stream adds to a token's logit, which is measured from the mean of all tokens' logits.

    The shares sum to that logit, but for what the last LayerNorm's bias adds, which is the same whatever is read.

    Args:
        entered: the vectors whose sum leaves the last block.
        tokens: whose logit, (*batch,) or one for all.
        spread: what the last LayerNorm divides by, (*batch, 1) or one for several; None for that of the sum.
    """
    norm, table = model.unembedding.normalize_unemb, model.unembedding.unembedding.weight
    if spread is None:
        spread = spread_of(model, entered.sum(dim=0))
    centered = entered - entered.mean(dim=-1, keepdim=True)
    row = table[tokens] - table.mean(dim=0)  # (*batch, channels)
    return (norm.weight * centered / spread * row).sum(dim=-1)


def bias_of(model: RWKVLM, tokens: Tensor) -> Float[Tensor, " *batch"]:
    """What the last LayerNorm's bias adds to the logits of tokens, measured from the mean of all tokens' logits."""
    table = model.unembedding.unembedding.weight
    return (table[tokens] - table.mean(dim=0)) @ model.unembedding.normalize_unemb.bias


def spread_of(model: RWKVLM, stream: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch 1"]:
    """What the last LayerNorm divides a stream by."""
    return (stream.var(dim=-1, keepdim=True, correction=0) + model.unembedding.normalize_unemb.eps).sqrt()


@dataclass(frozen=True)
class Damage:
    """Prompts, read by the whole model, without each block, and with the stream cut at each.

    Of two axes of runs, run 0 is the whole model, and run n lacks block n, counted from 1.
    """

    prompts: tuple[Prompt, ...]
    left: Float[Tensor, "prompts runs"]  # the answer's probability
    kept: Bool[Tensor, "prompts runs"]  # whether the answer is the first guess
    shares: Float[Tensor, "prompts runs sources"]  # in the answer's logit, of the embedding and of each layer
    unscaled: Float[Tensor, "prompts runs sources"]  # the same, all divided by the spread that the whole model has
    bias: Float[Tensor, " prompts"]  # what the last LayerNorm's bias adds to that logit
    left_by_cut: Float[Tensor, "prompts layers"]  # the answer's probability with the stream cut at each block
    kept_by_cut: Bool[Tensor, "prompts layers"]
    spreads: Float[Tensor, "prompts runs"]  # what the last LayerNorm divides by
    spreads_as_before: Float[Tensor, "prompts layers"]  # the same without each layer, if all others wrote as before
    left_unseen: Float[Tensor, " prompts"]  # the answer's probability if the unembedding alone misses the embedding

    @property
    def own(self) -> Float[Tensor, "prompts layers"]:
        """What each layer adds to the logit in the whole model."""
        return self.shares[:, 0, 1:]

    @property
    def lost(self) -> Float[Tensor, "prompts layers"]:
        """By how much the logit is lower without each layer."""
        logits = self.shares.sum(dim=-1)  # (prompts, runs)
        return logits[:, :1] - logits[:, 1:]

    @property
    def changed(self) -> Float[Tensor, "prompts layers"]:
        """By how much more, without each layer, the layers above it add; the LayerNorm's spread is left as it was."""
        return (self.unscaled[:, 1:] - self.unscaled[:, :1]).sum(dim=-1) + self.own

    @property
    def rescaled(self) -> Float[Tensor, "prompts layers"]:
        """What, without each layer, the last LayerNorm adds by dividing by another spread."""
        return (self.shares - self.unscaled)[:, 1:].sum(dim=-1)


def damage(model: RWKVLM, prompts: Sequence[Prompt]) -> Damage:
    """Read each prompt with the whole model, without each of its blocks, and with its stream cut at each.

    All runs of all prompts of one length are read together, as a batch.
    """
    layers = len(model.blocks)
    found = {}
    for group in same_length(prompts):
        answers = torch.tensor([prompt.answer for prompt in group])  # (prompts,)
        entered, final = read_damaged(model, steps(group))  # (sources, runs, prompts, channels), without the sources
        p = model.unembedding(final)  # (runs, prompts, vocab_size)
        left = p[:, torch.arange(len(group)), answers]  # (runs, prompts)
        kept = p.argmax(dim=-1) == answers
        unseen = model.unembedding(final[0] - entered[0, 0])[torch.arange(len(group)), answers]  # (prompts,)
        parts = entered[:, : 1 + layers]  # without the runs whose stream is cut
        shares = by_layer(logit_shares(model, parts, answers))  # (1 + layers, runs, prompts)
        unscaled = by_layer(logit_shares(model, parts, answers, spread_of(model, final[:1])))
        bias = bias_of(model, answers)  # (prompts,)
        spreads = spread_of(model, final[: 1 + layers])[..., 0]  # (runs, prompts)
        less = entered[1::2, 0] + entered[2::2, 0]  # (layers, prompts, channels)
        as_before = spread_of(model, final[0] - less)[..., 0]  # (layers, prompts)
        for n, prompt in enumerate(group):
            whole = slice(0, 1 + layers)
            found[prompt] = (
                left[whole, n],
                kept[whole, n],
                shares[..., n].T,
                unscaled[..., n].T,
                bias[n],
                left[1 + layers :, n],
                kept[1 + layers :, n],
                spreads[:, n],
                as_before[:, n],
                unseen[n],
            )
    return Damage(tuple(prompts), *map(torch.stack, zip(*(found[prompt] for prompt in prompts))))


def by_layer(shares: Float[Tensor, "sources *rest"]) -> Float[Tensor, "embedding_and_layers *rest"]:
    """The shares of attention and of gated MLP together, one a layer, behind the embedding's."""
    return torch.cat([shares[:1], shares[1::2] + shares[2::2]])


def read_damaged(
    model: RWKVLM, ids: Tensor
) -> tuple[Float[Tensor, "sources runs prompts channels"], Float[Tensor, "runs prompts channels"]]:
    """A batch of texts in 1 + 2 * layers runs: the whole model, without each block, with the stream cut at each.

    Returns:
        at the last token, what entered the stream in each run: the embedding and all updates, zero where a block is
        out; and what leaves the last block.
    """
    layers = len(model.blocks)
    none, one = torch.ones(1, layers), 1 - torch.eye(layers)
    works = torch.cat([none, one, torch.ones(layers, layers)])[..., None, None]  # (runs, layers, 1, 1)
    flows = torch.cat([none, torch.ones(layers, layers), one])[..., None, None]
    model.clear_buffers()
    for token_ids in ids:
        x = model.embedding(token_ids).expand(len(works), -1, -1)  # (runs, prompts, channels)
        works, flows = works.to(x), flows.to(x)
        entered = [x]
        for n, block in enumerate(model.blocks):
            before = x
            for norm, part in ((block.ln1, block.attention), (block.ln2, block.gated_mlp)):
                update = works[:, n] * part(norm(x))
                entered.append(update)
                x = x + update
            x = x - (1 - flows[:, n]) * before
    return torch.stack(entered), x
