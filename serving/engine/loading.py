"""How vLLM reads weights into memory, by where they lie. Pure.

What vLLM 0.32 has, read from its source (`config/load.py`, `model_executor/model_loader/`):

    lazy             safetensors mapped into memory; best on a local disk
    prefetch         the same, the files first read into the page cache by several threads: for
                     volumes over a network, where mapped reads are small and slow
    eager            each file read whole before use; more RAM, for file systems that map badly
    runai_streamer   Run:ai Model Streamer (package `runai-model-streamer`, with `[s3]` for object
                     stores): many streams from files, or straight from `s3://`, to the GPU
    dummy            no weights at all, random numbers: to try a configuration
    fastsafetensors  GPU direct storage (package `fastsafetensors`); CUDA only, vLLM names
                     `cuda:N` itself

The CPU build holds neither package, and no CPU engine can show that those two load: their flags are
checked against vLLM's parser only.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from serving.engine.weights.errors import SourceError
from serving.engine.weights.settings import WeightsSettings
from serving.engine.weights.sources import Folder, Source

Load: TypeAlias = Literal[
    "auto", "lazy", "prefetch", "eager", "runai_streamer", "fastsafetensors", "dummy"
]  # fmt: skip


def load_of(asked: Load, source: Source) -> Load:
    """What `auto` means for a source; anything else stays.

    A bucket is fetched into the cache, so that each byte can be checked; only who asks for
    `runai_streamer` gets it streamed, unchecked.
    """
    if asked != "auto":
        return asked
    is_volume = isinstance(source, Folder) and source.is_volume
    return "prefetch" if is_volume else "lazy"


def load_flags(load: Load, device: Literal["cpu", "gpu"]) -> list[str]:
    """vLLM's flags. Never a format that falls back to pickle files, as vLLM's own default does."""
    if load == "fastsafetensors" and device == "cpu":
        raise SourceError("load: fastsafetensors reads into GPUs only; on a CPU take lazy")
    if load in ("runai_streamer", "fastsafetensors", "dummy"):
        return ["--load-format", load]
    flags = ["--load-format", "safetensors"]
    if load in ("prefetch", "eager"):
        flags += ["--safetensors-load-strategy", load]
    return flags


def load_environment(model_path: str, settings: WeightsSettings) -> dict[str, str]:
    """Variables by which vLLM's loaders reach what we did not fetch for them."""
    # We hand vLLM folders; switched on, it would ask ModelScope's library about them.
    found = {"VLLM_USE_MODELSCOPE": "False"}
    if settings.is_offline:
        found |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if is_streamed(model_path):
        if settings.s3_region is not None:
            found["AWS_DEFAULT_REGION"] = settings.s3_region
        found["AWS_EC2_METADATA_DISABLED"] = "true"
        if settings.s3_url is not None:
            found["AWS_ENDPOINT_URL"] = settings.s3_url
            virtual = settings.s3_addressing == "virtual"
            found["RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING"] = "1" if virtual else "0"
        if settings.s3_credentials_file:
            found["AWS_SHARED_CREDENTIALS_FILE"] = settings.s3_credentials_file
    return found


def is_streamed(model_path: str) -> bool:
    """Whether the engine reads an object store itself, and no hash is checked."""
    return model_path.startswith("s3://")
