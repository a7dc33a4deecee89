"""The names of the book's tensors: what each one is, and how its axes are called.

The annotations are `jaxtyping`'s. On their own they are documentation. Under the import hook that the chapters and the
tests switch on (chapter "Strings, tokens, probabilities"), `beartype` checks every call against them:

    from jaxtyping import install_import_hook

    with install_import_hook("rwkv_explainer", "beartype.beartype"):
        import rwkv_explainer

`*batch` stands for any number of leading axes, none included. Dimensions in braces are attributes of the module whose
method is called: an `Embedding` given to a `Mixer` of 256 channels has 256 entries on its last axis.
"""

from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "Distribution",
    "Embedding",
    "EmbeddingSequence",
    "EmbeddingwiseParam",
    "Latents",
    "LogitSequence",
    "Logits",
    "Memory",
    "NextTokenProbabilities",
    "OneHot",
    "State",
    "TokenId",
    "TokenIds",
    "Update",
]

# what goes in
TokenId = int | Int[Tensor, "*batch"]  # one id, or a whole batch of them
TokenIds = Int[Tensor, "*batch time"]  # runs of ids, for time-parallel mode
OneHot = Float[Tensor, "*batch {self.vocab_size}"]  # 1 at the token's id, 0 everywhere else

# what comes out
Logits = Float[Tensor, "*batch {self.vocab_size}"]  # any real numbers; a softmax turns them into probabilities
NextTokenProbabilities = Float[Tensor, "*batch {self.vocab_size}"]  # between 0 and 1, summing to 1

# what flows in between
Embedding = Float[Tensor, "*batch {self.channels}"]  # a token, in context: the residual stream
Update = Embedding  # what a block adds to the residual stream; the same shape, another role
Latents = Float[Tensor, "*batch intermediate_size"]  # the gated MLP's wide middle

# what is learned, or remembered, for each channel
EmbeddingwiseParam = Float[Tensor, "{self.channels}"]
Memory = Float[Tensor, "*batch {self.channels}"]  # a state buffer: one number for each channel
State = dict[str, Tensor]  # every buffer of a module, by name: a snapshot

# the same, where there is no module to ask for its sizes
EmbeddingSequence = Float[Tensor, "*batch time channels"]  # one embedding for each moment
LogitSequence = Float[Tensor, "*batch time vocab_size"]
Distribution = Float[Tensor, "*batch vocab_size"]
