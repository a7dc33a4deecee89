"""How a token is written: in a text, in a figure and on a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from operator import index
from typing import SupportsIndex

from tokenizers import Tokenizer

from rwkv_explainer.drawing.palette import LIGHT

__all__ = [
    "END_OF_TEXT",
    "END_OF_TEXT_ID",
    "TokenRow",
    "begins_with_letter",
    "in_bytes",
    "in_line",
    "show_tokens",
    "token_bytes",
    "token_formatter",
    "token_name",
    "visible_signs",
]

END_OF_TEXT = "<|endoftext|>"  # stands between two documents
END_OF_TEXT_ID = 0  # its id, in every tokenizer that this book meets

_PRINTABLE_BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTE_OF = {chr(byte): byte for byte in _PRINTABLE_BYTES} | {
    chr(256 + n): byte for n, byte in enumerate(byte for byte in range(256) if byte not in _PRINTABLE_BYTES)
}  # byte-level tokenizers write every byte as one printable character: most as themselves, the others from 256 on


def token_name(token_ids: SupportsIndex | Sequence[int], tokenizer: Tokenizer, space: str = "·") -> str:
    """A token as figures write it, or several as one text. Ids may be numbers of NumPy's or of PyTorch's.

    Spaces become ·, or what `space` says, and line ends ↵. What is not to be seen, and what is no whole character,
    stand as bytes in hexadecimal.
    """
    token_ids = list(map(index, [token_ids] if is_number(token_ids) else token_ids))
    data = b"".join(token_bytes(token_id, tokenizer) for token_id in token_ids)
    try:
        text = data.decode().translate({ord(" "): space, ord("\n"): "↵", ord("\t"): "⇥", ord("\r"): "␍"})
        return visible_signs(text)
    except UnicodeDecodeError:
        if len(token_ids) > 1:  # name each token by itself: the others may be whole characters
            return "".join(token_name(token_id, tokenizer, space) for token_id in token_ids)
        return data.hex(" ").upper()


def is_number(token_ids: object) -> bool:
    """Whether it is one id, and not a row of them: PyTorch takes a row of one for a number, too."""
    return hasattr(token_ids, "__index__") and not getattr(token_ids, "ndim", 0)


def begins_with_letter(token_id: int, tokenizer: Tokenizer) -> bool:
    """Whether a token goes on with the word before it; a part of a character counts as a letter."""
    first = token_bytes(token_id, tokenizer).decode(errors="replace")[:1]
    return first.isalpha() or first == "\ufffd"


def in_line(words: str) -> str:
    """Words as a page may hold them: of what is not to be seen, line ends and spaces of other widths alone."""
    return "".join(sign if sign in "\n\u00a0\u2009\u202f" else visible_signs(sign) for sign in words)


def visible_signs(text: str) -> str:
    """A text with nothing hidden: controls, marks of direction, and spaces of other widths stand as their bytes."""
    return "".join(sign if sign.isprintable() else in_bytes(sign) for sign in text)


def in_bytes(sign: str) -> str:
    """A sign's bytes in UTF-8, in hexadecimal."""
    return sign.encode(errors="replace").hex(" ").upper()


def token_bytes(token_id: int, tokenizer: Tokenizer) -> bytes:
    """What a token stands for in UTF-8; its number, such as #9000, where the tokenizer has none of that id."""
    token = tokenizer.id_to_token(token_id)
    if token is None:
        return f"#{token_id}".encode()
    return b"".join(bytes([_BYTE_OF[c]]) if c in _BYTE_OF else c.encode() for c in token)


def token_formatter(tokenizer: Tokenizer, space: str = "·") -> Callable[..., str]:
    """A function that writes tokens as `token_name` does, one or several as a text, as code for a Markdown table."""

    def name(*token_ids: int) -> str:
        return "`" + token_name(token_ids, tokenizer, space).translate({ord("|"): "¦", ord("`"): "ˋ"}) + "`"

    return name


@dataclass(frozen=True)
class TokenRow:
    """A text cut into its tokens, each in a box above its id. Notebooks show it by themselves.

    On the page, book/_static/tokens.js lets the reader change the text.
    """

    alt: str
    names: tuple[str, ...]
    ids: tuple[int, ...]
    text: str

    def _repr_html_(self) -> str:
        box = "display:inline-block;margin:2px 1px;padding:1px 4px;border-radius:4px;text-align:center;line-height:1.3"
        plain = "background:none;border:none;padding:0;color:inherit;font-size:1em"
        boxes = (
            f'<span style="{box};background:{LIGHT.hues[n % 3]}40"><code style="{plain}">{escape(name)}</code><br>'
            f'<small style="opacity:.8">{token_id}</small></span>'
            for n, (name, token_id) in enumerate(zip(self.names, self.ids))
        )
        text = escape(self.text).translate({ord("\r"): "&#13;", 0: "\ufffd"})  # as they are, HTML would change them
        said = f'data-text="{text}" data-ids="{" ".join(map(str, self.ids))}"'
        return f'<div class="rwkv-tokens" role="figure" aria-label="{escape(self.alt)}" {said}>{"".join(boxes)}</div>'


def show_tokens(text: str, tokenizer: Tokenizer) -> TokenRow:
    """How the tokenizer cuts a text up: a colored box for each token, named as `token_name` does, with its id."""
    ids = tuple(tokenizer.encode(text).ids)
    names = tuple(token_name(token_id, tokenizer) for token_id in ids)
    cut = f"{len(text)} character{'s' * (len(text) != 1)} cut into {len(ids)} token{'s' * (len(ids) != 1)}"
    return TokenRow(f"{cut}: {', '.join(names)}.", names, ids, text)
