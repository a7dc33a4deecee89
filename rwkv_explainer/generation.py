"""From probabilities to text: sampling, and streaming what was sampled.

Chapter "Strings, tokens, probabilities".
"""

import math
import sys
from collections.abc import Iterable, Iterator

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from rwkv_explainer.model import RWKVLM
from rwkv_explainer.shapes import Distribution
from rwkv_explainer.tokens import END_OF_TEXT_ID

__all__ = ["adjust_probabilities", "generate", "print_anywhere", "sample", "stream_decode"]


def adjust_probabilities(
    probabilities: Distribution, temperature: float | int = 1.0, top_p: float | int = 1.0
) -> Distribution:
    """The probabilities that `sample` draws from: sharpened or flattened by `temperature`, cut off by `top_p`.

    Args:
        probabilities: (*batch, vocab_size), summing to 1.
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
    _require_top_p(top_p)
    probabilities = torch.softmax(probabilities.log() / temperature, dim=-1)  # (*batch, vocab_size)
    if top_p < 1:
        ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)  # (*batch, vocab_size)
        likelier = ranked.cumsum(dim=-1) - ranked  # (*batch, vocab_size), what the tokens before each one sum to
        kept = ranked.where(likelier < top_p, 0)  # (*batch, vocab_size)
        probabilities = torch.zeros_like(kept).scatter(-1, order, kept)  # (*batch, vocab_size)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)  # (*batch, vocab_size)
    return probabilities


def _require_top_p(top_p: float | int) -> None:
    """Refuse what `adjust_probabilities` could not cut off at."""
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number above 0 and at most 1, got {top_p}; 1.0 keeps every token")


def sample(
    probabilities: Distribution,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw a token id from each distribution: (*batch, vocab_size) to (*batch,). Temperature 0 takes the likeliest.

    Raises:
        ValueError: if the probabilities are not finite, or `temperature` or `top_p` is out of range.
    """
    if not probabilities.isfinite().all():
        raise ValueError("probabilities: expected numbers from 0 to 1, got NaN or infinity; the model overflowed")
    if temperature == 0:
        _require_top_p(top_p)
        return probabilities.argmax(dim=-1)  # (*batch,)
    probabilities = adjust_probabilities(probabilities, temperature, top_p)
    flat = probabilities.reshape(-1, probabilities.shape[-1])  # (runs, vocab_size)
    return torch.multinomial(flat, 1, generator=generator).reshape(probabilities.shape[:-1])  # (*batch,)


def stream_decode(token_ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Decode ids as they arrive, holding back the bytes of a character until the whole of it has come."""
    seen, decoded = [], 0
    stream = DecodeStream(skip_special_tokens=False)
    for token_id in token_ids:
        seen.append(token_id)
        text = stream.step(tokenizer, token_id)
        if text:
            decoded += len(text)
            yield text
    if rest := tokenizer.decode(seen, skip_special_tokens=False)[decoded:]:  # a character that was never finished
        yield rest


@torch.no_grad()
def generate(
    model: RWKVLM,
    context: str = "",
    N: int = 1,
    temperature: float | int = 1.0,
    top_p: float | int = 1.0,
    seed: int | None = None,
    keep_memory: bool = False,
    stop_at_end: bool = False,
    verbose: bool = False,
) -> str:
    """Read `context`, then write `N` more tokens, printing all of it as it goes. `model.generate(...)` calls this.

    The context is read in time-parallel mode; each new token is one step, `model(token)`. An empty context starts from
    the token <|endoftext|>, which is not printed. Afterwards the model has read all of the text, so that
    `model.generate(more, keep_memory=True)` goes on from there. It writes one text at a time: call it once for each
    text. In threads, each needs a copy of the model of its own, for one that they share would mix their texts.

    Args:
        N: tokens to write after the context.
        temperature: 0 always takes the likeliest token; see `adjust_probabilities`.
        top_p: see `adjust_probabilities`.
        seed: the same seed gives the same text; None draws from PyTorch's own generator.
        keep_memory: go on from what the model remembers, instead of forgetting it first.
        stop_at_end: stop before the first <|endoftext|> that the model would write.
        verbose: say how many tokens are read, and how many written.

    Returns:
        The whole text, context included.

    Raises:
        TypeError: if `context` is no text.
        ValueError: if the model has no tokenizer, `context` is empty with `keep_memory`, `N` is negative, or
            `temperature` or `top_p` is out of range.
    """
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer: set model.tokenizer, or get both from load_pretrained()")
    if N < 0:
        raise ValueError(f"N: expected a number of tokens, 0 or more, got {N}")
    context_ids = _encode(model.tokenizer, context)
    if keep_memory and not context_ids:
        raise ValueError("context: expected text to go on with, got none; ask for more tokens in the call before")
    random = None if seed is None else torch.Generator().manual_seed(seed)
    if verbose:
        print(f"reading {len(context_ids)} tokens, then writing {N}:")
    if not keep_memory:
        model.clear_buffers()

    def token_ids() -> Iterator[int]:
        probabilities = model.read(context_ids or [END_OF_TEXT_ID], last_only=True)  # (vocab_size,)
        yield from context_ids
        for _ in range(N):
            token_id = int(sample(probabilities.cpu(), temperature, top_p, random))
            if stop_at_end and token_id == END_OF_TEXT_ID:
                return
            yield token_id
            probabilities = model(token_id)  # (vocab_size,)

    parts = []
    for text in stream_decode(token_ids(), model.tokenizer):
        print_anywhere(text, end="")
        parts.append(text)
    print()
    return "".join(parts)


def _encode(tokenizer: Tokenizer, context: object) -> list[int]:
    """The ids of a text; refuse what is none."""
    if not isinstance(context, str):
        raise TypeError(f"context: expected one text (str), got {type(context).__name__}; call once for each text")
    try:
        context.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"context: expected text that UTF-8 can hold, got half a surrogate pair ({error})") from None
    return tokenizer.encode(context).ids


def print_anywhere(text: str, end: str = "\n") -> None:
    """Print; where the output's encoding lacks a character, as of pipes on Windows, a question mark stands for it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, errors="replace").decode(encoding), end=end, flush=True)
