"""RWKV, explained piece by piece: the model that the book's chapters build, whole.

import rwkv_explainer as rwkv

model, tokenizer = rwkv.load_pretrained()
model.generate("The Eiffel Tower is located in the city of", N=3, temperature=0.0)
"""

from rwkv_explainer.checkpoints import load_pretrained, read_weights
from rwkv_explainer.generation import generate, sample
from rwkv_explainer.model import (
    RWKV,
    RWKVLM,
    AttentionBlock,
    GatedMLP,
    Mixer,
    RWKVBlock,
    RWKVConfig,
    SquaredReLU,
    StableWKVMemory,
    TokenEmbedding,
    Unembedding,
    WKVMemory,
)
from rwkv_explainer.parallel import read

__version__ = "0.1.0"

RWKVLM.generate = generate
RWKVLM.read = read
# `load_pretrained` gives a model its name and its tokenizer; set them yourself on a model of your own
RWKVLM.name = RWKVLM.tokenizer = None
