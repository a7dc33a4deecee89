"""What decides how a model is trained, beside what RWKV-4's authors decided: the table of the model card.

The authors' column was read in `RWKV-v4neo` of https://github.com/BlinkDL/RWKV-LM, the code that trained the published
RWKV-4 models; `source` says where in it. Chapter "Training" shows the same table.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rwkv_explainer.lab.training import Recipe

__all__ = ["Choice", "as_markdown", "choices"]


class Choice(NamedTuple):
    """One decision, in words."""

    what: str
    ours: str
    authors: str
    why: str  # if ours differs, the reason; if not, empty
    source: str  # where the authors' decision stands


MODEL, TRAINER, COMMAND = "src/model.py", "src/trainer.py", "train.py"


def choices(recipe: "Recipe") -> list[Choice]:
    """Every decision about the optimizer, the schedule, the precision and the first weights."""
    scaled = "times 2 for `log_decay`, times 3 for `log_gain`, times 1 for all else"
    tokens = recipe.rows * recipe.length
    return [
        Choice(
            "weight decay",
            "none" if not recipe.weight_decay else f"{recipe.weight_decay:g}",
            "none",
            "",
            f"{MODEL}, `configure_optimizers`",
        ),
        Choice(
            "learning rate, by parameter",
            scaled,
            "times 2 for `time_decay`, times 3 for `time_first`, times 1 for all else (in the second stage of the "
            "Pile's training times 5 for these two and for mixes)",
            "",
            f"{MODEL}, `configure_optimizers`",
        ),
        Choice("Adam's betas and epsilon", "0.9 and 0.99, 1e-8", "0.9 and 0.99, 1e-8", "", f"{COMMAND}, its examples"),
        Choice("longest gradient", f"{recipe.clip:g}", "1", "", f"{COMMAND}, `gradient_clip_val`"),
        Choice(
            "learning rate at its highest",
            f"{recipe.learning_rate:g}",
            "6e-4 for 12 layers of 768 channels, 8e-4 for 6 of 512",
            f"a smaller model, which takes larger steps: {recipe.layers} layers of {recipe.channels} channels",
            f"{COMMAND}, `lr_init` and its examples",
        ),
        Choice(
            "learning rate over time",
            f"{recipe.warmup} steps up, constant, then a straight line to 0 over the last {recipe.cooldown:.0%}",
            "exponential from the highest down to 1e-5, without a warm-up",
            "a run that is constant in its middle can be made longer, or ended early, after it has begun",
            f"{TRAINER}, `on_train_batch_start`; {COMMAND}, `lr_final`",
        ),
        Choice(
            "context and batch",
            f"{recipe.length} tokens, {tokens:,} tokens a step",
            "1,024 tokens for the Pile's models, 512 in the example for a small one; 6,144 tokens a step there",
            "two cores: small steps are many steps",
            f"{COMMAND}, its examples",
        ),
        Choice(
            "precision",
            "matrices in bfloat16 where the processor has it, the rest and the memory in float32",
            "all in bfloat16, the memory in float32, master weights in float32",
            "only the products gain speed from it on a processor",
            f"{MODEL}, `WKV`; {COMMAND}, `precision`",
        ),
        Choice(
            "embedding's first weights",
            "uniform in ±1e-4",
            "uniform in ± the highest learning rate",
            "the paper's appendix on small initial embeddings",
            f"{MODEL}, `generate_init_weight`",
        ),
        Choice(
            "other first weights",
            "as theirs",
            "zeros or orthogonal matrices; decays, gains and mixes laid out by channel and layer",
            "",
            f"{MODEL}, `generate_init_weight` and `RWKV_TimeMix`",
        ),
        Choice(
            "pull on the largest logit",
            "none",
            "1e-4 times it, added to its gradient",
            "so that the loss that is taught is the loss that is trained",
            f"{MODEL}, `L2Wrap`",
        ),
        Choice(
            "an extra head that copies earlier tokens",
            "none",
            "none; the code has one, `head_qk`, which is off by default",
            "",
            f"{MODEL}, `forward`; {COMMAND}, `head_qk`",
        ),
    ]


def as_markdown(table: Sequence[Choice]) -> str:
    """The table, differences first."""
    lines = ["| | ours | RWKV-4's authors | why ours differs | where theirs stands |", "|---|---|---|---|---|"]
    for choice in sorted(table, key=lambda choice: not choice.why):
        lines.append("| " + " | ".join(choice) + " |")
    return "\n".join(lines)
