"""Instructions of this machine's processor that decide how a network is computed fastest."""

import platform
from pathlib import Path

import openvino as ov


def is_x86() -> bool:
    """Return True on x86 processors of 64 bits."""
    return platform.machine() in ("x86_64", "AMD64")


def has_bfloat16() -> bool:
    """Return True if the processor has bfloat16 instructions, as OpenVINO reports."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_amx() -> bool:
    """Return True if the processor multiplies matrices of 8-bit integers; False where Linux does not report it."""
    try:
        return "amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
