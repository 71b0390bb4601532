"""vLLM's CPU worker with its AMX attention switched off; loaded by name inside the engine core.

With bfloat16 on a CPU with AMX, vLLM 0.32 picks an attention kernel ("amx") whose answers for the
demo model are wrong ("What is the capital of France?" -> "L'Etoile, la Marseillaise"); the "vec"
kernel answers "Paris", agrees with transformers, and was no slower (c=1 23.1 against 18.8 tokens/s,
c=8 159 against 142; 2 cores of a Xeon with amx_bf16, offline, 64 tokens each). There is no setting
for it, and a worker class is vLLM's own way to run code in the core process.
"""

from typing import Any

from vllm.v1.attention.backends import cpu_attn
from vllm.v1.worker.cpu_worker import CPUWorker

from serving.engine.stage_clock import StageClock
from serving.engine.vllm_cpu import use_pillow_without_torchvision

_choose = cpu_attn._get_attn_isa


def choose_exact(*args: Any, **named: Any) -> str:
    """vLLM's choice of attention kernel, never "amx"."""
    choice: str = _choose(*args, **named)
    return "vec" if choice == "amx" else choice


cpu_attn._get_attn_isa = choose_exact
use_pillow_without_torchvision()


class ExactCPUWorker(StageClock, CPUWorker):  # type: ignore[misc]
    """CPUWorker, timed; importing this module makes it exact and fit for vision models' text."""
