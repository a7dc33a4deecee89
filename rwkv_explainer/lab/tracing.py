"""Where a lost fact can be put back: the causal trace.

After Meng et al. 2022 (https://arxiv.org/abs/2202.05262), section 2, and Figure 11 of RWKV's paper; chapter "Causal
trace". Hide the subject of a prompt under noise, and the model loses the answer. Put one thing back as it was in the
clean run, at one token and one layer, and see how much of the answer returns.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from rwkv_explainer.checkpoints import BUNDLED, load_pretrained
from rwkv_explainer.lab.atlas import load_atlas, prompt, subject_in
from rwkv_explainer.model import RWKVLM, Piece
from rwkv_explainer.shapes import State

Restore = Literal["both", "activation", "state", "attention", "mlp"]
Grid = Float[Tensor, "tokens layers"]
MOST_ROWS = 4096  # runs that step together; more are split, to bound the memory taken


class UnknownAnswer(ValueError):
    """The model goes on with something else than the answer that it was to be traced to."""


@dataclass(frozen=True)
class CausalTrace:
    """What came of a causal trace. Tokens count from 0, layers too."""

    log_probability: Grid  # of the answer, mean over the noise samples, with this cell restored
    probability: Grid
    clean: float  # log-probability of the answer without noise
    corrupted: float  # with noise and nothing restored, mean over the samples
    clean_probability: float
    corrupted_probability: float
    tokens: list[str]
    subject: range  # which tokens the noise covered
    answer: str
    restore: str  # what was put back
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
    restore: Restore = "both",
    noise: float = 3.0,
    samples: int = 10,
    seed: int = 0,
    first_token_only: bool = False,
    progress: bool = True,
    known: bool = True,
) -> CausalTrace:
    """Restore each token and layer in turn in a run whose subject is hidden, and measure how probable the answer is.

    The noise is Gaussian, `noise` times the standard deviation of the embeddings of the atlas subjects' tokens. It is
    added to the rows of the embedding table, before the first LayerNorm; every cell meets the same noise.

    Args:
        subject: part of the prompt, as it is spelled there.
        answer: None for what the model says, greedy: one token. A given answer of several tokens is scored whole,
            each token after the ones before it.
        restore: "activation" puts a block's output back, "state" what its memory and mixers hold after the token,
            "both" the two of them, "attention" and "mlp" the update of that half of the block.
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
    answer_ids = check_answer(model, tokenizer, ids, answer, known)
    if first_token_only:
        answer_ids = answer_ids[:1]
    rows = model.embedding.embedding.weight[torch.tensor(ids)]  # (time, channels)
    scale = embedding_scale(model, tokenizer)
    normalize = model.embedding.normalize_emb
    embedded = normalize(hide(rows, span, noise, scale, samples, seed))  # (samples, time, channels)

    clean = record(model, normalize(rows))
    patch = patch_of(restore, clean)
    cells = len(ids) * len(model.blocks)
    group = max(1, MOST_ROWS // (cells + 1))
    parts = embedded.split(group)
    found = torch.cat([sweep(model, part, answer_ids, patch, progress) for part in parts], dim=1)  # (runs, samples)
    untouched = sweep(model, normalize(rows)[None], answer_ids, None)[0, 0]
    grid = found[1:].view(len(ids), len(model.blocks), samples)  # (tokens, layers, samples)
    return CausalTrace(
        log_probability=grid.mean(dim=-1),
        probability=grid.exp().mean(dim=-1),
        clean=untouched.item(),
        corrupted=found[0].mean().item(),
        clean_probability=untouched.exp().item(),
        corrupted_probability=found[0].exp().mean().item(),
        tokens=tokens,
        subject=span,
        answer=tokenizer.decode(answer_ids, skip_special_tokens=False),
        restore=restore,
        noise=noise,
        samples=samples,
        seed=seed,
    )


@torch.no_grad()
def sever_memory(model: RWKVLM, tokenizer: Tokenizer, prompt: str, answer: str | None = None) -> Grid:
    """The probability of the answer when one layer forgets everything right after one token: (tokens, layers)."""
    ids = check_prompt(tokenizer.encode(prompt).ids)
    answer_ids = check_answer(model, tokenizer, ids, answer)
    embedded = model.embedding(torch.tensor(ids))[None]  # (1, time, channels)
    empty = [piece.snapshot() for _, piece in halves_of(model)]  # check_answer left the buffers clear
    found = sweep(model, embedded, answer_ids, Patch(after=1, state=lambda t, h: empty[h]))
    return found[1:, 0].exp().view(len(ids), len(model.blocks))  # (tokens, layers)


# ---------------------------------------------------------------------------------------------------------------------
# what the trace is asked


def check_prompt(ids: list[int]) -> list[int]:
    """The token ids of a prompt, if there are any."""
    if not ids:
        raise ValueError("prompt: expected some text, got none; give a sentence that the model should finish")
    return ids


def find_subject(tokenizer: Tokenizer, prompt: str, subject: str) -> tuple[list[int], list[str], range]:
    """The prompt's token ids, their texts, and which of them spell the subject."""
    encoding = tokenizer.encode(prompt)
    check_prompt(encoding.ids)
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


def check_answer(
    model: RWKVLM, tokenizer: Tokenizer, ids: Sequence[int], answer: str | None, known: bool = True
) -> list[int]:
    """The ids of the answer: what the model says next, greedy, which has to be `answer` if one is given and `known`."""
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


def hide(
    rows: Float[Tensor, "time channels"], span: range, noise: float | int, scale: float, samples: int, seed: int
) -> Float[Tensor, "samples time channels"]:
    """Rows of the embedding table under noise, `noise` times `scale` large, at the tokens in `span`."""
    random = torch.Generator().manual_seed(seed)
    shape = (samples, len(span), rows.shape[1])
    drawn = torch.randn(shape, generator=random, dtype=torch.float64).to(rows)  # the same numbers in every dtype
    noisy = rows.repeat(samples, 1, 1)  # (samples, time, channels)
    noisy[:, span.start : span.stop] += drawn * noise * scale
    return noisy


def embedding_scale(model: RWKVLM, tokenizer: Tokenizer) -> float:
    """The standard deviation of the embedding table's entries over the tokens of all atlas subjects."""
    subjects = [fact.subject for relation in load_atlas() for fact in relation.facts]
    encodings = tokenizer.encode_batch([f" {subject}" for subject in subjects])
    ids = sorted({i for encoding in encodings for i in encoding.ids})
    return model.embedding.embedding.weight[torch.tensor(ids)].std().item()


# ---------------------------------------------------------------------------------------------------------------------
# the sweep: every cell at once

# A block is two halves, and each half is a norm, a piece with a state, and an addition. A cell (token, layer) is a run
# that is like the others up to one half of one token, where something in it is replaced. All runs step together. Below
# its layer a cell's run never differs from the run that nothing is done to, so it is computed from its layer upwards.


@dataclass(frozen=True)
class Patch:
    """What to replace. Halves count through the blocks: half 2 i is the attention of block i, half 2 i + 1 its MLP."""

    after: int  # the half of its block after which a cell's run begins: 0 or 1
    stream: Callable[[int, int], Tensor] | None = None  # (token, half) to the stream after it: (channels,)
    update: Callable[[int, int], Tensor] | None = None  # (token, half) to what the half adds: (channels,)
    state: Callable[[int, int], State] | None = None  # (token, half) to the half's state after the token


@dataclass(frozen=True)
class Recording:
    """Everything that happened in a run, by token and half."""

    streams: list[list[Tensor]]  # (channels,)
    updates: list[list[Tensor]]  # (channels,)
    states: list[list[State]]


def patch_of(restore: Restore, clean: Recording) -> Patch:
    """What `causal_trace` puts back."""
    stream = lambda t, h: clean.streams[t][h]
    update = lambda t, h: clean.updates[t][h]
    state = lambda t, h: clean.states[t][h]
    patches = {
        "both": Patch(after=1, stream=stream, state=state),
        "activation": Patch(after=1, stream=stream),
        "state": Patch(after=1, state=state),
        "attention": Patch(after=0, update=update),
        "mlp": Patch(after=1, update=update),
    }
    if restore not in patches:
        raise ValueError(f"restore: expected one of {', '.join(map(repr, patches))}, got {restore!r}")
    return patches[restore]


def halves_of(model: RWKVLM) -> list[tuple[nn.Module, Piece]]:
    """The norm and the piece of each half of each block, in order."""
    return [half for block in model.blocks for half in ((block.ln1, block.attention), (block.ln2, block.gated_mlp))]


def record(model: RWKVLM, embedded: Float[Tensor, "time channels"]) -> Recording:
    """Run the blocks over these embeddings and keep everything."""
    model.clear_buffers()
    recording = Recording([], [], [])
    for x in embedded:
        streams, updates, states = [], [], []
        for norm, piece in halves_of(model):
            updates.append(piece(norm(x)))
            x = x + updates[-1]  # (channels,)
            streams.append(x)
            states.append(piece.snapshot())
        recording.streams.append(streams)
        recording.updates.append(updates)
        recording.states.append(states)
    model.clear_buffers()
    return recording


def sweep(
    model: RWKVLM,
    embedded: Float[Tensor, "samples time channels"],
    answer: Sequence[int],
    patch: Patch | None,
    progress: bool = False,
) -> Float[Tensor, "runs samples"]:
    """The answer's log-probability in the run that nothing is done to, then in each cell's, by token and by layer.

    Runs are kept in groups: the untouched one, then the cells of each layer. A group's rows are runs of all samples.
    """
    samples, time, channels = embedded.shape
    halves, layers = halves_of(model), len(model.blocks)
    follow = model.embedding(torch.tensor(list(answer[:-1]), dtype=torch.long)).to(embedded)  # (answer - 1, channels)
    model.clear_buffers()
    states = [first_states(piece.snapshot(), samples, groups=h // 2 + 2) for h, (_, piece) in enumerate(halves)]
    scores = [torch.zeros(samples, dtype=embedded.dtype)] + [embedded.new_zeros(0)] * layers  # (rows of the group,)
    for t in tqdm(range(time + len(answer) - 1), delay=2, disable=not progress):
        token = embedded[:, t] if t < time else follow[t - time].expand(samples, -1)  # (samples, channels)
        begins = patch is not None and t < time  # a cell's run begins in each layer
        x = [token] + [embedded.new_zeros(0, channels)] * layers  # the stream of each group: (rows, channels)
        for h, (norm, piece) in enumerate(halves):
            layer, half = divmod(h, 2)
            if half == 0:  # from here on this layer's cells differ
                x[layer + 1] = x[0].repeat(len(scores[layer + 1]) // samples, 1)
            begun = range(layer + (half > patch.after)) if begins else ()  # layers whose new cell is already under way
            for i in begun:  # a new cell remembers of this half what the untouched run does
                states[h][i + 1] = joined(states[h][i + 1], states[h][0])
            before = x[0]
            x[: layer + 2], states[h] = step(norm, piece, x[: layer + 2], states[h])
            if begins and half <= patch.after:  # this layer's new cell has this half behind it: what is left of it?
                left = repeated(patch.state(t, h), samples) if patch.state else states[h][0]
                states[h][layer + 1] = joined(states[h][layer + 1], left)
            if begins and half == patch.after:
                x[layer + 1] = torch.cat([x[layer + 1], begin_run(patch, t, h, before, x[0])])  # (rows, channels)
        scores = [torch.cat([score, score.new_zeros(len(rows) - len(score))]) for score, rows in zip(scores, x)]
        if t >= time - 1:
            found = model.unembedding.logits(torch.cat(x)).log_softmax(dim=-1)[:, answer[t - time + 1]]  # (all rows,)
            scores = [score + more for score, more in zip(scores, found.split([len(score) for score in scores]))]
    model.clear_buffers()
    untouched, *cells = scores
    if not len(torch.cat(cells)):
        return untouched[None]
    grid = torch.stack([cell.view(time, samples) for cell in cells], dim=1)  # (time, layers, samples)
    return torch.cat([untouched[None], grid.flatten(0, 1)])  # (runs, samples)


def step(norm: nn.Module, piece: Piece, x: list[Tensor], states: list[State]) -> tuple[list[Tensor], list[State]]:
    """One half of a block, on all groups at once: their streams after it, and what the half then remembers of each."""
    sizes = [len(rows) for rows in x]
    rows = torch.cat(x)  # (all rows, channels)
    piece.restore(joined(*states))
    rows = rows + piece(norm(rows))  # (all rows, channels)
    after = {name: buffer.split(sizes) for name, buffer in piece.state_buffers().items()}
    return list(rows.split(sizes)), [{name: parts[i] for name, parts in after.items()} for i in range(len(sizes))]


def first_states(state: State, samples: int, groups: int) -> list[State]:
    """At the start: the state of the untouched run's samples, and of no cells yet."""
    return [repeated(state, samples)] + [repeated(state, 0)] * (groups - 1)


def begin_run(patch: Patch, t: int, h: int, before: Tensor, after: Tensor) -> Tensor:
    """The stream with which a cell's run begins, after half h of token t: (samples, channels)."""
    if patch.stream:
        return patch.stream(t, h).expand_as(after)
    if patch.update:
        return before + patch.update(t, h)
    return after


def repeated(state: State, samples: int) -> State:
    """The same state for every sample: (channels,) to (samples, channels)."""
    return {name: buffer.expand(samples, -1) for name, buffer in state.items()}


def joined(*states: State) -> State:
    """The rows of all these states, one after the other."""
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}


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


def by_role(trace: CausalTrace, grid: Tensor) -> Float[Tensor, "roles layers"]:
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
    restore: Restore = "both",
    samples: int = 3,
    relations: Sequence[str] | None = None,
    progress: bool = False,
) -> Float[Tensor, "facts roles layers"]:
    """The probability that each cell regains, by role, for facts of the atlas that the model knows.

    Of each relation (or of those named), the first `per_relation` facts that the model gets right, in the relation's
    first phrasing. NaN where a prompt has no token of a role.

    Raises:
        ValueError: if the atlas has no such relation, and for what `causal_trace` refuses.
    """
    atlas = {relation.name: relation for relation in load_atlas()}
    if unknown := set(relations or ()) - atlas.keys():
        raise ValueError(f"relations: expected some of {', '.join(atlas)}, got {', '.join(sorted(unknown))}")
    found = []
    for relation in tqdm([r for r in atlas.values() if relations is None or r.name in relations], disable=not progress):
        known = 0
        for fact in relation.facts:
            words, answer = prompt(relation.phrasings[0], fact)
            try:
                subject = subject_in(relation.phrasings[0], fact)
                trace = causal_trace(model, tokenizer, words, subject, answer, restore, samples=samples, progress=False)
            except UnknownAnswer:
                continue
            found.append(by_role(trace, trace.probability - trace.corrupted_probability))
            known += 1
            if known == per_relation:
                break
    return torch.stack(found) if found else torch.zeros(0, len(ROLES), len(model.blocks))


def load_averages(model: RWKVLM) -> dict | None:
    """The averages that `python -m rwkv_explainer.lab.tracing --write` kept for the bundled model, else None.

    Returns:
        Numbers of `facts` and `samples`, and by what was restored the `mean` and its standard `error`: (roles, layers).
    """
    file = BUNDLED / "trace_averages.json"
    if model.name != "textbook" or not file.exists():
        return None
    kept = json.loads(file.read_text())
    if kept["weights"] not in (BUNDLED / "SHA256SUMS").read_text():
        return None
    for restore in kept["restore"].values():
        restore |= {name: torch.tensor(grid, dtype=torch.float64) for name, grid in restore.items()}
    return kept


def spread(effects: Float[Tensor, "facts roles layers"]) -> tuple[Tensor, Tensor]:
    """The mean over the facts that have the role, and its standard error: (roles, layers) each."""
    mean = effects.nanmean(dim=0)  # (roles, layers)
    count = (~effects.isnan()).sum(dim=0).clamp(min=1)  # (roles, layers)
    return mean, ((effects - mean) ** 2).nanmean(dim=0).sqrt() / count.sqrt()


def rounded(grid: Tensor) -> list[list[float]]:
    """For a file: four digits, NaN as Python writes it."""
    return [[round(value, 4) for value in row] for row in grid.tolist()]


def paper_figure() -> tuple[list[str], Grid]:
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
    kept = {"weights": (BUNDLED / "SHA256SUMS").read_text().split()[0], "samples": args.samples, "restore": {}}
    for restore in ("both", "attention", "mlp"):
        effects = trace_facts(model, tokenizer, args.per_relation, restore, args.samples, progress=True)
        mean, error = spread(effects)
        kept["facts"] = len(effects)
        kept["restore"][restore] = {"mean": rounded(mean), "error": rounded(error)}
        print(restore, len(effects), "facts, strongest cell", f"{mean.nan_to_num().max():.3f}")
    if args.write:
        (BUNDLED / "trace_averages.json").write_text(json.dumps(kept) + "\n")


if __name__ == "__main__":
    main()
