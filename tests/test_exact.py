"""The exact probability of atlas text: it is one, it is that of the text which training draws, and a floor."""

import math
from collections import Counter

import numpy as np
import pytest

from rwkv_explainer import load_pretrained
from rwkv_explainer.lab.exact import ExactAtlas
from rwkv_explainer.lab.training import atlas_row
from rwkv_explainer.tokens import END_OF_TEXT_ID

RELATIONS = ("moon-planet", "history-person")  # one with other names and lists, one with words of each fact's own


@pytest.fixture(scope="module")
def tokenizer():
    return load_pretrained()[1]


@pytest.fixture(scope="module")
def exact(tokenizer) -> ExactAtlas:
    return ExactAtlas(tokenizer, RELATIONS)


def rows(tokenizer, count: int, length: int) -> list[list[int]]:
    """Rows of atlas text as training draws them."""
    return [atlas_row(tokenizer, np.random.default_rng([7, i]), length, RELATIONS).tolist() for i in range(count)]


@pytest.mark.parametrize("length", [0, 1, 5, 30])
def test_probabilities_of_the_next_token_sum_to_one(exact, tokenizer, length):
    """Over all tokens that atlas text is made of."""
    for row in rows(tokenizer, 2, 60):
        exact.loss(row)  # so that all words have been cut up
        ids = {END_OF_TEXT_ID}.union(*exact.cut.values())
        before = exact.probability(row[:length]) if length else 1.0
        after = sum(exact.probability([*row[:length], token]) for token in ids)
        assert math.isclose(after, before, rel_tol=1e-9)


def test_every_row_that_training_draws_is_possible(exact, tokenizer):
    losses = [exact.loss(row) for row in rows(tokenizer, 100, 80)]
    assert all(map(math.isfinite, losses)) and 0.2 < np.mean(losses) < 1.5


def test_it_expects_what_comes(exact, tokenizer):
    """Beginnings of rows come as often as it says."""
    drawn = Counter(tuple(row[:4]) for row in rows(tokenizer, 2000, 4))
    for beginning, count in drawn.most_common(8):
        expected = 2000 * exact.probability(beginning)
        assert abs(count - expected) < 4 * math.sqrt(expected)


def test_what_cannot_be_said_has_no_probability(exact, tokenizer):
    assert exact.loss(tokenizer.encode("Titan is a moon of Paris.").ids) == math.inf
    assert exact.loss(tokenizer.encode("Titan is a moon of Saturn").ids) < math.inf
