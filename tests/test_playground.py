"""The playground: the browser's model is PyTorch's, its tokenizer the book's, its page whole, alive and light."""

import json
import random
import shutil
import subprocess
import unicodedata
from pathlib import Path

import playground
import pytest
import torch

from rwkv_explainer import tracing
from rwkv_explainer.atlas import load_atlas, prompt
from rwkv_explainer.checkpoints import load_pretrained
from rwkv_explainer.generation import reshape

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not playground.PACKAGES.is_dir(), reason="needs what `make install` gets from npm, which it could not reach"
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The playground's files: the book's own where it is built, else made here."""
    kept = playground.ROOT / "_build" / ".playground" / playground.version()
    if not kept.exists():
        kept = tmp_path_factory.mktemp("playground") / "made"
        playground.make(kept)
    return kept


@pytest.fixture(scope="session")
def numbers():
    """The module that needs PyTorch, imported when the type checker is on."""
    import playground_numbers

    return playground_numbers


@pytest.fixture(scope="session")
def model(numbers):
    """PyTorch's model with the same int8 weights, in float64."""
    return numbers.quantized_model(numbers.bundled_weights())


@pytest.fixture(scope="session")
def tokenizer():
    return load_pretrained("textbook")[1]


@pytest.fixture(scope="session")
def node(folder):
    """A function that gives the playground's scripts something to do, without a page."""
    def ask(how: str, **job) -> dict:
        command = ["node", str(HERE / "playground.cjs"), str(folder), how]
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env=playground.environment())
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


# ---------------------------------------------------------------------------------------------------------------------
# the numbers, without a page


def long_text(tokenizer, length: int) -> list[int]:
    """So many tokens of sentences from the atlas, of every relation in turn."""
    facts = zip(*(relation.facts[:10] for relation in load_atlas()))
    says = [" ".join(prompt(relation.phrasings[0], fact)) for row in facts for relation, fact in zip(load_atlas(), row)]
    return tokenizer.encode(". ".join(says)).ids[:length]


def read_all(model, ids: list[int]) -> tuple[torch.Tensor, list[dict]]:
    """The logits after each token, and what each block remembers in the end."""
    model.clear_buffers()
    logits = torch.stack([model.logits(token) for token in ids])
    state = [{
        "attentionLastX": block.attention.key_mixer.last_x, "mlpLastX": block.gated_mlp.mlp_mixer.last_x,
        "average": block.attention.memory.average, "logNormalizer": block.attention.memory.log_normalizer,
    } for block in model.blocks]
    return logits, state


def close(got, expected, atol: float) -> None:
    torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), expected.double(), rtol=0, atol=atol)


@pytest.mark.parametrize("how", ["plain", "kernel"])
def test_browser_model_is_pytorchs(node, model, tokenizer, how):
    """Logits at each of 200 tokens and the state after them."""
    ids = long_text(tokenizer, 200)
    assert len(ids) == 200
    told = node(how, runs=[ids])
    assert told["how"] == {"plain": "plain JavaScript", "kernel": "WebAssembly"}[how]
    assert told["bytes"][0] == told["bytes"][1]
    logits, state = read_all(model, ids)
    close(told["runs"][0]["logits"], logits, 1e-3)
    for got, expected in zip(told["runs"][0]["state"], state, strict=True):
        for name, buffer in expected.items():
            close(got[name], buffer, 1e-3)


def test_int8_keeps_the_answers(model, tokenizer):
    """The rounded model says what the whole one says, but for close calls, over 200 tokens."""
    ids = long_text(tokenizer, 200)
    whole, _ = read_all(load_pretrained("textbook")[0], ids)
    rounded, _ = read_all(model, ids)
    assert (whole.argmax(dim=1) == rounded.argmax(dim=1)).float().mean() > 0.9
    divergence = (whole.softmax(1) * (whole.log_softmax(1) - rounded.log_softmax(1))).sum(dim=1).mean()
    assert divergence < 0.05


@pytest.mark.parametrize("restore", ["both", "activation", "state", "attention", "mlp"])
def test_causal_trace_is_tracing_py(node, numbers, model, tokenizer, restore):
    """With the same noise, of which the page's generator makes the same in both languages."""
    ids, _, span = tracing.find_subject(tokenizer, "The Eiffel Tower is in", "Eiffel")
    answer = tracing.check_answer(model, tokenizer, ids, None)[0]
    shape = 2, len(span), model.config.channels
    drawn = torch.tensor(numbers.normals(7, 2 * len(span) * model.config.channels), dtype=torch.float64).view(shape)
    noise = 3 * tracing.embedding_scale(model, tokenizer) * drawn
    asked = {"tokens": ids, "subject": [span.start, span.stop - 1], "answer": answer, "noise": noise.tolist(), "restore": restore}
    told = node("kernel", traces=[asked])["traces"][0]
    clean, corrupted, grid = numbers.trace_with(model, ids, span, answer, noise, restore)
    assert told["clean"] == pytest.approx(clean, abs=1e-3)
    close(told["corrupted"], corrupted, 2e-3)
    close(told["grid"], grid, 2e-3)


def test_chance_is_the_same_in_both_languages(node, numbers):
    told = node("plain", normals=[[1, 500], [12345, 50]])["normals"]
    close(told[0], torch.tensor(numbers.normals(1, 500), dtype=torch.float64), 1e-12)
    close(told[1], torch.tensor(numbers.normals(12345, 50), dtype=torch.float64), 1e-12)
    drawn = torch.tensor(numbers.normals(3, 20_000))
    assert abs(drawn.mean()) < 0.03 and abs(drawn.std() - 1) < 0.03


def test_temperature_and_top_p_are_generation_py(node):
    p = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = p / p.sum()
    settings = [(1.0, 1.0), (0.5, 0.9), (1.7, 0.3), (0.8, 0.01)]
    told = node("plain", reshaped=[[p.tolist(), *setting] for setting in settings])["reshaped"]
    for got, setting in zip(told, settings, strict=True):
        close(got, reshape(p, *setting), 1e-9)


def strings() -> list[str]:
    """3,000 texts of every kind that a reader may paste."""
    chance = random.Random(0)
    kinds = [
        "abcdefghij ABC'", "0123456789,. -", "  \t\n\r\u00a0\u3000", "éèüñçßøåÀ", "αβγδεЖщъяאבגدעربي",
        "漢字仮名交じり文中文한국어", "😀👩‍👩‍👧‍👦🇫🇷👍🏽❤️🧠", "e\u0301a\u0308o\u0302\u0323\u200d\ufe0f\u0e33\u0e34",
        "!?\"#$%&()*+-/:;<=>@[]^_`{|}~", "'s 't 're 've 'm 'll 'd 'S", "\u2028\ufeff\u200b𝔘𝔫𝔦\U0010ffff", "١٢٣४५६½²",
    ]
    words = ["<|endoftext|>", "The Eiffel Tower", " is", " located", "<|", "|>", "endoftext", "\n\n", "don't", "  ", "🧠"]
    made = ["".join(chance.choices(kinds[i % len(kinds)], k=chance.randint(1, 30))) for i in range(1000)]
    made += ["".join(chance.choices("".join(kinds), k=chance.randint(1, 40))) for _ in range(800)]
    made += ["".join(chance.choices(words, k=chance.randint(1, 8))) for _ in range(400)]
    made += [unicodedata.normalize(chance.choice(["NFC", "NFD"]), text) for text in made[:400]]
    facts = [fact for relation in load_atlas() for fact in relation.facts]
    made += [f"{fact.subject} {fact.object}." for fact in facts]
    return ["", *made][:3000]


def test_tokenizer_is_the_books(node, tokenizer):
    texts = strings()
    assert len(texts) == 3000
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    told = node("plain", texts=texts, pieces=[ids for ids in expected if ids])
    assert [text for text, got, want in zip(texts, told["texts"], expected) if got != want] == []
    decoded = [tokenizer.decode(ids, skip_special_tokens=False) for ids in expected if ids]
    assert [(got, want) for got, want in zip(told["pieces"], decoded, strict=True) if got != want] == []
