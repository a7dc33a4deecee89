"""From probabilities to text: sampling, and streaming what was sampled.

Chapter "Strings, tokens, probabilities".
"""

import math
from collections.abc import Iterable, Iterator

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from rwkv_explainer.model import RWKVLM
from rwkv_explainer.shapes import Distribution

END_OF_TEXT = 0  # the id of <|endoftext|>, in every tokenizer that this book meets


def reshape(probabilities: Distribution, temperature: float | int = 1.0, top_p: float | int = 1.0) -> Distribution:
    """The probabilities that `sample` draws from: sharpened or flattened by `temperature`, cut off by `top_p`.

    Args:
        probabilities: (*batch, vocabulary), summing to 1.
        temperature: above 0. Each probability is raised to the power 1 / temperature: below 1 the likely tokens gain,
            above 1 the unlikely ones do.
        top_p: above 0, at most 1. Only the fewest likeliest tokens whose probabilities sum to at least this much stay.

    Raises:
        ValueError: if `temperature` or `top_p` is out of range.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature: expected a number above 0, got {temperature}; sample() takes 0 for the likeliest token"
        )
    check_top_p(top_p)
    probabilities = torch.softmax(probabilities.log() / temperature, dim=-1)  # (*batch, vocabulary)
    if top_p < 1:
        ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)  # (*batch, vocabulary)
        likelier = ranked.cumsum(dim=-1) - ranked  # (*batch, vocabulary), what the tokens before each one sum to
        kept = ranked.where(likelier < top_p, 0)  # (*batch, vocabulary)
        probabilities = torch.zeros_like(kept).scatter(-1, order, kept)  # (*batch, vocabulary)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)  # (*batch, vocabulary)
    return probabilities


def check_top_p(top_p: float | int) -> None:
    """Refuse what `reshape` could not cut off at."""
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number above 0 and at most 1, got {top_p}; 1.0 keeps every token")


def sample(
    probabilities: Distribution,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw a token id from each distribution: (*batch, vocabulary) to (*batch,). Temperature 0 takes the likeliest.

    Raises:
        ValueError: if the probabilities are not finite, or `temperature` or `top_p` is out of range.
    """
    if not probabilities.isfinite().all():
        raise ValueError("probabilities: expected numbers from 0 to 1, got NaN or infinity; the model overflowed")
    if temperature == 0:
        check_top_p(top_p)
        return probabilities.argmax(dim=-1)  # (*batch,)
    probabilities = reshape(probabilities, temperature, top_p)
    flat = probabilities.reshape(-1, probabilities.shape[-1])  # (runs, vocabulary)
    return torch.multinomial(flat, 1, generator=generator).reshape(probabilities.shape[:-1])  # (*batch,)


def whole_characters(token_ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """The text of the ids, as it comes: a token that ends inside a character waits for the rest of the character."""
    seen, said = [], 0
    stream = DecodeStream(skip_special_tokens=False)
    for token_id in token_ids:
        seen.append(token_id)
        text = stream.step(tokenizer, token_id)
        if text:
            said += len(text)
            yield text
    if rest := tokenizer.decode(seen, skip_special_tokens=False)[said:]:  # a character that was never finished
        yield rest


@torch.no_grad()
def generate(
    self: RWKVLM,
    context: str = "",
    N: int = 1,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    *,
    seed: int | None = None,
    keep_memory: bool = False,
    verbose: bool = False,
) -> str:
    """Read `context`, then write `N` more tokens, printing all of it as it goes. A method of `RWKVLM`.

    An empty context starts from the token <|endoftext|>, which is not printed. Afterwards the model has read all of the
    text, so that `generate(more, keep_memory=True)` goes on from there.

    Args:
        N: tokens to write after the context.
        temperature: 0 always takes the likeliest token; see `reshape`.
        top_p: see `reshape`.
        seed: the same seed gives the same text; None gives another one each time.
        keep_memory: go on from what the model remembers, instead of forgetting it first.
        verbose: say how many tokens are read, and how many written.

    Returns:
        The whole text, context included.

    Raises:
        ValueError: if the model has no tokenizer, `N` is negative, or `temperature` or `top_p` is out of range.
    """
    if self.tokenizer is None:
        raise ValueError("this model has no tokenizer: set model.tokenizer, or get both from load_pretrained()")
    if N < 0:
        raise ValueError(f"N: expected a number of tokens, 0 or more, got {N}")
    random = None if seed is None else torch.Generator().manual_seed(seed)
    context_ids = self.tokenizer.encode(context).ids
    if verbose:
        print(f"reading {len(context_ids)} tokens, then writing {N}:")
    if not keep_memory:
        self.clear_buffers()

    def token_ids() -> Iterator[int]:
        probabilities = self.read(context_ids or [END_OF_TEXT], last_only=True)  # (vocabulary,)
        yield from context_ids
        for _ in range(N):
            token_id = int(sample(probabilities.cpu(), temperature, top_p, random))
            yield token_id
            probabilities = self.read([token_id], last_only=True)  # (vocabulary,)

    pieces = []
    for text in whole_characters(token_ids(), self.tokenizer):
        print(text, end="", flush=True)
        pieces.append(text)
    print()
    return "".join(pieces)
