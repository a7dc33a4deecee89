"""From probabilities to text: sampling, whole characters, and `RWKVLM.generate`."""

import builtins
import inspect
import io
import sys
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rwkv_explainer import RWKVLM, generation
from rwkv_explainer.generation import adjust_probabilities, sample, stream_decode
from rwkv_explainer.model import AttentionBlock, GatedMLP, Mixer, RWKVBlock, StableWKVMemory, Unembedding

some = settings(deadline=None, max_examples=100, derandomize=True)
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="module")
def tokenizer():
    """One token for <|endoftext|>, which is 0, and one for each byte: "é" takes two tokens, an emoji four."""
    byte_level = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<|endoftext|>", *BYTES])}, merges=[]))
    byte_level.add_special_tokens(["<|endoftext|>"])
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    byte_level.decoder = decoders.ByteLevel()
    return byte_level


@pytest.fixture
def model(random_model, tokenizer):
    model = random_model(vocabulary=257, layers=1)
    model.tokenizer = tokenizer
    return model


def distributions(size=6):
    numbers = st.lists(st.floats(0.0, 1.0), min_size=size, max_size=size).filter(lambda p: sum(p) > 0.1)
    return numbers.map(lambda p: torch.tensor(p, dtype=torch.float64) / sum(p))


# ---------------------------------------------------------------------------------------------------------------------
# sampling


def test_temperature_is_a_power():
    probabilities = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    for temperature in (0.5, 1.0, 2.0):
        powers = probabilities ** (1 / temperature)
        torch.testing.assert_close(adjust_probabilities(probabilities, temperature), powers / powers.sum())


@given(probabilities=distributions(), top_p=st.floats(0.01, 1.0), temperature=st.floats(0.2, 5.0))
@some
def test_top_p_keeps_the_fewest_likeliest(probabilities, top_p, temperature):
    before = adjust_probabilities(probabilities, temperature)
    after = adjust_probabilities(probabilities, temperature, top_p)
    kept = after > 0
    torch.testing.assert_close(after.sum(), torch.tensor(1.0).double())
    torch.testing.assert_close(after[kept], before[kept] / before[kept].sum())  # in proportion
    assert before[kept].min() >= before[~kept].max() if (~kept).any() else True  # the likeliest
    assert before[kept].sum() >= top_p - 1e-9  # enough of them
    assert before[kept].sum() - before[kept].min() < top_p + 1e-9  # and not one too many


def test_adjusting_in_batches():
    probabilities = torch.rand(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    together = adjust_probabilities(probabilities, temperature=0.7, top_p=0.6)
    assert together.shape == (2, 3, 5)
    for i in range(2):
        for j in range(3):
            alone = adjust_probabilities(probabilities[i, j], temperature=0.7, top_p=0.6)
            torch.testing.assert_close(together[i, j], alone)


def test_temperature_zero_takes_the_likeliest():
    assert sample(torch.tensor([0.3, 0.4, 0.3]), temperature=0) == 1
    assert sample(torch.tensor([[0.3, 0.4, 0.3], [0.1, 0.1, 0.8]]), temperature=0.0).tolist() == [1, 2]


def test_samples_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    random = torch.Generator().manual_seed(0)
    drawn = sample(probabilities.expand(40, 500, 4), generator=random)
    assert drawn.shape == (40, 500)
    assert (drawn.flatten().bincount(minlength=4) / 20_000 - probabilities).abs().max() < 0.02
    cut = sample(probabilities.expand(20_000, 4), top_p=0.7, generator=random)
    assert (cut.bincount(minlength=4) / 20_000 - torch.tensor([0.625, 0.375, 0, 0])).abs().max() < 0.02
    assert set(cut.tolist()) == {0, 1}


def test_the_same_seed_draws_the_same():
    probabilities = torch.ones(1000) / 1000
    randoms = (torch.Generator().manual_seed(seed) for seed in (1, 1, 2))
    first, again, other = (sample(probabilities.expand(5, 1000), generator=random).tolist() for random in randoms)
    assert first == again != other


@pytest.mark.parametrize("broken", [torch.tensor([0.5, float("nan")]), torch.tensor([0.5, float("inf")])])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_sample_from_what_overflowed(broken, temperature):
    with pytest.raises(ValueError, match="probabilities: .* got NaN or infinity"):
        sample(broken, temperature)


OUT_OF_RANGE = [
    ({"temperature": -1.0}, "temperature: expected a number above 0, got -1.0"),
    ({"temperature": float("nan")}, "temperature: .* got nan"),
    ({"temperature": float("inf")}, "temperature: .* got inf"),
    ({"top_p": 0.0}, "top_p: expected a number above 0 and at most 1, got 0.0"),
    ({"top_p": 1.5}, "top_p: .* got 1.5"),
    ({"top_p": float("nan")}, "top_p: .* got nan"),
]


@pytest.mark.parametrize("arguments, message", OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        adjust_probabilities(torch.tensor([0.5, 0.5]), **arguments)
    with pytest.raises(ValueError, match=message):
        model.generate("a", **arguments)


def test_a_wrong_top_p_is_refused_at_temperature_zero_too(model):
    with pytest.raises(ValueError, match="top_p: .* got 7"):
        model.generate("a", temperature=0, top_p=7)


# ---------------------------------------------------------------------------------------------------------------------
# whole characters


@given(text=st.text(max_size=12) | st.text("aé€🦋", max_size=12))
@some
def test_text_comes_out_as_it_went_in(tokenizer, text):
    ids = tokenizer.encode(text).ids
    pieces = list(stream_decode(ids, tokenizer))
    assert "".join(pieces) == text
    assert all(pieces)


@given(ids=st.lists(st.integers(0, 256), max_size=16))
@some
def test_any_tokens_come_out_as_the_tokenizer_decodes_them(tokenizer, ids):
    assert "".join(stream_decode(ids, tokenizer)) == tokenizer.decode(ids, skip_special_tokens=False)


def test_a_token_inside_a_character_waits_for_the_rest(tokenizer):
    came = []

    def feed():
        for token_id in tokenizer.encode("né🦋!").ids:
            came.append([])
            yield token_id

    for piece in stream_decode(feed(), tokenizer):
        came[-1].append(piece)
    assert came == [["n"], [], ["é"], [], [], [], ["🦋"], ["!"]]


def test_an_unfinished_character_is_not_swallowed(tokenizer):
    assert list(stream_decode(tokenizer.encode("né").ids[:-1], tokenizer)) == ["n", "\N{REPLACEMENT CHARACTER}"]


# ---------------------------------------------------------------------------------------------------------------------
# generate


def continue_greedily(model, ids, n):
    """The ids, and the n likeliest ones after them, one step after the other. The model has then read them all."""
    ids = list(ids)
    for i in range(len(ids) + n):
        if i == len(ids):
            ids.append(int(probabilities.argmax()))
        probabilities = model(ids[i])
    return ids


def test_the_defaults_are_the_article_s():
    defaults = {name: p.default for name, p in inspect.signature(RWKVLM.generate).parameters.items()}
    assert (defaults["N"], defaults["temperature"], defaults["top_p"], defaults["keep_memory"]) == (1, 1.0, 1.0, False)


@pytest.mark.parametrize("n", [0, 1, 8])
def test_it_returns_and_prints_the_context_and_what_follows(model, tokenizer, capsys, n):
    ids = continue_greedily(model, tokenizer.encode("Der Käfer").ids, n)
    read = model.snapshot()
    model.clear_buffers()
    text = model.generate("Der Käfer", N=n, temperature=0.0)
    assert text == tokenizer.decode(ids)
    assert capsys.readouterr().out == text + "\n"
    for name, buffer in model.state_buffers().items():  # the last token has been read as well
        torch.testing.assert_close(buffer, read[name], rtol=1e-9, atol=1e-9)


def test_an_empty_context_starts_from_the_end_of_a_text(model, tokenizer):
    ids = continue_greedily(model, [0], 5)
    assert model.generate(N=5, temperature=0.0) == tokenizer.decode(ids[1:], skip_special_tokens=False)


def test_it_forgets_unless_told_otherwise(model):
    whole = model.generate("ab", N=6, temperature=0.0)
    model.generate("something else", N=3)
    assert model.generate("ab", N=6, temperature=0.0) == whole
    model.generate("a", N=0)
    assert "a" + model.generate("b", N=6, temperature=0.0, keep_memory=True) == whole


def test_seeds(model):
    texts = [model.generate("a", N=12, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert model.generate("a", N=12) != model.generate("a", N=12)
    state = torch.get_rng_state()
    model.generate("a", N=2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)  # a seed is nobody else's business


def test_it_prints_as_it_goes_and_only_whole_characters(model, tokenizer, monkeypatch):
    """The order in which tokens are drawn and text is printed, for a model that writes what it is told to."""
    script, events = iter(tokenizer.encode("é🦋!").ids), []

    def draw(*arguments):
        events.append("draw")
        return torch.tensor(next(script))

    monkeypatch.setattr(generation, "sample", draw)
    monkeypatch.setattr(builtins, "print", lambda *text, **options: events.append("".join(text)))
    assert model.generate("ab", N=7) == "abé🦋!"
    assert events == ["a", "b", "draw", "draw", "é", "draw", "draw", "draw", "draw", "🦋", "draw", "!", ""]


def test_whole_numbers_are_numbers_too(model):
    """The type checker, which is on here as in the chapters, must not mind."""
    assert model.generate("a", 3, temperature=0, top_p=1) == model.generate("a", 3, temperature=0.0)
    model.generate("a", 3, temperature=1)


def test_temperature_and_top_p_reach_the_sampler(model, monkeypatch):
    asked = []

    def draw(probabilities, temperature, top_p, generator):
        asked.append((temperature, top_p))
        return probabilities.argmax()

    monkeypatch.setattr(generation, "sample", draw)
    model.generate("a", 2, 0.7, 0.9)
    assert asked == [(0.7, 0.9), (0.7, 0.9)]


def test_verbose_says_how_many_tokens(model, capsys):
    model.generate("aé", N=2, temperature=0.0, verbose=True)
    assert "reading 3 tokens, then writing 2" in capsys.readouterr().out


def test_it_records_no_gradients(model):
    model.requires_grad_(True).generate("ab", N=1)
    assert not any(buffer.requires_grad for buffer in model.state_buffers().values())


def test_what_generate_cannot_do(model, random_model):
    with pytest.raises(ValueError, match="N: expected a number of tokens, 0 or more, got -1"):
        model.generate("a", N=-1)
    with pytest.raises(ValueError, match="no tokenizer: set model.tokenizer, or get both from load_pretrained"):
        random_model().generate("a")
    for wrong in (["a", "b"], None, b"a"):
        got = type(wrong).__name__
        with pytest.raises(TypeError, match=f"context: expected one text .str., got {got}; call once for each text"):
            generation._encode(model.tokenizer, wrong)
    with pytest.raises(ValueError, match="context: .* half a surrogate pair"):
        model.generate("a\ud800")
    with pytest.raises(ValueError, match="context: expected text to go on with, got none"):
        model.generate("", N=2, keep_memory=True)


def test_what_you_read_is_what_runs(random_model, tokenizer, monkeypatch):
    """Every new token goes through the `forward` of the model and of all its pieces."""
    layers, n, calls = 3, 3, Counter()
    model = RWKVLM.from_weights(
        random_model(vocabulary=257, layers=layers).state_dict(), memory_class=StableWKVMemory
    ).requires_grad_(False)
    model.tokenizer = tokenizer
    for piece in (RWKVLM, RWKVBlock, AttentionBlock, GatedMLP, Mixer, StableWKVMemory, Unembedding):

        def counted(self, *args, piece=piece, forward=piece.forward):
            calls[piece] += 1
            return forward(self, *args)

        monkeypatch.setattr(piece, "forward", counted)
    model.generate("abc", N=n)
    assert calls[RWKVLM] == n
    for piece in (RWKVBlock, AttentionBlock, GatedMLP, StableWKVMemory):
        assert calls[piece] == n * layers, piece
    assert calls[Mixer] == 5 * n * layers


def test_it_can_stop_at_the_end_of_a_text(model, monkeypatch):
    script = [65, 66, 0, 67]
    monkeypatch.setattr(generation, "sample", lambda *arguments: torch.tensor(script.pop(0)))
    text = model.generate("a", N=4, stop_at_end=True)
    assert script == [67] and text == "a" + model.tokenizer.decode([65, 66])


def test_a_terminal_that_lacks_a_character_shows_a_question_mark(model, monkeypatch):
    page = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(page, encoding="cp1252"))
    assert model.generate("Café 🦋", N=0) == "Café 🦋"
    sys.stdout.flush()
    assert page.getvalue().decode("cp1252") == "Café ?\n"
