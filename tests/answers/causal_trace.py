"""Answers to the exercises of chapter "Causal trace"."""

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


ANSWERS = {
    "what-must-be-exact": (
        [lambda clean, corrupted: (clean, corrupted, clean)],
        {
            "other way round": lambda clean, corrupted: [corrupted, clean, clean],
            "nothing reads the last layer": lambda clean, corrupted: [clean, clean, clean],
            "exactly one or the other": lambda clean, corrupted: [(clean + corrupted) / 2] * 3,
            "all that the answer is made of": lambda clean, corrupted: [corrupted, corrupted, clean],
            "nothing of the noise is left": lambda clean, corrupted: [clean, corrupted, corrupted],
            "not shares of the effect": lambda clean, corrupted: [1.0, 0.0, 1.0],
        },
    ),
    "recovered": (
        [lambda clean, corrupted, restored: (corrupted - restored) / (corrupted - clean)],
        {
            "still lost": lambda clean, corrupted, restored: (clean - restored) / (clean - corrupted),
            "divide by how much was lost": lambda clean, corrupted, restored: restored - corrupted,
            "start from the corrupted": lambda clean, corrupted, restored: (restored - clean) / (clean - corrupted),
            "Ratios of logarithms": lambda clean, corrupted, restored: restored / clean,
            "not by the clean value": lambda clean, corrupted, restored: (restored - corrupted) / clean,
            "sign is turned around": lambda clean, corrupted, restored: (corrupted - restored) / (clean - corrupted),
        },
    ),
    "patch-channels": (
        [patched_from_notes],
        {
            "one layer too early": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, c, n, layer - 1, ch),
            "All channels are restored": lambda blocks, c, n, layer, ch: patched_from_notes(
                blocks, c, n, layer, range(6)
            ),
            "this is the noisy run": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, c, n, 99, ch),
            "one layer too late": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, c, n, layer + 1, ch),
            "or the two runs": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, n, c, layer, ch),
            "behind every layer": patched_behind_every_layer,
            "clean *input*": patched_with_the_input,
            "stops at the patch": stopped_at_the_patch,
            "are added": added,
        },
    ),
}
