"""RWKV, explained piece by piece: the model that the book's chapters build, whole.

import rwkv_explainer as rwkv

model, tokenizer = rwkv.load_pretrained()
model.generate("The Eiffel Tower is located in the city of", N=3, temperature=0.0)
"""

from rwkv_explainer.checkpoints import load_pretrained, load_weights, save_weights
from rwkv_explainer.generation import adjust_probabilities, sample
from rwkv_explainer.hub import CheckpointError
from rwkv_explainer.model import (
    RWKV,
    RWKVLM,
    AttentionBlock,
    GatedMLP,
    Mixer,
    RWKVBlock,
    SquaredReLU,
    StableWKVMemory,
    TokenEmbedding,
    Unembedding,
    WKVMemory,
)
from rwkv_explainer.piece import RWKVConfig

__all__ = [
    "AttentionBlock",
    "CheckpointError",
    "GatedMLP",
    "Mixer",
    "RWKV",
    "RWKVBlock",
    "RWKVConfig",
    "RWKVLM",
    "SquaredReLU",
    "StableWKVMemory",
    "TokenEmbedding",
    "Unembedding",
    "WKVMemory",
    "adjust_probabilities",
    "load_pretrained",
    "load_weights",
    "sample",
    "save_weights",
]

__version__ = "0.1.0"
