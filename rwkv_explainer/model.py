"""RWKV-4 in RNN mode: one token in, probabilities for the next token out.

The whole model, to be read from top to bottom; the chapters build it in the same order and prove that what they built
equals what stands here. The paper (Peng et al. 2023, https://arxiv.org/abs/2305.13048, section 3) has a formula for
each of its letters; each piece says which letters it is there. The names are those that deep learning uses elsewhere.

A module's *parameters* are what it has learned. Its *buffers* are what it remembers of the tokens seen so far.
One step takes tensors of shape (*batch, channels), so that a batch of runs can step together.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import no_type_check

import torch
from torch import Tensor, exp, nn, sigmoid

from rwkv_explainer.shapes import (
    Embedding,
    Latents,
    Logits,
    Memory,
    NextTokenProbabilities,
    OneHot,
    State,
    TokenId,
    Update,
)


@dataclass(frozen=True)
class RWKVConfig:
    """The four sizes that fix the shape of every tensor in the model."""

    vocabulary: int  # number of tokens
    channels: int  # width of an embedding
    layers: int  # number of blocks
    hidden: int  # width of the gated MLP's middle: 4 x channels in every published model


class Piece(nn.Module):
    """What all pieces of the model share: a memory that can be cleared, kept and put back, and weights to load."""

    def clear_buffers(self) -> None:
        """Forget everything: each state buffer becomes (channels,) zeros, or logarithms of 0, in the weights' dtype."""
        like = next(self.parameters(), torch.empty(0))
        for module in self.modules():
            for name, buffer in module._buffers.items():
                empty = getattr(module, "empty", {}).get(name, 0.0)
                module._buffers[name] = torch.full(buffer.shape[-1:], empty, dtype=like.dtype, device=like.device)

    def snapshot(self) -> State:
        """A copy of every state buffer, by name: what the model remembers at this moment."""
        return {name: buffer.clone() for name, buffer in self.state_buffers().items()}

    def restore(self, state: State) -> None:
        """Put a `snapshot` back. The snapshot itself stays untouched, so it can be restored again.

        Raises:
            ValueError: if `state` is not of this piece: it names the buffers that are missing or left over.
        """
        buffers = self.state_buffers()
        if state.keys() != buffers.keys():
            raise ValueError(
                f"this is another module's state: missing {sorted(buffers.keys() - state.keys())}, "
                f"left over {sorted(state.keys() - buffers.keys())}; give what snapshot() returned"
            )
        for name, value in state.items():
            if value.shape[-1:] != buffers[name].shape[-1:]:
                raise ValueError(
                    f"state[{name!r}]: expected {buffers[name].shape[-1]} channels on the last axis, "
                    f"got shape {tuple(value.shape)}"
                )
        for name, value in state.items():
            owner, _, buffer = name.rpartition(".")
            setattr(self.get_submodule(owner), buffer, value.clone())

    def state_buffers(self) -> State:
        """Every state buffer by name, not copied. Mixers that saw the same input may share one tensor."""
        return dict(self.named_buffers(remove_duplicate=False))

    @classmethod
    def from_config(cls, config: RWKVConfig) -> "Piece":
        """Build the piece with the sizes of `config`, its parameters not yet trained."""
        return cls(**{size: getattr(config, size) for size in inspect.signature(cls).parameters})

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], prefix: str = "") -> "Piece":
        """Build the piece with the sizes and the values found in a whole model's `weights`.

        Args:
            weights: every tensor of a model by its name here, as `checkpoints.read_weights` returns them.
            prefix: where the piece stands in the model, such as "blocks.0.attention"; the pieces of which a model has
                only one know their place.

        Raises:
            ValueError: if a tensor of the piece is missing or has another shape.
        """
        prefix = prefix or cls.place
        piece = cls.from_config(RWKVConfig(**sizes_of(weights)))
        whole = {name: f"{prefix}.{name}".lstrip(".") for name in piece.state_dict()}
        own = {name: weights.get(whole[name]) for name in whole}
        for name, expected in piece.state_dict().items():
            if own[name] is None or own[name].shape != expected.shape:
                got = "no such tensor" if own[name] is None else f"shape {tuple(own[name].shape)}"
                raise ValueError(
                    f"weights[{whole[name]!r}]: expected shape {tuple(expected.shape)}, got {got}; "
                    f"is {prefix!r} the place of a {cls.__name__}?"
                )
        piece.load_state_dict(own, assign=True)
        piece.clear_buffers()
        return piece

    place = ""


def sizes_of(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes of the model whose tensors these are, read off their shapes."""
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    table, middle = "embedding.embedding.weight", "blocks.0.gated_mlp.key.weight"
    for name in [table, middle] if blocks else [table]:
        if name not in weights or weights[name].dim() != 2:
            raise ValueError(
                f"weights[{name!r}]: expected a matrix, which says how large the model is, got "
                f"{'no such tensor' if name not in weights else tuple(weights[name].shape)}"
            )
    vocabulary, channels = weights[table].shape
    hidden = weights[middle].shape[0] if blocks else 4 * channels
    return {"vocabulary": vocabulary, "channels": channels, "layers": len(blocks), "hidden": hidden}


def check_same_batch(buffer: Tensor, x: Tensor, empty: float = 0.0) -> None:
    """Refuse to continue a memory with another batch shape; a memory that is all empty starts any batch."""
    if buffer.shape != x.shape and (buffer.dim() > 1 or (buffer != empty).any()):
        raise ValueError(
            f"the memory belongs to a run of shape {tuple(buffer.shape)}, but this step has shape "
            f"{tuple(x.shape)}; call clear_buffers() to start a new run"
        )


# ---------------------------------------------------------------------------------------------------------------------
# from tokens to vectors


class TokenEmbedding(Piece):
    """Turns a token into a vector: its row of the embedding table, normalized.

    Chapter "Embedding and unembedding". Forward: ids (*batch,) or one-hots (*batch, vocabulary) to (*batch, channels).
    """

    place = "embedding"

    def __init__(self, vocabulary: int, channels: int):
        super().__init__()
        self.vocabulary, self.channels = vocabulary, channels
        self.embedding = nn.Embedding(vocabulary, channels)
        self.normalize_emb = nn.LayerNorm(channels)

    def forward(self, token: TokenId | OneHot) -> Embedding:
        table = self.embedding.weight  # (vocabulary, channels)
        token = torch.as_tensor(token, device=table.device)
        if token.is_floating_point():  # a one-hot times the table picks the row at its 1,
            row = token.to(table.dtype) @ table  # (*batch, channels)
        else:  # so an id may as well look that row up
            row = self.embedding(token)  # (*batch, channels)
        return self.normalize_emb(row)  # (*batch, channels)


# ---------------------------------------------------------------------------------------------------------------------
# the gated MLP: computes, mostly on the current token


class Mixer(Piece):
    """Blends each channel of the current input with the same channel of the previous input ("token shift").

    Inside the paper's r, k, v, r' and k'; chapter "The gated MLP". Forward: (*batch, channels) to the same.
    Remembers the input itself in `last_x`.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.zeros(channels))
        self.register_buffer("last_x", torch.zeros(channels), persistent=False)

    def forward(self, x: Embedding) -> Embedding:
        check_same_batch(self.last_x, x)
        mixed = self.weight * x + (1 - self.weight) * self.last_x  # (*batch, channels)
        self.last_x: Memory = x
        return mixed


class SquaredReLU(nn.Module):
    """Zero for negative inputs, the square for positive ones: inside the paper's o'. Chapter "The gated MLP"."""

    def forward(self, x: Latents) -> Latents:
        return torch.relu(x) ** 2


class GatedMLP(Piece):
    """An MLP (matrix, nonlinearity, matrix) whose outputs pass through gates ("channel mixing").

    The paper's r', k' and o'; chapter "The gated MLP". Forward: (*batch, channels) to an update of that shape.
    """

    def __init__(self, channels: int, hidden: int | None = None):
        super().__init__()
        self.channels, self.hidden = channels, hidden or 4 * channels
        self.mlp_mixer, self.receptance_mixer = Mixer(channels), Mixer(channels)
        self.key = nn.Linear(channels, self.hidden, bias=False)
        self.nonlinearity = SquaredReLU()
        self.value = nn.Linear(self.hidden, channels, bias=False)
        self.receptance = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Embedding) -> Update:
        latents = self.nonlinearity(self.key(self.mlp_mixer(x)))  # (*batch, hidden)
        gates = sigmoid(self.receptance(self.receptance_mixer(x)))  # (*batch, channels), each between 0 and 1
        return gates * self.value(latents)  # (*batch, channels)


# ---------------------------------------------------------------------------------------------------------------------
# the attention block: remembers


class WKVMemory(Piece):
    """A running weighted average of values, in which the weight of the past decays, channel by channel.

    The paper's wkv, as the recurrence of its appendix; chapter "Attention and memory".
    Forward: keys and values (*batch, channels) to the average (*batch, channels).

    A value's weight is exp(key) when it is new, and is multiplied by exp(-exp(log_decay)) with every later token.
    `contents` sums weight x value, `normalizer` sums the weights. This is the plain form: exp(key) overflows float32
    for keys above 88.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.log_gain = nn.Parameter(torch.zeros(channels))  # how much more the current token counts
        self.log_decay = nn.Parameter(torch.zeros(channels))  # how fast the past fades: exp(log_decay) per token
        self.register_buffer("contents", torch.zeros(channels), persistent=False)
        self.register_buffer("normalizer", torch.zeros(channels), persistent=False)

    def forward(self, keys: Embedding, values: Embedding) -> Embedding:
        average = self.read(keys, values)  # (*batch, channels)
        self.write(keys, values)
        return average

    def read(self, keys: Embedding, values: Embedding) -> Embedding:
        """The average over everything remembered and the current token, which has not been written yet."""
        check_same_batch(self.contents, keys)
        weight = exp(self.log_gain + keys)  # (*batch, channels)
        return (self.contents + weight * values) / (self.normalizer + weight)  # (*batch, channels)

    def step(self) -> None:
        """One token goes by: every weight in memory fades."""
        keep = exp(-exp(self.log_decay))  # (channels,), each between 0 and 1
        self.contents: Memory = keep * self.contents
        self.normalizer: Memory = keep * self.normalizer

    def write(self, keys: Embedding, values: Embedding) -> None:
        """Let the past fade by one step, then add the current token to it."""
        check_same_batch(self.contents, keys)
        self.step()
        weight = exp(keys)  # (*batch, channels)
        self.contents: Memory = self.contents + weight * values
        self.normalizer: Memory = self.normalizer + weight


class StableWKVMemory(WKVMemory):
    """The same average, kept in numbers that do not overflow. Chapter "Numerical stability".

    Instead of `contents` and `normalizer` it remembers their ratio, the `average`, and the logarithm of the normalizer.
    A new value takes the share of the average that its weight is of all weights: a sigmoid of a difference of
    logarithms. Below float32 it computes in float32: of a large logarithm, half precision keeps too little.
    """

    empty = {"log_normalizer": -math.inf}  # the logarithm of no weight at all

    def __init__(self, channels: int):
        Piece.__init__(self)
        self.channels = channels
        self.log_gain = nn.Parameter(torch.zeros(channels))
        self.log_decay = nn.Parameter(torch.zeros(channels))
        self.register_buffer("average", torch.zeros(channels), persistent=False)
        self.register_buffer("log_normalizer", torch.full((channels,), -math.inf), persistent=False)

    @property
    def normalizer(self) -> Memory:
        """The sum of the weights, as the plain memory keeps it; it overflows where that one does."""
        return exp(self.log_normalizer)

    @property
    def contents(self) -> Memory:
        """The sum of weight x value, as the plain memory keeps it."""
        return self.average * self.normalizer

    def read(self, keys: Embedding, values: Embedding) -> Embedding:
        check_same_batch(self.log_normalizer, keys, empty=-math.inf)
        return self.joined(self.log_gain + keys, values).to(values.dtype)  # (*batch, channels)

    def step(self) -> None:
        wide = at_least_float32(self.log_decay)
        self.log_normalizer: Memory = self.log_normalizer.to(wide) - exp(self.log_decay.to(wide))

    def write(self, keys: Embedding, values: Embedding) -> None:
        check_same_batch(self.log_normalizer, keys, empty=-math.inf)
        self.step()
        self.average: Memory = self.joined(keys, values)
        self.log_normalizer: Memory = torch.logaddexp(self.log_normalizer, keys.to(self.log_normalizer.dtype))

    def joined(self, log_weights: Embedding, values: Embedding) -> Embedding:
        """The average over what is remembered and these values, with these logarithms of their weights."""
        wide = at_least_float32(values)
        share = sigmoid(log_weights.to(wide) - self.log_normalizer.to(wide))  # (*batch, channels)
        return torch.lerp(self.average.to(wide).expand_as(share), values.to(wide), share)  # (*batch, channels)


def at_least_float32(x: Tensor) -> torch.dtype:
    """The dtype of a memory for such tensors."""
    return torch.promote_types(x.dtype, torch.float32)


class AttentionBlock(Piece):
    """Moves information across time: writes it to the memory, reads the memory, passes gates ("time mixing").

    The paper's r, k, v, wkv and o; chapter "Attention and memory". Forward: (*batch, channels) to an update of that
    shape.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.key_mixer, self.value_mixer, self.receptance_mixer = Mixer(channels), Mixer(channels), Mixer(channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.receptance = nn.Linear(channels, channels, bias=False)
        self.memory = WKVMemory(channels)
        self.output = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Embedding) -> Update:
        keys = self.key(self.key_mixer(x))  # (*batch, channels)
        values = self.value(self.value_mixer(x))  # (*batch, channels)
        gates = sigmoid(self.receptance(self.receptance_mixer(x)))  # (*batch, channels), each between 0 and 1
        return self.output(gates * self.memory(keys, values))  # (*batch, channels)


# ---------------------------------------------------------------------------------------------------------------------
# blocks, and the stack of them


class RWKVBlock(Piece):
    """One block: attention, then the gated MLP, each adding its update to the residual stream.

    Chapter "Blocks and the residual stream". Forward: (*batch, channels) to the same.
    """

    def __init__(self, channels: int, hidden: int | None = None):
        super().__init__()
        self.channels = channels
        self.ln1 = nn.LayerNorm(channels)
        self.attention = AttentionBlock(channels)
        self.ln2 = nn.LayerNorm(channels)
        self.gated_mlp = GatedMLP(channels, hidden)

    def forward(self, x: Embedding) -> Embedding:
        dx: Update = self.attention(self.ln1(x))
        x = x + dx  # (*batch, channels)
        dx: Update = self.gated_mlp(self.ln2(x))
        return x + dx  # (*batch, channels)


class RWKV(nn.Sequential, Piece):
    """Blocks, one after the other. `RWKV(*blocks)`; a slice such as `rwkv[:2]` shares its blocks with the whole."""

    place = "blocks"

    @classmethod
    def from_config(cls, config: RWKVConfig) -> "Piece":
        return cls(*(RWKVBlock(config.channels, config.hidden) for _ in range(config.layers)))


# ---------------------------------------------------------------------------------------------------------------------
# from vectors to probabilities, and the whole


class Unembedding(Piece):
    """Turns a vector into probabilities for the next token: normalize, one matrix, softmax.

    Chapter "Embedding and unembedding". Forward: (*batch, channels) to (*batch, vocabulary).
    """

    place = "unembedding"

    def __init__(self, channels: int, vocabulary: int):
        super().__init__()
        self.channels, self.vocabulary = channels, vocabulary
        self.normalize_unemb = nn.LayerNorm(channels)
        self.unembedding = nn.Linear(channels, vocabulary, bias=False)

    def logits(self, x: Embedding) -> Logits:
        """What comes before the softmax."""
        return self.unembedding(self.normalize_unemb(x))  # (*batch, vocabulary)

    def forward(self, x: Embedding) -> NextTokenProbabilities:
        return torch.softmax(self.logits(x), dim=-1)  # (*batch, vocabulary)


class RWKVLM(Piece):
    """The language model: a token in, a probability for every possible next token out, and a memory that goes on.

    Chapters "Strings, tokens, probabilities" and "The whole model". Forward: a token id, ids of shape (*batch,), or
    one-hots of shape (*batch, vocabulary), to probabilities of shape (*batch, vocabulary).

    Raises:
        TypeError, ValueError: for a token that is none of these, with what was expected and what came.
    """

    def __init__(self, embedding: nn.Module, blocks: nn.Module, unembedding: nn.Module):
        super().__init__()
        self.embedding, self.blocks, self.unembedding = embedding, blocks, unembedding

    @classmethod
    def from_config(cls, config: RWKVConfig) -> "Piece":
        return cls(TokenEmbedding.from_config(config), RWKV.from_config(config), Unembedding.from_config(config))

    @property
    def config(self) -> RWKVConfig:
        """The model's sizes."""
        return RWKVConfig(**sizes_of(self.state_dict()))

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""
        return self.embedding.vocabulary

    def stabilize(self) -> "RWKVLM":
        """Give every attention block the memory that does not overflow, with the same parameters. Starts it empty."""
        for block in self.blocks:
            plain = block.attention.memory
            with torch.device("meta"):
                block.attention.memory = StableWKVMemory(plain.channels)
            block.attention.memory.load_state_dict(plain.state_dict(), assign=True)
            block.attention.memory.requires_grad_(plain.log_decay.requires_grad).clear_buffers()
        return self

    @no_type_check  # the door has words of its own for a wrong token, whether or not a type checker is on
    def forward(self, token: TokenId | OneHot) -> NextTokenProbabilities:
        return self.unembedding(self.latest_embedding(token))  # (*batch, vocabulary)

    @no_type_check
    def logits(self, token: TokenId | OneHot) -> Logits:
        """One step as `forward`, but stopping before the softmax: start here for anything that takes a logarithm."""
        return self.unembedding.logits(self.latest_embedding(token))  # (*batch, vocabulary)

    @no_type_check
    def latest_embedding(self, token: TokenId | OneHot) -> Embedding:
        """One step up to the last block: the token's vector, enriched by all that the model remembers."""
        check_token(token, self.vocabulary)
        return self.blocks(self.embedding(token))  # (*batch, channels)


@no_type_check
def check_token(token: TokenId | OneHot, vocabulary: int) -> None:
    """Refuse what is not a token of a model with this many tokens, and say why."""
    ids = (
        f"token: expected an id from 0 to {vocabulary - 1}, a tensor of such ids (int64 or int32), "
        f"or one-hots (*batch, {vocabulary})"
    )
    if isinstance(token, int) and not isinstance(token, bool):
        if not 0 <= token < vocabulary:
            raise ValueError(f"{ids}, got {token}")
    elif not isinstance(token, Tensor) or not (token.is_floating_point() or token.dtype in (torch.int64, torch.int32)):
        got = f"a tensor of {token.dtype}" if isinstance(token, Tensor) else f"{type(token).__name__} {token!r:.40}"
        raise TypeError(f"{ids}, got {got}")
    elif token.is_floating_point():
        if token.shape[-1:] != (vocabulary,):
            raise ValueError(f"{ids}, got floats of shape {tuple(token.shape)}")
    elif token.numel() and not (0 <= token.min() and token.max() < vocabulary):
        raise ValueError(f"{ids}, got a tensor with ids from {token.min()} to {token.max()}")
