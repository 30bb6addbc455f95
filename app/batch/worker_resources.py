"""The cores and the GPU that each of several worker processes on one machine may use."""

from __future__ import annotations

import os

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def worker_environment(number: int, count: int, device: str, num_gpus: int, num_cores: int) -> dict[str, str]:
    """Return the environment variables of worker ``number`` of ``count`` on one machine.

    Args:
        number: From 0.
        count: Workers.
        device: As in ``Options``; a GPU that is chosen by its number is left to all of them.
        num_gpus: On this machine, unless CUDA_VISIBLE_DEVICES lists them.
        num_cores: Cores to share, at least one each.
    """
    cores = dict.fromkeys(THREADS, str(max(1, num_cores // count)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(gpu) for gpu in range(num_gpus)]
    if len(gpus) < 2 or device not in ("auto", "cuda"):
        return cores
    return {**cores, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
