"""AUC-Judd against a loop over thresholds, as in the MIT code: same value, how much faster, on one core.

    python benchmarks/auc.py [--height 360] [--width 640] [--fixations 60]

The loop is written in numpy and in torch; a smoothed random map, fixations at random; the best of several runs, all in
one process. Prints a table: times in milliseconds, ratios, the largest difference of the values.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from datetime import date

import cv2
import numpy as np
import torch

from diffsal.scoring.metrics import auc_judd

REPEATS = 40


def numpy_loop(p: np.ndarray, fixated: np.ndarray) -> float:
    """One comparison of every pixel per threshold."""
    values, marks = p.ravel(), fixated.ravel()
    n = int(marks.sum())
    tp, fp = np.zeros(n + 2), np.zeros(n + 2)
    tp[-1] = fp[-1] = 1
    for k, threshold in enumerate(np.sort(values[marks])[::-1], 1):
        above = np.sum(values >= threshold)
        tp[k], fp[k] = k / n, (above - k) / (values.size - n)
    return float(np.trapezoid(tp, fp))


def torch_loop(p: torch.Tensor, fixated: torch.Tensor) -> float:
    """The same on tensors."""
    values, n = p.flatten(), int(fixated.sum())
    tp, fp = torch.zeros(n + 2, dtype=torch.float64), torch.zeros(n + 2, dtype=torch.float64)
    tp[-1] = fp[-1] = 1
    for k, threshold in enumerate(p[fixated].sort(descending=True).values, 1):
        above = int((values >= threshold).sum())
        tp[k], fp[k] = k / n, (above - k) / (values.numel() - n)
    return float(torch.trapezoid(tp, fp))


def best_ms(function: Callable[[], float], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--fixations", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.processor() or platform.machine()}, one thread, torch {torch.__version__}, "
          f"{options.height}x{options.width}, {options.fixations} fixations")
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.random((options.height, options.width)), (0, 0), options.width / 32)
    fixated = np.zeros(smooth.size, bool)
    fixated[rng.choice(smooth.size, options.fixations, replace=False)] = True
    fixated = fixated.reshape(smooth.shape)
    print(f"{'map':8}  numpy loop  torch loop  ours  ratio to numpy, torch  difference")
    for dtype in (np.float32, np.float64):
        p = smooth.astype(dtype)
        tensors = torch.from_numpy(p), torch.from_numpy(fixated)
        ours = best_ms(lambda: auc_judd(*tensors).item(), REPEATS)  # noqa: B023
        loops = [best_ms(lambda: numpy_loop(p, fixated), REPEATS // 4),  # noqa: B023
                 best_ms(lambda: torch_loop(*tensors), REPEATS // 4)]  # noqa: B023
        difference = max(abs(auc_judd(*tensors).item() - v) for v in (numpy_loop(p, fixated), torch_loop(*tensors)))
        print(f"{p.dtype!s:8}  {loops[0]:10.2f}  {loops[1]:10.2f}  {ours:4.2f}  "
              f"{loops[0] / ours:14.0f}, {loops[1] / ours:5.0f}  {difference:10.1e}")


if __name__ == "__main__":
    main()
