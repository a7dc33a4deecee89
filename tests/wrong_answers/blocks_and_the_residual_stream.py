"""Answers to the exercises of chapter "Blocks and the residual stream"."""

import torch


def recursive(x, updates, blocks):
    return x if not blocks else recursive(x + updates[0](x), updates[1:], blocks - 1)


def replaced(x, updates, blocks):
    for i in range(blocks):
        x = updates[i](x)
    return x


def shares_by_loop(updates, scale, row):
    stream = sum(updates)
    spread = ((stream - stream.mean()).square().mean() + 1e-5).sqrt()
    return [((u - u.mean()) / spread * scale * row).sum() for u in updates]


ANSWERS = {
    "stop-early": ([recursive], {
        "replaced by the update": replaced,
        "One block too many": lambda x, updates, blocks: recursive(x, updates, blocks + 1),
        "what the blocks added": lambda x, updates, blocks: recursive(x, updates, blocks) - x,
    }),
    "one-block": ([lambda x, ln1, att, ln2, mlp: (y := x + att(ln1(x))) + mlp(ln2(y))], {
        "from before the attention's update": lambda x, ln1, att, ln2, mlp: x + att(ln1(x)) + mlp(ln2(x)),
        "LayerNorms are missing": lambda x, ln1, att, ln2, mlp: (y := x + att(x)) + mlp(y),
        "second update is not added": lambda x, ln1, att, ln2, mlp: mlp(ln2(x + att(ln1(x)))),
    }),
    "who-wrote-it": ([shares_by_loop], {
        "own spread": lambda u, scale, row: torch.nn.functional.layer_norm(u, u.shape[-1:], scale) @ row,
        "LayerNorm is missing": lambda u, scale, row: u @ row,
        "logit of the whole stream": lambda u, scale, row: sum(shares_by_loop(u, scale, row)),
    }),
}
