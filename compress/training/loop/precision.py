"""bf16 where the machine has it, float32 elsewhere."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import torch

logger = logging.getLogger(__name__)

Precision = Literal["auto", "bf16", "fp32"]

CPU_INFO = Path("/proc/cpuinfo")
BF16_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of processors that multiply bf16 matrices in hardware (x86 and Arm)."""


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes bf16 in hardware; emulated bf16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and not BF16_CPU_FLAGS.isdisjoint(_cpu_flags())


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which forward passes run.

    Weights stay float32 in any case. Losses belong outside of it; gates and multipliers as well.

    Args:
        device: where the model is.
        precision: `auto` uses bf16 where the device has it in hardware.
    """
    enabled = precision == "bf16" or (precision == "auto" and has_bf16(device))
    if enabled and not has_bf16(device):
        logger.warning("precision is bf16, but %s has no bf16 in hardware; auto or fp32 is faster here.", device.type)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _cpu_flags() -> frozenset[str]:
    if not CPU_INFO.exists():
        return frozenset()
    for line in CPU_INFO.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
