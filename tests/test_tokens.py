"""How tokens are written: as text, as bytes, for a figure or a page."""

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkv_explainer.checkpoints import load_pretrained
from rwkv_explainer.tokens import (
    END_OF_TEXT,
    END_OF_TEXT_ID,
    begins_with_letter,
    show_tokens,
    token_bytes,
    token_name,
)


@pytest.fixture(scope="module")
def tokenizer(byte_tokenizer):
    return byte_tokenizer


@pytest.mark.parametrize(
    "text, written",
    [
        (" Paris", "·Paris"),
        ("a\n\tb\r", "a↵⇥b␍"),
        ("é", "é"),
        ("\x00", "00"),
        ("a\x1fb", "a1Fb"),
        ("\x7f", "7F"),
        ("\x85", "C2 85"),
        ("\u202e", "E2 80 AE"),
        ("a\u00a0b\u200d", "aC2 A0bE2 80 8D"),
        ("\ufeff", "EF BB BF"),
        ("\ue000", "EE 80 80"),
        ("$$", "$$"),
    ],
)
def test_a_text_is_written_so_that_every_figure_can_hold_it(tokenizer, text, written):
    assert token_name(tokenizer.encode(text).ids, tokenizer) == written


def test_no_name_has_a_control_character(tokenizer):
    """Any of the 256 bytes: one control character would break a whole figure."""
    for token_id in range(256):
        assert token_name(token_id, tokenizer).isprintable()


@given(st.text(max_size=8))
@settings(deadline=None, derandomize=True)
def test_any_text_is_named_by_what_can_be_seen(tokenizer, text):
    name = token_name(tokenizer.encode(text).ids, tokenizer)
    assert name.isprintable()
    if text.isprintable():
        assert name == text.replace(" ", "·")


def test_part_of_a_character_is_its_byte(tokenizer):
    first, second = tokenizer.encode("é").ids
    assert (token_name(first, tokenizer), token_name(second, tokenizer)) == ("C3", "A9")
    assert token_bytes(first, tokenizer) + token_bytes(second, tokenizer) == "é".encode()


def test_ids_may_be_numbers_of_any_library(tokenizer):
    a, row = tokenizer.encode("a").ids[0], tokenizer.encode("a é").ids
    assert {token_name(kind(a), tokenizer) for kind in (int, np.int64, np.int32, torch.tensor)} == {"a"}
    assert {token_name(kind(row), tokenizer) for kind in (list, tuple, np.array, torch.tensor)} == {"a·é"}
    assert token_name(torch.tensor([a]), tokenizer) == token_name(np.array([a]), tokenizer) == "a"


@pytest.mark.parametrize("text, letter", [("ab", True), (" a", False), (".", False), ("é", True), ("1", False)])
def test_a_word_goes_on_in_a_letter_or_in_a_part_of_one(tokenizer, text, letter):
    assert begins_with_letter(tokenizer.encode(text).ids[0], tokenizer) == letter


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", '<"&>', "\t", "é\u202e"])
def test_a_row_of_tokens_keeps_its_text_on_a_page(tokenizer, text):
    """Where a script cuts it up again: HTML would take a bare carriage return for a line end."""
    html = show_tokens(text, tokenizer)._repr_html_()
    assert "\r" not in html
    assert BeautifulSoup(html, "html.parser").div["data-text"] == text


def test_the_end_of_a_text():
    tokenizer = load_pretrained()[1]
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID
    assert show_tokens(f"a{END_OF_TEXT}", tokenizer).ids[-1] == END_OF_TEXT_ID
