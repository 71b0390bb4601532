"""A GPU on paper: vLLM's own CUDA platform, told the facts of a GPU that is not there.

vLLM's rules for CUDA (which kernels take which weights, widths and caches on which GPU) are Python
and ask the platform for capability, name, memory and count. Here they get the answers of a data
sheet. Compiled kernels of the CUDA build are empty modules that fail when called: a choice between
them can be made, none can run. For checks only: no engine of ours is started like that.

The capability of a process is chosen once: vLLM keeps what it found at import.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import msgspec

COMPILED = frozenset({
    "vllm._C_stable_libtorch", "vllm._moe_C_stable_libtorch",
    "vllm.vllm_flash_attn._vllm_fa2_C", "vllm.vllm_flash_attn._vllm_fa3_C",
    "vllm._flashmla_C", "vllm._flashmla_extension_C",
    "vllm.third_party.flashmla.flash_mla_interface", "vllm.third_party.deep_gemm",
    "vllm._flashkda_C",
})  # fmt: skip
"""Parts of vLLM's CUDA wheel for Ampere and Hopper that the CPU wheel lacks."""

NAMED = ("silu_and_mul", "silu_and_mul_with_clamp")
"""Compiled operators that layers name when they are made; nobody calls them."""


class PaperGpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The facts of one kind of GPU."""

    name: str
    """As CUDA says it."""
    capability: int
    """80 = A100, 90 = H100."""
    memory_bytes: int
    gpus: int
    """In the machine."""
    compute_units: int
    """Streaming multiprocessors."""


class _Empty(MetaPathFinder, Loader):
    """Finds the compiled modules, empty."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in COMPILED else None

    def exec_module(self, module: ModuleType) -> None:
        def absent(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)

            def call(*_: Any, **__: Any) -> None:
                raise RuntimeError(f"{module.__name__}.{name}: there is no GPU")

            return type(name, (), {"__new__": call})

        module.__getattr__ = absent  # type: ignore[method-assign]


class Facts:
    """What the platform answers, for all of this process."""

    gpu: PaperGpu | None = None
    libraries: tuple[Any, ...] = ()
    """Operators live as long as their library."""

    @classmethod
    def now(cls) -> PaperGpu:
        """The GPU of the moment; vLLM must not ask before one is chosen."""
        if cls.gpu is None:
            raise RuntimeError("vLLM asked for a GPU before one was chosen")
        return cls.gpu


def pretend() -> None:
    """Let vLLM, not yet imported, find itself on CUDA. Import vLLM after it, then `become`."""
    assert "vllm" not in sys.modules, "vLLM chooses its platform when it is imported"
    sys.meta_path.insert(0, _Empty())
    import vllm.platforms as platforms

    # Else Triton, which the CUDA wheel brings, counts as missing.
    platforms.vllm_version_matches_substr = lambda _: False
    platforms._current_platform = _platform_class()()
    _answer_compiled_questions()


def become(gpu: PaperGpu) -> None:
    """Be a machine with these GPUs, of the capability first chosen in this process."""
    was = Facts.gpu
    if was is not None and was.capability != gpu.capability:
        raise ValueError(f"this process is {was.capability}, and vLLM remembers it")
    Facts.gpu = gpu


def _platform_class() -> type[Any]:
    from vllm.platforms.cuda import CudaPlatformBase
    from vllm.platforms.interface import DeviceCapability

    class Paper(CudaPlatformBase):  # type: ignore[misc]
        """CUDA with facts in place of NVML."""

        @classmethod
        def get_device_capability(cls, *_: Any, **__: Any) -> Any:
            return DeviceCapability(*divmod(Facts.now().capability, 10))

        @classmethod
        def get_device_name(cls, *_: Any, **__: Any) -> str:
            return Facts.now().name

        @classmethod
        def get_device_total_memory(cls, *_: Any, **__: Any) -> int:
            return Facts.now().memory_bytes

        @classmethod
        def num_compute_units(cls, *_: Any) -> int:
            return Facts.now().compute_units

        @classmethod
        def current_device(cls) -> str:
            return "meta"

        @classmethod
        def device_count(cls) -> int:
            return Facts.now().gpus

        @classmethod
        def is_fully_connected(cls, *_: Any) -> bool:
            return True

        @classmethod
        def get_device_numa_node(cls, *_: Any, **__: Any) -> int | None:
            return None

    return Paper


def _answer_compiled_questions() -> None:
    """vLLM asks its compiled part which matrix products it was compiled with. The CUDA 12 wheel
    answers by capability alone (`csrc/quantization/w8a8/cutlass/scaled_mm_entry.cu`)."""
    import torch

    torch.accelerator.empty_cache = lambda: None
    library = torch.library.Library("_C", "FRAGMENT")
    for name, answer in {
        "cutlass_scaled_mm_supports_fp8": lambda capability: capability >= 89,
        "cutlass_scaled_mm_supports_block_fp8": lambda capability: capability >= 90,
        "cutlass_group_gemm_supported": lambda capability: capability in (90, 100),
        "cutlass_scaled_mm_supports_fp4": lambda capability: capability >= 100,
    }.items():
        library.define(f"{name}(int capability) -> bool")
        library.impl(name, answer, "CompositeExplicitAutograd")
    for name in NAMED:
        library.define(f"{name}(Tensor(a!) out, Tensor input) -> ()")
    library.define("get_cuda_view_from_cpu_tensor(Tensor(a) tensor) -> Tensor(a)")
    library.impl(
        "get_cuda_view_from_cpu_tensor", lambda tensor: tensor, "CompositeExplicitAutograd"
    )
    linear = torch.library.Library("_flashkda_C", "FRAGMENT")
    linear.define("get_workspace_size(int tokens, int heads, int sequences) -> int")
    linear.impl("get_workspace_size", lambda *_: 0, "CompositeExplicitAutograd")
    Facts.libraries = (library, linear)
