"""Answers to the exercises of chapter "Training"."""

import math
from fractions import Fraction

import numpy as np
import torch


def on_paper(chances):
    loss = -sum(math.log(chance) for chance in chances) / len(chances)
    return [loss, math.exp(loss)]


def loss_by_loop(logits, ids, shift=1):
    return sum(-torch.log(torch.softmax(row, 0)[ids[t + shift]]) for t, row in enumerate(logits)) / len(logits)


def loss_in_numpy(logits, ids):
    logits, ids = logits.numpy(), ids.numpy()
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return np.mean(-logits[np.arange(len(logits)), ids[1:]])


def loss_in_place(logits, ids):
    logits -= logits.logsumexp(-1, keepdim=True)
    total = 0.0
    for t in range(len(ids) - 1):
        total -= logits[t, ids[t + 1]].item()
    return total / (len(ids) - 1)


def with_optimizer(loss_of, weights, learning_rate, steps):
    weights = torch.nn.Parameter(weights)
    optimizer = torch.optim.SGD([weights], lr=learning_rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(weights)
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return weights, losses


def with_autograd_grad(loss_of, weights, learning_rate, steps, sign=-1, note=0):
    losses = []
    for _ in range(steps):
        at = weights.detach().requires_grad_()
        loss = loss_of(at)
        weights = at + sign * learning_rate * torch.autograd.grad(loss, at)[0]
        losses.append((loss, loss_of(weights))[note].item())
    return weights, losses


def in_place(loss_of, w, rate, n):
    losses = torch.zeros(n)
    w.requires_grad_(True)
    for i in range(n):
        losses[i] = loss_of(w)
        loss_of(w).backward()
        w.data -= rate * w.grad
        w.grad.zero_()
    return [w, losses]


def without_autograd(loss_of, weights, learning_rate, steps):
    gradient_of = torch.func.grad(loss_of)
    losses = np.zeros(steps)
    for i in range(steps):
        losses[i] = loss_of(weights)
        weights = weights - learning_rate * gradient_of(weights)
    return weights.numpy(), losses


def never_cleared(loss_of, weights, learning_rate, steps):
    weights.requires_grad_()
    losses = []
    for _ in range(steps):
        loss = loss_of(weights)
        loss.backward()
        weights.data.sub_(learning_rate * weights.grad)
        losses.append(loss.item())
    return weights, losses


def backward_once(loss_of, weights, learning_rate, steps):
    gradient = torch.func.grad(loss_of)(weights)
    path = [weights - learning_rate * n * gradient for n in range(steps + 1)]
    return path[-1], [loss_of(at) for at in path[:-1]]


def new_names(loss_of, weights, learning_rate, steps):
    moved = weights - learning_rate * torch.func.grad(loss_of)(weights)
    return weights, [loss_of(weights) for _ in range(steps) if moved is not None]


def by_signs(loss_of, weights, learning_rate, steps):
    losses = []
    for _ in range(steps):
        losses.append(loss_of(weights))
        weights = weights - learning_rate * torch.sign(torch.func.grad(loss_of)(weights))
    return weights, losses


ANSWERS = {
    "training-loop": (
        [with_optimizer, with_autograd_grad, in_place, without_autograd],
        {
            "gradients add up": never_cleared,
            "points uphill": lambda *given: with_autograd_grad(*given, sign=1),
            "take its gradient again": backward_once,
            "noted before its step": lambda *given: with_autograd_grad(*given, note=1),
            "too few": lambda loss_of, weights, rate, steps: in_place(loss_of, weights, rate, steps - 1),
            "too many": lambda loss_of, weights, rate, steps: in_place(loss_of, weights, rate, steps + 1),
            "learning rate is missing": lambda loss_of, weights, rate, steps: without_autograd(
                loss_of, weights, 1, steps
            ),
            "do not move": new_names,
            "Adam's first step": by_signs,
            "first the weights": lambda *given: with_optimizer(*given)[::-1],
        },
    ),
    "loss-on-paper": (
        [
            on_paper,
            lambda chances: np.array([x := -np.log(chances).mean(), np.exp(x)]),
            lambda chances: (x := -torch.tensor(chances).log().mean(), x.exp()),
            lambda chances: (float(x := sum(map(math.log2, chances)) / -4) * math.log(2), 2**x),
            lambda chances: [round(number, 2) for number in on_paper(chances)],
            lambda chances: torch.tensor(on_paper(chances), dtype=torch.float32),
        ],
        {
            "in bits": lambda chances: [on_paper(chances)[0] / math.log(2), on_paper(chances)[1]],
            "sum over the four": lambda chances: [4 * on_paper(chances)[0], on_paper(chances)[1]],
            "averaged the probabilities": lambda chances: [
                -math.log(sum(map(Fraction, chances)) / 4),
                float(4 / sum(map(Fraction, chances))),
            ],
            "loss is positive": lambda chances: [-on_paper(chances)[0], on_paper(chances)[1]],
            "you mixed the two": lambda chances: [on_paper(chances)[0], 2 ** on_paper(chances)[0]],
            "four numbers of tokens": lambda chances: [
                on_paper(chances)[0],
                float(sum(1 / Fraction(chance) for chance in chances) / 4),
            ],
            "sum over the four tokens, and its": lambda chances: [
                -math.log(math.prod(chances)),
                1 / math.prod(chances),
            ],
            "sum over the four tokens, in bits": lambda chances: [
                -math.log2(math.prod(chances)),
                1 / math.prod(chances),
            ],
            "e was raised to it": lambda chances: [x := -np.mean(np.log2(chances)), np.exp(x)],
            "base 10": lambda chances: [x := -np.mean(np.log10(chances)), 10**x],
            "first the loss": lambda chances: on_paper(chances)[::-1],
            "So the number of tokens is above 1": lambda chances: [x := np.mean(np.log(chances)), np.exp(x)],
            "Upside down": lambda chances: [on_paper(chances)[0], math.prod(chances) ** 0.25],
            "You averaged the numbers of tokens": lambda chances: [math.log(x := np.mean(1 / np.array(chances))), x],
            "The loss is right; the number of tokens": lambda chances: [on_paper(chances)[0], 4 / sum(chances)],
        },
    ),
    "next-token-loss": (
        [
            loss_by_loop,
            lambda logits, ids: torch.nn.functional.cross_entropy(logits.float(), ids[1:]),
            loss_in_numpy,
            loss_in_place,
            lambda logits, ids: [-logits.log_softmax(-1).gather(1, ids[1:].unsqueeze(1)).mean().item()],
        ],
        {
            "add up their logarithms": lambda logits, ids: (
                -torch.log(torch.prod(torch.softmax(logits, 1)[range(len(logits)), ids[1:]])) / len(logits)
            ),
            "never predicted": lambda logits, ids: sum(loss_by_loop(logits, ids) for _ in logits) / len(ids),
            "just read": lambda logits, ids: loss_by_loop(logits, ids, shift=0),
            "loss is the mean": lambda logits, ids: loss_by_loop(logits, ids) * len(logits),
            "taken twice": lambda logits, ids: loss_by_loop(torch.softmax(logits, -1), ids),
            "not logarithms": lambda logits, ids: -logits[range(len(logits)), ids[1:]].mean(),
            "That is in bits": lambda logits, ids: loss_by_loop(logits, ids) / math.log(2),
            "sign": lambda logits, ids: -loss_by_loop(logits, ids),
            "last token alone": lambda logits, ids: -logits[-1].log_softmax(0)[ids[-1]],
            "one number for each token": lambda logits, ids: torch.nn.functional.cross_entropy(
                logits, ids[1:], reduction="none"
            ),
            "takes every id in every row": lambda logits, ids: -torch.log_softmax(logits, 1)[:, ids[1:]].mean(),
            "mean *probability*": lambda logits, ids: -torch.softmax(logits, 1)[range(len(logits)), ids[1:]].mean(),
            "over the moments": lambda logits, ids: -torch.log_softmax(logits, 0)[range(len(logits)), ids[1:]].mean(),
        },
    ),
    "bits-per-byte": (
        [
            lambda loss, tokens, length: math.log2(math.exp(loss)) * tokens / length,
            lambda nats, n, size: torch.tensor(nats * n / size) / torch.tensor(2.0).log(),
            lambda loss, tokens, length: np.float64(loss) / (np.log(2) * (length / tokens)),
            lambda loss, tokens, length: sum([loss] * tokens) * math.log2(math.e) / length,
        ],
        {
            "nats per byte": lambda loss, tokens, length: loss * tokens / length,
            "bits per token": lambda loss, tokens, length: loss / math.log(2),
            "divide by its bytes": lambda loss, tokens, length: loss * tokens / math.log(2),
            "*more* than a bit": lambda loss, tokens, length: loss * math.log(2) * tokens / length,
            "wrong side": lambda loss, tokens, length: loss / math.log(2) * (length / tokens),
            "mean per token": lambda loss, tokens, length: loss / math.log(2) / length,
            "*of* the loss": lambda loss, tokens, length: math.log2(loss) * tokens / length,
        },
    ),
}
