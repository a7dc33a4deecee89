"""The exercises of chapter "Attention and memory"."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, exp, nn, sigmoid

from rwkv_explainer.exercises.cases import normal, uniform
from rwkv_explainer.exercises.comparing import unpack
from rwkv_explainer.exercises.exercise import A_RUN, Exercise
from rwkv_explainer.model import WKVMemory

__all__ = ["EXERCISES"]

# ---------------------------------------------------------------------------------------------------------------------
# The half-life of a weight


def half_life(log_decay: Tensor) -> Tensor:
    return math.log(2) / exp(log_decay)


def log_decays(random: Generator) -> list[tuple]:
    """Rates from one in four hundred tokens to almost three a token."""
    return [(uniform(random, -6, 1, *shape),) for shape in ((7,), (2, 3))] + [(torch.tensor([-6.0, 0.0, 1.0]),)]


HALF_LIFE = Exercise(
    name="half-life",
    cases=log_decays,
    reference=half_life,
    result_name="the half-life",
    success_message="For 16 decays, half of a weight is left after that many tokens.",
    mistakes={
        "You took `log_decay` itself for the rate; the rate is its exponential.": lambda log_decay: (
            math.log(2) / log_decay
        ),
        "You took `log_decay` for the logarithm of the factor that a weight keeps; it is the logarithm of the *rate*.": lambda log_decay: (
            math.log(0.5) / log_decay
        ),
        "The sign is turned around: the larger `log_decay`, the faster a weight fades, so the shorter its half-life.": lambda log_decay: (
            math.log(2) / exp(-log_decay)
        ),
        "You divided by the factor that is left after one token; divide by the rate, which is in its exponent.": lambda log_decay: (
            math.log(2) / exp(-exp(log_decay))
        ),
        "That is when a weight would be half if it lost the same *amount* with each token; it keeps the same *share*.": lambda log_decay: (
            0.5 / exp(log_decay)
        ),
        "The size is right, but a half-life is not negative: log ½ and −rate both are, so divide one by the other.": lambda log_decay: (
            math.log(0.5) / exp(log_decay)
        ),
        "That is when 1/e of a weight is left. For one half, solve exp(−rate · n) = ½.": lambda log_decay: (
            1 / exp(log_decay)
        ),
        "That is how much is left after one token, not how many tokens it takes.": lambda log_decay: exp(
            -exp(log_decay)
        ),
        "The half-life is a real number of tokens: nothing needs to be rounded up.": lambda log_decay: half_life(
            log_decay
        ).ceil(),
        "The half-life is a real number of tokens: nothing needs to be rounded.": lambda log_decay: half_life(
            log_decay
        ).round(),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Seen from outside


def hidden_memories(random: Generator) -> list[tuple]:
    """Memories of one channel as functions of the values alone: keys, decay and gain are inside.

    Each reading begins empty. A function raises a ValueError for another number of values than it has keys.
    """

    def reader(time: int) -> Callable[[Tensor], Tensor]:
        memory = WKVMemory(time).to(torch.float64).requires_grad_(False)  # a channel for each token's value
        memory.log_decay.fill_(float(uniform(random, -3, 0.5)))
        memory.log_gain.fill_(float(normal(random)))
        one_hots = torch.eye(time, dtype=torch.float64)
        shares = torch.stack([memory(key.expand(time), value) for key, value in zip(normal(random, time), one_hots)])

        def read(values: Any) -> Tensor:
            values = torch.as_tensor(values).to(torch.float64)
            if values.shape[:1] != (time,):
                came = len(values) if values.dim() else "a single number"
                raise ValueError(f"values: expected {time} values, one for each token, got {came}")
            return shares @ values  # (time,)

        return read

    return [(reader(time), time) for time in (4, 7)]


def last_shares(read: Callable, time: int) -> Tensor:
    return torch.stack([read(one)[-1] for one in torch.eye(time)])


LAST_SHARES = Exercise(
    name="last-shares",
    cases=hidden_memories,
    reference=last_shares,
    result_name="the shares",
    success_message="For two memories that you could not look into, these are the shares in the last token's read. "
    "They are positive and sum to 1, which is why no read is ever outside of what was written.",
    mistakes={
        "These are the shares that tokens have while they are current; what the *last* token reads is wanted.": lambda read, time: (
            torch.stack([read(one)[i] for i, one in enumerate(torch.eye(time))])
        ),
        "You added up what all tokens read; only the last token's read is wanted.": lambda read, time: torch.stack(
            [read(one).sum() for one in torch.eye(time)]
        ),
        "You averaged what all tokens read; only the last token's read is wanted.": lambda read, time: torch.stack(
            [read(one).mean() for one in torch.eye(time)]
        ),
        "These are what tokens read, not shares in it: all tokens had the value 1. Give it to one token at a time.": lambda read, time: (
            read(torch.ones(time))
        ),
        "Each entry holds the shares of all tokens up to it: give the value 1 to one token only.": lambda read, time: (
            torch.stack([read(row)[-1] for row in torch.ones(time, time).tril()])
        ),
        "The order is turned around: the first token's share comes first.": lambda read, time: last_shares(
            read, time
        ).flip(0),
        "They are shares already; a softmax on top makes them more equal than they are.": lambda read, time: (
            last_shares(read, time).softmax(0)
        ),
        "These are shares in the *first* token's read; the last one is wanted.": lambda read, time: torch.stack(
            [read(one)[0] for one in torch.eye(time)]
        ),
        "That is the table of what every token reads; of each run, only the last read is wanted.": lambda read, time: (
            torch.stack([read(one) for one in torch.eye(time)])
        ),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# The memory: the class, or one step of it as a function


def is_module(answer: Any) -> bool:
    return isinstance(answer, type) and issubclass(answer, nn.Module)


def memory_step(
    contents: Tensor, normalizer: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, log_gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return step_of(WKVMemory)(contents, normalizer, key, value, log_decay, log_gain)


def step_of(memory_class: type[nn.Module]) -> Callable:
    """One step of a class as a function of what it remembers."""

    def step(contents, normalizer, key, value, log_decay, log_gain):
        memory = memory_class(key.shape[-1]).to(key.dtype).requires_grad_(False)
        memory.log_decay.copy_(log_decay), memory.log_gain.copy_(log_gain)
        memory.contents, memory.normalizer = contents, normalizer
        return memory(key, value), memory.contents, memory.normalizer

    return step


def step_with(
    read_past: Callable = lambda a, b, keep: (a, b),
    now: Callable = lambda key, gain: exp(gain + key),
    keep_of: Callable = lambda log_decay: exp(-exp(log_decay)),
    read_of: Callable = lambda a, b, weight, value: (a + weight * value) / (b + weight),
    written: Callable = lambda a, b, keep, key, value, gain: (keep * a + exp(key) * value, keep * b + exp(key)),
) -> Callable:
    """A step by the formulas; right by itself, else one that goes wrong in what is given."""

    def step(a, b, key, value, log_decay, log_gain):
        keep = keep_of(log_decay)
        past_a, past_b = read_past(a, b, keep)
        weight = now(key, log_gain)
        return read_of(past_a, past_b, weight, value), *written(a, b, keep, key, value, log_gain)

    return step


by_formula = step_with()


def after_the_write(a, b, key, value, log_decay, log_gain):
    """A step that reads what it has just written."""
    _, a, b = by_formula(a, b, key, value, log_decay, log_gain)
    return a / b, a, b


def returned_in_order(order: str) -> Callable:
    """A right step that returns its three results in another order, by their first letters."""

    def step(*arguments):
        results = dict(zip("rcn", by_formula(*arguments)))
        return tuple(results[letter] for letter in order)

    return step


def run_memory(step: Callable, keys: Tensor, values: Tensor, log_decay: Tensor, log_gain: Tensor) -> Any:
    """Step through all tokens from an empty memory: what each reads (time, channels), and the sums at the end."""
    step = step_of(step) if is_module(step) else step
    contents, normalizer = torch.zeros_like(keys[0]), torch.zeros_like(keys[0])
    reads, shape = [], keys[0].shape
    for key, value in zip(keys, values):
        returned = step(contents, normalizer, key, value, log_decay, log_gain)
        read, contents, normalizer = unpack(returned, read=shape, contents=shape, normalizer=shape)
        reads.append(read)
    return {
        "what is read for `keys[{0}]`, in channel {1},": torch.stack(reads),
        "`contents[{0}]` at the end": contents,
        "`normalizer[{0}]` at the end": normalizer,
    }


def runs_of_tokens(random: Generator) -> list[tuple]:
    return [
        (*(normal(random, time, channels) for _ in "kv"), normal(random, channels) - 1, normal(random, channels))
        for time, channels in ((5, 3), (9, 1))
    ]


MEMORY_STEP = Exercise(
    name="memory-step",
    cases=runs_of_tokens,
    reference=memory_step,
    run=run_memory,
    inputs_are=A_RUN,
    success_message="Over two runs of 5 and 9 random tokens it reads and remembers what the package's `WKVMemory` does.",
    mistakes={
        "The past is one step older than it should be: read before you let it fade.": step_with(
            read_past=lambda a, b, keep: (keep * a, keep * b)
        ),
        "The current token joins the read without its gain.": step_with(now=lambda key, gain: exp(key)),
        "You read after the write, so the current token is in the read without its gain and its past has faded.": after_the_write,
        "The current token is missing in the read: from an empty memory that is 0 / 0, which is no number.": step_with(
            read_of=lambda a, b, weight, value: a / b
        ),
        "The gain stands in the exponent, beside the key: `log_gain` is a logarithm and not a factor.": step_with(
            now=lambda key, gain: gain * exp(key)
        ),
        "Weights multiply, and their logarithms add: the current token's weight is exp(log_gain + key).": step_with(
            now=lambda key, gain: exp(gain) + exp(key)
        ),
        "The read is not divided by the sum of the weights, so it is no average.": step_with(
            read_of=lambda a, b, weight, value: a + weight * value
        ),
        "Key and value are swapped.": lambda a, b, key, value, log_decay, log_gain: by_formula(
            a, b, value, key, log_decay, log_gain
        ),
        "`log_decay` and `log_gain` are swapped.": lambda a, b, key, value, log_decay, log_gain: by_formula(
            a, b, key, value, log_gain, log_decay
        ),
        "All is there, but in another order: first the read, then `contents`, then `normalizer`.": returned_in_order(
            "cnr"
        ),
        "`contents` and `normalizer` are returned in each other's place.": returned_in_order("rnc"),
        "Only `normalizer` fades; `contents` holds the same weights and must fade with it.": step_with(
            written=lambda a, b, keep, key, value, gain: (a + exp(key) * value, keep * b + exp(key))
        ),
        "The gain got into the memory: it is for the current token's own read, and not for what is written.": step_with(
            written=lambda a, b, keep, key, value, gain: (
                keep * a + exp(gain + key) * value,
                keep * b + exp(gain + key),
            )
        ),
        "Nothing fades: multiply both sums by exp(−rate) before you add the current token.": step_with(
            keep_of=lambda log_decay: torch.ones_like(log_decay)
        ),
        "Only `contents` fades. The weights in `normalizer` must fade with it, or old tokens pull the average to 0.": step_with(
            written=lambda a, b, keep, key, value, gain: (keep * a + exp(key) * value, b + exp(key))
        ),
        "The current token fades in the moment it is written: first let the past fade, then add the token.": step_with(
            written=lambda a, b, keep, key, value, gain: (keep * (a + exp(key) * value), keep * (b + exp(key)))
        ),
        "You took `log_decay` for the rate: the rate is its exponential, and exp(−rate) is what a weight keeps.": step_with(
            keep_of=lambda log_decay: exp(-log_decay)
        ),
        "The minus is missing: a weight keeps exp(−rate) of itself, which is below 1.": step_with(
            keep_of=lambda log_decay: exp(exp(log_decay))
        ),
        "You multiplied by the rate itself: what a weight keeps is exp(−rate).": step_with(keep_of=exp),
        "A key is not yet a weight: the weight is its exponential.": step_with(
            now=lambda key, gain: gain + key,
            written=lambda a, b, keep, key, value, gain: (keep * a + key * value, keep * b + key),
        ),
        "The current token is in the read twice: read before you write.": step_with(
            read_past=lambda a, b, keep: (a, b), now=lambda key, gain: exp(gain + key) + exp(key)
        ),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# The attention block: the class, or one step of it as a function


class Given(nn.Module):
    """Stands in a learner's block for a mixer, and returns what it was given."""

    def __init__(self, mixture: Tensor):
        super().__init__()
        self.mixture = mixture

    def forward(self, x: Tensor) -> Tensor:
        return self.mixture


def block_step_of(block_class: type[nn.Module]) -> Callable:
    """One step of a class as a function of mixtures, matrices and what is remembered; the memory in it is ours."""

    def step(mixed, matrices, contents, normalizer, log_decay, log_gain):
        block = block_class(len(log_decay)).to(log_decay.dtype).requires_grad_(False)
        for name, mixture in zip(("key_mixer", "value_mixer", "receptance_mixer"), mixed):
            setattr(block, name, Given(mixture))
        for name, matrix in zip(("key", "value", "receptance", "output"), matrices):
            getattr(block, name).weight.copy_(matrix)
        block.memory = WKVMemory(len(log_decay)).to(log_decay.dtype).requires_grad_(False)
        block.memory.log_decay.copy_(log_decay), block.memory.log_gain.copy_(log_gain)
        block.memory.contents, block.memory.normalizer = contents, normalizer
        return block(mixed[0]), block.memory.contents, block.memory.normalizer

    return step


def block_with(
    step: Callable = by_formula,
    mixtures: Callable = lambda k, v, r: (k, v, r),
    gate: Callable = sigmoid,
    leave: Callable = lambda gates, read, output: output @ (gates * read),
    order: Callable = lambda key, value, receptance, output: (key, value, receptance, output),
) -> Callable:
    """A step of the attention block; by itself the right one, else one that goes wrong in what is given."""

    def block(mixed, matrices, contents, normalizer, log_decay, log_gain):
        k, v, r = mixtures(*mixed)
        key, value, receptance, output = order(*matrices)
        read, contents, normalizer = step(contents, normalizer, key @ k, value @ v, log_decay, log_gain)
        return leave(gate(receptance @ r), read, output), contents, normalizer

    return block


def run_block(block: Callable, mixed: Tensor, matrices: Tensor, log_decay: Tensor, log_gain: Tensor) -> Any:
    """Step through all tokens from an empty memory: their updates (time, channels), and the sums at the end."""
    block = block_step_of(block) if is_module(block) else block
    contents, normalizer = torch.zeros_like(log_decay), torch.zeros_like(log_decay)
    updates, shape = [], log_decay.shape
    for of_token in mixed:
        returned = block(tuple(of_token), tuple(matrices), contents, normalizer, log_decay, log_gain)
        update, contents, normalizer = unpack(returned, update=shape, contents=shape, normalizer=shape)
        updates.append(update)
    return {
        "the update for `mixed[{0}]`, in channel {1},": torch.stack(updates),
        "`contents[{0}]` at the end": contents,
        "`normalizer[{0}]` at the end": normalizer,
    }


def runs_of_mixtures(random: Generator) -> list[tuple]:
    """Of each token three mixtures (time, 3, channels); four matrices; decays and gains."""
    return [
        (normal(random, time, 3, c), normal(random, 4, c, c) / 2, normal(random, c) - 1, normal(random, c))
        for time, c in ((4, 3), (6, 2))
    ]


ATTENTION_BLOCK = Exercise(
    name="attention-block",
    cases=runs_of_mixtures,
    reference=block_with(memory_step),
    run=run_block,
    inputs_are=A_RUN,
    success_message="Over two runs of 4 and 6 random tokens every update is right, and so is what remains in memory.",
    mistakes={
        "The gates are missing: a sigmoid of the receptances decides how much of each average comes through.": block_with(
            leave=lambda gates, read, output: output @ read
        ),
        "The gates are open without limit: a sigmoid keeps them between 0 and 1.": block_with(gate=lambda x: x),
        "The gates share their opening: that is a softmax, and a sigmoid decides for each channel by itself.": block_with(
            gate=lambda x: torch.softmax(x, 0)
        ),
        "Where a gate should be open, yours is shut: that is one minus the sigmoid.": block_with(
            gate=lambda x: sigmoid(-x)
        ),
        "The last matrix is missing: what came through the gates is not yet the update.": block_with(
            leave=lambda gates, read, output: gates * read
        ),
        "The gates come too late: they stand in front of the last matrix, where each channel is one of the memory's.": block_with(
            leave=lambda gates, read, output: gates * (output @ read)
        ),
        "A vector times a matrix, `k @ W_k`, is not the matrix times the vector, `W_k @ k`: all four are transposed.": block_with(
            order=lambda *matrices: tuple(matrix.T for matrix in matrices)
        ),
        "Three matrices have changed places: keys are made by `key`, values by `value`, gates by `receptance`.": block_with(
            order=lambda key, value, receptance, output: (value, receptance, key, output)
        ),
        "The matrices of keys and values are swapped.": block_with(
            order=lambda key, value, receptance, output: (value, key, receptance, output)
        ),
        "The gates are a sigmoid of the mixture itself: it goes through its matrix first.": block_with(
            order=lambda key, value, receptance, output: (key, value, torch.eye(len(key)), output)
        ),
        "Keys and values are made of one mixture, the keys'; the values have their own.": block_with(
            mixtures=lambda k, v, r: (k, k, r)
        ),
        "Around the memory all is well. In it, you took `log_decay` for the rate: the rate is its exponential.": block_with(
            step_with(keep_of=lambda log_decay: exp(-log_decay))
        ),
        "Around the memory all is well, but in it only `contents` fades; `normalizer` has to fade with it.": block_with(
            step_with(written=lambda a, b, keep, key, value, gain: (keep * a + exp(key) * value, b + exp(key)))
        ),
        "The mixtures of keys and values are swapped.": block_with(mixtures=lambda k, v, r: (v, k, r)),
        "The gates read the mixture for keys; they have one of their own.": block_with(
            mixtures=lambda k, v, r: (k, v, k)
        ),
        "Around the memory all is well. In it, the past is one step older than it should be: read before it fades.": block_with(
            step_with(read_past=lambda a, b, keep: (keep * a, keep * b))
        ),
        "Around the memory all is well. In it, the current token joins the read without its gain.": block_with(
            step_with(now=lambda key, gain: exp(key))
        ),
        "Around the memory all is well, but the gain got into it: it is for the token's own read alone.": block_with(
            step_with(
                written=lambda a, b, keep, key, value, gain: (
                    keep * a + exp(gain + key) * value,
                    keep * b + exp(gain + key),
                )
            )
        ),
        "Around the memory all is well, but nothing in it fades.": block_with(
            step_with(keep_of=lambda log_decay: torch.ones_like(log_decay))
        ),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# A query after all


def tagged_tokens(random: Generator) -> list[tuple]:
    """Of each token its kind, and the kind that it asks for: 0 a noun, 1 a verb."""

    def kinds(time: int) -> Tensor:
        return torch.cat([torch.tensor([0, 1, 1, 0]), torch.randint(2, (time - 4,), generator=random)])

    def wanted(time: int) -> Tensor:
        return torch.cat([torch.tensor([1, 0, 0, 0]), torch.randint(2, (time - 4,), generator=random)])

    return [(kinds(time), wanted(time)) for time in (9, 12)]


def arrange(kinds: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    return torch.eye(2)[kinds], torch.eye(2)[wanted]


def run_query(arrange: Callable, kinds: Tensor, wanted: Tensor) -> Any:
    """What comes through the gates, added up, if token i has the value i + 1. Two channels, from an empty memory."""
    time = len(kinds)
    loud, opened = unpack(arrange(kinds, wanted), loud=(time, 2), opened=(time, 2))
    memory = WKVMemory(2).to(torch.float64).requires_grad_(False)
    memory.log_decay.fill_(math.log(10)), memory.log_gain.fill_(-200)
    values = torch.arange(1.0, time + 1)[:, None].expand(time, 2)  # (time, 2)
    reads = torch.stack([memory(200 * key, value) for key, value in zip(loud, values)])  # (time, 2)
    through = (opened * reads).sum(dim=1)  # (time,)
    through[:2] = 0  # before the third token, there is not yet one of either kind to be found
    return through


QUERY = Exercise(
    name="last-of-its-kind",
    cases=tagged_tokens,
    reference=arrange,
    run=run_query,
    result_name="what comes through for `wanted[{0}]`",
    tolerance=1e-3,
    success_message="In 17 places, what comes through the gates is the value of the last earlier token of the wanted kind.",
    mistakes={
        "Whoever asks for nouns gets verbs, and the other way round: one of the two tables has its channels swapped.": lambda kinds, wanted: (
            torch.eye(2)[1 - kinds],
            torch.eye(2)[wanted],
        ),
        "Both gates are open at every token, so the answers of both channels are added up.": lambda kinds, wanted: (
            torch.eye(2)[kinds],
            torch.ones(len(kinds), 2),
        ),
        "All tokens are equally loud in both channels, or all are silent, so each channel holds the last token of *any* kind.": lambda kinds, wanted: (
            torch.ones(len(kinds), 2),
            torch.eye(2)[wanted],
        ),
        "The gates follow the token's own kind; they should follow the kind that it asks for.": lambda kinds, wanted: (
            torch.eye(2)[kinds],
            torch.eye(2)[kinds],
        ),
        "Tokens are loud by what they ask for; they should be loud by what they are.": lambda kinds, wanted: (
            torch.eye(2)[wanted],
            torch.eye(2)[wanted],
        ),
        "The two tables are swapped: keys follow the kinds, gates follow what is wanted.": lambda kinds, wanted: (
            torch.eye(2)[wanted],
            torch.eye(2)[kinds],
        ),
        "All gates are shut, so nothing comes through.": lambda kinds, wanted: (
            torch.eye(2)[kinds],
            torch.zeros(len(kinds), 2),
        ),
    },
)

EXERCISES = [HALF_LIFE, LAST_SHARES, MEMORY_STEP, ATTENTION_BLOCK, QUERY]
