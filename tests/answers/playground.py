"""Answers to the exercises of chapter "The playground"."""

import numpy as np
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


def rounded_in_place(W, largest):
    scale = W.abs().max(dim=1, keepdim=True).values / largest
    scale[scale == 0] = 1
    return W.div_(scale).round_().mul_(scale)


def rounded_in_numpy(W, largest):
    W = W.numpy()
    scale = np.abs(W).max(1)[:, None] / largest
    return np.rint(np.divide(W, scale, out=np.zeros_like(W), where=scale > 0)) * scale


def known_in_numpy(logits):
    other = np.flatnonzero(np.argmax(logits.numpy(), 1) != np.argmax(logits.numpy()[-1]))
    return other[-1] + 1 if other.size else 0


def known_forwards(logits):
    known, choices = 0, [int(row.argmax()) for row in logits]
    for number, choice in enumerate(choices):
        if choice != choices[-1]:
            known = number + 1
    return float(known)


ANSWERS = {
    "how-much-smaller": (
        [
            lambda rows, columns: round(4 * rows * columns / (rows * (columns + 4)), 2),
            lambda rows, columns: 4 / (1 + 4 / columns),
            lambda rows, columns: [np.zeros((rows, columns), np.float32).nbytes / (rows * (columns + 4))],
            lambda rows, columns: torch.tensor(32 * columns / (8 * columns + 32)),
        ],
        {
            "scales travel too": lambda rows, columns: 32 // 8,
            "scale for each column": lambda rows, columns: 4 * rows * columns / (columns * (rows + 4)),
            "four bytes, not one": lambda rows, columns: 4 * rows * columns / (rows * (columns + 1)),
            "32 *bits*": lambda rows, columns: 4 * columns / (columns + 32),
            "Upside down": lambda rows, columns: (rows * columns + 4 * rows) / (4 * rows * columns),
            "how many bytes": lambda rows, columns: rows * (columns + 4),
            "share that is saved": lambda rows, columns: 1 - (rows * columns + 4 * rows) / (4 * rows * columns),
        },
    ),
    "fewer-bits": (
        [
            by_rows,
            rounded_in_place,
            rounded_in_numpy,
            lambda W, largest: by_rows(W.float(), largest),
            lambda W, largest: [
                [round(x / s) * s if s else 0 for x in row]
                for row in W.tolist()
                for s in [max(map(abs, row)) / largest]
            ],
        ],
        {
            "one scale": lambda W, largest: torch.round(W * largest / W.abs().max()) / largest * W.abs().max(),
            "Each column": lambda W, largest: by_rows(W.T, largest).T,
            "range from smallest to largest": lambda W, largest: (
                (W / (s := ((W.amax(1) - W.amin(1)) / largest / 2)[:, None]).clamp(min=1e-30)).round() * s
            ),
            "up to 127": lambda W, largest: by_rows(W, 127),
            "0 / 0": lambda W, largest: (s := W.abs().amax(1, True) / largest) * (W / s).round(),
            "cut off": lambda W, largest: by_rows(W, largest, lambda x: x.to(torch.int8).double()),
            "weights again": lambda W, largest: (W / (W.abs().amax(1, keepdim=True) / largest + 1e-30)).round().int(),
        },
    ),
    "known-from": (
        [
            known_by_loop,
            lambda logits: (logits.argmax(1) != logits[-1].argmax()).nonzero().add(1).flatten().tolist()[-1:] or [0],
            known_in_numpy,
            known_forwards,
        ],
        {
            "lost again": first_seen,
            "how many rows": lambda logits: (logits.argmax(1) == logits[-1].argmax()).sum(),
            "One too many": lambda logits: known_by_loop(logits) + 1,
            "One too few": lambda logits: known_forwards(logits) - 1,
            "after 0 layers": lambda logits: known_by_loop(logits) or 1,
            "That is the token": lambda logits: logits[-1].argmax(),
            "number of all layers": lambda logits: logits.shape[0] - 1,
        },
    ),
}
