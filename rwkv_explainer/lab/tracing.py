"""Where a lost fact can be put back: the causal trace.

After Meng et al. 2022 (https://arxiv.org/abs/2202.05262), section 2, and Figure 11 of RWKV's paper; chapter "Causal
trace". Hide the subject of a prompt under noise, and the model loses the answer. Put one thing back as it was in the
clean run, at one token and one layer, and see how much of the answer returns.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_args

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from rwkv_explainer.checkpoints import BUNDLED, load_pretrained
from rwkv_explainer.lab.atlas import load_atlas, phrasings, subject_in
from rwkv_explainer.lab.atlas import prompt as prompt_and_answer
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.piece import Piece
from rwkv_explainer.shapes import State

__all__ = [
    "ActivationCache",
    "CausalTrace",
    "Patch",
    "PatchKind",
    "ROLES",
    "UnknownAnswer",
    "ablate_memory",
    "add_noise",
    "causal_trace",
    "embedding_std",
    "figure_11",
    "find_subject",
    "greedy_answer",
    "load_trace_averages",
    "mean_and_stderr",
    "mean_by_role",
    "patch_every_cell",
    "patched_run",
    "run_with_cache",
    "sublayers",
    "trace_facts",
    "trace_rows",
]

PatchKind = Literal["both", "activation", "state", "attention", "mlp"]
Grid = Float[Tensor, "tokens layers"]
MAX_BATCH = 4096  # runs that step together; more are split, to bound the memory taken


class UnknownAnswer(ValueError):
    """The model's greedy continuation is not the given answer."""


@dataclass(frozen=True)
class CausalTrace:
    """What came of a causal trace. Tokens count from 0, layers too."""

    log_probability: Grid  # of the answer, mean over the noise samples, with this cell patched
    probability: Grid
    clean: float  # log-probability of the answer without noise
    corrupted: float  # with noise and nothing patched, mean over the samples
    clean_probability: float
    corrupted_probability: float
    tokens: list[str]
    subject: range  # which tokens the noise covered
    answer: str
    patch: str  # what was put back
    noise: float  # in standard deviations of the subjects' embeddings
    samples: int
    seed: int


@torch.no_grad()
def causal_trace(
    model: RWKVLM,
    tokenizer: Tokenizer,
    prompt: str,
    subject: str,
    answer: str | None = None,
    patch: PatchKind = "both",
    noise: float = 3.0,
    samples: int = 10,
    seed: int = 0,
    first_token_only: bool = False,
    progress: bool = True,
    known: bool = True,
) -> CausalTrace:
    """Patch each token and layer in turn in a run whose subject is under noise, and measure how probable the answer is.

    The noise is Gaussian, `noise` times the standard deviation of the embeddings of the atlas subjects' tokens. It is
    added to the rows of the embedding table, before the first LayerNorm; every cell meets the same noise.

    Args:
        subject: part of the prompt, as it is spelled there.
        answer: None for what the model says, greedy: one token. A given answer of several tokens is scored whole,
            each token after the ones before it.
        patch: what to put back as it was in the clean run. "activation" is a block's output, "state" what its memory
            and mixers hold after the token, "both" the two of them, "attention" and "mlp" the update of that sublayer.
        first_token_only: score the first token of the answer alone.
        progress: show a progress bar if it takes over two seconds.
        known: refuse an answer that the model does not give; False traces it all the same, however improbable.

    Raises:
        ValueError: for an empty prompt, a subject that is not in it exactly once, or no samples.
        UnknownAnswer: for an answer that the model does not give; it says what the model gives instead.
    """
    if samples < 1:
        raise ValueError(f"samples: expected 1 or more draws of the noise, got {samples}")
    ids, tokens, span = find_subject(tokenizer, prompt, subject)
    answer_ids = greedy_answer(model, tokenizer, ids, answer, known)
    if first_token_only:
        answer_ids = answer_ids[:1]
    rows = _embedding_rows(model, ids)  # (time, channels)
    noisy = add_noise(rows, span, noise, embedding_std(model, tokenizer), samples, seed)  # (samples, time, channels)
    untouched, corrupted, grid = trace_rows(model, rows, noisy, answer_ids, patch, progress)
    return CausalTrace(
        log_probability=grid.mean(dim=-1),
        probability=grid.exp().mean(dim=-1),
        clean=untouched.item(),
        corrupted=corrupted.mean().item(),
        clean_probability=untouched.exp().item(),
        corrupted_probability=corrupted.exp().mean().item(),
        tokens=tokens,
        subject=span,
        answer=tokenizer.decode(answer_ids, skip_special_tokens=False),
        patch=patch,
        noise=noise,
        samples=samples,
        seed=seed,
    )


def trace_rows(
    model: RWKVLM,
    rows: Float[Tensor, "time channels"],
    noisy: Float[Tensor, "samples time channels"],
    answer: Sequence[int],
    patch: PatchKind = "both",
    progress: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, "samples"], Float[Tensor, "time layers samples"]]:
    """The causal trace of rows of the embedding table, which may be given any noise.

    Returns:
        Log-probabilities of the answer: in the clean run, in the corrupted runs, and with each cell patched.
    """
    clean, corrupted = model.embedding.normalize_emb(rows), model.embedding.normalize_emb(noisy)
    source = Patch(patch, run_with_cache(model, clean))
    size = max(1, MAX_BATCH // (len(rows) * len(model.blocks) + 1))
    parts = [patch_every_cell(model, part, answer, source, progress) for part in corrupted.split(size)]
    found = torch.cat(parts, dim=1)  # (runs, samples)
    untouched = patch_every_cell(model, clean[None], answer, None)[0, 0]
    return untouched, found[0], found[1:].view(len(rows), len(model.blocks), len(noisy))


@torch.no_grad()
def ablate_memory(model: RWKVLM, tokenizer: Tokenizer, prompt: str, answer: str | None = None) -> Grid:
    """The probability of the answer when one layer's state is cleared right after one token: (tokens, layers)."""
    ids = require_prompt(tokenizer.encode(prompt).ids)
    answer_ids = greedy_answer(model, tokenizer, ids, answer)
    embedded = model.embedding.normalize_emb(_embedding_rows(model, ids))[None]  # (1, time, channels)
    empty = [piece.snapshot() for _, piece in sublayers(model)]  # greedy_answer left the buffers clear
    patch = Patch("state", ActivationCache(streams=[], updates=[], states=[empty] * len(ids)))
    found = patch_every_cell(model, embedded, answer_ids, patch)  # (runs, 1)
    return found[1:, 0].exp().view(len(ids), len(model.blocks))  # (tokens, layers)


# ---------------------------------------------------------------------------------------------------------------------
# what the trace is asked


def require_prompt(ids: list[int]) -> list[int]:
    """The token ids of a prompt, if there are any."""
    if not ids:
        raise ValueError("prompt: expected some text, got none; give a sentence that the model should finish")
    return ids


def find_subject(tokenizer: Tokenizer, prompt: str, subject: str) -> tuple[list[int], list[str], range]:
    """The prompt's token ids, their texts, and which of them spell the subject."""
    encoding = tokenizer.encode(prompt)
    require_prompt(encoding.ids)
    count = prompt.count(subject) if subject else 0
    if count != 1:
        raise ValueError(
            f"subject: expected {subject!r} once in the prompt, found it {count} times in {prompt!r}; "
            "spell it as the prompt does, capitals included"
        )
    start = prompt.index(subject)
    end = start + len(subject)
    inside = [i for i, (a, b) in enumerate(encoding.offsets) if a < end and b > start]
    return encoding.ids, [tokenizer.decode([i]) for i in encoding.ids], range(inside[0], inside[-1] + 1)


def greedy_answer(
    model: RWKVLM, tokenizer: Tokenizer, ids: Sequence[int], answer: str | None, known: bool = True
) -> list[int]:
    """The greedy continuation of the prompt, as ids: one token, or as many as `answer` has. `answer` if not `known`.

    Raises:
        UnknownAnswer: if it is not `answer`.
    """
    expected = None if answer is None else tokenizer.encode(answer).ids
    if expected == []:
        raise ValueError("answer: expected some text, got none; None takes what the model says")
    if expected and not known:
        return expected
    model.clear_buffers()
    for token_id in ids:
        logits = model.logits(token_id)  # (vocabulary,)
    said: list[int] = []
    for _ in range(len(expected or [0])):
        said.append(int(logits.argmax()))
        logits = model.logits(said[-1])  # (vocabulary,)
    model.clear_buffers()
    if expected is not None and said != expected:
        raise UnknownAnswer(
            f"answer: expected the model to go on with {answer!r}, but it says "
            f"{tokenizer.decode(said)!r}; trace a fact that it knows, or spell the answer with its "
            "leading space"
        )
    return said


def add_noise(
    rows: Float[Tensor, "time channels"], span: range, noise: float | int, scale: float, samples: int, seed: int
) -> Float[Tensor, "samples time channels"]:
    """Rows of the embedding table under noise, `noise` times `scale` large, at the tokens in `span`."""
    random = torch.Generator().manual_seed(seed)
    shape = (samples, len(span), rows.shape[1])
    drawn = torch.randn(shape, generator=random, dtype=torch.float64).to(rows)  # the same numbers in every dtype
    noisy = rows.repeat(samples, 1, 1)  # (samples, time, channels)
    noisy[:, span.start : span.stop] += drawn * noise * scale
    return noisy


def embedding_std(model: RWKVLM, tokenizer: Tokenizer) -> float:
    """The standard deviation of the embedding table's entries over the tokens of all atlas subjects."""
    subjects = [fact.subject for relation in load_atlas() for fact in relation.facts]
    encodings = tokenizer.encode_batch([f" {subject}" for subject in subjects])
    ids = sorted({i for encoding in encodings for i in encoding.ids})
    return _embedding_rows(model, ids).std().item()


def _embedding_rows(model: RWKVLM, ids: Sequence[int]) -> Float[Tensor, "time channels"]:
    """Rows of the embedding table, before its norm."""
    table = model.embedding.embedding.weight  # (vocab_size, channels)
    return table[torch.tensor(ids, dtype=torch.long, device=table.device)]  # (time, channels)


# patching: one cell, plainly; and all cells at the same time

# A block has two sublayers, attention and MLP. Each is a norm, a piece with a state, and an addition to the stream. In
# a model they count through the blocks: sublayer 2 i is the attention of block i, sublayer 2 i + 1 its MLP. A cell is
# a token and a layer.


@dataclass(frozen=True)
class ActivationCache:
    """Everything that happened in a run, by token and sublayer."""

    streams: list[list[Tensor]]  # the residual stream after the sublayer: (channels,)
    updates: list[list[Tensor]]  # what it added to the stream: (channels,)
    states: list[list[State]]  # what it remembered after the token


@dataclass(frozen=True)
class Patch:
    """What a cell's run takes from a clean run.

    Raises:
        ValueError: for a kind that there is not.
    """

    kind: str  # one of `PatchKind`
    clean: ActivationCache

    def __post_init__(self) -> None:
        if self.kind not in get_args(PatchKind):
            raise ValueError(f"patch: expected one of {', '.join(map(repr, get_args(PatchKind)))}, got {self.kind!r}")

    def stream(self, t: int, h: int, before: Tensor, after: Tensor) -> Tensor:
        """The stream after sublayer h of the cell at token t, where `before` and `after` are the run's own."""
        if self.kind == ("attention", "mlp")[h % 2]:
            return before + self.clean.updates[t][h]  # (*batch, channels)
        if self.kind in ("both", "activation") and h % 2 == 1:
            return self.clean.streams[t][h].expand_as(after)  # (*batch, channels)
        return after

    def state(self, t: int, h: int) -> State:
        """The buffers of sublayer h to replace after token t."""
        return self.clean.states[t][h] if self.kind in ("both", "state") else {}


def sublayers(model: RWKVLM) -> list[tuple[nn.Module, Piece]]:
    """The norm and the piece of each sublayer of each block, in order."""
    return [part for block in model.blocks for part in ((block.ln1, block.attention), (block.ln2, block.gated_mlp))]


def run_with_cache(model: RWKVLM, embedded: Float[Tensor, "time channels"]) -> ActivationCache:
    """Run the blocks over these embeddings and keep everything."""
    model.clear_buffers()
    cache = ActivationCache([], [], [])
    for x in embedded:
        streams, updates, states = [], [], []
        for norm, piece in sublayers(model):
            updates.append(piece(norm(x)))  # (channels,)
            x = x + updates[-1]  # (channels,)
            streams.append(x)
            states.append(piece.snapshot())
        cache.streams.append(streams)
        cache.updates.append(updates)
        cache.states.append(states)
    model.clear_buffers()
    return cache


def patched_run(
    model: RWKVLM,
    embedded: Float[Tensor, "time channels"],
    answer: Sequence[int],
    patch: Patch,
    cell: tuple[int, int],
) -> Float[Tensor, ""]:
    """The log-probability of the answer in a run in which one cell (token, layer) is patched: the definition."""
    model.clear_buffers()
    score = embedded.new_zeros(())
    inputs = torch.cat([embedded, _embed_answer(model, answer)])  # (time + answer - 1, channels)
    for t, x in enumerate(inputs):
        for h, (norm, piece) in enumerate(sublayers(model)):
            before, x = x, x + piece(norm(x))  # (channels,)
            if cell == (t, h // 2):
                x = patch.stream(t, h, before, x)  # (channels,)
                piece.restore(piece.snapshot() | patch.state(t, h))
        if t >= len(embedded) - 1:
            score = score + model.unembedding.logits(x).log_softmax(dim=-1)[answer[t - len(embedded) + 1]]
    model.clear_buffers()
    return score


def patch_every_cell(
    model: RWKVLM,
    embedded: Float[Tensor, "samples time channels"],
    answer: Sequence[int],
    patch: Patch | None,
    progress: bool = False,
) -> Float[Tensor, "runs samples"]:
    """The answer's log-probability in the run without a patch, then what `patched_run` gives for every cell.

    Cells follow by token, then by layer. With no `patch` there is the first run alone.

    All runs step together. Invariant: after token t, layer i steps the run without a patch, and one run for each cell
    (token <= t, layer <= i). A cell's run needs no other: before its token and below its layer it is the first run.
    """
    (samples, time, _), layers = embedded.shape, len(model.blocks)
    follow = _embed_answer(model, answer).expand(samples, -1, -1)  # (samples, answer - 1, channels)
    inputs = torch.cat([embedded, follow], dim=1).unbind(1)  # (samples, channels) each
    model.clear_buffers()
    states = [
        {name: buffer.expand(1, samples, -1) for name, buffer in piece.state_buffers().items()}
        for _, piece in sublayers(model)
    ]  # of each sublayer: (runs, samples, channels)
    score = embedded.new_zeros(())
    for t in tqdm(range(len(inputs)), delay=2, disable=not progress):
        begins = patch is not None and t < time  # in each layer, the run of this token's cell begins
        tokens = min(t + 1, time) if patch else 0  # of whose cells there are runs
        first, cells = (
            inputs[t],
            inputs[t].new_zeros(tokens, 0, *inputs[t].shape),
        )  # (tokens, layers, samples, channels)
        for h, (norm, piece) in enumerate(sublayers(model)):
            if h % 2 == 0:  # this layer's cells join: so far, they are the first run
                cells = torch.cat([cells, first.expand(tokens, 1, *first.shape)], dim=1)
            if begins:  # and those of the new token remember what the first run does
                states[h] = {name: _with_copies(buffer, cells.shape[1]) for name, buffer in states[h].items()}
            before = torch.cat([first[None], cells.flatten(0, 1)])  # (runs, samples, channels)
            piece.restore(states[h])
            after = before + piece(norm(before))  # (runs, samples, channels)
            states[h] = piece.state_buffers()
            if begins:  # the last run is that of this very cell
                after[-1] = patch.stream(t, h, before[-1], after[-1])
                for name, value in patch.state(t, h).items():
                    states[h][name][-1] = value
            first, cells = after[0], after[1:].view(cells.shape)
        if t >= time - 1:
            logits = model.unembedding.logits(
                torch.cat([first[None], cells.flatten(0, 1)])
            )  # (runs, samples, vocab_size)
            score = score + logits.log_softmax(dim=-1)[..., answer[t - time + 1]]  # (runs, samples)
    model.clear_buffers()
    return score


def _with_copies(state: Tensor, count: int) -> Tensor:
    """Further runs with the state of the first one: (runs, samples, channels) to (runs + count, samples, channels)."""
    return torch.cat([state, state[:1].expand(count, -1, -1)])


def _embed_answer(model: RWKVLM, answer: Sequence[int]) -> Float[Tensor, "answer channels"]:
    """The embeddings of all tokens of the answer but the last, which is never fed."""
    return model.embedding.normalize_emb(_embedding_rows(model, list(answer[:-1])))


# ---------------------------------------------------------------------------------------------------------------------
# many facts at once, and the paper's own figure

ROLES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "next token",
    "further tokens",
    "last token",
)


def mean_by_role(trace: CausalTrace, grid: Tensor) -> Float[Tensor, "roles layers"]:
    """A trace's grid, averaged over the tokens of each role, in the order of `ROLES`; NaN where a role has no token."""
    first, last, end = trace.subject.start, trace.subject.stop - 1, len(trace.tokens) - 1
    roles = [
        [first] if first < last else [],
        list(range(first + 1, last)),
        [last],
        [last + 1] if last + 1 < end else [],
        list(range(last + 2, end)),
        [end] if end > last else [],
    ]
    empty = torch.full_like(grid[0], torch.nan)  # (layers,)
    return torch.stack([grid[tokens].mean(dim=0) if tokens else empty for tokens in roles])


def trace_facts(
    model: RWKVLM,
    tokenizer: Tokenizer,
    per_relation: int,
    patch: PatchKind = "both",
    samples: int = 3,
    relations: Sequence[str] | None = None,
    progress: bool = False,
) -> Float[Tensor, "facts roles layers"]:
    """The probability that each cell regains, by role, for facts of the atlas that the model knows.

    Of each relation (or of those named), the first `per_relation` facts that the model gets right, asked forward in the
    relation's first seen phrasing. NaN where a prompt has no token of a role.

    Raises:
        ValueError: if the atlas has no such relation, and for what `causal_trace` refuses.
    """
    atlas = {relation.name: relation for relation in load_atlas()}
    if unknown := set(relations or ()) - atlas.keys():
        raise ValueError(f"relations: expected some of {', '.join(atlas)}, got {', '.join(sorted(unknown))}")
    found = []
    for relation in tqdm([r for r in atlas.values() if relations is None or r.name in relations], disable=not progress):
        known, phrasing = 0, phrasings(relation, "forward", "seen")[0]
        for fact in relation.facts:
            words, answer = prompt_and_answer(phrasing, fact)
            try:
                subject = subject_in(phrasing, fact)
                trace = causal_trace(model, tokenizer, words, subject, answer, patch, samples=samples, progress=False)
            except UnknownAnswer:
                continue
            found.append(mean_by_role(trace, trace.probability - trace.corrupted_probability))
            known += 1
            if known == per_relation:
                break
    return torch.stack(found) if found else torch.zeros(0, len(ROLES), len(model.blocks))


def load_trace_averages(model: RWKVLM) -> dict | None:
    """The averages that `python -m rwkv_explainer.lab.tracing --write` kept for the bundled model, else None.

    They are of facts that the model knows, in the atlas that it was trained on, the first version's.

    Returns:
        Numbers of `facts` and `samples`, and by kind of patch the `mean` and its standard `error`: (roles, layers).
    """
    file = BUNDLED / "trace_averages.json"
    if model.name != "textbook" or not file.exists():
        return None
    kept = json.loads(file.read_text())
    if kept["weights"] not in (BUNDLED / "SHA256SUMS").read_text():
        return None
    for averages in kept["patch"].values():
        averages |= {name: torch.tensor(grid, dtype=torch.float64) for name, grid in averages.items()}
    return kept


def mean_and_stderr(effects: Float[Tensor, "facts roles layers"]) -> tuple[Tensor, Tensor]:
    """The mean over the facts that have the role, and its standard error: (roles, layers) each."""
    mean = effects.nanmean(dim=0)  # (roles, layers)
    count = (~effects.isnan()).sum(dim=0).clamp(min=1)  # (roles, layers)
    return mean, ((effects - mean) ** 2).nanmean(dim=0).sqrt() / count.sqrt()


def _to_json(grid: Tensor) -> list[list[float]]:
    """Round to four digits for JSON; NaN stays NaN."""
    return [[round(value, 4) for value in row] for row in grid.tolist()]


def figure_11() -> tuple[list[str], Grid]:
    """The values of the paper's Figure 11, read off the published picture by its colors, good to about 0.15.

    Returns:
        The tokens of the prompt, and the log-probability of " Paris": (tokens, layers).
    """
    text = resources.files("rwkv_explainer").joinpath("data/figure_11.csv").read_text(encoding="utf-8")
    values = [[float(value) for value in line.split(",")] for line in text.splitlines()]
    return ["The", " E", "iff", "el", " Tower", " is", " located", " in", " the", " city", " of"], torch.tensor(values)


# ---------------------------------------------------------------------------------------------------------------------
# the command


def main() -> None:
    """Average the causal traces of hundreds of facts, and keep the result beside the bundled model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--per-relation", type=int, default=16, metavar="FACTS")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write trace_averages.json into the bundled folder")
    args = parser.parse_args()
    model, tokenizer = load_pretrained("textbook", dtype=torch.float32)
    kept = {"weights": (BUNDLED / "SHA256SUMS").read_text().split()[0], "samples": args.samples, "patch": {}}
    for patch in ("both", "attention", "mlp"):
        effects = trace_facts(model, tokenizer, args.per_relation, patch, args.samples, progress=True)
        mean, error = mean_and_stderr(effects)
        kept["facts"] = len(effects)
        kept["patch"][patch] = {"mean": _to_json(mean), "error": _to_json(error)}
        print(patch, len(effects), "facts, strongest cell", f"{mean.nan_to_num().max():.3f}")
    if args.write:
        (BUNDLED / "trace_averages.json").write_text(json.dumps(kept) + "\n")


if __name__ == "__main__":
    main()
