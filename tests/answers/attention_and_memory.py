"""Answers to the exercises of chapter "Attention and memory"."""

import math

import numpy as np
import torch
from torch import exp, nn

from rwkv_explainer.model import Mixer, WKVMemory


def half_life_by_counting(log_decay):
    rate = np.exp(log_decay.numpy())
    return np.log(0.5) / -rate


def shares_by_differences(read, time):
    nothing = read(torch.zeros(time))[-1].item()
    shares = []
    for j in range(time):
        values = torch.zeros(time)
        values[j] = 10
        shares.append((read(values)[-1].item() - nothing) / 10)
    return shares


def shares_of_the_first_read(read, time):
    return [read(torch.eye(time)[j])[0] for j in range(time)]


def step_without_exp_twice(contents, normalizer, key, value, log_decay, log_gain):
    weight = torch.exp(key)
    now = weight * torch.exp(log_gain)
    fade = torch.exp(-torch.exp(log_decay))
    out = (contents + value * now) / (normalizer + now)
    contents = contents * fade
    contents += weight * value
    return [out, contents, normalizer * fade + weight]


def decayed_first(contents, normalizer, key, value, log_decay, log_gain):
    contents, normalizer = contents * exp(-exp(log_decay)), normalizer * exp(-exp(log_decay))
    now = exp(key + log_gain)
    return ((contents + now * value) / (normalizer + now), contents + exp(key) * value, normalizer + exp(key))


def gain_written(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-exp(log_decay))
    return (contents + now * value) / (normalizer + now), keep * contents + now * value, keep * normalizer + now


def no_gain(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key), exp(-exp(log_decay))
    return (contents + now * value) / (normalizer + now), keep * contents + now * value, keep * normalizer + now


def never_fading(contents, normalizer, key, value, log_decay, log_gain):
    now = exp(key + log_gain)
    return (contents + now * value) / (normalizer + now), contents + exp(key) * value, normalizer + exp(key)


def half_fading(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-exp(log_decay))
    return (contents + now * value) / (normalizer + now), keep * contents + exp(key) * value, normalizer + exp(key)


def one_exp(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-log_decay)
    read = (contents + now * value) / (normalizer + now)
    return read, keep * contents + exp(key) * value, keep * normalizer + exp(key)


def fades_all(contents, normalizer, key, value, log_decay, log_gain):
    now, keep = exp(key + log_gain), exp(-exp(log_decay))
    read = (contents + now * value) / (normalizer + now)
    return read, keep * (contents + exp(key) * value), keep * (normalizer + exp(key))


def read_last(a, b, k, v, w, u):
    _, a, b = step_without_exp_twice(a, b, k, v, w, u)
    return a / b, a, b


def with_read(read):
    """A step with another read."""

    def step(a, b, k, v, w, u):
        wkv = read(a, b, k, v, u)
        return wkv, *step_without_exp_twice(a, b, k, v, w, u)[1:]

    return step


def block_around(step, gates=torch.sigmoid, update=lambda gates, read, W_o: W_o @ (gates * read)):
    """The attention block around a memory, as a learner writes it."""

    def block(mixed, matrices, contents, normalizer, log_decay, log_gain):
        k, v, r = mixed
        W_k, W_v, W_r, W_o = matrices
        read, contents, normalizer = step(contents, normalizer, W_k @ k, W_v @ v, log_decay, log_gain)
        return [update(gates(W_r @ r), read, W_o), contents, normalizer]

    return block


def one_mixture_for_all(mixed, *rest):
    k, v, r = mixed
    return block_around(step_without_exp_twice)((k, v, k), *rest)


def values_first(mixed, *rest):
    k, v, r = mixed
    return block_around(step_without_exp_twice)((v, k, r), *rest)


def in_place(contents, normalizer, key, value, log_decay, log_gain):
    now = exp(log_gain + key)
    read = (contents + now * value) / (normalizer + now)
    contents *= exp(-exp(log_decay))
    contents += exp(key) * value
    normalizer *= exp(-exp(log_decay))
    normalizer += exp(key)
    return read, contents, normalizer


class OwnMemory(nn.Module):
    """The class as a learner writes it, in place, with a step of its own."""

    def __init__(self, channels):
        super().__init__()
        self.log_decay, self.log_gain = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("contents", torch.zeros(channels), persistent=False)
        self.register_buffer("normalizer", torch.zeros(channels), persistent=False)

    def read(self, keys, values):
        share = torch.sigmoid(self.log_gain + keys - self.normalizer.log())
        return torch.where(self.normalizer > 0, torch.lerp(self.contents / self.normalizer, values, share), values)

    def write(self, keys, values):
        for kept, new in ((self.contents, keys.exp() * values), (self.normalizer, keys.exp())):
            kept.mul_(exp(-exp(self.log_decay))).add_(new)

    def forward(self, keys, values):
        average = self.read(keys, values)
        self.write(keys, values)
        return average


class GainInMemory(OwnMemory):
    def write(self, keys, values):
        super().write(keys + self.log_gain, values)


class WritesFirst(WKVMemory):
    def forward(self, keys, values):
        self.write(keys, values)
        return self.contents / self.normalizer


class OwnBlock(nn.Module):
    """The attention block as a learner writes it."""

    def __init__(self, channels):
        super().__init__()
        self.key_mixer, self.value_mixer, self.receptance_mixer = (Mixer(channels) for _ in range(3))
        for name in ("key", "value", "receptance", "output"):
            setattr(self, name, nn.Linear(channels, channels, bias=False))
        self.memory = OwnMemory(channels)

    def forward(self, x):
        gates = torch.sigmoid(self.receptance(self.receptance_mixer(x)))
        return self.output(self.memory(self.key(self.key_mixer(x)), self.value(self.value_mixer(x))) * gates)


class GatesTooLate(OwnBlock):
    def forward(self, x):
        gates = torch.sigmoid(self.receptance(self.receptance_mixer(x)))
        return self.output(self.memory(self.key(self.key_mixer(x)), self.value(self.value_mixer(x)))) * gates


def loops(kinds, wanted):
    loud, opened = torch.zeros(len(kinds), 2), torch.zeros(len(kinds), 2)
    for i in range(len(kinds)):
        loud[i, 1 - kinds[i]] = 1  # verbs in the first channel, nouns in the second
        opened[i, 1 - wanted[i]] = 1
    return loud, opened


def half_life_in_place(log_decay):
    return log_decay.neg_().exp_().mul_(math.log(2))


def shares_in_one_list(read, time):
    values, shares = [0] * time, []
    for token in range(time):
        values[token] = 1
        shares += [read(values)[-1].item() - sum(shares)]
    return shares


def step_in_place(a, b, k, v, w, u):
    u += k
    u.exp_()
    wkv = a.addcmul(u, v)
    wkv /= b + u
    w.exp_().neg_().exp_()
    k.exp_()
    a *= w
    a += k.mul(v)
    b *= w
    b += k
    return wkv, a, b


def step_in_numpy(*given):
    a, b, k, v, w, u = (x.numpy() for x in given)
    fade, weight, now = np.exp(-np.exp(w)), np.exp(k), np.exp(u + k)
    return (a + now * v) / (b + now), fade * a + weight * v, fade * b + weight


def step_by_channels(*given):
    results = []
    for a, b, k, v, w, u in zip(*(x.tolist() for x in given)):
        fade = math.exp(-math.exp(w))
        read = (a + math.exp(u + k) * v) / (b + math.exp(u + k))
        results.append((read, fade * a + math.exp(k) * v, fade * b + math.exp(k)))
    return list(zip(*results))


def block_in_place(x, W, num, den, w, u):
    k, v, r = (W[i].mv(x[i]) for i in range(3))
    now = (u + k).exp_()
    out = (num + now * v).div_(den + now)
    out *= r.sigmoid_()
    w.exp_().neg_().exp_()
    num *= w
    den *= w
    num += k.exp() * v
    den += k.exp()
    return torch.stack([W[3].mv(out), num, den])


ANSWERS = {
    "half-life": (
        [
            half_life_by_counting,
            lambda log_decay: 0.6931471805599453 * exp(-log_decay),
            half_life_in_place,
            lambda d: (
                [[math.log(2) / math.exp(x) for x in row] for row in d.tolist()]
                if d.dim() == 2
                else [math.log(2, math.exp(math.exp(x))) for x in d.tolist()]
            ),
            lambda log_decay: math.log(2) / exp(log_decay.float()),
        ],
        {
            "the rate is its exponential": lambda log_decay: torch.log(torch.tensor(2.0)) / log_decay,
            "logarithm of the factor": lambda log_decay: math.log(1 / 2) / log_decay,
            "to be rounded.": lambda log_decay: torch.round(math.log(2) / exp(log_decay)),
            "sign is turned around": lambda log_decay: math.log(2) * exp(log_decay),
            "factor that is left": lambda log_decay: math.log(2) / exp(-exp(log_decay)),
            "same *amount*": lambda log_decay: 1 / (2 * exp(log_decay)),
            "not negative": lambda log_decay: torch.log(torch.tensor(0.5)) / exp(log_decay),
            "1/e of a weight": lambda log_decay: exp(-log_decay),
        },
    ),
    "last-shares": (
        [
            shares_by_differences,
            lambda read, time: [read(np.eye(time)[j])[-1] for j in range(time)],
            shares_in_one_list,
            lambda read, time: torch.tensor([read([float(i == j) for i in range(time)])[-1] for j in range(time)]),
        ],
        {
            "while they are current": lambda read, time: [read(torch.eye(time)[j])[j] for j in range(time)],
            "added up": lambda read, time: [sum(read(torch.eye(time)[j])) for j in range(time)],
            "all tokens had the value 1": lambda read, time: read([1.0] * time),
            "turned around": lambda read, time: [read(torch.eye(time)[-1 - j])[-1] for j in range(time)],
            "*first* token's read": shares_of_the_first_read,
            "table": lambda read, time: torch.stack([read(row) for row in torch.eye(time)]),
        },
    ),
    "memory-step": (
        [
            step_without_exp_twice,
            step_in_place,
            step_in_numpy,
            lambda *given: step_without_exp_twice(*(x.float() for x in given)),
            lambda *given: torch.stack(step_without_exp_twice(*given)),
            step_by_channels,
            in_place,
            OwnMemory,
            WKVMemory,
        ],
        {
            "one step older than it should be: read before you": decayed_first,
            "gain got into the memory": gain_written,
            "without its gain": no_gain,
            "Nothing fades": never_fading,
            "Only `contents` fades": half_fading,
            "took `log_decay` for the rate": one_exp,
            "in the moment it is written": fades_all,
            "You read after the write": read_last,
            "current token is missing in the read": with_read(lambda a, b, k, v, u: a / b),
            "not a factor": with_read(lambda a, b, k, v, u: (a + u * exp(k) * v) / (b + u * exp(k))),
            "Weights multiply": with_read(lambda a, b, k, v, u: (a + (exp(u) + exp(k)) * v) / (b + exp(u) + exp(k))),
            "not divided": with_read(lambda a, b, k, v, u: a + exp(u + k) * v),
            "Key and value are swapped": lambda a, b, k, v, w, u: step_without_exp_twice(a, b, v, k, w, u),
            "`log_decay` and `log_gain` are swapped": lambda a, b, k, v, w, u: step_in_numpy(a, b, k, v, u, w),
            "in another order": lambda *given: (out := step_in_place(*given))[1:] + out[:1],
            "each other's place": lambda *given: [step_by_channels(*given)[i] for i in (0, 2, 1)],
        },
    ),
    "attention-block": (
        [
            block_around(step_without_exp_twice, gates=lambda x: 1 / (1 + exp(-x))),
            block_around(step_without_exp_twice, update=lambda gates, read, W_o: (W_o * (gates * read)).sum(dim=1)),
            lambda mixed, *rest: block_around(step_in_place)(list(mixed), *rest),
            lambda *given: [x.numpy() for x in block_around(step_without_exp_twice)(*given)],
            block_in_place,
            block_around(in_place),
            OwnBlock,
        ],
        {
            "all four are transposed": lambda x, W, *rest: block_around(step_in_place)(x, [w.T for w in W], *rest),
            "have changed places": lambda x, W, *rest: block_around(step_in_place)(x, (W[1], W[2], W[0], W[3]), *rest),
            "matrices of keys and values are swapped": lambda x, W, *rest: block_around(step_in_place)(
                x, (W[1], W[0], *W[2:]), *rest
            ),
            "the mixture itself": lambda x, W, *rest: block_around(step_in_place)(
                x, (W[0], W[1], torch.eye(len(W[0])), W[3]), *rest
            ),
            "made of one mixture": lambda x, W, *rest: block_around(step_in_place)((x[0], x[0], x[2]), W, *rest),
            "only `contents` fades": block_around(half_fading),
            "you took `log_decay`": block_around(one_exp),
            "gates are missing": block_around(step_without_exp_twice, gates=torch.ones_like),
            "without limit": block_around(step_without_exp_twice, gates=lambda x: x),
            "that is a softmax": block_around(step_without_exp_twice, gates=lambda x: x.softmax(-1)),
            "one minus the sigmoid": block_around(step_without_exp_twice, gates=lambda x: 1 / (1 + exp(x))),
            "last matrix is missing": block_around(step_without_exp_twice, update=lambda gates, read, _: gates * read),
            "come too late": block_around(step_without_exp_twice, update=lambda gates, read, W_o: (W_o @ read) * gates),
            "mixtures of keys and values are swapped": values_first,
            "mixture for keys": one_mixture_for_all,
            "read before it fades": block_around(decayed_first),
            "the gain got into it": block_around(gain_written),
            "nothing in it fades": block_around(never_fading),
        },
    ),
    "last-of-its-kind": (
        [
            loops,
            lambda kinds, wanted: [(x[:, None] == torch.arange(2)).int() for x in (kinds, wanted)],
            lambda kinds, wanted: (np.eye(2)[kinds.numpy()], np.eye(2)[wanted.numpy()]),
            lambda kinds, wanted: [[[1 - x, x] for x in given.tolist()] for given in (kinds, wanted)],
            lambda kinds, wanted: torch.nn.functional.one_hot(torch.stack([kinds, wanted]), 2).bool(),
        ],
        {
            "swapped": lambda kinds, wanted: (torch.eye(2)[kinds], torch.eye(2)[1 - wanted]),
            "Both gates": lambda kinds, wanted: (torch.eye(2)[kinds], torch.ones(len(kinds), 2)),
            "equally loud in both": lambda kinds, wanted: (torch.zeros(len(kinds), 2), torch.eye(2)[wanted]),
            "own kind": lambda kinds, wanted: (torch.eye(2)[kinds], torch.eye(2)[kinds]),
            "by what they ask for": lambda kinds, wanted: (torch.eye(2)[wanted], torch.eye(2)[wanted]),
            "All gates are shut": lambda kinds, wanted: (torch.eye(2)[kinds], torch.zeros(len(kinds), 2)),
        },
    ),
}
