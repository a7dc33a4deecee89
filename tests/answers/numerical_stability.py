"""Answers to the exercises of chapter "Numerical stability"."""

import math
import sys

import numpy as np
import torch
from torch import exp


def largest_by_trying(tokens):
    tenths = 0
    while math.log(tokens) + (tenths + 1) / 10 < math.log(torch.finfo(torch.float32).max):
        tenths += 1
    return tenths / 10


def step_with_weights(average, log_normalizer, key, value, log_decay):
    faded = log_normalizer - torch.exp(log_decay)
    p = torch.maximum(faded, key)
    a, b = torch.exp(faded - p), torch.exp(key - p)
    return (a * average + b * value) / (a + b), p + torch.log(a + b)


def taking_out(which):
    """The hint's formula with `which` of the two taken out of the sum."""
    return lambda a, b: (m := which(a, b)) + torch.log(torch.exp(a - m) + torch.exp(b - m))


def log_add_in_place(a, b):
    larger = torch.max(a, b)
    a -= larger
    b -= larger
    return a.exp_().add_(b.exp_()).log_().add_(larger)


def share_in_place(average, L, key, value, log_decay):
    L -= log_decay.exp_()
    s = torch.sigmoid(key - L)
    average *= 1 - s
    average += s * value
    return average, torch.logaddexp(L, key)


def share_in_numpy(*given):
    average, L, key, value, log_decay = (x.numpy() for x in given)
    L = L - np.exp(log_decay)
    new = np.logaddexp(L, key)
    share = np.exp(key - new)
    return share * value + np.exp(L - new) * average, new


def share_written_down(average, L, key, value, log_decay):
    F = L - torch.exp(log_decay)
    share = torch.exp(key) / (torch.exp(key) + torch.exp(F))
    return share * value + (1 - share) * average, torch.log(torch.exp(key) + torch.exp(F))


def plain_sums(average, L, key, value, log_decay):
    normalizer, keep = L.exp(), torch.exp(-log_decay.exp())
    contents = keep * average * normalizer + key.exp() * value
    normalizer = keep * normalizer + key.exp()
    return contents / normalizer, normalizer.log()


def average_fades(average, log_normalizer, key, value, log_decay):
    average = average * torch.exp(-torch.exp(log_decay))
    return step_with_weights(average, log_normalizer, key, value, log_decay)


def share_of_the_old(average, log_normalizer, key, value, log_decay):
    share = torch.sigmoid(key - log_normalizer)
    log_normalizer = log_normalizer - torch.exp(log_decay)
    return (1 - share) * average + share * value, torch.logaddexp(log_normalizer, key)


def share_turned_around(average, log_normalizer, key, value, log_decay):
    faded = log_normalizer - torch.exp(log_decay)
    share = torch.sigmoid(key - faded)
    return share * average + (1 - share) * value, torch.logaddexp(faded, key)


def logarithms_added(average, log_normalizer, key, value, log_decay):
    faded = log_normalizer - torch.exp(log_decay)
    return torch.lerp(average, value, torch.sigmoid(key - faded)), faded + key


def without_fading(average, log_normalizer, key, value, log_decay):
    return step_with_weights(average, log_normalizer, key, value, torch.full_like(log_decay, -torch.inf))


def official_in_place(aa, bb, pp, k, v, w, u):
    u += k
    p = torch.max(pp, u)
    old, new = exp(pp - p), exp(u - p)
    wkv = (old * aa + new * v).div_(old * bb + new)
    pp -= w.exp_()
    p = torch.max(pp, k)
    pp.sub_(p).exp_()
    k.sub_(p).exp_()
    return wkv, aa.mul_(pp).add_(k * v), bb.mul_(pp).add_(k), p


def official_in_numpy(*given):
    """By averages and logarithms, as `StableWKVMemory` has them."""
    aa, bb, pp, k, v, w, u = (x.numpy() for x in given)
    with np.errstate(all="ignore"):
        average, L = np.where(bb > 0, aa / bb, 0.0), pp + np.log(bb)
        share = np.exp(u + k - np.logaddexp(L, u + k))
        L = L - np.exp(w)
        new = np.logaddexp(L, k)
        later = average * np.exp(L - new) + v * np.exp(k - new)
    return share * v + (1 - share) * average, later, np.ones(3), new


ANSWERS = {
    "largest-key": (
        [
            largest_by_trying,
            lambda tokens: round(math.log(torch.finfo(torch.float32).max / tokens) - 0.05, 1),
            lambda tokens: torch.floor(10 * torch.log(torch.finfo(torch.float32).max / torch.tensor(tokens))) / 10,
            lambda tokens: [math.floor(10 * (math.log(3.4028234e38) - math.log(tokens))) * 0.1],
        ],
        {
            "their sum does not": lambda tokens: 88.7,
            "power of 10": lambda tokens: int(10 * math.log10(3.4028235e38 / tokens)) / 10,
            "Rounded up": lambda tokens: math.ceil(10 * math.log(3.4028235e38 / tokens)) / 10,
            "more digits than one": lambda tokens: math.log(torch.finfo(torch.float32).max / tokens),
            "holds in float64": lambda tokens: math.floor(10 * math.log(sys.float_info.max / tokens)) / 10,
            "power of 2": lambda tokens: int(1280 - 10 * math.log2(tokens)) / 10,
            "less room": lambda tokens: int(10 * (math.log(torch.finfo(torch.float32).max) + math.log(tokens))) / 10,
            "down to a whole number": lambda tokens: math.floor(math.log(3.4028235e38 / tokens)),
        },
    ),
    "log-add": (
        [
            lambda a, b: torch.maximum(a, b) + torch.log(1 + torch.exp(-(a - b).abs())),
            taking_out(torch.maximum),
            lambda a, b: np.logaddexp(a.numpy(), b.numpy()),
            log_add_in_place,
            lambda a, b: torch.where(a > b, a + (b - a).exp().log1p(), b + (a - b).exp().log1p()),
        ],
        {
            "exp(1000), which is infinite": lambda a, b: torch.log(torch.exp(a) + torch.exp(b)),
            "torch's own `logaddexp`": torch.logaddexp,
            "torch's own `logsumexp`": lambda a, b: torch.stack([a, b]).logsumexp(0),
            "One maximum for all channels": taking_out(lambda a, b: torch.max(torch.stack([a, b]))),
            "larger one alone": lambda a, b: torch.where(a > b, a, b),
            "*product*": lambda a, b: b + a,
            "with the smaller one": taking_out(torch.minimum),
            "always subtracts the same": taking_out(lambda a, b: a),
            "not added back": lambda a, b: torch.log(1 + torch.exp(-(a - b).abs())),
            "mean of the two": lambda a, b: torch.stack([a, b]).mean(dim=0),
        },
    ),
    "share-step": (
        [
            step_with_weights,
            share_in_place,
            share_in_numpy,
            lambda *given: [x.tolist() for x in step_with_weights(*given)],
            lambda *given: step_with_weights(*(x.float() for x in given)),
        ],
        {
            "Nothing fades": without_fading,
            "in the share and in the sum": share_written_down,
            "The share writes weights down": lambda *given: (
                share_written_down(*given)[0],
                step_with_weights(*given)[1],
            ),
            "from the weights themselves": lambda a, L, k, v, d: (
                torch.lerp(a, v, torch.sigmoid(k - L + exp(d))),
                torch.log(exp(k) + exp(L - exp(d))),
            ),
            "do not multiply": lambda a, L, k, v, d: step_with_weights(a, L * exp(-exp(d)), k, v, 0 * d - math.inf),
            "the new token is already": lambda a, L, k, v, d: (
                torch.lerp(a, v, torch.sigmoid(k - torch.logaddexp(L - exp(d), k))),
                torch.logaddexp(L - exp(d), k),
            ),
            "yours fades together with it": lambda a, L, k, v, d: (
                torch.lerp(a, v, torch.sigmoid(k - L)),
                torch.logaddexp(L, k) - exp(d),
            ),
            "first the average": lambda *given: step_with_weights(*given)[::-1],
            "all of the old average": lambda a, L, k, v, d: (
                a + torch.sigmoid(k - L + exp(d)) * v,
                torch.logaddexp(L - exp(d), k),
            ),
            "does not get into the normalizer": logarithms_added,
            "for the rate": lambda a, L, k, v, d: (
                torch.lerp(a, v, torch.sigmoid(k - (L - d))),
                torch.logaddexp(L - d, k),
            ),
            "running maximum of the other memory": lambda a, L, k, v, d: (
                torch.lerp(a, v, torch.sigmoid(k - L + exp(d))),
                torch.maximum(L - exp(d), k),
            ),
            "where it is the smaller one": lambda a, L, k, v, d: (
                torch.lerp(a, v, torch.sigmoid(k - L + exp(d))),
                k + torch.log1p(exp(L - exp(d) - k)),
            ),
            "what is *kept*": lambda a, L, k, v, d: step_with_weights(a, L, k, v, -exp(d)),
            "The average fades": average_fades,
            "by now it has faded": share_of_the_old,
            "The share is the past's": share_turned_around,
        },
    ),
    "official-step": (
        [official_in_place, official_in_numpy, lambda *given: official_in_place(*(x.float() for x in given))],
        {
            "one step too old": lambda aa, bb, pp, k, v, w, u: (
                official_in_place(aa.clone(), bb.clone(), pp - exp(w), k.clone(), v, w.clone(), u)[:1]
                + official_in_place(aa, bb, pp, k, v, w, u)[1:]
            ),
            "without its gain": lambda aa, bb, pp, k, v, w, u: official_in_place(aa, bb, pp, k, v, w, torch.zeros(3)),
            "Nothing fades": lambda aa, bb, pp, k, v, w, u: official_in_place(
                aa, bb, pp, k, v, torch.full((3,), -math.inf), u
            ),
            "`log_decay` for the rate": lambda aa, bb, pp, k, v, w, u: (
                official_in_numpy(aa, bb, pp, k, v, w, u)[0],
                *official_in_numpy(aa, bb, pp + exp(w) - w, k, v, w, u)[1:],
            ),
            "what is *kept*": lambda aa, bb, pp, k, v, w, u: official_in_place(aa, bb, pp, k, v, -exp(w), u),
            "the old one": lambda aa, bb, pp, *rest: (*official_in_numpy(aa, bb, pp, *rest)[:3], pp),
        },
    ),
}
