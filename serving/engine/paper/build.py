"""An engine on paper: rank 0 of a model, built by vLLM's own code with tensors that have no bytes.

Every layer is made as on the GPU that the process believes in: weights are cut for the ranks, and
each layer chooses its kernels. What cannot be cut or has no kernel raises here as it would there.
No process group exists; nobody can talk to the other ranks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

SHARED = ("embed_tokens", "lm_head")
"""What a head that guesses ahead takes from its model."""


class Built(msgspec.Struct, frozen=True):
    """What rank 0 of the engine is made of."""

    weights_bytes: int
    """Parameters as they are loaded; tables kept in host memory are among them."""
    kernels: tuple[str, ...]
    """Attention backends, then experts' backends, each once."""


class Cache(msgspec.Struct, frozen=True):
    """The KV memory of rank 0."""

    blocks: int
    block_tokens: int
    tokens: int
    """What vLLM logs: sequences of full length at once, times that length."""


class _Ranks:
    """A process group that has a size and no processes."""

    def __init__(self, size: int) -> None:
        self._size = size

    def size(self) -> int:
        return self._size

    def rank(self) -> int:
        return 0


class _Group:
    """As vLLM's GroupCoordinator answers on rank 0."""

    rank = rank_in_group = local_rank = first_rank = next_rank = prev_rank = 0
    is_first_rank = is_last_rank = True
    device_communicator = mq_broadcaster = None
    use_custom_op_call = False

    def __init__(self, name: str, size: int) -> None:
        import torch

        self.unique_name = name
        self.world_size = size
        self.ranks = list(range(size))
        self.last_rank = size - 1
        self.device = torch.device("meta")
        self.device_group = self.cpu_group = _Ranks(size)


def build(config: Any) -> tuple[Built, list[Any]]:
    """Build rank 0 of the model of a VllmConfig, and its draft head if it has one. The modules
    must be held as long as their layers are asked. Changes `config`: nothing is compiled."""
    import torch
    from vllm.config import CompilationMode
    from vllm.v1.worker import workspace

    config.compilation_config.mode = CompilationMode.NONE
    config.kernel_config.enable_jit_warmup = False
    _spread(config.parallel_config)
    workspace.init_workspace_manager(torch.device("meta"))
    models = []
    with _without_bytes(config):
        models.append(_make(config, config.model_config))
        if config.speculative_config is not None:
            models.append(_draft(config))
    return _inspect(models), models


def cache(config: Any, budget_bytes: int) -> Cache:
    """How vLLM lays the KV memory out in that many bytes, after `build`."""
    from vllm.config import set_current_vllm_config
    from vllm.platforms import current_platform
    from vllm.v1.core.kv_cache_utils import (
        get_kv_cache_configs,
        get_max_concurrency_for_kv_cache_config,
    )
    from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs
    from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec

    with set_current_vllm_config(config):
        current_platform.update_block_size_for_backend(config)
        register_all_kvcache_specs(config)
        specs = get_kv_cache_spec(config)
        _choose_order(config, specs)
        found = get_kv_cache_configs(config, [specs], [budget_bytes])[0]
        share = get_max_concurrency_for_kv_cache_config(config, found)
    return Cache(
        blocks=found.num_blocks,
        block_tokens=config.cache_config.block_size,
        tokens=int(share * config.model_config.max_model_len),
    )


def _choose_order(config: Any, specs: dict[str, Any]) -> None:
    """As `EngineCore` asks its workers which orders of bytes their backends take."""
    from vllm.distributed.kv_transfer.kv_connector.utils import get_current_attn_backends
    from vllm.v1.attention.backends.utils import (
        get_supported_kv_cache_layouts,
        resolve_kv_cache_layout,
    )

    orders = get_supported_kv_cache_layouts(get_current_attn_backends(config))
    resolve_kv_cache_layout(config, [[order.name for order in orders]], specs.values())


def _make(config: Any, model_config: Any) -> Any:
    """As vLLM's `initialize_model`, without its notes for reloading, a third of its time."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.utils import (
        configure_quant_config,
        get_model_architecture,
    )

    model_class, _ = get_model_architecture(model_config)
    if config.quant_config is not None:
        configure_quant_config(config.quant_config, model_class)
    with set_current_vllm_config(config, check_compile=True, prefix=""):
        return model_class(vllm_config=config, prefix="")


def _draft(config: Any) -> Any:
    """The head that guesses ahead, as `load_eagle_model` makes it."""
    speculative = config.speculative_config
    return _make(speculative.apply_draft_overrides(config), speculative.draft_model_config)


def _spread(parallel: Any) -> None:
    """Be rank 0 of the engine's ranks."""
    from vllm.distributed import parallel_state

    tensor, data = parallel.tensor_parallel_size, parallel.data_parallel_size
    sizes = {
        "_WORLD": tensor * data, "_TP": tensor, "_ETP": tensor, "_DP": data, "_PP": 1,
        "_EP": tensor * data, "_EPLB": tensor * data, "_DCP": 1, "_PCP": 1, "_ENGRAM_DP": data,
    }  # fmt: skip
    for name, size in sizes.items():
        setattr(parallel_state, name, _Group(name, size))


@contextlib.contextmanager
def _without_bytes(config: Any) -> Iterator[None]:
    """Tensors are shapes only, in the model's dtype."""
    import torch
    from torch.fx.experimental import _config as shapes
    from torch.overrides import TorchFunctionMode
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.layers.fused_moe.expert_map_manager import ExpertMapManager

    class Elsewhere(TorchFunctionMode):  # type: ignore[misc]
        """What asks for the GPU by name, or for pinned memory, gets a shape too."""

        def __torch_function__(
            self, function: Any, _: Any, args: Any = (), named: Any = None
        ) -> Any:
            named = dict(named or {})
            device, is_pinned = named.get("device"), named.pop("pin_memory", False)
            if is_pinned or (device is not None and torch.device(device).type == "cuda"):
                named["device"] = "meta"
            return function(*args, **named)

    # A log line that reads the values of a tensor, which has none here.
    ExpertMapManager.get_compressed_map_string = lambda _: "on paper"
    was = torch.get_default_dtype()
    torch.set_default_dtype(config.model_config.dtype)
    shapes.meta_nonzero_assume_all_nonzero = True
    try:
        with torch.device("meta"), Elsewhere(), set_current_vllm_config(config):
            yield
    finally:
        shapes.meta_nonzero_assume_all_nonzero = False
        torch.set_default_dtype(was)


def _inspect(models: list[Any]) -> Built:
    backends: dict[str, None] = {}
    experts: dict[str, None] = {}
    for module in (module for model in models for module in model.modules()):
        chosen = getattr(module, "attn_backend", None)
        if chosen is not None and hasattr(chosen, "get_name"):
            backends[chosen.get_name()] = None
        method = getattr(module, "quant_method", None)
        for label in ("fp8_backend", "unquantized_backend", "wna16_moe_backend", "moe_backend"):
            if (kernel := getattr(method, label, None)) is not None:
                experts[f"experts:{getattr(kernel, 'name', kernel)}"] = None
    target, *drafts = models
    weights = [*target.parameters()]
    for draft in drafts:
        named = draft.named_parameters()
        weights += [p for name, p in named if not any(shared in name for shared in SHARED)]
    return Built(
        weights_bytes=sum(p.numel() * p.element_size() for p in weights),
        kernels=(*backends, *experts),
    )
