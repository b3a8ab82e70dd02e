"""Peak memory of a piece of work: exact on a GPU, by watching the process on a CPU."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import psutil
import torch

from compress.machine import return_freed_memory

_SAMPLE_SECONDS = 0.001

CUDA_METHOD = "growth of torch.cuda.max_memory_allocated over one forward pass"
CPU_METHOD = (
    "growth of the process's resident memory over one forward pass (not the first), sampled every millisecond "
    "after freed memory was handed back to the system"
)


def memory_method(device: torch.device) -> str:
    """How `peak_growth_bytes` measures on this device, for a person to read."""
    return CUDA_METHOD if device.type == "cuda" else CPU_METHOD


def weights_in_memory(model: torch.nn.Module) -> int:
    """Bytes of a model's parameters and buffers, each counted once."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def peak_growth_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Runs `work` once and returns by how many bytes memory grew at its peak (weights already loaded do not count)."""
    if device.type == "cuda":
        return _cuda_growth(work, device)
    return _resident_growth(work)


def _cuda_growth(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return max(0, torch.cuda.max_memory_allocated(device) - before)


def _resident_growth(work: Callable[[], object]) -> int:
    _hand_back_freed_memory()
    with _Watcher() as watcher:
        work()
    return watcher.peak_bytes - watcher.bytes_before


class _Watcher:
    """Samples the resident memory from a thread; torch releases the interpreter lock while it computes."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.peak_bytes = self.bytes_before = self._resident_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._resident_bytes())

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)


def _hand_back_freed_memory() -> None:
    """Asks the C library to return what it keeps for reuse, else a pass that fits in it would seem to need nothing."""
    gc.collect()
    return_freed_memory()
