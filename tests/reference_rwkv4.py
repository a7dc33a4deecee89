"""RWKV-4 as its formulas say, evaluated in float64 as sums over the past: what the package is compared with.

It shares nothing with the package: NumPy instead of torch, the letters of the paper (Peng et al. 2023, section 3)
instead of our names, the keys of upstream's checkpoints, and no recurrence anywhere. Slow, and meant to be.
"""

import numpy as np
import torch
from torch import Tensor

Checkpoint = dict[str, Tensor]  # tensors under the names and in the shapes of BlinkDL's .pth files


def random_checkpoint(
    seed: int, layers: int = 3, channels: int = 24, vocabulary: int = 37, hidden: int | None = None, dtype=torch.float32
) -> Checkpoint:
    """A checkpoint in upstream's layout whose numbers are random, of a size that keeps the keys within a few units.

    Decays reach from memories that last for hundreds of tokens to such that keep a seventh of the previous token.
    """
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        return torch.empty(shape, dtype=dtype).normal_(mean, std, generator=random)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.empty(shape, dtype=dtype).uniform_(low, high, generator=random)

    def matrix(rows: int, columns: int) -> Tensor:
        return normal(rows, columns, std=columns**-0.5)

    hidden = hidden or 4 * channels
    z = {"emb.weight": normal(vocabulary, channels)}
    norms = ["blocks.0.ln0", "ln_out"] + [f"blocks.{layer}.{ln}" for layer in range(layers) for ln in ("ln1", "ln2")]
    for norm in norms:
        z[f"{norm}.weight"], z[f"{norm}.bias"] = normal(channels, mean=1.0, std=0.2), normal(channels, std=0.2)
    for layer in range(layers):
        att, ffn = f"blocks.{layer}.att", f"blocks.{layer}.ffn"
        z[f"{att}.time_decay"] = uniform(channels, low=-6.0, high=0.7)
        z[f"{att}.time_first"] = normal(channels)
        for mix in (f"{att}.time_mix_k", f"{att}.time_mix_v", f"{att}.time_mix_r"):
            z[mix] = uniform(1, 1, channels)
        for mix in (f"{ffn}.time_mix_k", f"{ffn}.time_mix_r"):
            z[mix] = uniform(1, 1, channels)
        for name in ("key", "value", "receptance", "output"):
            z[f"{att}.{name}.weight"] = matrix(channels, channels)
        z[f"{ffn}.key.weight"] = matrix(hidden, channels)
        z[f"{ffn}.receptance.weight"] = matrix(channels, channels)
        z[f"{ffn}.value.weight"] = matrix(channels, hidden)
    return z | {"head.weight": matrix(vocabulary, channels)}


def rwkv4(checkpoint: Checkpoint, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits and state after each of the tokens.

    Returns:
        logits: (time, vocabulary).
        states: (time, layers, 4, channels): the attention's last input, the two sums over the past, and the MLP's last
            input.
    """
    z = {name: tensor.double().numpy() for name, tensor in checkpoint.items()}
    x = layer_norm(z, "blocks.0.ln0", z["emb.weight"][tokens])  # (time, channels)
    states = []
    for layer in range(1 + max(int(name.split(".")[1]) for name in z if name.startswith("blocks."))):
        att_x = layer_norm(z, f"blocks.{layer}.ln1", x)
        dx, a, b = time_mixing(z, f"blocks.{layer}.att", att_x)
        x = x + dx
        ffn_x = layer_norm(z, f"blocks.{layer}.ln2", x)
        x = x + channel_mixing(z, f"blocks.{layer}.ffn", ffn_x)
        states.append(np.stack([att_x, a, b, ffn_x], axis=1))  # (time, 4, channels)
    return layer_norm(z, "ln_out", x) @ z["head.weight"].T, np.stack(states, axis=1)


def time_mixing(z: dict, att: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The paper's r, k, v, wkv and o, and the two sums that stand in wkv as they are after each token."""
    r, k, v = (interpolate(z[f"{att}.time_mix_{name}"], x) for name in "rkv")
    r, k, v = r @ z[f"{att}.receptance.weight"].T, k @ z[f"{att}.key.weight"].T, v @ z[f"{att}.value.weight"].T
    w, u = np.exp(z[f"{att}.time_decay"]), z[f"{att}.time_first"]
    # the sums over i < t, for t = 0 (nothing yet) to the number of tokens (everything)
    sums = [past_sums(w, k[:t], v[:t]) for t in range(len(x) + 1)]
    a, b = (np.stack(column) for column in zip(*sums))  # (time + 1, channels) each
    wkv = (a[:-1] + np.exp(u + k) * v) / (b[:-1] + np.exp(u + k))
    return (sigmoid(r) * wkv) @ z[f"{att}.output.weight"].T, a[1:], b[1:]


def past_sums(w: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums over i of exp(-(t - 1 - i) w + k_i) v_i, and of the same without v_i, where t is the number of k's."""
    age = np.arange(len(k))[::-1, None]  # t - 1 - i: the newest token has not faded
    weight = np.exp(-age * w + k)  # (t, channels)
    return (weight * v).sum(axis=0), weight.sum(axis=0)


def channel_mixing(z: dict, ffn: str, x: np.ndarray) -> np.ndarray:
    """The paper's r', k' and o'."""
    r = interpolate(z[f"{ffn}.time_mix_r"], x) @ z[f"{ffn}.receptance.weight"].T
    k = interpolate(z[f"{ffn}.time_mix_k"], x) @ z[f"{ffn}.key.weight"].T
    return sigmoid(r) * (np.maximum(k, 0) ** 2 @ z[f"{ffn}.value.weight"].T)


def interpolate(mu: np.ndarray, x: np.ndarray) -> np.ndarray:
    """mu * x_t + (1 - mu) * x_{t-1}, where what precedes the first token is zero."""
    previous = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    return mu.reshape(-1) * x + (1 - mu.reshape(-1)) * previous


def layer_norm(z: dict, name: str, x: np.ndarray) -> np.ndarray:
    normal = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return normal * z[f"{name}.weight"] + z[f"{name}.bias"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
