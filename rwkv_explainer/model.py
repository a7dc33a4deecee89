"""RWKV-4 in RNN mode: one token in, probabilities for the next token out.

The whole model, to be read from top to bottom; the chapters build it in the same order and prove that what they built
equals what stands here. The paper (Peng et al. 2023, https://arxiv.org/abs/2305.13048, section 3) has a formula for
each of its letters, and each piece says which letters it is there. Modules have the names that they have in the book;
the table in CONTRIBUTING.md translates them.

A module's *parameters* are what it has learned. Its *buffers* are what it remembers of the tokens seen so far.
One step takes tensors of shape (*batch, channels), so that a batch of runs can step together. What all pieces share,
such as `clear_buffers` and `from_weights`, is in `piece.py`.
"""

import math
from collections.abc import Sequence
from typing import Any, no_type_check

import torch
from tokenizers import Tokenizer
from torch import Tensor, exp, nn, sigmoid

from rwkv_explainer.linear import Linear
from rwkv_explainer.piece import Piece, RWKVConfig, infer_config, require_same_batch, require_token
from rwkv_explainer.shapes import Embedding, Latents, Logits, Memory, NextTokenProbabilities, OneHot, TokenId, Update

__all__ = ["TokenEmbedding", "Mixer", "SquaredReLU", "GatedMLP", "WKVMemory", "StableWKVMemory", "AttentionBlock"]
__all__ += ["RWKVBlock", "RWKV", "Unembedding", "RWKVLM"]


class TokenEmbedding(Piece):
    """Turns a token into a vector: its row of the embedding table, normalized.

    Chapter "Embedding and unembedding". Forward: ids (*batch,) or one-hots (*batch, vocab_size) to (*batch, channels).
    """

    default_prefix = "embedding"

    def __init__(self, vocab_size: int, channels: int):
        super().__init__()
        self.vocab_size, self.channels = vocab_size, channels
        self.embedding = nn.Embedding(vocab_size, channels)
        self.normalize_emb = nn.LayerNorm(channels)

    def forward(self, token: TokenId | OneHot) -> Embedding:
        table = self.embedding.weight  # (vocab_size, channels)
        token = torch.as_tensor(token, device=table.device)
        if token.is_floating_point():  # a one-hot times the table picks the row at its 1,
            row = token.to(table.dtype) @ table  # (*batch, channels)
        else:  # so an id may as well look that row up
            row = self.embedding(token)  # (*batch, channels)
        return self.normalize_emb(row)  # (*batch, channels)


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
        mixed = self.weight * x + (1 - self.weight) * self.last_x  # (*batch, channels)
        self.last_x = x.clone()  # a copy: the caller may go on to change x
        return mixed


class SquaredReLU(Piece):
    """Zero for negative inputs, the square for positive ones: inside the paper's o'. Chapter "The gated MLP"."""

    def forward(self, x: Latents) -> Latents:
        return torch.relu(x) ** 2


class GatedMLP(Piece):
    """An MLP (matrix, nonlinearity, matrix) whose outputs pass through gates ("channel mixing").

    The paper's r', k' and o'; chapter "The gated MLP". Forward: (*batch, channels) to an update of that shape.
    """

    def __init__(self, channels: int, intermediate_size: int | None = None):
        super().__init__()
        self.channels, self.intermediate_size = channels, intermediate_size or 4 * channels
        self.mlp_mixer, self.receptance_mixer = Mixer(channels), Mixer(channels)
        self.key = Linear(channels, self.intermediate_size)
        self.nonlinearity = SquaredReLU()
        self.value = Linear(self.intermediate_size, channels)
        self.receptance = Linear(channels, channels)

    def forward(self, x: Embedding) -> Update:
        latents = self.nonlinearity(self.key(self.mlp_mixer(x)))  # (*batch, intermediate_size)
        gates = sigmoid(self.receptance(self.receptance_mixer(x)))  # (*batch, channels), each between 0 and 1
        return gates * self.value(latents)  # (*batch, channels)


class WKVMemory(Piece):
    """A running weighted average of values, in which the weight of the past decays, channel by channel.

    The paper's wkv, as the recurrence of its appendix; chapter "Attention and memory".
    Forward: keys and values (*batch, channels) to the average (*batch, channels).

    A value's weight is exp(key) when it is new, and is multiplied by exp(-rate) with every later token, where rate is
    exp(log_decay). `contents` sums weight x value, `normalizer` sums the weights. This is the plain form: exp(key)
    overflows float32 for keys above 88.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.log_gain = nn.Parameter(torch.zeros(channels))  # how much more the current token counts
        self.log_decay = nn.Parameter(torch.zeros(channels))  # logarithm of the rate at which the past fades
        self.register_buffer("contents", torch.zeros(channels), persistent=False)
        self.register_buffer("normalizer", torch.zeros(channels), persistent=False)

    def forward(self, keys: Embedding, values: Embedding) -> Embedding:
        average = self.read(keys, values)  # (*batch, channels)
        self.write(keys, values)
        return average

    def read(self, keys: Embedding, values: Embedding) -> Embedding:
        """The average over everything remembered and the current token, which has not been written yet."""
        weight = exp(self.log_gain + keys)  # (*batch, channels)
        return (self.contents + weight * values) / (self.normalizer + weight)  # (*batch, channels)

    def step(self) -> None:
        """One token goes by: every weight in memory fades."""
        kept = exp(-exp(self.log_decay))  # (channels,), each between 0 and 1
        self.contents = kept * self.contents  # (*batch, channels)
        self.normalizer = kept * self.normalizer  # (*batch, channels)

    def write(self, keys: Embedding, values: Embedding) -> None:
        """Let the past fade by one step, then add the current token to it."""
        self.step()
        weight = exp(keys)  # (*batch, channels)
        self.contents = self.contents + weight * values  # (*batch, channels)
        self.normalizer = self.normalizer + weight  # (*batch, channels)


class StableWKVMemory(Piece):
    """The same average, kept in numbers that do not overflow. Chapter "Numerical stability".

    It has the parameters and methods of `WKVMemory`. Instead of `contents` and `normalizer` it remembers their ratio,
    the `average`, and the logarithm of the normalizer. A new value takes the share of the average that its weight is of
    all weights: a sigmoid of a difference of logarithms. In models of half precision the state is float32: of a large
    logarithm, half precision keeps too little.
    Keys are finite, as those of a matrix are: a first key of -inf leaves nan.
    """

    initial_state = {"log_normalizer": -math.inf}  # the logarithm of no weight at all

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.log_gain = nn.Parameter(torch.zeros(channels))
        self.log_decay = nn.Parameter(torch.zeros(channels))
        self.register_buffer("average", torch.zeros(channels), persistent=False)
        self.register_buffer("log_normalizer", torch.full((channels,), -math.inf), persistent=False)

    def forward(self, keys: Embedding, values: Embedding) -> Embedding:
        average = self.read(keys, values)  # (*batch, channels)
        self.write(keys, values)
        return average

    def read(self, keys: Embedding, values: Embedding) -> Embedding:
        """The average over everything remembered and the current token, which has not been written yet."""
        return self.average_with(self.log_gain + keys, values).to(values.dtype)  # (*batch, channels)

    def step(self) -> None:
        """One token goes by: every weight fades, and with them all the logarithm of their sum."""
        self.log_normalizer = self._widened(self.log_normalizer) - exp(self._widened(self.log_decay))

    def write(self, keys: Embedding, values: Embedding) -> None:
        """Let the past fade by one step, then add the current token to it."""
        self.step()
        self.average = self.average_with(keys, values)  # (*batch, channels)
        self.log_normalizer = torch.logaddexp(self.log_normalizer, self._widened(keys))  # (*batch, channels)

    def average_with(self, log_weights: Embedding, values: Embedding) -> Embedding:
        """The average after adding `values`, the logarithms of whose weights are `log_weights`."""
        share = sigmoid(self._widened(log_weights) - self._widened(self.log_normalizer))  # (*batch, channels)
        return torch.lerp(self._widened(self.average), self._widened(values), share)  # (*batch, channels)

    @no_type_check  # here and below: called eleven times in a step, and no shape to check
    def state_dtype(self, weights: torch.dtype) -> torch.dtype:
        return torch.promote_types(weights, torch.float32)

    @no_type_check
    def _widened(self, x: Tensor) -> Tensor:
        return x.to(self.state_dtype(self.log_decay.dtype))

    @property
    def normalizer(self) -> Memory:
        """The sum of the weights, as the plain memory keeps it; it overflows where that one does."""
        return exp(self.log_normalizer)

    @property
    def contents(self) -> Memory:
        """The sum of weight x value, as the plain memory keeps it."""
        return self.average * self.normalizer


class AttentionBlock(Piece):
    """Moves information across time: writes it to the memory, reads the memory, passes gates ("time mixing").

    The paper's r, k, v, wkv and o; chapter "Attention and memory". Forward: (*batch, channels) to an update of that
    shape. In a loaded model the memory is a `StableWKVMemory`: `model_from_weights` chooses it.
    """

    def __init__(self, channels: int, memory_class: type[WKVMemory | StableWKVMemory] = WKVMemory):
        super().__init__()
        self.channels = channels
        self.key_mixer, self.value_mixer, self.receptance_mixer = Mixer(channels), Mixer(channels), Mixer(channels)
        self.key = Linear(channels, channels)
        self.value = Linear(channels, channels)
        self.receptance = Linear(channels, channels)
        self.memory = memory_class(channels)
        self.output = Linear(channels, channels)

    def forward(self, x: Embedding) -> Update:
        keys = self.key(self.key_mixer(x))  # (*batch, channels)
        values = self.value(self.value_mixer(x))  # (*batch, channels)
        gates = sigmoid(self.receptance(self.receptance_mixer(x)))  # (*batch, channels), each between 0 and 1
        return self.output(gates * self.memory(keys, values))  # (*batch, channels)


class RWKVBlock(Piece):
    """One block: attention, then the gated MLP, each adding its update to the residual stream.

    Chapter "Blocks and the residual stream". Forward: (*batch, channels) to the same.
    """

    def __init__(
        self,
        channels: int,
        intermediate_size: int | None = None,
        memory_class: type[WKVMemory | StableWKVMemory] = WKVMemory,
    ):
        super().__init__()
        self.channels = channels
        self.ln1 = nn.LayerNorm(channels)
        self.attention = AttentionBlock(channels, memory_class)
        self.ln2 = nn.LayerNorm(channels)
        self.gated_mlp = GatedMLP(channels, intermediate_size)

    def forward(self, x: Embedding) -> Embedding:
        dx: Update = self.attention(self.ln1(x))
        x = x + dx  # (*batch, channels)
        dx: Update = self.gated_mlp(self.ln2(x))
        return x + dx  # (*batch, channels)


class RWKV(nn.Sequential, Piece):
    """Blocks, one after the other. `RWKV(*blocks)`; a slice such as `rwkv[:2]` shares its blocks with the whole."""

    default_prefix = "blocks"

    @classmethod
    def from_config(cls, config: RWKVConfig, **options: Any) -> "RWKV":
        return cls(*(RWKVBlock.from_config(config, **options) for _ in range(config.n_layer)))


class Unembedding(Piece):
    """Turns a vector into probabilities for the next token: normalize, one matrix, softmax.

    Chapter "Embedding and unembedding". Forward: (*batch, channels) to (*batch, vocab_size).
    """

    default_prefix = "unembedding"

    def __init__(self, channels: int, vocab_size: int):
        super().__init__()
        self.channels, self.vocab_size = channels, vocab_size
        self.normalize_unemb = nn.LayerNorm(channels)
        self.unembedding = Linear(channels, vocab_size)

    def logits(self, x: Embedding) -> Logits:
        """What comes before the softmax."""
        return self.unembedding(self.normalize_unemb(x))  # (*batch, vocab_size)

    def forward(self, x: Embedding) -> NextTokenProbabilities:
        return torch.softmax(self.logits(x), dim=-1)  # (*batch, vocab_size)


class RWKVLM(Piece):
    """The language model. One step gives *probabilities* for the next token; for a loss, step with `logits`.

    Chapters "Strings, tokens, probabilities" and "The whole model". Forward: a token id, ids of shape (*batch,), or
    one-hots of shape (*batch, vocab_size), to probabilities of shape (*batch, vocab_size).

    Raises:
        TypeError, ValueError: for a token that is none of these, or another batch shape than that of the run so far.
    """

    name: str | None = None  # set by `load_pretrained`, as is the tokenizer; set them yourself on a model of your own
    tokenizer: Tokenizer | None = None

    def __init__(self, embedding: nn.Module, blocks: nn.Module, unembedding: nn.Module):
        super().__init__()
        self.embedding, self.blocks, self.unembedding = embedding, blocks, unembedding

    @no_type_check  # `require_token` has the clearer message for a wrong token
    def forward(self, token: TokenId | OneHot) -> NextTokenProbabilities:
        return self.unembedding(self.final_residual(token))  # (*batch, vocab_size)

    @no_type_check
    def logits(self, token: TokenId | OneHot) -> Logits:
        """One step as `forward`, but without the softmax. Use it for losses and log-probabilities."""
        return self.unembedding.logits(self.final_residual(token))  # (*batch, vocab_size)

    @no_type_check
    def final_residual(self, token: TokenId | OneHot) -> Embedding:
        """One step up to the last block: the token's vector in the residual stream, before the unembedding."""
        token, batch = require_token(token, self.vocab_size)
        require_same_batch(self, batch)
        return self.blocks(self.embedding(token))  # (*batch, channels)

    @no_type_check
    def read(self, token_ids: Tensor | Sequence[int], last_only: bool = False) -> NextTokenProbabilities:
        """Read a text in time-parallel mode, as if its tokens had been fed one by one: see `parallel.read`.

        Args:
            token_ids: ids of shape (*batch, time), or a list of ids.
            last_only: give the probabilities after the last token alone.
        """
        from rwkv_explainer.parallel import read

        return read(self, token_ids, last_only)

    def generate(
        self,
        context: str = "",
        N: int = 1,
        temperature: float | int = 1.0,
        top_p: float | int = 1.0,
        *,
        seed: int | None = None,
        keep_memory: bool = False,
        stop_at_end: bool = False,
        verbose: bool = False,
    ) -> str:
        """Read `context`, then write `N` more tokens and print them: see `generation.generate` for the arguments."""
        from rwkv_explainer.generation import generate

        return generate(self, context, N, temperature, top_p, seed, keep_memory, stop_at_end, verbose)

    @classmethod
    def from_config(cls, config: RWKVConfig, **options: Any) -> "RWKVLM":
        embedding, unembedding = TokenEmbedding.from_config(config), Unembedding.from_config(config)
        return cls(embedding, RWKV.from_config(config, **options), unembedding)

    @property
    def config(self) -> RWKVConfig:
        """The model's sizes."""
        return infer_config(self.state_dict())

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return self.embedding.vocab_size
