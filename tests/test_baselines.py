"""The predictors that count: proper probabilities, as the formulas say, and better the more they look back."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_explainer.lab.baselines import KneserNey, unigram_losses

VOCABULARY = 7
ids = st.integers(0, VOCABULARY - 1)
texts = st.lists(ids, min_size=3, max_size=60).map(np.array)
some = settings(deadline=None, derandomize=True, max_examples=50)


@given(train=texts, before=st.lists(ids, min_size=2, max_size=2), n=st.integers(1, 3))
@some
def test_probabilities_sum_to_1_after_any_two_tokens_and_none_is_0(train, before, n):
    model = KneserNey(train, VOCABULARY, n)
    every = [np.exp(-model.losses(np.array([*before, token]))[-1]) for token in range(VOCABULARY)]
    assert min(every) > 0
    assert sum(every) == pytest.approx(1, abs=1e-12)


@given(train=texts)
@some
def test_unigrams_sum_to_1_and_never_say_never(train):
    every = np.exp(-unigram_losses(train, np.arange(VOCABULARY), VOCABULARY))
    assert every.sum() == pytest.approx(1, abs=1e-12)
    assert every.min() > 0
    assert unigram_losses(train, train[:1], VOCABULARY)[0] == pytest.approx(
        -math.log(((train == train[0]).sum() + 1) / (len(train) + VOCABULARY))
    )


def probability(ngrams, context, token):
    """Kneser-Ney with dictionaries and recursion: `ngrams` is all there is to count, each as often as it counts."""
    counts, totals, kinds = Counter(ngrams), Counter(), defaultdict(set)
    for ngram, count in counts.items():
        totals[ngram[:-1]] += count
        kinds[ngram[:-1]].add(ngram[-1])
    once, twice = (sum(count == k for count in counts.values()) + 1 for k in (1, 2))
    discount = once / (once + 2 * twice)
    shorter = [ngram[1:] for ngram in counts]  # each once for every different token before it
    below = probability(shorter, context[1:], token) if context else 1 / VOCABULARY
    if not totals[context]:
        return below
    share = max(0, counts[(*context, token)] - discount) / totals[context]
    return share + discount * len(kinds[context]) / totals[context] * below


@given(train=texts, test=texts, n=st.integers(1, 3))
@some
def test_kneser_ney_is_what_the_recursion_says(train, test, n):
    runs = lambda ids: [tuple(ids[i : i + n].tolist()) for i in range(len(ids) - n + 1)]
    expected = [probability(runs(train), ngram[:-1], ngram[-1]) for ngram in runs(test)]
    np.testing.assert_allclose(np.exp(-KneserNey(train, VOCABULARY, n).losses(test)), expected, atol=1e-12)


def test_looking_back_pays_where_text_has_structure():
    rng = np.random.default_rng(0)
    tokens = [0, 1]
    for _ in range(6000):  # mostly the sum of the two before
        tokens.append(int(rng.integers(50)) if rng.random() < 0.2 else (tokens[-1] + tokens[-2]) % 50)
    train, test = np.array(tokens[:5000]), np.array(tokens[5000:])
    three, two, one = (KneserNey(train, 50, n).losses(test).mean() for n in (3, 2, 1))
    unigrams = unigram_losses(train, test, 50).mean()
    assert three < unigrams - 0.5
    assert three < two - 0.5 and three < one - 0.5
    assert abs(unigrams - math.log(50)) < 0.1


def test_of_tokens_that_come_in_pairs_the_second_is_known():
    train = np.array([0, 1, 2, 3, 0, 1, 4, 5, 2, 3, 4, 5] * 30)
    losses = KneserNey(train, 6, n=2).losses(np.array([0, 1, 2, 3]))
    assert losses[0] < 0.05 and losses[2] < 0.05
    assert losses[1] > 0.5
