"""Four generations of RWKV's memory and a Transformer's, in one small model, to be trained side by side.

Chapter "Where RWKV went next". A generation is its *time mixing*: how keys, values and decays are made from the stream,
the memory, the norm and the gate behind it. Each is written as its authors publish it (RWKV-4: Peng et al. 2023,
https://arxiv.org/abs/2305.13048; RWKV-5 and 6: Peng et al. 2024, https://arxiv.org/abs/2404.05892; RWKV-7: Peng et al.
2025, https://arxiv.org/abs/2503.14456), and starts from the decays, gains, mixes and rates of their training code.
All else is shared: token table, norms, MLP, unembedding. The MLP is plain, two matrices with squared ReLUs between
them, and no generation's own: RWKV-4 to 6 do without the gate of theirs, and all four without its token shift. So two
models differ in more than their memory: in their time mixing as a whole, to which the Transformer's rotary positions
belong as well.

The three table memories have one interface. `step` is the recurrence, one token at a time: read it first. `forward`
takes whole sequences and is what training uses; it gives the same numbers in fewer, larger products.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, exp, nn, sigmoid
from torch.nn.functional import normalize, scaled_dot_product_attention, silu

from rwkv_explainer.model import AttentionBlock, SquaredReLU
from rwkv_explainer.parallel import read_attention

__all__ = [
    "ARCHITECTURES",
    "EagleMemory",
    "EagleTimeMixing",
    "FinchMemory",
    "FinchTimeMixing",
    "GooseMemory",
    "GooseTimeMixing",
    "Place",
    "RWKV4TimeMixing",
    "SequenceModel",
    "SoftmaxAttention",
    "state_numbers",
]

PerHead = Float[Tensor, "*batch heads size"]  # one token, its channels cut into heads
HeadSequence = Float[Tensor, "batch time heads size"]
Table = Float[Tensor, "*batch heads size size"]  # rows say where, columns what
Stream = Float[Tensor, "batch time channels"]

CHUNK = 16  # tokens that a table memory handles in one matrix product
FASTEST = -80 / CHUNK  # the logarithm of the least that a row keeps per token: a chunk of them still fits in float32


# ---------------------------------------------------------------------------------------------------------------------
# the memories


def outer(rows: PerHead, columns: PerHead) -> Table:
    """A table for each head, with rows[i] x columns[j] at row i and column j."""
    return rows[..., :, None] * columns[..., None, :]  # (*batch, heads, size, size)


def ask(question: PerHead, table: Table) -> PerHead:
    """The rows of each head's table, each times the question's number, added up."""
    return (question[..., :, None] * table).sum(dim=-2)  # (*batch, heads, size)


class EagleMemory(nn.Module):
    """RWKV-5's memory: a table for each head, in which every row fades at its own learned rate."""

    def __init__(self, heads: int, size: int):
        super().__init__()
        self.log_decay = nn.Parameter(torch.zeros(heads, size))
        self.gain = nn.Parameter(torch.zeros(heads, size))

    def step(self, table: Table, receptances: PerHead, keys: PerHead, values: PerHead) -> tuple[PerHead, Table]:
        """First read, the current token joining with a gain of its own; then fade and write."""
        pair = outer(keys, values)  # (*batch, heads, size, size)
        read = ask(receptances, table + self.gain[..., None] * pair)  # (*batch, heads, size)
        keep = exp(log_keep(self.log_decay))  # (heads, size)
        return read, keep[..., None] * table + pair

    def forward(self, receptances: HeadSequence, keys: HeadSequence, values: HeadSequence) -> HeadSequence:
        fading = log_keep(self.log_decay).expand_as(keys)  # (batch, time, heads, size)
        past = read_in_chunks(receptances, keys, values, fading, reads_first=True)  # (batch, time, heads, size)
        return past + now(receptances, self.gain, keys, values)  # (batch, time, heads, size)


class FinchMemory(nn.Module):
    """RWKV-6's memory: each token says how fast each row fades."""

    def __init__(self, heads: int, size: int):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(heads, size))

    def step(
        self, table: Table, receptances: PerHead, keys: PerHead, values: PerHead, log_decays: PerHead
    ) -> tuple[PerHead, Table]:
        """As RWKV-5's, with this token's decays."""
        pair = outer(keys, values)  # (*batch, heads, size, size)
        read = ask(receptances, table + self.gain[..., None] * pair)  # (*batch, heads, size)
        return read, exp(log_keep(log_decays))[..., None] * table + pair

    def forward(
        self, receptances: HeadSequence, keys: HeadSequence, values: HeadSequence, log_decays: HeadSequence
    ) -> HeadSequence:
        past = read_in_chunks(receptances, keys, values, log_keep(log_decays), reads_first=True)
        return past + now(receptances, self.gain, keys, values)  # (batch, time, heads, size)


class GooseMemory(nn.Module):
    """RWKV-7's memory: before a token writes, a share of what stands under its removal key is taken out."""

    def step(
        self,
        table: Table,
        receptances: PerHead,
        keys: PerHead,
        values: PerHead,
        decays: PerHead,
        removal_keys: PerHead,
        rates: PerHead,
    ) -> tuple[PerHead, Table]:
        """First write, then read. `decays` are factors, as in the paper; a removal key has the length 1."""
        found = ask(removal_keys, table)  # (*batch, heads, size)
        removed = outer(rates * removal_keys, found)  # (*batch, heads, size, size)
        table = decays[..., None] * table - removed + outer(keys, values)  # (*batch, heads, size, size)
        return ask(receptances, table), table

    def forward(
        self,
        receptances: HeadSequence,
        keys: HeadSequence,
        values: HeadSequence,
        decays: HeadSequence,
        removal_keys: HeadSequence,
        rates: HeadSequence,
    ) -> HeadSequence:
        return read_in_chunks(receptances, keys, values, decays.log(), removal_keys, rates)


def log_keep(log_decay: Tensor) -> Tensor:
    """The logarithm of what a row keeps per token. Below `FASTEST`, 0.7 percent, the published memories go on to 0."""
    return (-exp(log_decay)).clamp(min=FASTEST)


def now(receptances: HeadSequence, gain: Tensor, keys: HeadSequence, values: HeadSequence) -> HeadSequence:
    """What the current token adds to its own reading."""
    return (receptances * gain * keys).sum(dim=-1, keepdim=True) * values  # (batch, time, heads, size)


def read_in_chunks(
    receptances: HeadSequence,
    keys: HeadSequence,
    values: HeadSequence,
    log_kept: HeadSequence,
    removal_keys: HeadSequence | None = None,
    rates: HeadSequence | None = None,
    reads_first: bool = False,
) -> HeadSequence:
    """What every token reads from a table memory that was empty at the start.

    In a chunk, every row is written as its decay since the chunk's start times a number that decays no more. Then a
    sum over the chunk's tokens is one matrix product. What each token finds under its removal key depends on what the
    tokens before it have removed: a triangular system (Yang et al. 2024, https://arxiv.org/abs/2406.06484).

    Args:
        log_kept: the logarithm of what each row keeps at each token, at least `FASTEST`.
        removal_keys, rates: RWKV-7's; without them, nothing is removed.
        reads_first: whether a token reads the table as it was before this token's fading and writing.
    """
    parts = [receptances, keys, values, log_kept, removal_keys, rates]
    chunks = zip(*(() if x is None else x.transpose(1, 2).split(CHUNK, dim=2) for x in parts if x is not None))
    table = values.new_zeros(())  # and from the first chunk on (batch, heads, size, size)
    reads = []
    for r, k, v, log_w, *removal in chunks:  # (batch, heads, tokens, size) each
        after = log_w.cumsum(dim=2)  # (batch, heads, tokens, size), since the chunk's start
        before = after - log_w  # (batch, heads, tokens, size)
        written = k * exp(-after)  # (batch, heads, tokens, size)
        asked = r * exp(before if reads_first else after)  # (batch, heads, tokens, size)
        read = (asked @ written.mT).tril(-1 if reads_first else 0) @ v  # (batch, heads, tokens, size)
        new = written.mT @ v  # (batch, heads, size, size)
        past = table.expand_as(new)
        if removal:
            key, rate = removal
            sought, taken = key * exp(before), rate * key * exp(-after)  # (batch, heads, tokens, size) each
            found = sought @ past + (sought @ written.mT).tril(-1) @ v  # (batch, heads, tokens, size)
            removers = (sought @ taken.mT).tril(-1)  # (batch, heads, tokens, tokens)
            found = torch.linalg.solve_triangular(removers, found, upper=False, unitriangular=True)
            read = read - (asked @ taken.mT).tril() @ found  # (batch, heads, tokens, size)
            new = new - taken.mT @ found  # (batch, heads, size, size)
        reads.append(read + asked @ past)
        table = exp(after[:, :, -1, :, None]) * (past + new)  # (batch, heads, size, size)
    return torch.cat(reads, dim=2).transpose(1, 2)  # (batch, time, heads, size)


# ---------------------------------------------------------------------------------------------------------------------
# time mixing, one class a generation: (batch, time, channels) to an update of that shape


def previous(x: Stream) -> Stream:
    """The stream one token earlier, zeros at the start ("token shift")."""
    return nn.functional.pad(x, (0, 0, 1, -1))  # (batch, time, channels)


def blend(x: Stream, weight: Tensor) -> Stream:
    """A mixer's blend: the weight is the current token's share, as in `rwkv_explainer.Mixer`."""
    return torch.lerp(previous(x), x, weight)  # (batch, time, channels)


class LowRank(nn.Module):
    """Down to a few numbers, through a nonlinearity, up. With a bias, it starts as the bias alone."""

    def __init__(self, channels: int, rank: int, nonlinearity: Callable, bias: Tensor | None = None):
        super().__init__()
        self.down, self.up = nn.Linear(channels, rank, bias=False), nn.Linear(rank, channels, bias=bias is not None)
        self.nonlinearity = nonlinearity
        if bias is not None:
            nn.init.zeros_(self.down.weight)
            nn.init.orthogonal_(self.up.weight, gain=0.1)
            self.up.bias = nn.Parameter(bias.clone())

    def forward(self, x: Stream) -> Stream:
        return self.up(self.nonlinearity(self.down(x)))  # (batch, time, channels)


@dataclass(frozen=True)
class Place:
    """Where a layer stands: the authors' starts depend on it."""

    channels: int
    heads: int
    depth: float  # 0 for the first layer, 1 for the last
    rest: float  # 1 for the first layer, towards 0 for the last

    @property
    def ramp(self) -> Tensor:
        """From 0 at the first channel to just below 1 at the last: (channels,)."""
        return torch.arange(self.channels) / self.channels

    @property
    def even(self) -> Tensor:
        """From 0 at the first channel to 1 at the last: (channels,)."""
        return torch.linspace(0, 1, self.channels)

    @property
    def zigzag(self) -> Tensor:
        """0, 1, -1, 0, 1, -1, ...: (channels,)."""
        return ((torch.arange(self.channels) + 1) % 3 - 1).float()

    def by_head(self, x: Tensor) -> Tensor:
        """(..., channels) cut into (..., heads, size)."""
        return x.unflatten(-1, (self.heads, -1))


class RWKV4TimeMixing(nn.Module):
    """The package's own `AttentionBlock`, read at every moment."""

    def __init__(self, place: Place):
        super().__init__()
        self.place, self.attention = place, AttentionBlock(place.channels)
        self.attention.memory.log_decay.data = -5 + 8 * place.even ** (0.7 + 1.3 * place.depth)
        self.attention.memory.log_gain.data = math.log(0.3) + 0.5 * place.zigzag
        self.attention.key_mixer.weight.data = place.ramp**place.rest
        self.attention.value_mixer.weight.data = place.ramp**place.rest + 0.3 * place.depth
        self.attention.receptance_mixer.weight.data = place.ramp ** (place.rest / 2)

    def forward(self, x: Stream, first_values: Stream | None = None) -> tuple[Stream, Stream | None]:
        self.attention.clear_buffers()
        return read_attention(self.attention, x), first_values


class EagleTimeMixing(nn.Module):
    """RWKV-5's: four blends and matrices, a table memory, a norm for each head, a gate."""

    def __init__(self, place: Place):
        super().__init__()
        self.place = place
        powers = {"receptance": 0.5, "key": 1, "value": 1, "gate": 0.5}
        self.mixes = nn.ParameterDict({path: place.ramp ** (place.rest * power) for path, power in powers.items()})
        self.mixes["value"].data += 0.3 * place.depth
        self.matrices = nn.ModuleDict({path: matrix(place.channels) for path in powers})
        self.memory = EagleMemory(place.heads, place.channels // place.heads)
        self.memory.log_decay.data = place.by_head(starting_log_decay(place))
        self.memory.gain.data = place.by_head(starting_gain(place))
        self.norm, self.output = head_norm(place), matrix(place.channels)

    def forward(self, x: Stream, first_values: Stream | None = None) -> tuple[Stream, Stream | None]:
        r, k, v, gates = (linear(blend(x, self.mixes[path])) for path, linear in self.matrices.items())
        read = self.memory(*map(self.place.by_head, (r, k, v)))  # (batch, time, heads, size)
        return self.output(silu(gates) * norm_heads(self.norm, read)), first_values


class FinchTimeMixing(nn.Module):
    """RWKV-6's: as RWKV-5's, but the token chooses its blends and its decays."""

    def __init__(self, place: Place):
        super().__init__()
        self.place = place
        self.first_mix = nn.Parameter(place.ramp**place.rest)  # its blend chooses the others
        powers = {"receptance": 0.5, "key": 1, "value": 1, "gate": 0.5, "decay": 1}
        starts = {path: place.ramp ** (place.rest * power) for path, power in powers.items()}
        starts["value"] = starts["value"] + 0.3 * place.depth
        self.mixes = nn.ModuleDict({path: LowRank(place.channels, RANK, torch.tanh, starts[path]) for path in powers})
        self.matrices = nn.ModuleDict({path: matrix(place.channels) for path in ("receptance", "key", "value", "gate")})
        self.decay = LowRank(place.channels, RANK, torch.tanh, starting_log_decay(place))
        self.memory = FinchMemory(place.heads, place.channels // place.heads)
        self.memory.gain.data = place.by_head(starting_gain(place))
        self.norm, self.output = head_norm(place), matrix(place.channels)

    def forward(self, x: Stream, first_values: Stream | None = None) -> tuple[Stream, Stream | None]:
        first = blend(x, self.first_mix)  # (batch, time, channels)
        blends = {path: blend(x, mix(first)) for path, mix in self.mixes.items()}  # (batch, time, channels) each
        r, k, v, gates = (linear(blends[path]) for path, linear in self.matrices.items())
        log_decays = self.decay(blends["decay"])  # (batch, time, channels)
        read = self.memory(*map(self.place.by_head, (r, k, v, log_decays)))  # (batch, time, heads, size)
        return self.output(silu(gates) * norm_heads(self.norm, read)), first_values


class GooseTimeMixing(nn.Module):
    """RWKV-7's: the token chooses decays, removal keys and rates; values lean on the first layer's.

    Args:
        largest_rate: 1 as published. With 2, a token can mirror the table at a plane and not only flatten it onto one:
            Grazzi et al. 2024, https://arxiv.org/abs/2411.12537. It also doubles the rates that training starts from,
            on average from 0.45 to 0.9. The written key is scaled by the sigmoid alone, so that it stays as it was.
    """

    def __init__(self, place: Place, largest_rate: float = 1.0):
        super().__init__()
        self.place, self.largest_rate = place, largest_rate
        powers = {"receptance": 0.2, "key": 0.7, "value": 0.7, "decay": 0.9, "rate": 0.9, "gate": 0.2}
        self.mixes = nn.ParameterDict({path: place.ramp ** (place.rest * power) for path, power in powers.items()})
        self.matrices = nn.ModuleDict({path: matrix(place.channels) for path in ("receptance", "key", "value")})
        even, across = place.even - 0.5, across_head(place)
        slow_to_fast = -5.5 + 6 * place.even ** (1 + place.depth**0.3) + 2.5 * across  # (channels,)
        self.decay = LowRank(place.channels, RANK, torch.tanh, slow_to_fast)
        self.rate = LowRank(place.channels, RANK, nn.Identity(), -0.19 + 0.3 * across + 0.4 * even)
        self.first_share = LowRank(place.channels, RANK, nn.Identity(), 0.73 - 0.4 * even) if place.depth else None
        self.gate = LowRank(place.channels, RANK, sigmoid)
        self.removal_scale = nn.Parameter(0.71 - 0.1 * even)
        self.rate_scale = nn.Parameter(torch.full((place.channels,), 1.02))
        self.gain = nn.Parameter(torch.full((place.heads, place.channels // place.heads), -0.04))
        self.memory = GooseMemory()
        self.norm, self.output = head_norm(place), matrix(place.channels)

    def forward(self, x: Stream, first_values: Stream | None = None) -> tuple[Stream, Stream]:
        blends = {path: blend(x, mix) for path, mix in self.mixes.items()}  # (batch, time, channels) each
        receptances, keys, values = (linear(blends[path]) for path, linear in self.matrices.items())
        decays = exp(-math.exp(-0.5) * sigmoid(self.decay(blends["decay"])))  # (batch, time, channels), above 0.545
        rates = sigmoid(self.rate(blends["rate"]))  # (batch, time, channels)
        if first_values is not None:
            values = torch.lerp(values, first_values, sigmoid(self.first_share(blends["value"])))
        removal_keys = normalize(self.place.by_head(self.removal_scale * keys), dim=-1)  # (batch, time, heads, size)
        keys = torch.lerp(keys, rates * keys, self.rate_scale)  # (batch, time, channels)
        r, k, v, w, a = map(self.place.by_head, (receptances, keys, values, decays, self.largest_rate * rates))
        read = norm_heads(self.norm, self.memory(r, k, v, w, removal_keys, a))  # (batch, time, channels)
        read = read + now(r, self.gain, k, v).flatten(-2)  # (batch, time, channels)
        return self.output(self.gate(blends["gate"]) * read), values if first_values is None else first_values


class SoftmaxAttention(nn.Module):
    """A Transformer's: every token weighs all tokens so far. Rotary positions (Su et al. 2021, arXiv 2104.09864)."""

    def __init__(self, place: Place):
        super().__init__()
        self.place = place
        self.matrices = nn.ModuleDict({path: matrix(place.channels) for path in ("query", "key", "value")})
        self.output = matrix(place.channels)

    def forward(self, x: Stream, first_values: Stream | None = None) -> tuple[Stream, Stream | None]:
        q, k, v = (self.place.by_head(linear(x)).transpose(1, 2) for linear in self.matrices.values())
        read = scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)  # (batch, heads, time, size)
        return self.output(read.transpose(1, 2).flatten(-2)), first_values


def matrix(channels: int) -> nn.Linear:
    return nn.Linear(channels, channels, bias=False)


def head_norm(place: Place) -> nn.GroupNorm:
    return nn.GroupNorm(place.heads, place.channels, eps=64e-5)


def norm_heads(norm: nn.GroupNorm, read: HeadSequence) -> Stream:
    """Each head's reading, brought to mean 0 and variance 1: (batch, time, channels)."""
    return norm(read.flatten(0, 1).flatten(-2)).unflatten(0, read.shape[:2])


def starting_log_decay(place: Place) -> Tensor:
    """RWKV-5's and 6's, from slow to fast: (channels,)."""
    return -6 + 5 * place.even ** (0.7 + 1.3 * place.depth)


def starting_gain(place: Place) -> Tensor:
    """RWKV-5's and 6's: (channels,)."""
    return place.depth * (1 - place.even) + 0.1 * place.zigzag


def across_head(place: Place) -> Tensor:
    """From -1 to 1 in each head, flat in the middle, for RWKV-7's starts: (channels,)."""
    line = torch.linspace(-1, 1, place.channels // place.heads)  # (size,)
    return (line * line.abs()).repeat(place.heads)


def rotate(x: Float[Tensor, "batch heads time size"]) -> Float[Tensor, "batch heads time size"]:
    """Turn each pair of numbers by an angle that grows with time, so that products tell distances."""
    half = x.shape[-1] // 2
    speed = 10_000.0 ** -(torch.arange(half) / half)  # (half,)
    angle = torch.arange(x.shape[-2])[:, None] * speed  # (time, half)
    left, right = x.split(half, dim=-1)  # (batch, heads, time, half) each
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


# ---------------------------------------------------------------------------------------------------------------------
# the model around them

ARCHITECTURES: dict[str, Callable[[Place], nn.Module]] = {
    "RWKV-4": RWKV4TimeMixing,
    "RWKV-5": EagleTimeMixing,
    "RWKV-6": FinchTimeMixing,
    "RWKV-7": GooseTimeMixing,
    "RWKV-7, rates to 2": partial(GooseTimeMixing, largest_rate=2.0),
    "Transformer": SoftmaxAttention,
}
RANK = 8  # of the low-rank pairs


class Block(nn.Module):
    """Time mixing, then an MLP with squared ReLUs, each adding its update to the stream."""

    def __init__(self, architecture: str, place: Place, parameters: int):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(place.channels), nn.LayerNorm(place.channels)
        self.time_mixing = ARCHITECTURES[architecture](place)
        left = parameters - sum(p.numel() for p in self.parameters())
        hidden = round(left / (2 * place.channels))
        self.mlp = nn.Sequential(
            nn.Linear(place.channels, hidden, bias=False), SquaredReLU(), nn.Linear(hidden, place.channels, bias=False)
        )

    def forward(self, x: Stream, first_values: Stream | None) -> tuple[Stream, Stream | None]:
        update, first_values = self.time_mixing(self.ln1(x), first_values)
        x = x + update  # (batch, time, channels)
        return x + self.mlp(self.ln2(x)), first_values


class SequenceModel(nn.Module):
    """A small model over sequences of tokens, with one of `ARCHITECTURES` inside.

    Forward: ids (batch, time, parts), whose parts' embeddings add up, to logits (batch, time, answers).

    Args:
        block: parameters of a block; its MLP is as wide as that allows.
    """

    def __init__(
        self, architecture: str, vocabulary: int, answers: int, channels: int, heads: int, layers: int, block: int
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, channels)
        places = [Place(channels, heads, i / max(1, layers - 1), 1 - i / layers) for i in range(layers)]
        self.blocks = nn.ModuleList(Block(architecture, place, block) for place in places)
        self.norm, self.unembedding = nn.LayerNorm(channels), nn.Linear(channels, answers, bias=False)

    def forward(self, ids: Int[Tensor, "batch time parts"]) -> Float[Tensor, "batch time answers"]:
        x, first_values = self.embedding(ids).sum(dim=-2), None  # (batch, time, channels)
        for block in self.blocks:
            x, first_values = block(x, first_values)
        return self.unembedding(self.norm(x))  # (batch, time, answers)


def state_numbers(model: SequenceModel, tokens: int) -> int:
    """How many numbers the model has to keep after so many tokens, in order to go on."""
    place = model.blocks[0].time_mixing.place
    kept = {
        RWKV4TimeMixing: 2 * place.channels,  # contents and normalizer
        SoftmaxAttention: 2 * place.channels * tokens,  # a key and a value for each token
    }
    table = place.channels * place.channels // place.heads
    mixing = type(model.blocks[0].time_mixing)
    last_x = 0 if mixing is SoftmaxAttention else place.channels
    return len(model.blocks) * (kept.get(mixing, table) + last_x)
