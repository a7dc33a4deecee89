"""The exercises of chapter "Attention and memory"."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, exp

from rwkv_explainer.checks.cases import normal, uniform
from rwkv_explainer.checks.comparing import parts
from rwkv_explainer.checks.exercise import Exercise
from rwkv_explainer.model import WKVMemory

# ---------------------------------------------------------------------------------------------------------------------
# A channel without a past


def three_values(random: Generator) -> list[tuple]:
    """Three whole numbers, all different: what three tokens write to a channel."""
    return [((torch.randperm(9, generator=random)[:3] + 1).tolist(),)]


def open_and_shut(values: list[int]) -> list[float | int]:
    first, second, third = values
    return [third, (first / 2 + second) / 1.5, first, first]


def with_second(other: Callable[[int, int, int], float]) -> Callable:
    """The right four numbers, but for what the third token reads with a gain of almost nothing."""
    return lambda values: [values[2], other(*values), values[0], values[0]]


OPEN_AND_SHUT = Exercise(
    name="open-and-shut",
    value=True,
    cases=three_values,
    reference=open_and_shut,
    result="reads",
    tolerance=0.01,
    verified="With a high gain only the present counts, with a very low one only the past, its older token for half. "
             "The first token has no past: its own weight cancels, whatever the gain.",
    mistakes={
        "The two gains are swapped: one multiplies the weight of the *current* token, and a high one drowns the past.":
            lambda values: [open_and_shut(values)[i] for i in (1, 0, 2, 3)],
        "With an empty memory the current token is all there is. A tiny weight over the same tiny weight is still 1.":
            lambda values: [*open_and_shut(values)[:3], 0],
        "The older token has faded once when the third one reads: it weighs ½, the newer one 1.":
            with_second(lambda first, second, third: (first + second) / 2),
        "The fading is turned around: the older token weighs less, not more.":
            with_second(lambda first, second, third: (first + second / 2) / 1.5),
        "The weights ½ and 1 sum to 1.5, so the average divides by that, not by the number of tokens.":
            with_second(lambda first, second, third: (first / 2 + second) / 2),
        "The sum has not been divided: what is read is an average, contents over normalizer.":
            with_second(lambda first, second, third: first / 2 + second),
        "Pure past is more than the newest token: the one before it still counts for half as much.":
            with_second(lambda first, second, third: second),
        "With a gain of −20 the current token counts next to nothing, not as much as any other.":
            with_second(lambda first, second, third: (first / 2 + second + third) / 2.5),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# The half-life of a weight


def half_life(log_decay: Tensor) -> Tensor:
    return math.log(2) / exp(log_decay)


def log_decays(random: Generator) -> list[tuple]:
    """Rates from one in four hundred tokens to almost three a token."""
    return [(uniform(random, -6, 1, *shape),) for shape in ((7,), (2, 3))]


HALF_LIFE = Exercise(
    name="half-life",
    cases=log_decays,
    reference=half_life,
    result="the half-life",
    verified="For 13 random decays, half of a weight is left after that many tokens.",
    mistakes={
        "You took `log_decay` itself for the rate; the rate is its exponential.":
            lambda log_decay: math.log(2) / log_decay,
        "The sign is turned around: the larger `log_decay`, the faster a weight fades, so the shorter its half-life.":
            lambda log_decay: math.log(2) / exp(-log_decay),
        "You divided by the factor that is left after one token; divide by the rate, which is in its exponent.":
            lambda log_decay: math.log(2) / exp(-exp(log_decay)),
        "That is when a weight would be half if it lost the same *amount* with each token; it keeps the same *share*.":
            lambda log_decay: 0.5 / exp(log_decay),
        "The size is right, but a half-life is not negative: log ½ and −rate both are, so divide one by the other.":
            lambda log_decay: math.log(0.5) / exp(log_decay),
        "That is when 1/e of a weight is left. For one half, solve exp(−rate · n) = ½.":
            lambda log_decay: 1 / exp(log_decay),
        "That is how much is left after one token, not how many tokens it takes.":
            lambda log_decay: exp(-exp(log_decay)),
        "The half-life is a real number of tokens; nothing needs to be rounded.":
            lambda log_decay: (math.log(2) / exp(log_decay)).ceil(),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# Seen from outside


def hidden_memories(random: Generator) -> list[tuple]:
    """Memories of one channel as functions of the values alone: keys, decay and gain are inside."""

    def reader(time: int) -> Callable[[Tensor], Tensor]:
        memory = WKVMemory(1).to(torch.float64).requires_grad_(False)
        memory.log_decay.uniform_(-3, 0.5, generator=random)
        memory.log_gain.normal_(generator=random)
        keys = normal(random, time)

        def read(values: Any) -> Tensor:
            memory.clear_buffers()
            return torch.cat([memory(key[None], value[None]) for key, value in zip(keys, torch.as_tensor(values))])

        return read

    return [(reader(time), time) for time in (4, 7)]


def last_shares(read: Callable, time: int) -> Tensor:
    return torch.stack([read(one)[-1] for one in torch.eye(time)])


LAST_SHARES = Exercise(
    name="last-shares",
    cases=hidden_memories,
    reference=last_shares,
    result="the shares",
    verified="For two memories that you could not look into, these are the shares in the last token's read. "
             "They are positive and sum to 1, which is why no read is ever outside of what was written.",
    mistakes={
        "These are the shares that tokens have while they are current; what the *last* token reads is wanted.":
            lambda read, time: torch.stack([read(one)[i] for i, one in enumerate(torch.eye(time))]),
        "You added up what all tokens read; only the last token's read is wanted.":
            lambda read, time: torch.stack([read(one).sum() for one in torch.eye(time)]),
        "You averaged what all tokens read; only the last token's read is wanted.":
            lambda read, time: torch.stack([read(one).mean() for one in torch.eye(time)]),
        "These are what tokens read, not shares in it: all tokens had the value 1. Give it to one token at a time.":
            lambda read, time: read(torch.ones(time)),
        "Each entry holds the shares of all tokens up to it: give the value 1 to one token only.":
            lambda read, time: torch.stack([read(row)[-1] for row in torch.ones(time, time).tril()]),
        "The order is turned around: the first token's share comes first.":
            lambda read, time: last_shares(read, time).flip(0),
        "They are shares already; a softmax on top makes them more equal than they are.":
            lambda read, time: last_shares(read, time).softmax(0),
        "These are shares in the *first* token's read; the last one is wanted.":
            lambda read, time: torch.stack([read(one)[0] for one in torch.eye(time)]),
        "That is the table of what every token reads; of each run, only the last read is wanted.":
            lambda read, time: torch.stack([read(one) for one in torch.eye(time)]),
    },
)

# ---------------------------------------------------------------------------------------------------------------------
# The memory, from memory


def memory_step(
    contents: Tensor, normalizer: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, log_gain: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    memory = WKVMemory(key.shape[-1]).to(key.dtype).requires_grad_(False)
    memory.log_decay.copy_(log_decay), memory.log_gain.copy_(log_gain)
    memory.contents, memory.normalizer = contents, normalizer
    return memory(key, value), memory.contents, memory.normalizer


def slip(
    read_past: Callable = lambda a, b, keep: (a, b), now: Callable = lambda key, gain: exp(gain + key),
    keep_of: Callable = lambda log_decay: exp(-exp(log_decay)),
    written: Callable = lambda a, b, keep, key, value, gain: (keep * a + exp(key) * value, keep * b + exp(key)),
) -> Callable:
    """A step that goes wrong in one place."""

    def step(a, b, key, value, log_decay, log_gain):
        keep = keep_of(log_decay)
        past_a, past_b = read_past(a, b, keep)
        weight = now(key, log_gain)
        return (past_a + weight * value) / (past_b + weight), *written(a, b, keep, key, value, log_gain)

    return step


def run_memory(step: Callable, keys: Tensor, values: Tensor, log_decay: Tensor, log_gain: Tensor) -> Any:
    """Step through all tokens from an empty memory: what each reads (time, channels), and the sums at the end."""
    contents = normalizer = torch.zeros_like(keys[0])
    reads, shape = [], keys[0].shape
    for key, value in zip(keys, values):
        returned = step(contents, normalizer, key, value, log_decay, log_gain)
        read, contents, normalizer = parts(returned, read=shape, contents=shape, normalizer=shape)
        reads.append(read)
    return {"read": torch.stack(reads), "contents": contents, "normalizer": normalizer}


def runs_of_tokens(random: Generator) -> list[tuple]:
    return [(*(normal(random, time, channels) for _ in "kv"), normal(random, channels) - 1, normal(random, channels))
            for time, channels in ((6, 3), (12, 1))]


MEMORY_STEP = Exercise(
    name="memory-step",
    cases=runs_of_tokens,
    reference=memory_step,
    use=run_memory,
    verified="Over two runs of 6 and 12 random tokens it reads and remembers what the package's `WKVMemory` does.",
    mistakes={
        "The past is one step older than it should be: read before you let it fade.":
            slip(read_past=lambda a, b, keep: (keep * a, keep * b)),
        "The current token joins the read without its gain.":
            slip(now=lambda key, gain: exp(key)),
        "The gain got into the memory: it is for the current token's own read, and not for what is written.":
            slip(written=lambda a, b, keep, key, value, gain: (
                keep * a + exp(gain + key) * value, keep * b + exp(gain + key))),
        "Nothing fades: multiply both sums by exp(−rate) before you add the current token.":
            slip(keep_of=lambda log_decay: torch.ones_like(log_decay)),
        "Only `contents` fades. The weights in `normalizer` must fade with it, or old tokens pull the average to 0.":
            slip(written=lambda a, b, keep, key, value, gain: (keep * a + exp(key) * value, b + exp(key))),
        "The current token fades in the moment it is written: first let the past fade, then add the token.":
            slip(written=lambda a, b, keep, key, value, gain: (keep * (a + exp(key) * value), keep * (b + exp(key)))),
        "You took `log_decay` for the rate: the rate is its exponential, and exp(−rate) is what a weight keeps.":
            slip(keep_of=lambda log_decay: exp(-log_decay)),
        "The minus is missing: a weight keeps exp(−rate) of itself, which is below 1.":
            slip(keep_of=lambda log_decay: exp(exp(log_decay))),
        "You multiplied by the rate itself: what a weight keeps is exp(−rate).":
            slip(keep_of=exp),
        "A key is not yet a weight: the weight is its exponential.":
            slip(now=lambda key, gain: gain + key,
                 written=lambda a, b, keep, key, value, gain: (keep * a + key * value, keep * b + key)),
        "The current token is in the read twice: read before you write.":
            slip(read_past=lambda a, b, keep: (a, b), now=lambda key, gain: exp(gain + key) + exp(key)),
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
    loud, opened = parts(arrange(kinds, wanted), loud=(time, 2), opened=(time, 2))
    memory = WKVMemory(2).to(torch.float64).requires_grad_(False)
    memory.log_decay.fill_(math.log(10)), memory.log_gain.fill_(-200)
    values = torch.arange(1.0, time + 1)[:, None].expand(time, 2)  # (time, 2)
    reads = torch.stack([memory(200 * key, value) for key, value in zip(loud, values)])  # (time, 2)
    return (opened * reads).sum(dim=1)[2:]  # (time - 2,): from here on, there is one of either kind to be found


QUERY = Exercise(
    name="last-of-its-kind",
    cases=tagged_tokens,
    reference=arrange,
    use=run_query,
    result="what comes through",
    tolerance=1e-3,
    verified="In 17 places, what comes through the gates is the value of the last earlier token of the wanted kind.",
    mistakes={
        "Whoever asks for nouns gets verbs, and the other way round: one of the two tables has its channels swapped.":
            lambda kinds, wanted: (torch.eye(2)[1 - kinds], torch.eye(2)[wanted]),
        "Both gates are open at every token, so the answers of both channels are added up.":
            lambda kinds, wanted: (torch.eye(2)[kinds], torch.ones(len(kinds), 2)),
        "All tokens are loud in both channels, so each channel holds the last token of *any* kind.":
            lambda kinds, wanted: (torch.ones(len(kinds), 2), torch.eye(2)[wanted]),
        "The gates follow the token's own kind; they should follow the kind that it asks for.":
            lambda kinds, wanted: (torch.eye(2)[kinds], torch.eye(2)[kinds]),
        "Tokens are loud by what they ask for; they should be loud by what they are.":
            lambda kinds, wanted: (torch.eye(2)[wanted], torch.eye(2)[wanted]),
        "The two tables are swapped: keys follow the kinds, gates follow what is wanted.":
            lambda kinds, wanted: (torch.eye(2)[wanted], torch.eye(2)[kinds]),
        "All gates are shut, so nothing comes through.":
            lambda kinds, wanted: (torch.eye(2)[kinds], torch.zeros(len(kinds), 2)),
    },
)

EXERCISES = [OPEN_AND_SHUT, HALF_LIFE, LAST_SHARES, MEMORY_STEP, QUERY]
