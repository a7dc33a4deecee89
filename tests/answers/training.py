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
    "loss-on-paper": (
        [on_paper],
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
        },
    ),
    "next-token-loss": (
        [loss_by_loop],
        {
            "just read": lambda logits, ids: loss_by_loop(logits, ids, shift=0),
            "loss is the mean": lambda logits, ids: loss_by_loop(logits, ids) * len(logits),
            "taken twice": lambda logits, ids: loss_by_loop(torch.softmax(logits, -1), ids),
            "not logarithms": lambda logits, ids: -logits[range(len(logits)), ids[1:]].mean(),
            "That is in bits": lambda logits, ids: loss_by_loop(logits, ids) / math.log(2),
            "sign": lambda logits, ids: -loss_by_loop(logits, ids),
            "last token alone": lambda logits, ids: -logits[-1].log_softmax(0)[ids[-1]],
            "mean *probability*": lambda logits, ids: -torch.softmax(logits, 1)[range(len(logits)), ids[1:]].mean(),
            "over the moments": lambda logits, ids: -torch.log_softmax(logits, 0)[range(len(logits)), ids[1:]].mean(),
        },
    ),
    "bits-per-byte": (
        [lambda loss, tokens, length: math.log2(math.exp(loss)) * tokens / length],
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
