"""The numbers of the playground: the model's weights as int8, and examples worked out with those very weights.

`playground.py` writes them into the built book. Kept apart from it, since only this needs PyTorch.
"""

import base64
import codecs
import json
import math
from collections.abc import Mapping

import matplotlib
import torch
from tokenizers import Tokenizer
from torch import Tensor

from rwkv_explainer.checkpoints import (
    find_bundled,
    load_pretrained,
    load_weights,
    model_from_weights,
    quantize_dequantize,
    quantize_rows,
)
from rwkv_explainer.drawing.palette import DARK, LIGHT, Theme
from rwkv_explainer.lab import tracing
from rwkv_explainer.lab.decay import decay_rates
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.tokens import token_bytes

EXAMPLES = (  # a prompt, what the causal trace hides in it, and how many tokens to write; an open end comes first
    ("The cell membrane", None, 16),
    ("The Eiffel Tower is located in the city of", "The Eiffel Tower", 6),
    ("The full scientific name is Drosophila", None, 8),
    ("The novel Moby-Dick was written by", "Moby-Dick", 6),
    ("The chemical symbol of silver is", "silver", 6),
    ("Supply and demand", None, 16),
)
TRACE = {"noise": 3.0, "samples": 3, "seed": 1}  # as the playground's own controls start


# ---------------------------------------------------------------------------------------------------------------------
# the weights


def pack(weights: Mapping[str, Tensor]) -> tuple[list[dict], bytes]:
    """All tensors of a model in one run of bytes, and where each one starts: matrices as int8, vectors as float32."""
    places, parts, size = [], [], 0

    def put(tensor: Tensor) -> int:
        nonlocal size
        data = tensor.numpy().tobytes()
        parts.append(data + bytes(-len(data) % 16))  # every tensor starts at a multiple of 16
        size += len(parts[-1])
        return size - len(parts[-1])

    for name, tensor in weights.items():
        place = {"name": name, "shape": list(tensor.shape)}
        if tensor.dim() == 2:
            numbers, scales = quantize_rows(tensor)
            place |= {"offset": put(numbers), "scales": put(scales)}
        else:
            place |= {"offset": put(tensor.float())}
        places.append(place)
    return places, b"".join(parts)


def quantized_model(weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float64) -> RWKVLM:
    """The model that the browser runs, in PyTorch: each matrix is what its int8 numbers and scales say."""
    return model_from_weights({name: quantize_dequantize(tensor) for name, tensor in weights.items()}, dtype)


def bundled_weights() -> dict[str, Tensor]:
    """The bundled model's tensors, wide enough to be rounded well."""
    return {name: tensor.double() for name, tensor in load_weights(find_bundled()[0]).items()}


def everything() -> tuple[dict, bytes, list[dict]]:
    """What a page has to know of the model, the model's bytes, and the examples."""
    weights = bundled_weights()
    with torch.no_grad():
        model, tokenizer = quantized_model(weights), load_pretrained("textbook")[1]
        examples = [work_out(model, tokenizer, *example) for example in EXAMPLES]
        scale = tracing.embedding_std(model, tokenizer)
    tensors, data = pack(weights)
    rates, config = decay_rates(model).float(), model.config  # (layers, channels), sizes
    texts = [{"text": example["text"], "subject": example.get("trace", {}).get("subject")} for example in examples]
    return (
        {
            "sizes": {
                "vocabulary": config.vocab_size,
                "channels": config.channels,
                "layers": config.n_layer,
                "hidden": config.intermediate_size,
            },
            "tensors": tensors,
            "rates": encoded(rates),
            "noiseScale": scale,
            "trace": TRACE,
            "examples": texts,
            "hues": len(LIGHT.hues),
            "ramps": {"light": ramp(LIGHT), "dark": ramp(DARK)},
        },
        data,
        examples,
    )


def ramp(theme: Theme, steps: int = 9) -> list[str]:
    """The color map of the book's heat maps, from little to much."""
    colors = matplotlib.colormaps[theme.sequence](torch.linspace(0, 1, steps).numpy())
    return [matplotlib.colors.to_hex(color) for color in colors]


# ---------------------------------------------------------------------------------------------------------------------
# the examples, worked out beforehand


def normals(seed: int, count: int) -> list[float]:
    """The playground's own random numbers, from the normal distribution: as `normals` in experiments.js."""

    def uniform() -> float:  # the generator mulberry32
        nonlocal seed
        seed = (seed + 0x6D2B79F5) & 0xFFFFFFFF
        z = ((seed ^ (seed >> 15)) * (seed | 1)) & 0xFFFFFFFF
        z ^= (z + (((z ^ (z >> 7)) * (z | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF
        return (z ^ (z >> 14)) / 4294967296

    return [math.sqrt(-2 * math.log(1 - uniform())) * math.cos(2 * math.pi * uniform()) for _ in range(count)]


def trace_with(
    model: RWKVLM, ids: list[int], span: range, answer: int, noise: Tensor, patch: tracing.PatchKind = "both"
) -> tuple[float, Tensor, Tensor]:
    """The causal trace of `tracing.py` with noise that is given: (samples, subject's tokens, channels).

    Returns:
        Log-probabilities: the clean run's, the corrupted runs' (samples,), the cells' (tokens, layers, samples).
    """
    rows = model.embedding.embedding.weight[torch.tensor(ids)]  # (time, channels)
    noisy = rows.repeat(len(noise), 1, 1)  # (samples, time, channels)
    noisy[:, span.start : span.stop] += noise.to(rows)
    clean, corrupted, grid = tracing.trace_rows(model, rows, noisy, [answer], patch)
    return clean.item(), corrupted, grid


def work_out(model: RWKVLM, tokenizer: Tokenizer, text: str, subject: str | None, more: int) -> dict:
    """What a page shows of an example before the model is loaded."""
    ids, written = tokenizer.encode(text).ids, []
    wrote = [[] for _ in model.blocks]  # for each layer and token: keys and values, (2, channels)
    hooks = [
        block.attention.memory.register_forward_hook(lambda _, given, __, i=i: wrote[i].append(torch.stack(given)))
        for i, block in enumerate(model.blocks)
    ]
    model.clear_buffers()
    moments, waiting = [], b""  # bytes of a character that is not whole yet
    for t in range(len(ids) + more):
        token = ids[t] if t < len(ids) else written[-1]
        streams = [model.embedding(token)]
        for block in model.blocks:
            streams.append(block(streams[-1]))
        said = model.unembedding(torch.stack(streams))  # (1 + layers, vocabulary)
        completed, waiting, name = decode_bytes(waiting + token_bytes(token, tokenizer))
        moments.append(
            {
                "token": token,
                "text": completed,
                "name": name,
                "next": likeliest(said[-1], 12, tokenizer, waiting),
                "lens": [likeliest(p, 3, tokenizer, waiting) for p in said],
            }
        )
        if t >= len(ids) - 1:
            written.append(int(said[-1].argmax()))
    for hook in hooks:
        hook.remove()
    model.clear_buffers()
    numbers = torch.stack([torch.stack(layer) for layer in wrote]).half()  # (layers, time, 2, channels)
    example = {"text": text, "prompt": len(ids), "moments": moments, "wrote": encoded(numbers)}
    example["after"] = tokenizer.decode(written[:more], skip_special_tokens=False)
    if subject:
        span = tracing.find_subject(tokenizer, text, subject)[2]
        count = TRACE["samples"] * len(span) * model.config.channels
        noise = torch.tensor(normals(TRACE["seed"], count), dtype=torch.float64).view(TRACE["samples"], len(span), -1)
        scale = TRACE["noise"] * tracing.embedding_std(model, tokenizer)
        clean, corrupted, grid = trace_with(model, ids, span, written[0], noise * scale)
        example["trace"] = {
            "subject": [span.start, span.stop - 1],
            "answer": decode_bytes(token_bytes(written[0], tokenizer))[2],
            **TRACE,
            "restore": "both",
            "clean": clean,
            "corrupted": rounded(corrupted),
            "grid": rounded(grid),
        }
    return example


def likeliest(probabilities: Tensor, count: int, tokenizer: Tokenizer, waiting: bytes) -> list[list]:
    """[id, probability, name] of the likeliest tokens, after bytes of a character that is not whole yet."""
    best = probabilities.topk(count)
    return [
        [i, float(f"{p:.4g}"), decode_bytes(waiting + token_bytes(i, tokenizer))[2]]
        for i, p in zip(best.indices.tolist(), best.values.tolist())
    ]


def decode_bytes(data: bytes) -> tuple[str, bytes, str]:
    """`decodeBytes` of text.js: what is whole, the bytes that wait, and both for the eye."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    waiting = decoder.getstate()[0]
    return text, waiting, text + waiting.hex(" ").upper()


def rounded(tensor: Tensor) -> list:
    """Nested lists of numbers with five digits after the point."""
    return json.loads(json.dumps(tensor.tolist()), parse_float=lambda number: round(float(number), 5))


def encoded(tensor: Tensor) -> str:
    return base64.b64encode(tensor.numpy().tobytes()).decode()
