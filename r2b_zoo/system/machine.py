"""Facts about the machine: its cores, its processor's name, and its instruction sets."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def available_cores() -> int:
    """Number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name, or only its architecture if the system does not tell the name."""
    names = [value for key, value in _fields(cpuinfo) if key == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def instructions(cpuinfo: Path = CPUINFO) -> set[str]:
    """Names of the processor's instruction sets; empty if the system does not tell them."""
    return {word for key, value in _fields(cpuinfo) if key in ("flags", "Features") for word in value.split()}


def _fields(cpuinfo: Path) -> list[tuple[str, str]]:
    if not cpuinfo.is_file():
        return []
    lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
    return [(key.strip(), value.strip()) for key, _, value in lines]
