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


ANSWERS = {
    "what-must-be-exact": ([lambda clean, corrupted: (clean, corrupted, clean)], {
        "other way round": lambda clean, corrupted: [corrupted, clean, clean],
        "nothing reads the last layer": lambda clean, corrupted: [clean, clean, clean],
        "exactly one or the other": lambda clean, corrupted: [(clean + corrupted) / 2] * 3,
    }),
    "recovered": ([lambda clean, corrupted, restored: (corrupted - restored) / (corrupted - clean)], {
        "still lost": lambda clean, corrupted, restored: (clean - restored) / (clean - corrupted),
        "divide by how much was lost": lambda clean, corrupted, restored: restored - corrupted,
        "start from the corrupted": lambda clean, corrupted, restored: (restored - clean) / (clean - corrupted),
    }),
    "patch-channels": ([patched_from_notes], {
        "one layer too early": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, c, n, layer - 1, ch),
        "All channels are restored": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, c, n, layer, torch.arange(6)),
        "noisy run": lambda blocks, c, n, layer, ch: patched_from_notes(blocks, c, n, 99, ch),
    }),
}
