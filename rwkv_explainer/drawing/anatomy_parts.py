"""What the drawing of the model's anatomy consists of: each part's name, its words, and the chapter that builds it."""

from dataclasses import dataclass

__all__ = ["GROUPS", "KINDS", "PANELS", "PARTS", "Example", "Part"]


@dataclass(frozen=True)
class Part:
    """A part of the drawing: what it is, and the chapter that builds it."""

    title: str  # its name in the drawing
    chapter: str  # the chapter's file, without its ending
    words: str  # a sentence about it, with the model's sizes to fill in
    groups: tuple[str, ...] = ()  # lights up with these too
    learned: str = ""  # what it has learned, drawn as an input in blue
    remembers: str = ""  # what it keeps for the next token, drawn in orange


LOOP, ENDS = "strings-tokens-probabilities", "embedding-and-unembedding"
BLOCKS, MLP, MEMORY = "blocks-and-the-residual-stream", "the-gated-mlp", "attention-and-memory"
PANELS: dict[str, tuple[str, dict[str, Part]]] = {  # heading, and the parts in the order of the data's flow
    "model": (
        "The whole model, in its loop",
        {
            "text": Part("text", LOOP, "What has been written so far{text}.", ("loop",)),
            "tokens": Part("tokens", LOOP, "The text, cut into pieces that the model knows{tokens}.", ("loop",)),
            "ids": Part(
                "ids", LOOP, "Each token's number, one of {vocab_size}; one id enters at each step{ids}.", ("loop",)
            ),
            "model": Part(
                "model", "the-whole-model", "{n_layer} layers × {channels} channels, {parameters} learned numbers."
            ),
            "embedding": Part(
                "embedding",
                ENDS,
                "The id picks one row of a table of {vocab_size} × {channels} numbers, which is then normalized.",
                learned="table {vocab_size} × {channels}",
            ),
            "stream": Part(
                "residual stream",
                BLOCKS,
                "{channels} numbers that run from the embedding to the unembedding. Every block reads them, and adds "
                "its two updates.",
            ),
            "blocks": Part(
                "{n_layer} blocks",
                BLOCKS,
                "Each has two steps, attention (time mixing) and gated MLP (channel mixing). Together they keep "
                "{state} different numbers.",
                ("block",),
                remembers="{per_block} numbers a block",
            ),
            "unembedding": Part(
                "unembedding",
                ENDS,
                "The stream is normalized, a matrix makes a logit for each of {vocab_size} tokens, and softmax turns "
                "them into probabilities.",
                learned="matrix {channels} → {vocab_size}",
            ),
            "probabilities": Part(
                "probabilities", LOOP, "One for every token of the vocabulary, together 1{top}.", ("loop",)
            ),
            "die": Part(
                "sampling", LOOP, "A die, loaded with the probabilities, picks the next token{drawn}.", ("loop",)
            ),
            "append": Part("append", LOOP, "The token goes to the end of the text, and in again as input.", ("loop",)),
        },
    ),
    "block": (
        "One of the {n_layer} blocks",
        {
            "norms": Part(
                "ln1, ln2",
                BLOCKS,
                "LayerNorm before each of the two steps.",
                ("block",),
                learned="scale and shift",
            ),
            "attention": Part(
                "attention",
                MEMORY,
                "Time mixing: moves information from earlier tokens to this one.",
                ("block",),
            ),
            "attention.mixers": Part(
                "mixers of the attention",
                MLP,
                "Token shift: each blends the input with the one before, for receptance, key and value.",
                ("block", "attention", "mixer"),
                learned="m",
                remembers="last_x",
            ),
            "attention.receptance": Part(
                "receptance",
                MEMORY,
                "A matrix {channels} × {channels}; the sigmoid (σ) makes gates from 0 to 1 of it.",
                ("block", "attention"),
                learned="matrix",
            ),
            "attention.key": Part(
                "key", MEMORY, "A matrix {channels} × {channels}.", ("block", "attention"), learned="matrix"
            ),
            "attention.value": Part(
                "value", MEMORY, "A matrix {channels} × {channels}.", ("block", "attention"), learned="matrix"
            ),
            "attention.memory": Part(
                "memory",
                MEMORY,
                "The WKV memory, {channels} channels: takes key and value, gives an average of all values so far.",
                ("block", "attention", "memory"),
                learned="decay, gain",
                remembers="contents, normalizer",
            ),
            "attention.output": Part(
                "output",
                MEMORY,
                "The gates multiply what the memory gives (×). A matrix {channels} × {channels} makes the update, "
                "which the stream adds (+).",
                ("block", "attention"),
                learned="matrix",
            ),
            "gated_mlp": Part(
                "gated MLP", MLP, "Channel mixing: computes on the current token and the one before.", ("block",)
            ),
            "gated_mlp.mixers": Part(
                "mixers of the gated MLP",
                MLP,
                "Token shift again, for receptance and key.",
                ("block", "gated_mlp", "mixer"),
                learned="m",
                remembers="last_x",
            ),
            "gated_mlp.receptance": Part(
                "receptance",
                MLP,
                "A matrix {channels} × {channels} and the sigmoid (σ) make the gates.",
                ("block", "gated_mlp"),
                learned="matrix",
            ),
            "gated_mlp.key": Part(
                "key",
                MLP,
                "A matrix {channels} → {intermediate_size} makes the latents.",
                ("block", "gated_mlp"),
                learned="matrix",
            ),
            "gated_mlp.nonlinearity": Part(
                "squared ReLU", MLP, "0 for a negative latent, else its square.", ("block", "gated_mlp")
            ),
            "gated_mlp.value": Part(
                "value",
                MLP,
                "A matrix {intermediate_size} → {channels} writes what the latents say. The gates multiply it (×), the "
                "stream adds it (+).",
                ("block", "gated_mlp"),
                learned="matrix",
            ),
        },
    ),
    "memory": (
        "One channel of the memory",
        {
            "weight": Part("weight", MEMORY, "A value comes in with a weight, which is exp(key).", ("memory",)),
            "contents": Part("contents", MEMORY, "The sum of weight × value.", ("memory",), remembers="contents"),
            "normalizer": Part("normalizer", MEMORY, "The sum of the weights.", ("memory",), remembers="normalizer"),
            "decay": Part(
                "decay",
                "time-decay",
                "With every token both leak: they keep the fraction exp(−rate).",
                ("memory",),
                learned="decay",
            ),
            "gain": Part(
                "gain",
                MEMORY,
                "The current token is not in the memory yet; it counts with its weight times exp(gain).",
                ("memory",),
                learned="gain",
            ),
            "read": Part("average", MEMORY, "Contents divided by normalizer, the current token in both.", ("memory",)),
        },
    ),
}
PARTS = {name: part for _, parts in PANELS.values() for name, part in parts.items()}
GROUPS = {group for part in PARTS.values() for group in part.groups} - PARTS.keys()
KINDS = {"learned": "all that is learned", "remembered": "all that is kept for the next token"}  # light up as well


@dataclass(frozen=True)
class Example:
    """A text that a model has read, and what it expects next."""

    text: str
    tokens: tuple[tuple[str, int], ...]  # each with its id
    top: tuple[tuple[str, float], ...]  # the likeliest next tokens, each with its probability
