"""Answers to the exercises of chapter "Training"."""

import math
from fractions import Fraction

import torch


def on_paper(chances):
    p = [float(Fraction(chance)) for chance in chances]
    loss = -sum(math.log(x) for x in p) / len(p)
    return [loss, math.exp(loss)]


def loss_by_loop(logits, ids, shift=1):
    return sum(-torch.log(torch.softmax(row, 0)[ids[t + shift]]) for t, row in enumerate(logits)) / len(logits)


ANSWERS = {
    "loss-on-paper": ([on_paper], {
        "in bits": lambda chances: [on_paper(chances)[0] / math.log(2), on_paper(chances)[1]],
        "sum over the four": lambda chances: [4 * on_paper(chances)[0], on_paper(chances)[1]],
        "averaged the probabilities": lambda chances: [
            -math.log(sum(map(Fraction, chances)) / 4), float(4 / sum(map(Fraction, chances)))],
    }),
    "next-token-loss": ([loss_by_loop], {
        "just read": lambda logits, ids: loss_by_loop(logits, ids, shift=0),
        "loss is the mean": lambda logits, ids: loss_by_loop(logits, ids) * len(logits),
        "taken twice": lambda logits, ids: loss_by_loop(torch.softmax(logits, -1), ids),
    }),
    "bits-per-byte": ([lambda loss, tokens, length: math.log2(math.exp(loss)) * tokens / length], {
        "nats per byte": lambda loss, tokens, length: loss * tokens / length,
        "bits per token": lambda loss, tokens, length: loss / math.log(2),
        "divide by its bytes": lambda loss, tokens, length: loss * tokens / math.log(2),
    }),
}
