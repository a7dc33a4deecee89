"""Answers to the exercises of chapter "Where RWKV went next"."""

import math

import numpy as np
import torch
from torch import exp


def told_step_by_step(rate, times):
    old, new = 1.0, 0.0
    for _ in range(times):
        old, new = old - rate * old, new - rate * new + rate
    return [old, new]


def whole_keys(rate, times):
    old, new = 1.0, 0.0
    for _ in range(times):
        old, new = old - rate * old, new - rate * new + 1
    return old, new


def swapped_by_loops(i, j, size):
    key = [0.0] * size
    key[i], key[j] = -(0.5**0.5), 0.5**0.5
    return key, torch.full((size,), 2.0)


def unit(i, j, size, sign=-1.0):
    key = torch.zeros(size, dtype=torch.float64)
    key[i], key[j] = 1, sign
    return key / key.norm()


def eagle_in_place(key, value, w):
    return key, value, w.exp_().neg_().exp_(), torch.ones(len(key)).float(), torch.zeros(1)


def swapped_in_place(first, second, n):
    q = torch.zeros(n)
    q[first] += 1
    q[second] -= 1
    return q.div_(q.norm()), [2.0] * n


def goose_in_place(S, k, v, w, q, rate):
    found = q @ S
    S *= w.unsqueeze(1)
    S -= (rate * q).unsqueeze(1) * found
    S += k.unsqueeze(1) * v
    return S


def goose_in_numpy(*given):
    S, k, v, w, q, rate = (x.numpy() for x in given)
    new = np.zeros_like(S)
    for row in range(len(S)):
        new[row] = w[row] * S[row] - rate[row] * q[row] * (q @ S) + k[row] * v
    return new


def finch_in_place(table, receptance, key, value, gain, log_decay):
    now = key.unsqueeze(1) * value
    read = (receptance.unsqueeze(1) * (table + gain.unsqueeze(1) * now)).sum(0)
    table *= log_decay.exp_().neg_().exp_().unsqueeze(1)
    table += now
    return [read, table]


def finch_in_numpy(*given, fade=1, u=lambda gain: gain, rate=np.exp):
    S, r, k, v, gain, w = (x.numpy() for x in given)
    read, new = np.zeros(len(k)), np.zeros_like(S)
    for i in range(len(k)):
        read += r[i] * (S[i] + u(gain)[i] * k[i] * v)
        new[i] = np.exp(-rate(w[i])) * S[i] + k[i] * v
    return read, new


def finch_by_shares(S, r, k, v, u, w):
    """Past and present one after the other, without a table of the present."""
    return r @ S + (r * u * k).sum() * v, torch.diag((-w.exp()).exp()) @ S + k[:, None] @ v[None]


def finch_writes_first(S, r, k, v, u, w):
    _, table = finch_by_shares(S, r, k, v, u, w)
    return r @ table, table


def ahead_in_numpy(ours, theirs, guess):
    a, b = np.array(ours), np.array(theirs)
    enough = a.size > 1 and b.size > 1
    either = np.where((b > max(a.max(), guess)).all(), "theirs", "neither")
    return np.where(enough & (a > b.max()).all() & (a > guess).all(), "ours", either if enough else "neither")


def ahead_by_number(ours, theirs, guess):
    """1, 2 or 0, as an index of an array of words."""
    seeds = [np.sort(model) for model in (ours, theirs)]
    won = [one[0] > guess and one[0] > other[-1] for one, other in (seeds, seeds[::-1])]
    return np.array(["neither", "ours", "theirs"])[(won[0] + 2 * won[1]) * (min(map(len, seeds)) > 1)]


def ahead_in_tensors(ours, theirs, guess):
    a, b, guess = (torch.tensor(x, dtype=torch.float32) for x in (ours, theirs, guess))
    if a.numel() == 1 or b.numel() == 1:
        return "neither"
    won = torch.stack([a.amin() > torch.maximum(b.amax(), guess), b.amin() > torch.maximum(a.amax(), guess)])
    return ("ours", "theirs")[int(won.int().argmax())] if won.any() else "neither"


def ahead_in_place(ours, theirs, guess):
    ours.sort(), theirs.sort()
    low, high = (ours, theirs) if ours[0] < theirs[0] else (theirs, ours)
    if len(low) >= 2 <= len(high) and low[-1] < high[0] > guess:
        return "ours" if high is ours else "theirs"
    return "neither"


def ahead_by_pairs(ours, theirs, guess):
    """Every seed of one against every seed of the other."""
    if 1 in (len(ours), len(theirs)):
        return "neither"
    for name, one, other in (("ours", ours, theirs), ("theirs", theirs, ours)):
        if all(x > y for x in one for y in (*other, guess)):
            return name
    return "neither"


def ahead_in_a_row(ours, theirs, guess):
    """All seeds in one row, from the worst to the best, with the names of whose they are."""
    row = tuple(sorted([(x, "ours") for x in ours] + [(x, "theirs") for x in theirs]))
    (_, loser), (_, winner) = row[0], row[-1]
    of = {"ours": tuple(ours), "theirs": tuple(theirs)}
    apart = loser != winner and {name for _, name in row[: len(of[loser])]} == {loser}
    apart = apart and row[len(of[loser]) - 1][0] != row[len(of[loser])][0]
    return winner if apart and min(of[winner]) > guess and all(len(seeds) > 1 for seeds in of.values()) else "neither"


def ahead_by_hand(a, b, g):
    worst = best = a[0]
    for x in a[1:]:
        worst = x if x < worst else worst
        best = x if x > best else best
    lowest = highest = b[0]
    for x in b[1:]:
        lowest = x if x < lowest else lowest
        highest = x if x > highest else highest
    if len(a) < 2 or len(b) < 2:
        said = "neither"
    elif worst > highest and worst > g:
        said = "ours"
    elif lowest > best and lowest > g:
        said = "theirs"
    else:
        said = "neither"
    return said


def ahead_by_margins(ours, theirs, guess):
    worst = {"ours": min(ours), "theirs": min(theirs)}
    margins = {"ours": worst["ours"] - max(theirs), "theirs": worst["theirs"] - max(ours)}
    name = max(margins, key=margins.get)
    clear = margins[name] > 0 < worst[name] - guess
    return name if clear and not {len(ours), len(theirs)} & {1} else "neither"


def guess_for_ours_alone(ours, theirs, guess):
    if len(ours) < 2 or len(theirs) < 2:
        return "neither"
    if min(ours) > max(theirs):
        return "ours" if min(ours) > guess else "neither"
    return "theirs" if min(theirs) > max(ours) else "neither"


def ahead_if(rule, fewest=2):
    """A verdict by another rule for one model, of its seeds as an array, the other's, and a guess."""

    def verdict(ours, theirs, guess):
        models = np.array(ours), np.array(theirs)
        if min(map(len, models)) < fewest:
            return "neither"
        if rule(*models, guess):
            return "ours"
        return "theirs" if rule(*models[::-1], guess) else "neither"

    return verdict


ANSWERS = {
    "who-is-ahead": (
        [
            ahead_in_numpy,
            ahead_by_number,
            ahead_in_tensors,
            ahead_in_place,
            ahead_by_pairs,
            ahead_in_a_row,
            ahead_by_hand,
            ahead_by_margins,
            lambda *given: f" {ahead_by_pairs(*given)}\n",
            ahead_if(lambda one, other, guess: one.min() > np.r_[other, guess].max()),
        ],
        {
            "a few good seeds can lift a mean": ahead_if(
                lambda one, other, guess: one.mean() > other.mean() and one.min() > guess
            ),
            "compare means, with each other and with guessing": ahead_if(
                lambda one, other, guess: one.sum() / len(one) > max(other.sum() / len(other), guess)
            ),
            "The higher mean alone": lambda ours, theirs, guess: (
                "ours" if np.mean(ours) > np.mean(theirs) else "theirs"
            ),
            "means and standard deviations": ahead_if(
                lambda one, other, guess: one.mean() - one.std() > other.mean() + other.std() and one.min() > guess
            ),
            "compare the best seeds": ahead_if(lambda one, other, guess: one.max() > other.max() and one.min() > guess),
            "better best seed alone": lambda ours, theirs, guess: "ours" if max(ours) > max(theirs) else "theirs",
            "compare the worst seeds": ahead_if(lambda one, other, guess: one.min() > max(other.min(), guess)),
            "Guessing is forgotten": lambda ours, theirs, guess: ahead_by_pairs(ours, theirs, -1),
            "the chapter's rule alone": ahead_if(lambda one, other, guess: one.min() > other.max(), fewest=1),
            "Where the ranges touch": ahead_if(
                lambda one, other, guess: one.min() >= other.max() and one.min() > guess
            ),
            "that equals guessing": ahead_if(lambda one, other, guess: one.min() > other.max() and one.min() >= guess),
            "Equal is not above": ahead_if(lambda one, other, guess: one.min() >= max(other.max(), guess)),
            "`zip` drops the rest": ahead_if(
                lambda one, other, guess: all(x > y for x, y in zip(one, other)) and all(one > guess)
            ),
            "cut to the length of the shorter": lambda ours, theirs, guess: ahead_by_pairs(
                *zip(*zip(ours, theirs)), guess
            ),
            "different numbers of seeds": lambda ours, theirs, guess: (
                "neither" if len(ours) != len(theirs) else ahead_by_hand(ours, theirs, guess)
            ),
            "says `ours` whatever": lambda *given: "ours",
            "says `neither` whatever": lambda *given: "neither",
            "never says `theirs`": lambda ours, theirs, guess: (
                "ours" if len(ours) > 1 < len(theirs) and min(ours) > max(*theirs, guess) else "neither"
            ),
            "The two are swapped": lambda ours, theirs, guess: ahead_in_place(theirs, ours, guess),
            "A single seed cannot tell": ahead_if(lambda one, other, guess: one.min() > max(*other, guess), fewest=1),
            "*either* model is too few": lambda ours, theirs, guess: (
                ahead_if(lambda one, other, guess: min(one) > max(*other, guess), fewest=1)(ours, theirs, guess)
                if len(ours) + len(theirs) > 2
                else "neither"
            ),
            "Two seeds of each model are enough": ahead_if(
                lambda one, other, guess: one.min() > max(other.max(), guess), fewest=3
            ),
            "may well be guessing": lambda ours, theirs, guess: (
                "neither" if min(ours + theirs) <= guess else ahead_by_hand(ours, theirs, guess)
            ),
            "held against our model alone": guess_for_ours_alone,
            "guessing with the winner's mean": ahead_if(
                lambda one, other, guess: one.min() > other.max() and one.mean() > guess
            ),
            "guessing with the winner's best": ahead_if(
                lambda one, other, guess: one.min() > other.max() and one.max() > guess
            ),
            "not always the worst, and the last not always the best": ahead_if(
                lambda one, other, guess: one[0] > other[-1] and one[0] > guess
            ),
            "not always the best, and the last not always the worst": ahead_if(
                lambda one, other, guess: one[-1] > other[0] and one[-1] > guess
            ),
        },
    ),
    "finch-step": (
        [
            finch_in_place,
            finch_in_numpy,
            finch_by_shares,
            lambda *given: finch_in_place(*(x.float() for x in given)),
            lambda *given: tuple(part.tolist() for part in finch_by_shares(*given)),
        ],
        {
            "read after the write": finch_writes_first,
            "not in what is read": lambda S, r, k, v, u, w: finch_by_shares(S, r, k, v, 0 * u, w),
            "gain is missing": lambda S, r, k, v, u, w: finch_by_shares(S, r, k, v, u / u, w),
            "a factor here": lambda *given: finch_in_numpy(*given, u=np.exp),
            "is written too": lambda S, r, k, v, u, w: (
                finch_by_shares(S, r, k, v, u, w)[0],
                finch_in_numpy(S, r, u * k, v, u, w)[1],
            ),
            "fades before it is read": lambda S, r, k, v, u, w: (
                r @ (torch.exp(-torch.exp(w))[:, None] * S) + (r * u * k).sum() * v,
                finch_by_shares(S, r, k, v, u, w)[1],
            ),
            "Two exponentials lead": lambda *given: finch_in_numpy(*given, rate=lambda w: w),
            "columns fade": lambda S, r, k, v, u, w: (
                finch_by_shares(S, r, k, v, u, w)[0],
                S * torch.exp(-torch.exp(w)) + torch.outer(k, v),
            ),
            "fades with the rest": lambda S, r, k, v, u, w: (
                finch_by_shares(S, r, k, v, u, w)[0],
                (S + torch.outer(k, v)) * torch.exp(-w.exp()).unsqueeze(1),
            ),
            "Key and value are swapped": lambda S, r, k, v, u, w: finch_in_numpy(S, r, v, k, u, w),
            "goes to the columns": lambda S, r, k, v, u, w: (
                S @ r + u * k * (v @ r),
                finch_by_shares(S, r, k, v, u, w)[1],
            ),
            "first what is read": lambda *given: finch_in_place(*given)[::-1],
        },
    ),
    "bit-by-bit": (
        [
            told_step_by_step,
            lambda rate, times: (1 - (new := -math.expm1(times * math.log1p(-rate))), new),
            lambda rate, times: np.array([(1 - rate) ** times, 1 - (1 - rate) ** times]),
            lambda rate, times: torch.linalg.matrix_power(torch.tensor([[1 - rate, 0], [rate, 1]]), times)[:, 0],
        ],
        {
            "old city comes first": lambda rate, times: (1 - (1 - rate) ** times, (1 - rate) ** times),
            "share that is *removed*": lambda rate, times: (rate**times, 1 - rate**times),
            "not the same amount": lambda rate, times: (1 - times * rate, times * rate),
            "not at 1": lambda rate, times: ((1 - rate) ** times, 1),
            "of the new one, too": lambda rate, times: ((1 - rate) ** times, rate * times),
            "One time too few": lambda rate, times: told_step_by_step(rate, times - 1),
            "Nothing was removed": lambda rate, times: [1.0, times * rate],
            "after it was told once": lambda rate, times: (1 - rate, rate),
            "not whole": whole_keys,
        },
    ),
    "as-eagle": (
        [
            lambda key, value, log_decay: (key, value, (-log_decay.exp()).exp(), 0 * key, 1 + 0 * key),
            lambda key, value, log_decay: [key.tolist(), value, exp(-exp(log_decay)), value, 0.0],
            eagle_in_place,
            lambda key, value, log_decay: (key, value, np.exp(-np.exp(log_decay.numpy())), np.zeros(len(key)), 0),
        ],
        {
            "It still removes": lambda key, value, log_decay: (key, value, exp(-exp(log_decay)), key, 1.0),
            "Nothing fades": lambda key, value, log_decay: (key, value, 1.0, key, 0.0),
            "`log_decay` itself": lambda key, value, log_decay: (key, value, log_decay, key, 0.0),
            "You passed the rate": lambda key, value, log_decay: (key, value, log_decay.exp(), key, 0.0),
            "two exponentials": lambda key, value, log_decay: (key, value, exp(-log_decay), 0 * key, 0.0),
            "as in RWKV-4": lambda key, value, log_decay: (key.exp(), value, exp(-exp(log_decay)), key, 0.0),
            "rows are where": lambda key, value, log_decay: (value, key, exp(-exp(log_decay)), key, 0.0),
        },
    ),
    "swap": (
        [
            swapped_by_loops,
            lambda i, j, size: (unit(j, i, size), 2),
            lambda i, j, size: ((np.eye(size)[i] - np.eye(size)[j]) * 0.5**0.5, np.array(2)),
            swapped_in_place,
        ],
        {
            "both are at their average": lambda i, j, size: (unit(i, j, size), 1),
            "a removal key has the length 1": lambda i, j, size: (2**0.5 * unit(i, j, size), 1),
            "more is removed than you meant": lambda i, j, size: (2**0.5 * unit(i, j, size), 2),
            "changed their sign": lambda i, j, size: (unit(i, j, size, 1.0), 2),
            "The first row is gone": lambda i, j, size: (torch.eye(size)[i], 1),
            "so each of the two is √½": lambda i, j, size: (unit(i, j, size) / 2**0.5, 2),
            "first the removal key": lambda i, j, size: (2.0, unit(i, j, size)),
            "moved apart": lambda i, j, size: (unit(i, j, size), -2),
        },
    ),
    "goose-write": (
        [
            goose_in_place,
            goose_in_numpy,
            lambda S, k, v, w, q, rate: (torch.diag(w) - (rate * q)[:, None] * q) @ S + k[:, None] * v,
            lambda *given: goose_in_place(*(x.float() for x in given)),
        ],
        {
            "Finch's write": lambda S, k, v, w, q, rate: torch.diag(w) @ S + torch.outer(k, v),
            "Nothing fades": lambda S, k, v, w, q, rate: goose_in_numpy(S, k, v, torch.ones(len(w)), q, rate),
            "has faded already": lambda S, k, v, w, q, rate: goose_in_numpy(
                w[:, None] * S, k, v, torch.ones(len(w)), q, rate
            ),
            "`rate` is missing": lambda S, k, v, w, q, rate: goose_in_numpy(S, k, v, w, q, torch.ones(len(w))),
            "rows are where": lambda S, k, v, w, q, rate: goose_in_numpy(S, v, k, w, q, rate),
            "by columns": lambda S, k, v, w, q, rate: w[:, None] * S - torch.outer(rate * q, S @ q) + torch.outer(k, v),
            "not written": lambda S, k, v, w, q, rate: w[:, None] * S - torch.outer(rate * q, q @ S),
        },
    ),
}
