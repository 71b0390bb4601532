"""vLLM's GPU worker with a clock for its start; loaded by name inside the engine core."""

from vllm.v1.worker.gpu_worker import Worker

from serving.engine.stage_clock import StageClock


class MeasuredWorker(StageClock, Worker):  # type: ignore[misc]
    """Worker, timed."""
