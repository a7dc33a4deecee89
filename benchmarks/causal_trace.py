"""The causal trace's one sweep beside the plain loop, in which every cell is a run of its own.

    python benchmarks/causal_trace.py

A random model of the 169M's blocks (12 x 768), 11 tokens, 10 samples of noise, both activation and state restored. The
loop steps through all tokens for each cell, with the samples as its batch: once in RNN mode, once in time-parallel
mode. A cell of the loop costs what any other does, so a part of the cells is timed, spread over tokens and layers, and
the loop's time is that part's, scaled to all cells. Rounds are interleaved; what counts is the ratio within a round.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rwkv_explainer.lab import tracing
from rwkv_explainer.model import RWKVLM, RWKVConfig
from rwkv_explainer.parallel import read_block

TOKENS, SAMPLES, ANSWER = 11, 10, [7]


def loop_in_rnn_mode(model: RWKVLM, noisy: Tensor, kept: tracing.Recording, cell: tuple[int, int]) -> Tensor:
    """One cell, token by token: (samples,)."""
    model.clear_buffers()
    for t in range(TOKENS):
        x = noisy[:, t]  # (samples, channels)
        for i, block in enumerate(model.blocks):
            x = block(x)
            if (t, i) == cell:
                restore(block, kept, t, i)
                x = kept.streams[t][2 * i + 1].expand_as(x)
    return model.unembedding.logits(x).log_softmax(-1)[:, ANSWER[0]]


def loop_in_parallel_mode(model: RWKVLM, noisy: Tensor, kept: tracing.Recording, cell: tuple[int, int]) -> Tensor:
    """One cell, all tokens at once but for a stop at the restored one: (samples,)."""
    model.clear_buffers()
    x, (t, layer) = noisy, cell
    for i, block in enumerate(model.blocks):
        if i == layer:
            until = read_block(block, x[:, : t + 1])
            until = torch.cat([until[:, :t], kept.streams[t][2 * i + 1].expand(SAMPLES, 1, -1)], dim=1)
            restore(block, kept, t, i)
            x = torch.cat([until, read_block(block, x[:, t + 1 :])], dim=1) if t + 1 < TOKENS else until
        else:
            x = read_block(block, x)
    return model.unembedding.logits(x[:, -1]).log_softmax(-1)[:, ANSWER[0]]


def restore(block: torch.nn.Module, kept: tracing.Recording, t: int, i: int) -> None:
    """Put a block's state back, for every sample."""
    for half, piece in enumerate((block.attention, block.gated_mlp)):
        piece.restore(tracing.repeated(kept.states[t][2 * i + half], SAMPLES))


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that something took, and what came of it."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--channels", type=int, default=768)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = RWKVLM.from_config(RWKVConfig(1000, args.channels, args.layers, 4 * args.channels)).float().stabilize()
    model.requires_grad_(False)
    clean = torch.randn(TOKENS, args.channels)
    noisy = clean.repeat(SAMPLES, 1, 1)
    noisy[:, 1:4] += 3 * torch.randn(SAMPLES, 3, args.channels)
    kept = tracing.record(model, clean)
    patch = tracing.patch_of("both", kept)
    cells = [(t, (5 * t + 3) % args.layers) for t in range(TOKENS)]
    whole = TOKENS * args.layers
    ratios: dict[str, list[float]] = {"RNN mode": [], "time-parallel mode": []}
    for round_number in range(args.rounds):
        seconds, found = timed(lambda: tracing.sweep(model, noisy, ANSWER, patch))
        grid = found[1:].view(TOKENS, args.layers, SAMPLES)
        for name, loop in (("RNN mode", loop_in_rnn_mode), ("time-parallel mode", loop_in_parallel_mode)):
            loop_seconds, results = timed(lambda: [loop(model, noisy, kept, cell) for cell in cells])
            for (t, layer), result in zip(cells, results):
                torch.testing.assert_close(grid[t, layer], result, rtol=1e-3, atol=1e-3)
            ratios[name].append(loop_seconds * whole / len(cells) / seconds)
        latest = {name: round(found[-1], 2) for name, found in ratios.items()}
        print(f"round {round_number + 1}: sweep {seconds:.2f} s", latest, flush=True)
    print(
        f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}\n"
    )
    print("| the plain loop's time over the sweep's | median | lowest | highest |\n|---|---|---|---|")
    for name, values in ratios.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")


if __name__ == "__main__":
    main()
