"""What a language model has to beat: predictors that count instead of learn, on the same tokens.

Chapter "Training" and the model card. All logarithms are natural.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["KneserNey", "unigram_losses"]


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
        """The n-grams with these codes, (n-grams,), in any order and with repetitions."""
        return cls(*np.unique(codes, return_counts=True))

    def __getitem__(self, codes: np.ndarray) -> np.ndarray:
        """Counts of these n-grams, 0 for those never seen."""
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[at] == codes, self.counts[at], 0)


class KneserNey:
    """An interpolated Kneser-Ney model of n-grams (Kneser and Ney 1995; Chen and Goodman 1999, equation 25).

    A trigram's count is discounted, and what is taken away goes to the bigram model, whose counts are of how many
    different tokens a bigram follows; likewise from bigrams to unigrams, and from those to the uniform distribution.
    """

    def __init__(self, train: np.ndarray, vocabulary: int, n: int = 3):
        self.vocabulary, self.n = vocabulary, n
        ngrams = Counts.of(self.codes(train, n))
        self.orders = []  # from unigrams to n-grams
        for k in reversed(range(n)):
            self.orders.insert(0, Order(ngrams, ngrams.codes // vocabulary))
            ngrams = Counts.of(ngrams.codes % vocabulary**k)  # after how many tokens each shorter one was seen

    def losses(self, test: np.ndarray) -> np.ndarray:
        """Negative log-probability of each test id but the first n - 1, given those before it: (tokens - n + 1,)."""
        codes = self.codes(test, self.n)
        p = np.full(len(codes), 1 / self.vocabulary)
        for k, order in enumerate(self.orders, start=1):
            ngram = codes % self.vocabulary**k
            p = order.probability(ngram // self.vocabulary, ngram, below=p)
        return -np.log(p)

    def codes(self, ids: np.ndarray, n: int) -> np.ndarray:
        """Each run of n ids as one number, its digits in base `vocabulary`: (tokens - n + 1,) int64."""
        runs = np.lib.stride_tricks.sliding_window_view(ids.astype(np.int64), n)  # (tokens - n + 1, n)
        return runs @ self.vocabulary ** np.arange(n - 1, -1, -1)


class Order:
    """The n-grams of one length, with their discount."""

    def __init__(self, ngrams: Counts, contexts: np.ndarray):
        self.ngrams = ngrams
        starts = np.flatnonzero(np.diff(contexts, prepend=-1))  # n-grams are sorted, so each context is one stretch
        self.totals = Counts(contexts[starts], np.add.reduceat(ngrams.counts, starts))
        self.followers = Counts(contexts[starts], np.diff(starts, append=len(contexts)))
        once, twice = ((ngrams.counts == n).sum() + 1 for n in (1, 2))  # + 1: never a discount of nothing or all
        self.discount = once / (once + 2 * twice)

    def probability(self, context: np.ndarray, ngram: np.ndarray, below: np.ndarray) -> np.ndarray:
        """The discounted share of the n-gram in its context, and of `below` what the discounts set free."""
        total, kinds = self.totals[context], self.followers[context]
        seen = np.maximum(self.ngrams[ngram] - self.discount, 0)
        return np.where(total > 0, (seen + self.discount * kinds * below) / np.maximum(total, 1), below)
