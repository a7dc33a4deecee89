"""What a language model has to beat: predictors that count instead of learn, on the same tokens.

Chapter "Training" and the model card. All logarithms are natural.
"""

from dataclasses import dataclass

import numpy as np


def unigram_losses(train: np.ndarray, test: np.ndarray, vocabulary: int) -> np.ndarray:
    """Negative log-probability of each test id by its share in `train`, every token counted once more: (tokens,)."""
    counts = np.bincount(train, minlength=vocabulary) + 1.0  # (vocabulary,)
    return -np.log(counts / counts.sum())[test]


@dataclass(frozen=True)
class Counts:
    """How often each n-gram occurs: sorted codes of n-grams, and their counts."""

    codes: np.ndarray  # (n-grams,) int64, sorted
    counts: np.ndarray  # (n-grams,) int64

    @classmethod
    def of(cls, codes: np.ndarray) -> "Counts":
        return cls(*np.unique(codes, return_counts=True))

    def __getitem__(self, codes: np.ndarray) -> np.ndarray:
        """Counts of these n-grams, 0 for those never seen."""
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[at] == codes, self.counts[at], 0)


class KneserNey:
    """An interpolated Kneser-Ney model of trigrams (Kneser and Ney 1995; Chen and Goodman 1999, equation 25).

    A trigram's count is discounted, and what is taken away goes to the bigram model, whose counts are of how many
    different tokens a bigram follows; likewise from bigrams to unigrams, and from those to the uniform distribution.
    """

    def __init__(self, train: np.ndarray, vocabulary: int):
        ids, v = train.astype(np.int64), vocabulary
        self.vocabulary = v
        bigrams = ids[:-1] * v + ids[1:]
        trigrams = bigrams[:-1] * v + ids[2:]
        three = Counts.of(trigrams)
        two = Counts.of(three.codes % v**2)  # in how many contexts each bigram was seen
        one = Counts.of(two.codes % v)
        self.orders = [Order(one, np.zeros_like(one.codes)), Order(two, two.codes // v), Order(three, three.codes // v)]

    def losses(self, test: np.ndarray) -> np.ndarray:
        """Negative log-probability of each test id but the first two, given the two before it: (tokens - 2,)."""
        ids, v = test.astype(np.int64), self.vocabulary
        a, b, c = ids[:-2], ids[1:-1], ids[2:]
        p = np.full(len(c), 1 / v)
        for order, context in zip(self.orders, (np.zeros_like(c), b, a * v + b)):
            p = order.probability(context, context * v + c, below=p)
        return -np.log(p)


class Order:
    """The n-grams of one length, with their discount."""

    def __init__(self, ngrams: Counts, contexts: np.ndarray):
        self.ngrams = ngrams
        starts = np.flatnonzero(np.diff(contexts, prepend=-1))  # n-grams are sorted, so each context is one stretch
        self.totals = Counts(contexts[starts], np.add.reduceat(ngrams.counts, starts))
        self.followers = Counts(contexts[starts], np.diff(starts, append=len(contexts)))
        once, twice = (ngrams.counts == 1).sum(), (ngrams.counts == 2).sum()
        self.discount = once / max(1, once + 2 * twice)

    def probability(self, context: np.ndarray, ngram: np.ndarray, below: np.ndarray) -> np.ndarray:
        """The discounted share of the n-gram in its context, and of `below` what the discounts set free."""
        total, kinds = self.totals[context], self.followers[context]
        seen = np.maximum(self.ngrams[ngram] - self.discount, 0)
        return np.where(total > 0, (seen + self.discount * kinds * below) / np.maximum(total, 1), below)
