"""Answers to the exercises of chapter "Causal trace"."""

import numpy as np
import torch


def patched_from_notes(blocks, clean, noisy, layer, channels):
    notes = []
    for block in blocks:
        clean = block(clean)
        notes.append(clean)
    for index, block in enumerate(blocks):
        noisy = block(noisy)
        if index == layer:
            keep = torch.ones_like(noisy)
            keep[channels] = 0
            noisy = keep * noisy + (1 - keep) * notes[layer]
    return noisy


def patched_behind_every_layer(blocks, clean, noisy, layer, channels):
    for block in blocks:
        clean, noisy = block(clean), block(noisy)
        noisy[channels] = clean[channels]
    return noisy


def patched_with_the_input(blocks, clean, noisy, layer, channels):
    for index, block in enumerate(blocks):
        noisy = block(noisy)
        if index == layer:
            noisy[channels] = clean[channels]
    return noisy


def patched_before_the_block(blocks, clean, noisy, layer, channels):
    for number, block in enumerate(blocks):
        if number == layer:
            noisy[channels] = clean[channels]
        clean, noisy = block(clean), block(noisy)
    return noisy


def patched_from_there_on(blocks, clean, noisy, layer, channels):
    for number, block in enumerate(blocks):
        clean, noisy = block(clean), block(noisy)
        if number >= layer:
            noisy[channels] = clean[channels]
    return noisy


def stopped_at_the_patch(blocks, clean, noisy, layer, channels):
    for block in blocks[: layer + 1]:
        clean, noisy = block(clean), block(noisy)
    noisy[channels] = clean[channels]
    return noisy


def added(blocks, clean, noisy, layer, channels):
    for index, block in enumerate(blocks):
        clean, noisy = block(clean), block(noisy)
        if index == layer:
            noisy[channels] += clean[channels]
    return noisy


def patched_with_where(blocks, clean, noisy, layer, channels):
    restored = torch.isin(torch.arange(len(clean)), channels)
    for number, block in enumerate(blocks):
        clean = block(clean)
        noisy = torch.where(restored & (number == layer), clean, block(noisy))
    return noisy


def patched_in_numpy(blocks, clean, noisy, layer, channels):
    for block in blocks[: layer + 1]:
        both = [block(clean).numpy(), block(noisy).numpy()]
        clean, noisy = map(torch.from_numpy, both)
    for channel in channels:
        noisy[channel] = clean[channel]
    while layer + 1 < len(blocks):
        layer += 1
        noisy = blocks[layer](noisy)
    return noisy.numpy()


def patched_recursively(blocks, clean, noisy, layer, channels):
    if not blocks:
        return noisy.tolist()
    clean, noisy = blocks[0](clean), blocks[0](noisy)
    if layer == 0:
        noisy.index_copy_(0, channels, clean[channels])
    return patched_recursively(blocks[1:], clean, noisy, layer - 1, channels)


ANSWERS = {
    "what-must-be-exact": (
        [
            lambda clean, corrupted: (clean, corrupted, clean),
            lambda clean, corrupted: np.array([clean, corrupted, clean]),
            lambda clean, corrupted: torch.tensor([clean, corrupted, clean], dtype=torch.float32),
            lambda clean, corrupted: [[clean], [corrupted], [clean]],
        ],
        {
            "other way round": lambda clean, corrupted: [corrupted, clean, clean],
            "nothing reads the last layer": lambda clean, corrupted: [clean, clean, clean],
            "exactly one or the other": lambda clean, corrupted: [(clean + corrupted) / 2] * 3,
            "all that the answer is made of": lambda clean, corrupted: [corrupted, corrupted, clean],
            "nothing of the noise is left": lambda clean, corrupted: [clean, corrupted, corrupted],
            "not shares of the effect": lambda clean, corrupted: [1.0, 0.0, 1.0],
            "Nothing comes back": lambda clean, corrupted: [corrupted] * 3,
            "All three are turned around": lambda clean, corrupted: np.array([corrupted, clean, corrupted]),
            "Only the first is right": lambda clean, corrupted: (clean, clean, corrupted),
        },
    ),
    "recovered": (
        [
            lambda clean, corrupted, restored: (corrupted - restored) / (corrupted - clean),
            lambda clean, corrupted, restored: restored.sub_(corrupted).div_(clean - corrupted),
            lambda clean, corrupted, restored: ((restored - corrupted) / (clean - corrupted)).numpy(),
            lambda c, n, r: [[(x - n) / (c - n) for x in row] for row in r.tolist()],
            lambda c, n, r: (r.float() - n) / (c - n),
            lambda c, n, r: np.subtract(r.numpy(), n) / np.subtract(c, n),
        ],
        {
            "still lost": lambda clean, corrupted, restored: (clean - restored) / (clean - corrupted),
            "divide by how much was lost": lambda clean, corrupted, restored: restored - corrupted,
            "start from the corrupted": lambda clean, corrupted, restored: (restored - clean) / (clean - corrupted),
            "Ratios of logarithms": lambda clean, corrupted, restored: restored / clean,
            "not by the clean value": lambda clean, corrupted, restored: (restored - corrupted) / clean,
            "cut off at 0 and 1": lambda clean, corrupted, restored: torch.clip(
                (restored - corrupted) / (clean - corrupted), 0, 1
            ),
            "cut off at 0;": lambda clean, corrupted, restored: torch.relu(restored - corrupted) / (clean - corrupted),
            "cut off at 1;": lambda clean, corrupted, restored: (
                (restored.clamp(max=clean) - corrupted) / (clean - corrupted)
            ),
            "Absolute values": lambda clean, corrupted, restored: ((restored - corrupted) / (clean - corrupted)).abs(),
            "sign is turned around": lambda clean, corrupted, restored: (corrupted - restored) / (clean - corrupted),
        },
    ),
    "patch-channels": (
        [
            patched_from_notes,
            patched_with_where,
            patched_in_numpy,
            lambda blocks, clean, noisy, layer, channels: patched_recursively(blocks, clean, noisy, layer, channels),
        ],
        {
            "one layer too early": patched_before_the_block,
            "and all later ones": patched_from_there_on,
            "nothing is to be added": lambda blocks, *rest: patched_from_notes(
                [lambda x, block=block: x + block(x) for block in blocks], *rest
            ),
            "All channels are restored": lambda blocks, c, n, layer, ch: patched_from_notes(
                blocks, c, n, layer, range(6)
            ),
            "this is the noisy run": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, c, n, 99, ch),
            "one layer too late": lambda blocks, c, n, layer, ch: patched_with_where(blocks, c, n, layer + 1, ch),
            "or the two runs": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, n, c, layer, ch),
            "behind every layer": patched_behind_every_layer,
            "clean *input*": patched_with_the_input,
            "stops at the patch": stopped_at_the_patch,
            "are added": added,
        },
    ),
}
