"""The exercises of chapter "Training"."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from rwkv_explainer.exercises.cases import normal, randint
from rwkv_explainer.exercises.exercise import Exercise

__all__ = ["EXERCISES"]


def four_chances(random: Generator) -> list[tuple]:
    """Probabilities that are powers of ½."""
    return [([0.5 ** randint(random, 1, 12) for _ in range(4)],)]


def bits(chances: list[float]) -> list[float]:
    return [-math.log2(chance) for chance in chances]


def on_paper(chances: list[float]) -> list[float]:
    mean = sum(bits(chances)) / len(chances)
    return [mean * math.log(2), 2**mean]


def times_loss(factor: float | int, base: float | int = math.e) -> Callable:
    """An answer whose loss is a multiple of the right one, and whose number of tokens is `base` to that loss."""

    def answer(chances: list[float]) -> list[float]:
        loss = factor * on_paper(chances)[0]
        return [loss, base**loss]

    return answer


def mean_chance(chances: list[float]) -> float:
    return sum(chances) / len(chances)


def mean_number(chances: list[float]) -> float:
    """The mean of the numbers of tokens that each probability stands for."""
    return sum(1 / chance for chance in chances) / len(chances)


LOSS_ON_PAPER = Exercise(
    name="loss-on-paper",
    is_value=True,
    cases=four_chances,
    reference=on_paper,
    result_name="answer",
    tolerance=0.01,
    success_message="The mean of four logarithms, and its exponential: among so many tokens the model chose, on average.",
    mistakes={
        "That is in bits; nats are natural logarithms, smaller by a factor of log 2.": lambda chances: [
            on_paper(chances)[0] / math.log(2),
            on_paper(chances)[1],
        ],
        "That is the sum over the four tokens; a loss is their mean.": lambda chances: [
            4 * on_paper(chances)[0],
            on_paper(chances)[1],
        ],
        "You averaged the probabilities, then took the logarithm; the logarithms are averaged.": lambda chances: [
            -math.log(mean_chance(chances)),
            1 / mean_chance(chances),
        ],
        "A loss is positive: minus the logarithm.": lambda chances: [-on_paper(chances)[0], on_paper(chances)[1]],
        "The number of tokens is e to the loss in nats, or 2 to the loss in bits; you mixed the two.": lambda chances: [
            on_paper(chances)[0],
            2 ** on_paper(chances)[0],
        ],
        "That is the mean of four numbers of tokens; take the exponential of the mean of the logarithms.": lambda chances: [
            on_paper(chances)[0],
            mean_number(chances),
        ],
        "That is the sum over the four tokens, and its exponential; a loss is their mean.": times_loss(4),
        "That is the sum over the four tokens, in bits; a loss is their mean, and here in nats.": times_loss(
            4 / math.log(2), base=2
        ),
        "The loss is in bits, and e was raised to it: nats are natural logarithms, and e goes with them.": times_loss(
            1 / math.log(2)
        ),
        "That is a logarithm to base 10; nats are natural logarithms.": times_loss(1 / math.log(10), base=10),
        "A loss is positive: minus the logarithm. So the number of tokens is above 1.": times_loss(-1),
        "The two are swapped: first the loss, then the number of tokens.": lambda chances: on_paper(chances)[::-1],
        "Upside down: that is the probability that each token would have; the number of tokens is 1 over it.": lambda chances: [
            on_paper(chances)[0],
            1 / on_paper(chances)[1],
        ],
        "You averaged the numbers of tokens, then took the logarithm; the logarithms are averaged.": lambda chances: [
            math.log(mean_number(chances)),
            mean_number(chances),
        ],
        "The loss is right; the number of tokens is its exponential, not 1 over the mean of the probabilities.": lambda chances: [
            on_paper(chances)[0],
            1 / mean_chance(chances),
        ],
    },
)


def texts(random: Generator) -> list[tuple]:
    return [(3 * normal(random, time, 7), torch.randint(7, (time + 1,), generator=random)) for time in (4, 9, 400)]


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, targets)


NEXT_TOKEN_LOSS = Exercise(
    name="next-token-loss",
    cases=texts,
    reference=lambda logits, ids: loss_of(logits, ids[1:]),
    result_name="the loss",
    success_message="Over texts of 5, 10 and 401 tokens: what the model expected after each token, against the one that came.",
    mistakes={
        "The model is asked for the token that it has just read; compare with the one that comes next.": lambda logits, ids: (
            loss_of(logits, ids[:-1])
        ),
        "That is one number for each token; a loss is their mean.": lambda logits, ids: (
            -logits.log_softmax(dim=1).gather(1, ids[1:, None])[:, 0]
        ),
        "`p[:, ids]` takes every id in every row; each row is about one token: `p[torch.arange(len(p)), ids[1:]]`.": lambda logits, ids: (
            -logits.log_softmax(dim=1)[:, ids[1:]].mean()
        ),
        "That is the sum over the text; a loss is the mean.": lambda logits, ids: (
            (len(ids) - 1) * loss_of(logits, ids[1:])
        ),
        "The product of four hundred probabilities is smaller than any number above 0 that a float holds: add up their logarithms.": lambda logits, ids: (
            -logits.softmax(dim=1).gather(1, ids[1:, None]).prod().log() / len(logits)
        ),
        "You divided by the number of tokens of the text; of these, one is never predicted.": lambda logits, ids: (
            loss_of(logits, ids[1:]) * len(logits) / len(ids)
        ),
        "That is in bits; the chapter's losses are in nats.": lambda logits, ids: (
            loss_of(logits, ids[1:]) / math.log(2)
        ),
        "The softmax ran over the moments of the text instead of the vocabulary.": lambda logits, ids: (
            -logits.log_softmax(dim=0).gather(1, ids[1:, None]).mean()
        ),
        "Logits are not logarithms of probabilities yet: the softmax's sum has to be subtracted.": lambda logits, ids: (
            -logits.gather(1, ids[1:, None]).mean()
        ),
        "The softmax was taken twice: `cross_entropy` takes logits.": lambda logits, ids: loss_of(
            logits.softmax(dim=1), ids[1:]
        ),
        "The sign is turned around.": lambda logits, ids: -loss_of(logits, ids[1:]),
        "That is the loss of the last token alone.": lambda logits, ids: loss_of(logits[-1:], ids[-1:]),
        "That is minus the mean *probability*; take its logarithm first.": lambda logits, ids: (
            -logits.softmax(dim=1).gather(1, ids[1:, None]).mean()
        ),
    },
)


def texts_in_bytes(random: Generator) -> list[tuple]:
    return [
        (float(randint(random, 20, 50)) / 10, randint(random, 100, 200), randint(random, 400, 900)) for _ in range(3)
    ]


BITS_PER_BYTE = Exercise(
    name="bits-per-byte",
    cases=texts_in_bytes,
    reference=lambda loss, tokens, length: loss * tokens / math.log(2) / length,
    result_name="bits per byte",
    success_message="For three texts: all bits of all tokens, spread over the bytes.",
    mistakes={
        "These are nats per byte: a bit is log 2 nats, so divide by log 2.": lambda loss, tokens, length: (
            loss * tokens / length
        ),
        "That is a logarithm to base 2 *of* the loss; nats become bits when they are divided by log 2.": lambda loss, tokens, length: (
            math.log2(loss) * tokens / length
        ),
        "Multiplied where it should be divided: a nat is *more* than a bit.": lambda loss, tokens, length: (
            loss * tokens * math.log(2) / length
        ),
        "These are bits per token; a byte is less than a token.": lambda loss, tokens, length: loss / math.log(2),
        "The bytes are on the wrong side: divide by their number.": lambda loss, tokens, length: (
            loss / math.log(2) * length / tokens
        ),
        "The loss is a mean per token: multiply by the number of tokens first.": lambda loss, tokens, length: (
            loss / math.log(2) / length
        ),
        "These are all bits of the text; divide by its bytes.": lambda loss, tokens, length: (
            loss * tokens / math.log(2)
        ),
    },
)


def losses_to_lower(random: Generator) -> list[tuple]:
    """Smooth losses of a few weights, where they start, a learning rate, and a number of steps."""
    cases = []
    for size, steps in ((3, 4), (5, 7)):
        matrix, target = normal(random, size, size), normal(random, size)

        def loss_of(weights: Tensor, matrix: Tensor = matrix, target: Tensor = target) -> Tensor:
            return (torch.tanh(matrix @ weights) - target).square().mean()

        cases.append((loss_of, 0.3 * normal(random, size), 0.2, steps))
    return cases


def run_training(train: Callable, loss_of: Callable, weights: Tensor, learning_rate: float, steps: int) -> Any:
    """What a training loop returns; gradients are on, whatever the notebook has."""
    with torch.enable_grad():
        return train(loss_of, weights, learning_rate, steps)


def train_with(slip: str) -> Callable:
    """A loop of gradient descent with one slip; with none, the right one."""

    def train(loss_of: Callable, weights: Tensor, learning_rate: float, steps: int) -> tuple[Tensor, list[float]]:
        weights, losses = weights.clone().requires_grad_(), []
        for step in range(steps - (slip == "too few") + (slip == "too many")):
            loss = loss_of(weights)
            if not (slip == "first gradient" and step):
                loss.backward()
            with torch.no_grad():
                gradient = weights.grad.sign() if slip == "sign" else weights.grad
                if slip != "nothing moves":
                    weights += (1 if slip == "climbs" else -1) * (1 if slip == "whole" else learning_rate) * gradient
                if slip not in ("adds up", "first gradient"):
                    weights.grad = None
            losses.append((loss_of(weights) if slip == "noted late" else loss).item())
        return weights.detach(), losses

    return train


TRAINING_LOOP = Exercise(
    name="training-loop",
    cases=losses_to_lower,
    reference=train_with("no slip"),
    run=run_training,
    result_name="weights and losses",
    success_message="On two losses, of 3 and of 5 weights: forward, backward, step, and a gradient that starts anew each time.",
    mistakes={
        "The first step is right. Then gradients add up: PyTorch adds each new one to the old until you clear it.": train_with(
            "adds up"
        ),
        "The loss rises: a gradient points uphill, so it is *subtracted*.": train_with("climbs"),
        "The first step is right, and all others take its gradient again: `loss` and `backward` belong into the loop.": train_with(
            "first gradient"
        ),
        "The weights are right; each loss is to be noted before its step, yours is the one after it.": train_with(
            "noted late"
        ),
        "One step too few.": train_with("too few"),
        "One step too many.": train_with("too many"),
        "The learning rate is missing: the whole gradient is subtracted.": train_with("whole"),
        "The weights do not move: change them in place, or give the new ones to the next round.": train_with(
            "nothing moves"
        ),
        "Each weight moves by a whole learning rate: that is Adam's first step. Multiply the gradient itself.": train_with(
            "sign"
        ),
        "The two are swapped: first the weights, then the losses.": lambda *case: train_with("no slip")(*case)[::-1],
    },
)

EXERCISES = [LOSS_ON_PAPER, NEXT_TOKEN_LOSS, BITS_PER_BYTE, TRAINING_LOOP]
