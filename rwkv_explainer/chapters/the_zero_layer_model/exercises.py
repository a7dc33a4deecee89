"""The exercises of chapter "The zero-layer model"."""

import torch
from torch import Generator, Tensor

from rwkv_explainer.exercises.cases import randint
from rwkv_explainer.exercises.exercise import Exercise
from rwkv_explainer.model import RWKV, RWKVLM, TokenEmbedding, Unembedding

__all__ = ["EXERCISES"]


def three_tokens(random: Generator) -> list[tuple]:
    """A chain of the tokens a, b and c: each row says, in tenths, what follows."""
    rows = []
    for _ in range(3):
        first = randint(random, 1, 7)
        second = randint(random, 1, 9 - first)
        rows.append([first / 10, second / 10, (10 - first - second) / 10])
    return [({token: dict(zip("abc", row)) for token, row in zip("abc", rows)},)]


def in_three_hops(after: dict[str, dict[str, float]]) -> float:
    return after["a"]["b"] * after["b"]["a"] * after["a"]["c"]


CHAIN = Exercise(
    name="chain-on-paper",
    is_value=True,
    cases=three_tokens,
    reference=in_three_hops,
    result_name="probability",
    tolerance=1e-4,
    success_message="Three hops, three cells of the table, and their product.",
    mistakes={
        "The chances are added; hops that must all happen multiply.": lambda after: (
            after["a"]["b"] + after["b"]["a"] + after["a"]["c"]
        ),
        "The first hop is missing: from the *a* that stands before.": lambda after: after["b"]["a"] * after["a"]["c"],
        "The last hop is missing.": lambda after: after["a"]["b"] * after["b"]["a"],
        "The table is read the wrong way round: the row is the token that is there, the column what follows.": lambda after: (
            after["b"]["a"] * after["a"]["b"] * after["c"]["a"]
        ),
        "That is the mean of the three chances; they multiply.": lambda after: (
            (after["a"]["b"] + after["b"]["a"] + after["a"]["c"]) / 3
        ),
        "The answer has three digits after the point; yours is rounded to two.": lambda after: round(
            in_three_hops(after), 2
        ),
        "That is in percent; a probability is a number from 0 to 1.": lambda after: 100 * in_three_hops(after),
        "The last hop starts from *a*, not from *b*: a chain looks at the latest token.": lambda after: (
            after["a"]["b"] * after["b"]["a"] * after["b"]["c"]
        ),
    },
)


def zero_layer_models(random: Generator) -> list[tuple]:
    def model(vocabulary: int, channels: int) -> RWKVLM:
        model = RWKVLM(TokenEmbedding(vocabulary, channels), RWKV(), Unembedding(channels, vocabulary))
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        return model.requires_grad_(False)

    return [(model(7, 4),), (model(12, 3),)]


def chain(model: RWKVLM) -> Tensor:
    return model(torch.arange(model.vocab_size))


CHAIN_OF_A_MODEL = Exercise(
    name="whole-chain",
    cases=zero_layer_models,
    reference=chain,
    result_name="the table",
    success_message="For two random models, row i is what follows token i, and each row sums to 1.",
    mistakes={
        "Rows and columns are swapped: row i should hold what *follows* token i.": lambda model: chain(model).T,
        "These are logits; a softmax makes them probabilities.": lambda model: model.logits(
            torch.arange(model.vocab_size)
        ),
        "These are logarithms of probabilities.": lambda model: chain(model).log(),
        "That is the likeliest follower of each token alone; the table holds every follower's probability.": lambda model: (
            chain(model).argmax(dim=1)
        ),
        "The columns sum to 1; the rows should: the softmax runs over the tokens that may follow.": lambda model: (
            model.logits(torch.arange(model.vocab_size)).softmax(dim=0)
        ),
        "The embeddings went into the unembedding without their LayerNorm.": lambda model: model.unembedding(
            model.embedding.embedding.weight
        ),
        "That is one row; the table has a row for each token of the vocabulary.": lambda model: model(0),
    },
)


def random_followers(random: Generator) -> list[tuple]:
    """Likeliest followers, and where to start: a path, then a loop. One path is long, one starts inside of the loop."""
    cases = []
    for tokens, lead, loop in ((12, 2, 3), (12, 3, 4), (40, 25, 5), (12, 0, 4), (12, 3, 1)):
        order = torch.randperm(tokens, generator=random)
        follower = torch.randint(tokens, (tokens,), generator=random)
        follower[order[: lead + loop - 1]] = order[1 : lead + loop]
        follower[order[lead + loop - 1]] = order[lead]
        cases.append((follower, int(order[0])))
    return cases


def path(likeliest: Tensor, token: int) -> tuple[list[int], int]:
    """All tokens of the greedy walk until one repeats, and that one."""
    seen: list[int] = []
    while token not in seen:
        seen.append(token)
        token = int(likeliest[token])
    return seen, token


def loop_in_order(likeliest: Tensor, start: int) -> list[int]:
    seen, again = path(likeliest, start)
    return seen[seen.index(again) :]


def loop_of(likeliest: Tensor, start: int) -> list[int]:
    return sorted(loop_in_order(likeliest, start))


def after_ten_hops(likeliest: Tensor, start: int) -> list[int]:
    for _ in range(10):
        start = int(likeliest[start])
    return sorted(path(likeliest, start)[0])


LOOP = Exercise(
    name="loop",
    cases=random_followers,
    reference=loop_of,
    result_name="the loop",
    success_message="In five chains this is the loop that a greedy walk never leaves, without what led there, be it 25 hops or none.",
    mistakes={
        "What leads into the loop is still there: the walk never comes back to those tokens.": lambda likeliest, start: (
            sorted(path(likeliest, start)[0])
        ),
        "The token that comes up first for the second time stands there twice, or the lead-in is counted again.": lambda likeliest, start: (
            sorted([*loop_of(likeliest, start), path(likeliest, start)[1]])
        ),
        "Ten hops are not always enough to get into the loop: walk until a token comes up for the second time.": after_ten_hops,
        "That is only the token at which the walk enters the loop.": lambda likeliest, start: [
            path(likeliest, start)[1]
        ],
        "These are all tokens in the order of the walk; wanted are those of the loop, sorted.": lambda likeliest, start: (
            path(likeliest, start)[0]
        ),
        "The right tokens in the order of the walk: sort them, so that a loop has one name wherever one enters it.": loop_in_order,
        "That is the loop's length; wanted are its tokens.": lambda likeliest, start: len(loop_of(likeliest, start)),
        "These are the tokens that lead *into* the loop.": lambda likeliest, start: sorted(
            set(path(likeliest, start)[0]) - set(loop_of(likeliest, start))
        ),
    },
)

EXERCISES = [CHAIN, LOOP, CHAIN_OF_A_MODEL]
