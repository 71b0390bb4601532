"""vLLM's CPU worker without two kernels that are wrong; loaded by name inside the engine core.

With bfloat16 on a CPU with AMX, vLLM 0.32 picks an attention kernel ("amx") whose answers for the
demo model are wrong ("What is the capital of France?" -> "L'Etoile, la Marseillaise"); the "vec"
kernel answers "Paris", agrees with transformers, and was no slower (c=1 23.1 against 18.8 tokens/s,
c=8 159 against 142; 2 cores of a Xeon with amx_bf16, offline, 64 tokens each). There is no setting
for it, and a worker class is vLLM's own way to run code in the core process.

The rotary kernel takes rows that hold all heads. Given tokens x heads x width, as latent attention
(GLM-4.7-Flash) gives it, it rotates the wrong rows: off by up to 5 from vLLM's own computation in
torch, which stands in for it there.
"""

from typing import Any

from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
from vllm.v1.attention.backends import cpu_attn
from vllm.v1.worker.cpu_worker import CPUWorker

from serving.engine.stage_clock import StageClock
from serving.engine.vllm_cpu import use_pillow_without_torchvision

_choose = cpu_attn._get_attn_isa
_rotate = RotaryEmbedding.forward_cpu


def choose_exact(*args: Any, **named: Any) -> str:
    """vLLM's choice of attention kernel, never "amx"."""
    choice: str = _choose(*args, **named)
    return "vec" if choice == "amx" else choice


def rotate_exact(self: Any, positions: Any, query: Any, key: Any = None) -> Any:
    """The kernel for rows of all heads, else vLLM's computation in torch."""
    rotate = _rotate if query.dim() == 2 else type(self).forward_native
    return rotate(self, positions, query, key)


cpu_attn._get_attn_isa = choose_exact
RotaryEmbedding.forward_cpu = rotate_exact
use_pillow_without_torchvision()


class ExactCPUWorker(StageClock, CPUWorker):  # type: ignore[misc]
    """CPUWorker, timed; importing this module makes it exact and fit for vision models' text."""
