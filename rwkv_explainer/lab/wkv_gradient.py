"""The WKV memory over a whole sequence with its gradient derived by hand: one running sum each way.

`parallel.py` lets autograd find the gradient, which keeps every intermediate result of its matrix products. Training
wants less: forward, the memory is a running sum from left to right; backward, its gradient is the same running sum from
right to left, with the same decay. Chapter "Time-parallel mode" derives it.
"""

import torch
from torch import Tensor, exp

from rwkv_explainer.model import StableWKVMemory
from rwkv_explainer.parallel import AnyMemory, remember

__all__ = ["WKV", "wkv"]

LIGHTEST, HEAVIEST = 2.0**-64, 2.0**64  # a normalizer within these neither overflows nor vanishes, nor does 1 over it


def wkv(memory: AnyMemory, keys: Tensor, values: Tensor) -> Tensor:
    """What an empty memory of either kind answers at every moment: keys and values (time, rows, channels) to the same.

    Where a channel's keys lie too far apart for one scale, the slower `parallel.remember` takes over, with the stable
    memory, which takes all keys.
    """
    wide = torch.promote_types(values.dtype, torch.float32)
    averages, lightest, heaviest = WKV.apply(keys.to(wide), values.to(wide), memory.log_gain, memory.log_decay)
    if lightest > LIGHTEST and heaviest < HEAVIEST:
        return averages  # (time, rows, channels)
    stable = StableWKVMemory(memory.channels)
    stable.log_gain, stable.log_decay = memory.log_gain, memory.log_decay
    stable.clear_buffers()
    return remember(stable, keys.transpose(0, 1).to(wide), values.transpose(0, 1).to(wide)).transpose(0, 1)


class WKV(torch.autograd.Function):
    """The running sums, their quotient, and the gradient of all four inputs.

    Forward. With the weight w_t = e^{k_t}, the gain g = e^{log_gain} and what is kept a token, d = e^{-e^{log_decay}}:

        contents    A_t = sum over s < t of d^{t-1-s} w_s v_s,    so A_0 = 0, A_{t+1} = d A_t + w_t v_t
        normalizer  B_t = sum over s < t of d^{t-1-s} w_s,        so B_0 = 0, B_{t+1} = d B_t + w_t
        average     y_t = (A_t + g w_t v_t) / (B_t + g w_t)

    Backward. Let q_t = (dL/dy_t) / (B_t + g w_t). By the quotient rule, the contents of moment t receive the gradient
    q_t and the normalizer -q_t y_t. A token's w_s v_s stands in the contents of every later moment, faded, so its
    gradient is the sum over these moments, faded alike:

        P_s = sum over t > s of d^{t-1-s} q_t,            so P_{last} = 0, P_{s-1} = d P_s + q_s
        N_s = sum over t > s of d^{t-1-s} (-q_t y_t),     so N_{last} = 0, N_{s-1} = d N_s - q_s y_s

        dL/dv_t = w_t (P_t + g q_t)
        dL/dk_t = w_t (P_t v_t + N_t) + dL/dlog_gain at t,    which is  g w_t q_t (v_t - y_t)
        dL/dd   = sum over t of P_t A_t + N_t B_t,            and  dd/dlog_decay = -e^{log_decay} d

    A factor common to all weights of a channel cancels in y, so the largest key of each channel is taken off first, and
    e^{k} cannot overflow.
    """

    @staticmethod
    def forward(ctx, keys: Tensor, values: Tensor, log_gain: Tensor, log_decay: Tensor):
        """(time, rows, channels) twice and (channels,) twice, to the averages and the normalizer's extremes."""
        gain, keep = exp(log_gain.to(keys)), exp(-exp(log_decay.to(keys)))  # (channels,) each
        weights = exp(keys - keys.amax(dim=0))  # (time, rows, channels), at most 1
        new = torch.stack([weights * values, weights], dim=1)  # (time, 2, rows, channels)
        past = fade_and_add(new, keep)  # (time, 2, rows, channels)
        now = gain * weights  # (time, rows, channels)
        normalizer = past[:, 1] + now  # (time, rows, channels)
        averages = (past[:, 0] + now * values) / normalizer  # (time, rows, channels)
        ctx.save_for_backward(weights, values, averages, normalizer, past, gain, keep, log_decay)
        lightest, heaviest = normalizer.aminmax()
        ctx.mark_non_differentiable(lightest, heaviest)
        return averages, lightest, heaviest

    @staticmethod
    def backward(ctx, by_average: Tensor, *_: Tensor):
        """The gradient of the averages, (time, rows, channels), to those of the four inputs."""
        weights, values, averages, normalizer, past, gain, keep, log_decay = ctx.saved_tensors
        q = by_average / normalizer  # (time, rows, channels)
        received = torch.stack([q, -q * averages], dim=1)  # (time, 2, rows, channels)
        later = fade_and_add(received, keep, backwards=True)  # (time, 2, rows, channels)
        by_gain = gain * weights * q * (values - averages)  # (time, rows, channels)
        by_value = weights * (later[:, 0] + gain * q)  # (time, rows, channels)
        by_key = weights * (later[:, 0] * values + later[:, 1]) + by_gain  # (time, rows, channels)
        by_keep = (later * past).sum(dim=(0, 1, 2))  # (channels,)
        by_log_decay = by_keep * -exp(log_decay.to(keep)) * keep  # (channels,)
        return by_key, by_value, by_gain.sum(dim=(0, 1)).to(log_decay), by_log_decay.to(log_decay)


def fade_and_add(new: Tensor, keep: Tensor, backwards: bool = False) -> Tensor:
    """A running sum over what came before each moment, or backwards, over what comes after it: (time, ..., channels).

    sums[0] = 0 and sums[t + 1] = keep * sums[t] + new[t]; backwards, sums[last] = 0 and sums[t - 1] = keep * sums[t] +
    new[t]. `keep`, (channels,), is what is left of a sum after one more token.
    """
    sums = torch.empty_like(new)  # (time, ..., channels)
    order = slice(None, None, -1) if backwards else slice(None)
    moments, arrivals = sums.unbind(0)[order], new.unbind(0)[order]
    moments[0].zero_()
    for before, after, arrival in zip(moments, moments[1:], arrivals):
        torch.addcmul(arrival, before, keep, out=after)
    return sums
