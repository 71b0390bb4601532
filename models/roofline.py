"""The least time that a GPU needs to move and compute what one engine step asks for.

Bytes over bandwidth, operations over peak rate. No engine reaches it; how far one stays behind is
what a calibration measures, and what carries over to other models, GPUs and counts. Pure.
"""

from __future__ import annotations

import msgspec

from models.bulk import Bulk
from models.gpu import Gpu
from models.pool import FP8_SHARE

NVLINK_GB_S = 450.0
"""One direction, H100: the calibrations were measured on it, so slower links only add."""
LINK_SHARE = 0.7
"""Of a link's peak that a ring of all-reduces gets."""
HOP_S = 20e-6
"""One small all-reduce over PCIe, beyond what it costs over NVLink. ASSUMED: nobody measured one of
our untried GPUs."""


class Times(msgspec.Struct, frozen=True):
    """Seconds on each GPU of one data-parallel rank."""

    dense_s: float
    """Reading all weights but the experts."""
    experts_s: float
    """Reading all experts; a step reads `1 - (1 - touched) ** tokens` of them."""
    state_s: float
    """Reading and writing one sequence's recurrent state."""
    context_token_s: float
    """Reading the KV of one token of context."""
    prefill_token_s: float
    """Multiplying one token through the active parameters."""
    hidden_mb: float
    """Layers x hidden x 2 bytes of one token, in MB: what is normalised, added, exchanged."""
    exchange_token_s: float = 0.0
    """Sending one token's results between GPUs, beyond an H100's NVLink."""
    exchange_step_s: float = 0.0
    """The same for a step however small: latency of each layer's exchange."""


class Spread(msgspec.Struct, frozen=True):
    """Over how many GPUs the engine lies."""

    tensor: int = 1
    data: int = 1
    is_fp8_kv: bool = False


def times(bulk: Bulk, gpu: Gpu, spread: Spread) -> Times:
    """The least times of `bulk` on `spread.tensor` x `spread.data` GPUs."""
    bandwidth = gpu.bandwidth_tb_s * 1e12
    tensor, everywhere = spread.tensor, spread.tensor * spread.data
    kv_parts = min(tensor, bulk.kv_heads) if bulk.kv_heads else 1
    kv_bytes = bulk.kv_bytes * (FP8_SHARE if spread.is_fp8_kv else 1.0)
    hidden_bytes = bulk.layers * bulk.hidden * 2.0
    slow = 1 / gpu.link_gb_s - 1 / NVLINK_GB_S if everywhere > 1 else 0.0
    # A ring sends 2 (n - 1) / n of the data, twice a layer.
    sent_gb = 4 * (everywhere - 1) / everywhere * hidden_bytes / 1e9
    return Times(
        dense_s=bulk.dense_bytes / tensor / bandwidth,
        experts_s=bulk.expert_bytes / everywhere / bandwidth,
        state_s=2 * bulk.state_bytes / tensor / bandwidth,
        context_token_s=kv_bytes / kv_parts / bandwidth,
        prefill_token_s=2e9 * bulk.active_b / tensor / (tflops(bulk, gpu) * 1e12),
        hidden_mb=hidden_bytes / 1e6,
        exchange_token_s=max(0.0, slow) * sent_gb / LINK_SHARE,
        exchange_step_s=2 * bulk.layers * HOP_S if gpu.link == "pcie" and everywhere > 1 else 0.0,
    )


def tflops(bulk: Bulk, gpu: Gpu) -> float:
    """Peak rate of the multiplication that the weights' format leads to."""
    if bulk.format.startswith("fp8") and gpu.fp8_tflops is not None:
        return gpu.fp8_tflops
    return gpu.bf16_tflops
