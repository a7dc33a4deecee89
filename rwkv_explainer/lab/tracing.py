"""Where a lost fact can be put back, and where it is missed: the causal trace.

After Meng et al. 2022 (https://arxiv.org/abs/2202.05262), section 2, and Figure 11 of RWKV's paper; chapter "Causal
trace". Hide the subject of a prompt, under noise or behind another subject, and the model loses the answer. Put one
thing back as it was in the clean run, at one token and one layer, and see how much of the answer returns: what is
*enough*. Or let the prompt be clean and put in one thing of the corrupted run: what is *needed*.

`traced_facts.py` does this for many facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_args

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from rwkv_explainer.lab.atlas import load_atlas
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.piece import Piece
from rwkv_explainer.shapes import State
from rwkv_explainer.tokens import token_name

__all__ = [
    "ActivationCache",
    "CausalTrace",
    "Patch",
    "PatchKind",
    "ROLES",
    "UnknownAnswer",
    "add_noise",
    "causal_trace",
    "embedding_std",
    "empty_states",
    "figure_11",
    "find_subject",
    "fitting_subjects",
    "greedy_answer",
    "mean_and_stderr",
    "mean_by_role",
    "mean_over_roles",
    "other_prompts",
    "patch_every_cell",
    "patched_run",
    "rows_of",
    "run_with_cache",
    "sever",
    "sever_rows",
    "sublayers",
    "trace_rows",
]

PatchKind = Literal["both", "activation", "state", "memory", "mixers", "attention", "mlp"]
Grid = Float[Tensor, "tokens layers"]
MAX_BATCH = 4096  # runs that step together; more are split, to bound the memory taken


class UnknownAnswer(ValueError):
    """The model's greedy continuation is not the given answer."""


@dataclass(frozen=True)
class CausalTrace:
    """What came of a causal trace. Tokens count from 0, layers too.

    A draw is one corrupted run: one draw of the noise, or one other subject.
    """

    draws: Float[Tensor, "tokens layers samples"]  # log-probability of the answer with this cell patched
    corrupted_draws: Float[Tensor, "samples"]  # with nothing patched
    clean: float  # without noise
    tokens: list[str]
    subject: range  # which tokens were hidden
    answer: str
    patch: str  # what was put back
    window: int  # in how many layers, from the cell's own upward
    noise: float  # in standard deviations of the subjects' embeddings; 0 if other subjects stood in its place
    seed: int

    @property
    def samples(self) -> int:
        """How many corrupted runs there were."""
        return len(self.corrupted_draws)

    @property
    def log_probability(self) -> Grid:
        """Of the answer, with this cell patched, mean over the draws."""
        return self.draws.mean(dim=-1)

    @property
    def probability(self) -> Grid:
        """Of the answer, with this cell patched, mean over the draws."""
        return self.draws.exp().mean(dim=-1)

    @property
    def corrupted(self) -> float:
        """The log-probability of the answer with nothing patched, mean over the draws."""
        return self.corrupted_draws.mean().item()

    @property
    def clean_probability(self) -> float:
        """Of the answer in the clean run."""
        return torch.tensor(self.clean, dtype=torch.float64).exp().item()

    @property
    def corrupted_probability(self) -> float:
        """Of the answer with nothing patched, mean over the draws."""
        return self.corrupted_draws.exp().mean().item()

    @property
    def total_effect(self) -> float:
        """What the corruption takes from the answer's probability: clean less corrupted."""
        return self.clean_probability - self.corrupted_probability

    @property
    def total_effect_on_log(self) -> float:
        """What the corruption takes from its log-probability."""
        return self.clean - self.corrupted

    @property
    def regained(self) -> Grid:
        """The share of the total effect that comes back, in probability: 0 for nothing, 1 for all of it."""
        return (self.probability - self.corrupted_probability) / self.total_effect

    @property
    def regained_on_log(self) -> Grid:
        """The share of the total effect on the log-probability that comes back."""
        return (self.log_probability - self.corrupted) / self.total_effect_on_log


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
    window: int = 1,
    others: Sequence[str] = (),
) -> CausalTrace:
    """Patch each token and layer in turn in a run whose subject is hidden, and measure how probable the answer is.

    The noise is Gaussian, `noise` times the standard deviation of the embeddings of the atlas subjects' tokens. It is
    added to the rows of the embedding table, before the first LayerNorm; every cell meets the same noise.

    Args:
        subject: part of the prompt, as it is spelled there.
        answer: None for what the model says, greedy: one token. A given answer of several tokens is scored whole,
            each token after the ones before it.
        patch: what to put back as it was in the clean run. "activation" is a block's output. "state" is what its
            memory and mixers hold after the token, "memory" and "mixers" are the parts of it. "both" is activation and
            state. "attention" and "mlp" are the update of that sublayer.
        first_token_only: score the first token of the answer alone.
        progress: show a progress bar if it takes over two seconds.
        known: refuse an answer that the model does not give; False traces it all the same, however improbable.
        window: in how many layers to put it back, from the cell's own upward.
        others: subjects that stand in the subject's place instead of noise, each a draw. They must have as many tokens.

    Raises:
        ValueError: for an empty prompt, a subject that is not in it exactly once, another one of another length, or no
            samples.
        UnknownAnswer: for an answer that the model does not give; it says what the model gives instead.
    """
    ids, tokens, span = find_subject(tokenizer, prompt, subject)
    answer_ids = greedy_answer(model, tokenizer, ids, answer, known)
    if first_token_only:
        answer_ids = answer_ids[:1]
    rows = rows_of(model, ids)  # (time, channels)
    if others:
        hidden = torch.stack([rows_of(model, other) for other in other_prompts(tokenizer, prompt, subject, others)])
    else:
        hidden = add_noise(rows, span, noise, embedding_std(model, tokenizer), samples, seed)
    clean, corrupted, draws = trace_rows(model, rows, hidden, answer_ids, patch, progress, window)
    return CausalTrace(
        draws=draws,
        corrupted_draws=corrupted,
        clean=clean.item(),
        tokens=tokens,
        subject=span,
        answer=tokenizer.decode(answer_ids, skip_special_tokens=False),
        patch=patch,
        window=window,
        noise=0.0 if others else noise,
        seed=seed,
    )


def trace_rows(
    model: RWKVLM,
    rows: Float[Tensor, "time channels"],
    hidden: Float[Tensor, "samples time channels"],
    answer: Sequence[int],
    patch: PatchKind = "both",
    progress: bool = False,
    window: int = 1,
) -> tuple[Float[Tensor, ""], Float[Tensor, "samples"], Float[Tensor, "time layers samples"]]:
    """The causal trace of rows of the embedding table, which may be given any noise, or be another subject's.

    Returns:
        Log-probabilities of the answer: in the clean run, in the corrupted runs, and with each cell patched.
    """
    clean, corrupted = model.embedding.normalize_emb(rows), model.embedding.normalize_emb(hidden)
    source = Patch(patch, run_with_cache(model, clean), window)
    parts = [patch_every_cell(model, part, answer, source, progress) for part in corrupted.split(_fit(model, rows))]
    found = torch.cat(parts, dim=1)  # (runs, samples)
    untouched = patch_every_cell(model, clean[None], answer, None)[0, 0]
    return untouched, found[0], found[1:].view(len(rows), len(model.blocks), len(hidden))


@torch.no_grad()
def sever(
    model: RWKVLM,
    tokenizer: Tokenizer,
    prompt: str,
    subject: str,
    by: Literal["noise", "nothing"] | Sequence[str] = "noise",
    patch: PatchKind = "state",
    window: int = 1,
    noise: float = 3.0,
    samples: int = 10,
    seed: int = 0,
) -> Float[Tensor, "tokens layers samples"]:
    """The other way round: the prompt is clean, and one cell is as it is in a run that does not know the subject.

    Args:
        by: "noise": in a run whose subject is under noise; other subjects, of as many tokens: in a run with each of
            them; "nothing": an empty state, which no model meets in the middle of a sentence.

    Returns:
        The probability of the model's own answer, one token, for each cell and draw.
    """
    ids, _, span = find_subject(tokenizer, prompt, subject)
    rows, answer = rows_of(model, ids), greedy_answer(model, tokenizer, ids, None)
    if by == "noise":
        hidden = add_noise(rows, span, noise, embedding_std(model, tokenizer), samples, seed)
    elif by == "nothing":
        hidden = None
    else:
        hidden = torch.stack([rows_of(model, other) for other in other_prompts(tokenizer, prompt, subject, by)])
    return sever_rows(model, rows, hidden, answer, patch, window).exp()


def sever_rows(
    model: RWKVLM,
    rows: Float[Tensor, "time channels"],
    hidden: Float[Tensor, "samples time channels"] | None,
    answer: Sequence[int],
    patch: PatchKind = "state",
    window: int = 1,
) -> Float[Tensor, "time layers samples"]:
    """Log-probabilities of the answer in the clean run, with each cell as in the run of `hidden`: None empties states.

    Raises:
        ValueError: if something else than a state is to be emptied.
    """
    clean = model.embedding.normalize_emb(rows)  # (time, channels)
    if hidden is None:
        if patch not in ("state", "memory", "mixers"):
            raise ValueError(f"patch: expected a state to empty, 'state', 'memory' or 'mixers', got {patch!r}")
        parts, sizes = [empty_states(model, len(rows))], [1]
    else:
        split = model.embedding.normalize_emb(hidden).split(_fit(model, rows))
        parts = [run_with_cache(model, part.transpose(0, 1)) for part in split]
        sizes = [len(part) for part in split]
    found = [
        patch_every_cell(model, clean.expand(size, -1, -1), answer, Patch(patch, part, window))[1:]
        for size, part in zip(sizes, parts)
    ]  # (cells, samples of the part)
    return torch.cat(found, dim=1).view(len(rows), len(model.blocks), -1)


def _fit(model: RWKVLM, rows: Tensor) -> int:
    """How many draws of a trace step together."""
    return max(1, MAX_BATCH // (len(rows) * len(model.blocks) + 1))


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
    return encoding.ids, [token_name(i, tokenizer, " ") for i in encoding.ids], range(inside[0], inside[-1] + 1)


def other_prompts(tokenizer: Tokenizer, prompt: str, subject: str, others: Sequence[str]) -> list[list[int]]:
    """The prompt's token ids with each of these subjects in its subject's place, every other token where it was.

    Raises:
        ValueError: for a subject that moves a token, because it has more of them or fewer.
    """
    ids, _, span = find_subject(tokenizer, prompt, subject)
    found = []
    for other in others:
        replaced = tokenizer.encode(prompt.replace(subject, other)).ids
        same_words = [replaced[: span.start], replaced[span.stop :]] == [ids[: span.start], ids[span.stop :]]
        if len(replaced) != len(ids) or not same_words:
            raise ValueError(
                f"others: expected subjects of {len(span)} tokens, as {subject!r} has, got {other!r}; "
                "other words would no longer stand in the same places"
            )
        found.append(replaced)
    return found


def fitting_subjects(
    tokenizer: Tokenizer, prompt: str, subject: str, candidates: Sequence[str], count: int
) -> list[str]:
    """The first so many candidates that can stand in the subject's place, because they have as many tokens."""
    found: list[str] = []
    for candidate in candidates:
        if len(found) == count:
            break
        try:
            other_prompts(tokenizer, prompt, subject, [candidate])
        except ValueError:
            continue
        found.append(candidate)
    return found


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
    if samples < 1:
        raise ValueError(f"samples: expected 1 or more draws of the noise, got {samples}")
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
    return rows_of(model, ids).std().item()


def rows_of(model: RWKVLM, ids: Sequence[int]) -> Float[Tensor, "time channels"]:
    """Rows of the embedding table, before its norm."""
    table = model.embedding.embedding.weight  # (vocab_size, channels)
    return table[torch.tensor(ids, dtype=torch.long, device=table.device)]  # (time, channels)


# patching: one cell, plainly; and all cells at the same time

# A block has two sublayers, attention and MLP. Each is a norm, a piece with a state, and an addition to the stream. In
# a model they count through the blocks: sublayer 2 i is the attention of block i, sublayer 2 i + 1 its MLP. A cell is
# a token and a layer.


@dataclass(frozen=True)
class ActivationCache:
    """Everything that happened in a run, or in a batch of runs, by token and sublayer."""

    streams: list[list[Tensor]]  # the residual stream after the sublayer: (*batch, channels)
    updates: list[list[Tensor]]  # what it added to the stream: (*batch, channels)
    states: list[list[State]]  # what it remembered after the token


@dataclass(frozen=True)
class Patch:
    """What a cell's run takes from another run: to restore, the clean one; to sever, one without the subject.

    Raises:
        ValueError: for a kind that there is not, or a window without a layer.
    """

    kind: str  # one of `PatchKind`
    source: ActivationCache
    window: int = 1  # in how many layers, from the cell's own upward

    def __post_init__(self) -> None:
        if self.kind not in get_args(PatchKind):
            raise ValueError(f"patch: expected one of {', '.join(map(repr, get_args(PatchKind)))}, got {self.kind!r}")
        if self.window < 1:
            raise ValueError(f"window: expected 1 or more layers, got {self.window}")

    def stream(self, t: int, h: int, before: Tensor, after: Tensor) -> Tensor:
        """The stream after sublayer h of the cell at token t, where `before` and `after` are the run's own."""
        if self.kind == ("attention", "mlp")[h % 2]:
            return before + self.source.updates[t][h]  # (*batch, channels)
        if self.kind in ("both", "activation") and h % 2 == 1:
            return self.source.streams[t][h].expand_as(after)  # (*batch, channels)
        return after

    def state(self, t: int, h: int) -> State:
        """The buffers of sublayer h to replace after token t."""
        if self.kind in ("activation", "attention", "mlp"):
            return {}
        state = self.source.states[t][h]
        if self.kind in ("both", "state"):
            return state
        return {name: value for name, value in state.items() if name.startswith("memory.") == (self.kind == "memory")}


def sublayers(model: RWKVLM) -> list[tuple[nn.Module, Piece]]:
    """The norm and the piece of each sublayer of each block, in order."""
    return [part for block in model.blocks for part in ((block.ln1, block.attention), (block.ln2, block.gated_mlp))]


def run_with_cache(model: RWKVLM, embedded: Float[Tensor, "time *batch channels"]) -> ActivationCache:
    """Run the blocks over these embeddings and keep everything."""
    model.clear_buffers()
    cache = ActivationCache([], [], [])
    for x in embedded:
        streams, updates, states = [], [], []
        for norm, piece in sublayers(model):
            updates.append(piece(norm(x)))  # (*batch, channels)
            x = x + updates[-1]  # (*batch, channels)
            streams.append(x)
            states.append(piece.snapshot())
        cache.streams.append(streams)
        cache.updates.append(updates)
        cache.states.append(states)
    model.clear_buffers()
    return cache


def empty_states(model: RWKVLM, tokens: int) -> ActivationCache:
    """As if each layer had read nothing so far, at any of so many tokens."""
    model.clear_buffers()
    empty = [piece.snapshot() for _, piece in sublayers(model)]
    return ActivationCache(streams=[], updates=[], states=[empty] * tokens)


def patched_run(
    model: RWKVLM,
    embedded: Float[Tensor, "time channels"],
    answer: Sequence[int],
    patch: Patch,
    cell: tuple[int, int],
) -> Float[Tensor, ""]:
    """The log-probability of the answer in a run in which one cell (token, layer) is patched: the definition.

    With a window of several layers, those above the cell are patched too, at the same token.
    """
    model.clear_buffers()
    score = embedded.new_zeros(())
    inputs = torch.cat([embedded, _embed_answer(model, answer)])  # (time + answer - 1, channels)
    for t, x in enumerate(inputs):
        for h, (norm, piece) in enumerate(sublayers(model)):
            before, x = x, x + piece(norm(x))  # (channels,)
            if t == cell[0] and 0 <= h // 2 - cell[1] < patch.window:
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
    patch: Patch | Sequence[tuple[Patch, int]] | None,
    progress: bool = False,
) -> Float[Tensor, "runs samples"]:
    """The answer's log-probability in the run without a patch, then what `patched_run` gives for every cell.

    Cells follow by token, then by layer. With no `patch` there is the first run alone. Several patches come each with
    the number of samples that it is for; the samples follow in their order.

    All runs step together. Invariant: after token t, layer i steps the run without a patch, and one run for each cell
    (token <= t, layer <= i). A cell's run needs no other: before its token and below its layer it is the first run.
    The runs of token t's cells stand last, by layer, so those whose window covers layer i are the last ones of all.
    """
    samples, time, _ = embedded.shape
    patches = [(patch, samples)] if isinstance(patch, Patch) else patch or []
    follow = _embed_answer(model, answer).expand(samples, -1, -1)  # (samples, answer - 1, channels)
    inputs = torch.cat([embedded, follow], dim=1).unbind(1)  # (samples, channels) each
    model.clear_buffers()
    states = [
        {name: buffer.expand(1, samples, -1) for name, buffer in piece.state_buffers().items()}
        for _, piece in sublayers(model)
    ]  # of each sublayer: (runs, samples, channels)
    score = embedded.new_zeros(())
    for t in tqdm(range(len(inputs)), delay=2, disable=not progress):
        begins = bool(patches) and t < time  # in each layer, the run of this token's cell begins
        tokens = min(t + 1, time) if patches else 0  # of whose cells there are runs
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
            if begins:
                start = 0
                for one, count in patches:
                    covered = slice(-min(one.window, cells.shape[1]), None)  # the runs whose window has this layer
                    those = covered, slice(start, start + count)
                    after[those] = one.stream(t, h, before[those], after[those])
                    for name, value in one.state(t, h).items():
                        states[h][name][those] = value
                    start += count
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
    return model.embedding.normalize_emb(rows_of(model, list(answer[:-1])))


# ---------------------------------------------------------------------------------------------------------------------
# tokens by role, means over facts, and the paper's own figure

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
    return mean_over_roles(grid, trace.subject)


def mean_over_roles(grid: Float[Tensor, "tokens layers"], subject: range) -> Float[Tensor, "roles layers"]:
    """The same for a grid whose subject is these tokens."""
    first, last, end = subject.start, subject.stop - 1, len(grid) - 1
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


def mean_and_stderr(effects: Float[Tensor, "facts roles layers"]) -> tuple[Tensor, Tensor]:
    """The mean over the facts that have the role, and its standard error: (roles, layers) each.

    The standard deviation is that of a sample, with n - 1 in its divisor; of a single fact there is none, NaN.
    """
    count = (~effects.isnan()).sum(dim=0)  # (roles, layers)
    mean = effects.nanmean(dim=0)  # (roles, layers)
    squares = ((effects - mean) ** 2).nansum(dim=0)  # (roles, layers)
    variance = torch.where(count > 1, squares / (count - 1), torch.nan)  # (roles, layers)
    return mean, (variance / count).sqrt()


def figure_11() -> tuple[list[str], Grid]:
    """The values of the paper's Figure 11, read off the published picture by its colors, good to about 0.15.

    Returns:
        The tokens of the prompt, and the log-probability of " Paris": (tokens, layers).
    """
    text = resources.files("rwkv_explainer").joinpath("data/figure_11.csv").read_text(encoding="utf-8")
    values = [[float(value) for value in line.split(",")] for line in text.splitlines()]
    return ["The", " E", "iff", "el", " Tower", " is", " located", " in", " the", " city", " of"], torch.tensor(values)
