"""Answers to the exercises of chapter "The playground"."""

import torch


def by_rows(W, largest, cut=torch.round):
    rows = []
    for row in W:
        scale = row.abs().max() / largest
        rows.append(cut(row / scale) * scale if scale else row)
    return torch.stack(rows)


def known_by_loop(logits):
    layer = len(logits) - 1
    while layer and logits[layer - 1].argmax() == logits[-1].argmax():
        layer -= 1
    return layer


def first_seen(logits):
    for layer, row in enumerate(logits):
        if row.argmax() == logits[-1].argmax():
            return layer


ANSWERS = {
    "how-much-smaller": (
        [lambda rows, columns: round(4 * rows * columns / (rows * (columns + 4)), 2)],
        {
            "scales travel too": lambda rows, columns: 32 // 8,
            "scale for each column": lambda rows, columns: 4 * rows * columns / (columns * (rows + 4)),
            "four bytes, not one": lambda rows, columns: 4 * rows * columns / (rows * (columns + 1)),
            "Upside down": lambda rows, columns: (rows * columns + 4 * rows) / (4 * rows * columns),
            "how many bytes": lambda rows, columns: rows * (columns + 4),
            "share that is saved": lambda rows, columns: 1 - (rows * columns + 4 * rows) / (4 * rows * columns),
        },
    ),
    "fewer-bits": (
        [by_rows],
        {
            "one scale": lambda W, largest: torch.round(W * largest / W.abs().max()) / largest * W.abs().max(),
            "Each column": lambda W, largest: by_rows(W.T, largest).T,
            "up to 127": lambda W, largest: by_rows(W, 127),
            "0 / 0": lambda W, largest: (s := W.abs().amax(1, True) / largest) * (W / s).round(),
            "cut off": lambda W, largest: by_rows(W, largest, lambda x: x.to(torch.int8).double()),
            "weights again": lambda W, largest: (W / (W.abs().amax(1, keepdim=True) / largest + 1e-30)).round().int(),
        },
    ),
    "known-from": (
        [known_by_loop],
        {
            "lost again": first_seen,
            "how many rows": lambda logits: (logits.argmax(1) == logits[-1].argmax()).sum(),
            "One too many": lambda logits: known_by_loop(logits) + 1,
            "One too few": lambda logits: max(
                [-1, *(logits.argmax(1) != logits[-1].argmax()).nonzero()[:, 0].tolist()]
            ),
            "That is the token": lambda logits: logits[-1].argmax(),
            "number of all layers": lambda logits: logits.shape[0] - 1,
        },
    ),
}
