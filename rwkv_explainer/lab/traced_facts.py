"""Many facts at once: the causal trace against its baselines.

    python -m rwkv_explainer.lab.traced_facts --write    what `make traces` calls

One sentence is an anecdote. Here facts of the atlas are drawn at random, and each meets every way of asking in
`MEASURES`: something restored or severed, one layer or several, the subject hidden under noise or behind another
subject. What came out is kept beside the bundled model, in one file, which names the weights that it was measured on.
Chapter "Causal trace" draws from it.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from rwkv_explainer.checkpoints import BUNDLED, load_pretrained
from rwkv_explainer.lab.atlas import Fact, Relation, load_atlas, phrasings, subject_in
from rwkv_explainer.lab.atlas import prompt as prompt_and_answer
from rwkv_explainer.lab.tracing import (
    ROLES,
    Patch,
    PatchKind,
    add_noise,
    embedding_std,
    empty_states,
    find_subject,
    fitting_subjects,
    mean_and_stderr,
    mean_over_roles,
    other_prompts,
    patch_every_cell,
    rows_of,
    run_with_cache,
)
from rwkv_explainer.model import RWKVLM
from rwkv_explainer.parallel import read_blocks

__all__ = [
    "COLUMN_SHARE",
    "COLUMN_WORDS",
    "LEAST_EFFECT",
    "MEASURES",
    "Measure",
    "TracedFact",
    "column_of",
    "draw_facts",
    "effects_of",
    "load_traces",
    "measure_facts",
    "shuffled_columns",
    "trace_facts",
]

RUNNING = ("The Eiffel Tower",)  # subjects that the book has looked at already: they are never drawn
COLUMN_SHARE = 0.5  # of the total effect, that a layer must bring back at every word between to be a column
COLUMN_WORDS = 2  # words between subject and last word that a column needs at least
LEAST_EFFECT = 0.25  # total effect, in probability, below which there is nothing to bring back


# ---------------------------------------------------------------------------------------------------------------------
# which facts


@dataclass(frozen=True)
class TracedFact:
    """A fact that the model knows, as it is asked, with other subjects of as many tokens and another answer."""

    relation: str
    name: str  # of the subject, as the prompt spells it
    prompt: str
    answer: str  # with its leading space
    ids: list[int]
    subject: range
    first: int  # the answer's first token, which is the one that is scored
    others: list[list[int]]  # the prompt's token ids with another subject each


def draw_facts(
    model: RWKVLM,
    tokenizer: Tokenizer,
    count: int,
    seed: int = 0,
    others: int = 3,
    relations: Sequence[str] | None = None,
) -> list[TracedFact]:
    """That many facts, each as likely as any other: of those that the model knows, without the running example.

    A fact is asked forward in its relation's first seen phrasing. Where the model knows fewer, all of them.

    Args:
        others: how many other subjects to hide the fact's own behind, at most: of its relation, of as many tokens, with
            an answer that begins with another token.
        relations: names of those to draw from; None for all.

    Raises:
        ValueError: if the atlas has no such relation.
    """
    atlas = {relation.name: relation for relation in load_atlas()}
    if unknown := set(relations or ()) - atlas.keys():
        raise ValueError(f"relations: expected some of {', '.join(atlas)}, got {', '.join(sorted(unknown))}")
    every = [(r, f) for r in atlas.values() if relations is None or r.name in relations for f in r.facts]
    random = np.random.default_rng(seed)
    places = [place for place in random.permutation(len(every)).tolist() if every[place][1].subject not in RUNNING]
    found: list[TracedFact] = []
    while places and len(found) < count:
        some, places = [every[place] for place in places[:BATCH]], places[BATCH:]
        asked = [prompt_and_answer(first_phrasing(relation), fact) for relation, fact in some]
        known = knows(model, tokenizer, asked)
        for (relation, fact), (prompt, _), is_known in zip(some, asked, known):
            once = prompt.count(subject_in(first_phrasing(relation), fact)) == 1
            if is_known and once and len(found) < count:
                found.append(traced(tokenizer, relation, fact, others, random))
    return found


BATCH = 64  # prompts that are read together


def first_phrasing(relation: Relation) -> str:
    """The words in which a relation's facts are asked here: its first seen phrasing."""
    return phrasings(relation, "forward", "seen")[0]


@torch.no_grad()
def knows(model: RWKVLM, tokenizer: Tokenizer, asked: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether the model goes on with the answer, greedy, for each prompt and its answer with the leading space."""
    runs = [[tokenizer.encode(words).ids for words in pair] for pair in asked]
    whole = [torch.tensor(prompt + answer) for prompt, answer in runs]
    model.clear_buffers()
    read = read_blocks(model, torch.nn.utils.rnn.pad_sequence(whole, batch_first=True))  # (asked, time, channels)
    model.clear_buffers()
    found = []
    for x, (prompt, answer) in zip(read, runs):
        moments = x[len(prompt) - 1 : len(prompt) + len(answer) - 1]  # (answer, channels)
        found.append(model.unembedding.logits(moments).argmax(dim=-1).tolist() == answer)
    return found


def traced(
    tokenizer: Tokenizer, relation: Relation, fact: Fact, others: int, random: np.random.Generator
) -> TracedFact:
    """The fact as it is asked, and other subjects for it."""
    phrasing = first_phrasing(relation)
    (prompt, answer), name = prompt_and_answer(phrasing, fact), subject_in(phrasing, fact)
    ids, _, span = find_subject(tokenizer, prompt, name)
    first = tokenizer.encode(answer).ids[0]
    order = random.permutation(len(relation.facts)).tolist()
    firsts = tokenizer.encode_batch([prompt_and_answer(phrasing, relation.facts[place])[1] for place in order])
    candidates = [
        subject_in(phrasing, relation.facts[place])
        for place, encoded in zip(order, firsts)
        if relation.facts[place].subject not in RUNNING and encoded.ids[0] != first
    ]
    behind = fitting_subjects(tokenizer, prompt, name, candidates, others)
    return TracedFact(
        relation.name, name, prompt, answer, ids, span, first, other_prompts(tokenizer, prompt, name, behind)
    )


# ---------------------------------------------------------------------------------------------------------------------
# what is measured


@dataclass(frozen=True)
class Measure:
    """One way of asking: what is restored in a corrupted run, or severed in the clean one."""

    patch: PatchKind
    by: str = "noise"  # what hides the subject: "noise", "other" for other subjects; "nothing" empties, when severing
    window: int = 1  # in how many layers, from the cell's own upward
    severs: bool = False  # puts the corrupted run's into the clean one
    mistaken: bool = False  # restores what a run with another subject has: the control, which knows no answer


ALL_ABOVE = 99  # a window that reaches the last layer from anywhere
MEASURES: dict[str, Measure] = {
    "both": Measure("both"),
    "activation": Measure("activation"),
    "state": Measure("state"),
    "memory": Measure("memory"),
    "mixers": Measure("mixers"),
    "attention": Measure("attention"),
    "mlp": Measure("mlp"),
    "state, 2 layers": Measure("state", window=2),
    "state, 3 layers": Measure("state", window=3),
    "attention, 3 layers": Measure("attention", window=3),
    "mlp, 3 layers": Measure("mlp", window=3),
    "state, another subject's": Measure("state", mistaken=True),
    "state, 3 layers, another subject's": Measure("state", window=3, mistaken=True),
    "both, hidden behind others": Measure("both", by="other"),
    "state, hidden behind others": Measure("state", by="other"),
    "attention, hidden behind others": Measure("attention", by="other"),
    "mlp, hidden behind others": Measure("mlp", by="other"),
    "severed by noise": Measure("state", severs=True),
    "severed by others": Measure("state", by="other", severs=True),
    "severed by nothing": Measure("state", by="nothing", severs=True),
    "severed by noise, with all above": Measure("state", window=ALL_ABOVE, severs=True),
    "severed by others, with all above": Measure("state", by="other", window=ALL_ABOVE, severs=True),
}


@torch.no_grad()
def effects_of(
    model: RWKVLM, fact: TracedFact, measures: Sequence[Measure], scale: float, draws: int, seed: int = 0
) -> Float[Tensor, "measures tokens layers"]:
    """What each cell brings back of the answer's probability, or takes from it if it is severed: mean over the draws.

    All measures step together. NaN where the fact has no other subject to hide behind and a measure needs one.

    Args:
        scale: the standard deviation of the subjects' embeddings.
        draws: of the noise.
    """
    tokens, layers = len(fact.ids), len(model.blocks)
    effects = torch.full((len(measures), tokens, layers), torch.nan)
    possible = [i for i, m in enumerate(measures) if fact.others or not (m.by == "other" or m.mistaken)]
    if not possible:
        return effects
    normalize = model.embedding.normalize_emb
    clean = normalize(rows_of(model, fact.ids))[None]  # (1, time, channels)
    runs = {
        by: normalize(hide(model, fact, by, scale, draws, seed)) for by in hiders(fact)
    }  # (samples, time, channels)
    caches = {by: run_with_cache(model, embedded.transpose(0, 1)) for by, embedded in runs.items()}
    caches |= {"nothing": empty_states(model, tokens), "clean": run_with_cache(model, clean[0])}
    if fact.others:
        caches["mistaken"] = run_with_cache(model, runs["other"][0])
    bases, patches = [], []
    for measure in (measures[i] for i in possible):
        count = 1 if measure.by == "nothing" else len(runs[measure.by])
        bases.append(clean.expand(count, -1, -1) if measure.severs else runs[measure.by])
        source = measure.by if measure.severs else "mistaken" if measure.mistaken else "clean"
        patches.append((Patch(measure.patch, caches[source], min(measure.window, layers)), count))
    found = patch_every_cell(model, torch.cat(bases), [fact.first], patches).exp()  # (1 + cells, samples)
    counts = [count for _, count in patches]
    for i, part in zip(possible, found.split(counts, dim=1)):
        gained = (part[1:] - part[0]).mean(dim=-1).view(tokens, layers)
        effects[i] = -gained if measures[i].severs else gained
    return effects


def hiders(fact: TracedFact) -> list[str]:
    """What this fact's subject can be hidden by."""
    return ["noise", "other"] if fact.others else ["noise"]


def hide(
    model: RWKVLM, fact: TracedFact, by: str, scale: float, draws: int, seed: int = 0
) -> Float[Tensor, "samples time channels"]:
    """Rows of the embedding table in which the fact's subject is hidden, under "noise" or behind each "other"."""
    if by == "other":
        return torch.stack([rows_of(model, ids) for ids in fact.others])
    return add_noise(rows_of(model, fact.ids), fact.subject, 3.0, scale, draws, seed)


def answer_in(
    model: RWKVLM, rows: Float[Tensor, "samples time channels"], answer: Sequence[int]
) -> Float[Tensor, "samples"]:
    """The probability of the answer in runs of rows of the embedding table."""
    return patch_every_cell(model, model.embedding.normalize_emb(rows), answer, None)[0].exp()


def trace_facts(
    model: RWKVLM,
    tokenizer: Tokenizer,
    per_relation: int,
    patch: PatchKind = "both",
    samples: int = 3,
    relations: Sequence[str] | None = None,
    seed: int = 0,
) -> Float[Tensor, "facts roles layers"]:
    """The probability that each restored cell regains, by role, for facts of the atlas that the model knows.

    Of each relation (or of those named) so many facts, drawn at random. NaN where a prompt has no token of a role.

    Raises:
        ValueError: if the atlas has no such relation, and for what `causal_trace` refuses.
    """
    names = [relation.name for relation in load_atlas()] if relations is None else relations
    scale, measures = embedding_std(model, tokenizer), [Measure(patch)]
    facts = [fact for name in names for fact in draw_facts(model, tokenizer, per_relation, seed, 0, [name])]
    found = [mean_over_roles(effects_of(model, f, measures, scale, samples, seed)[0], f.subject) for f in facts]
    return torch.stack(found) if found else torch.zeros(0, len(ROLES), len(model.blocks))


# ---------------------------------------------------------------------------------------------------------------------
# columns, fact by fact


def column_of(shares: Float[Tensor, "words layers"]) -> int | None:
    """The layer that is a fact's column, from 0; None if it has none.

    The rule was fixed before anything was counted: there are at least `COLUMN_WORDS` words between subject and last
    word, and one layer alone brings back at least `COLUMN_SHARE` of the total effect at each of them.

    Args:
        shares: of the total effect that each cell between brings back.
    """
    if len(shares) < COLUMN_WORDS:
        return None
    least = shares.amin(dim=0)  # (layers,)
    return int(least.argmax()) if least.max() >= COLUMN_SHARE else None


def shuffled_columns(each: Sequence[Float[Tensor, "_ layers"]], times: int = 200, seed: int = 0) -> float:
    """How often the rule finds a column where there is none: each word's row is drawn from all facts' rows.

    Every fact keeps its number of words, and every row is a real one. What is lost is that they belong together.
    """
    random, rows = torch.Generator().manual_seed(seed), torch.cat(list(each))  # (words of all facts, layers)
    drawn = [rows[torch.randint(len(rows), (len(shares),), generator=random)] for _ in range(times) for shares in each]
    return sum(column_of(shares) is not None for shares in drawn) / len(drawn)


# ---------------------------------------------------------------------------------------------------------------------
# the record


def measure_facts(model: RWKVLM, tokenizer: Tokenizer, count: int, draws: int, others: int, seed: int = 0) -> dict:
    """All measures of so many facts, as `traces.json` keeps them.

    Returns:
        The settings; `each` fact with its probabilities, and, in hundredths, the shares of its total effect that the
        states of one layer, and of three, bring back at each word between, its own ones and another subject's; for each
        of `measures` the number of facts of each role, and by role and layer the mean effect and its standard error.
    """
    began, scale = time.process_time(), embedding_std(model, tokenizer)
    facts = draw_facts(model, tokenizer, count, seed, others)
    each = [describe(model, fact, scale, draws, seed) for fact in facts]
    grids = [effects_of(model, fact, list(MEASURES.values()), scale, draws, seed) for fact in tqdm(facts)]
    measures = {}
    for place, name in enumerate(MEASURES):
        effects = torch.stack([mean_over_roles(grid[place], fact.subject) for grid, fact in zip(grids, facts)])
        mean, error = mean_and_stderr(effects)  # (roles, layers) each
        measures[name] = {
            "n": (~effects[..., 0].isnan()).sum(dim=0).tolist(),
            "mean": as_lists(mean),
            "error": as_lists(error),
        }
        if name in BETWEEN:
            for kept, fact, grid in zip(each, facts, grids):
                shares = grid[place, fact.subject.stop : -1] / max(kept["clean"] - mean_of(kept["noise"]), 1e-3)
                kept[BETWEEN[name]] = [[round(100 * share) for share in row] for row in shares.nan_to_num(0).tolist()]
    settings = {"facts": len(facts), "draws": draws, "others": others, "seed": seed}
    return settings | {"cpu_seconds": round(time.process_time() - began), "each": each, "measures": measures}


BETWEEN = {  # measures that are kept word by word
    "state": "between",
    "state, 3 layers": "between_3",
    "state, another subject's": "mistaken",
    "state, 3 layers, another subject's": "mistaken_3",
}


def describe(model: RWKVLM, fact: TracedFact, scale: float, draws: int, seed: int) -> dict:
    """What the record says of a fact: its words, and the answer's probability clean and in each corrupted run."""
    rows, answer = rows_of(model, fact.ids), [fact.first]  # (time, channels)
    noise = hide(model, fact, "noise", scale, draws, seed)
    behind = answer_in(model, hide(model, fact, "other", scale, draws), answer).tolist() if fact.others else []
    return {
        "relation": fact.relation,
        "prompt": fact.prompt,
        "subject": fact.name,
        "answer": fact.answer.strip(),
        "clean": round(answer_in(model, rows[None], answer).item(), 4),
        "noise": [round(p, 4) for p in answer_in(model, noise, answer).tolist()],
        "others": [round(p, 4) for p in behind],
    }


def mean_of(numbers: Sequence[float]) -> float:
    """Their mean."""
    return sum(numbers) / len(numbers)


def as_lists(grid: Tensor) -> list[list[float | None]]:
    """With four digits after the point; None for NaN."""
    return [[None if value != value else round(value, 4) for value in row] for row in grid.tolist()]


def load_traces(folder: Path = BUNDLED) -> dict:
    """What `make traces` kept beside the bundled model, its lists of numbers as tensors.

    Raises:
        ValueError: if it was measured on other weights than those that lie beside it.
    """
    kept = json.loads((folder / NAME).read_text(encoding="utf-8"))
    if kept["weights"] not in (folder / "SHA256SUMS").read_text():
        raise ValueError(f"{NAME}: expected numbers of the bundled model, got those of other weights; run make traces")
    for measure in kept["measures"].values():
        for name in ("mean", "error"):
            rows = [[torch.nan if value is None else value for value in row] for row in measure[name]]
            measure[name] = torch.tensor(rows, dtype=torch.float64)  # (roles, layers)
    layers = kept["measures"]["state"]["mean"].shape[1]
    for fact in kept["each"]:
        for name in BETWEEN.values():
            fact[name] = torch.tensor(fact[name], dtype=torch.float64).view(-1, layers) / 100  # (words, layers)
    return kept


NAME = "traces.json"


def main() -> None:
    """Trace facts drawn at random in every way of asking, and keep what came out beside the bundled model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--facts", type=int, default=64)
    parser.add_argument("--draws", type=int, default=3, help="of the noise, for each fact")
    parser.add_argument("--others", type=int, default=3, help="other subjects, for each fact, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"write {NAME} into the bundled folder")
    args = parser.parse_args()
    model, tokenizer = load_pretrained("textbook", dtype=torch.float32)
    kept = {"weights": (BUNDLED / "SHA256SUMS").read_text().split()[0]}
    kept |= measure_facts(model, tokenizer, args.facts, args.draws, args.others, args.seed)
    for name, measure in kept["measures"].items():
        most = max(
            (value, role, i) for role, row in zip(ROLES, measure["mean"]) for i, value in enumerate(row) if value
        )
        print(f"{name}: most at the {most[1]}, layer {most[2] + 1}, {most[0]:.3f}")
    print(f"{kept['facts']} facts, {kept['cpu_seconds']} seconds of processor time")
    if args.write:
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        (BUNDLED / NAME).write_text(text.replace('},{"relation', '},\n{"relation') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
