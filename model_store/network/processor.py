"""Processor instructions that decide the fastest way to compute a network."""

import platform
from pathlib import Path

import openvino as ov

from model_store.errors import ModelError


def is_x86() -> bool:
    """Return True on 64-bit x86 processors."""
    return platform.machine() in ("x86_64", "AMD64")


def new_core() -> ov.Core:
    """Create OpenVINO's entry point, with the processor read.

    Raises:
        ModelError: OpenVINO cannot read the processor, as in a sandbox that hides it.
    """
    core = ov.Core()
    try:
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:  # its last line has the reason, the others name OpenVINO's source files
        reason = [line for line in str(error).splitlines() if line][-1]
        raise ModelError(
            f"OpenVINO cannot read this processor ({reason}); make /proc/cpuinfo and /sys/devices/system/cpu readable, "
            "or run on another machine"
        ) from None
    return core


def has_bfloat16() -> bool:
    """Return True if the processor has bfloat16 instructions, as OpenVINO reports.

    Raises:
        ModelError: OpenVINO cannot read the processor.
    """
    return "BF16" in new_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_amx() -> bool:
    """Return True if Linux reports matrix instructions (AMX) for 8-bit integers."""
    try:
        return "amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
