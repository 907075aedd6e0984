"""Processor instructions that decide the fastest way to compute a network."""

import platform
from pathlib import Path

import openvino as ov


def is_x86() -> bool:
    """Return True on 64-bit x86 processors."""
    return platform.machine() in ("x86_64", "AMD64")


def has_bfloat16() -> bool:
    """Return True if the processor has bfloat16 instructions, as OpenVINO reports."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_amx() -> bool:
    """Return True if Linux reports matrix instructions (AMX) for 8-bit integers."""
    try:
        return "amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
