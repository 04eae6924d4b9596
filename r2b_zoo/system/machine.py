"""What the package asks of the machine: its cores, its processor's name, and the instructions it has."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def available_cores() -> int:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name, or its kind where the system tells no more."""
    names = [value for key, value in _fields(cpuinfo) if key == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def instructions(cpuinfo: Path = CPUINFO) -> set[str]:
    """Names of the instruction sets that the processor has; empty where the system does not tell."""
    return {word for key, value in _fields(cpuinfo) if key in ("flags", "Features") for word in value.split()}


def _fields(cpuinfo: Path) -> list[tuple[str, str]]:
    if not cpuinfo.is_file():
        return []
    lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
    return [(key.strip(), value.strip()) for key, _, value in lines]
