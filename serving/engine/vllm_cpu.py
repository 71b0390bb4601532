"""What vLLM's CPU build needs before it loads a model: two of its ways that suit only GPUs.

Models with pictures import transformers' torchvision image processors even when they serve text
alone, and our CPU environment has no torchvision (none matches torch's CPU build on the usual
index). And vLLM looks at a model class in a process of its own, so as not to touch CUDA: on a CPU
that buys nothing and costs a whole import of vLLM, about 15 s for each class not met before.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")

IMAGE_PROCESSORS = ("qwen2_vl", "glm4v")
"""Whose module vLLM's Qwen3-VL, Qwen3.5 and GLM-4V import."""


def use_pillow_without_torchvision() -> None:
    """Where torchvision is missing, put transformers' Pillow twins in place of its processors.

    A twin has the same functions, and its classes end in "Pil": they are named without it too, as
    transformers itself does when it falls back. Pictures stay unserved: video processors have no
    twin.
    """
    if importlib.util.find_spec("torchvision") is not None:
        return
    for name in IMAGE_PROCESSORS:
        folder = f"transformers.models.{name}"
        twin = importlib.import_module(f"{folder}.image_processing_pil_{name}")
        for label in [label for label in vars(twin) if label.endswith("Pil")]:
            setattr(twin, label.removesuffix("Pil"), vars(twin)[label])
        sys.modules.setdefault(f"{folder}.image_processing_{name}", twin)


def inspect_models_here() -> None:
    """Let vLLM look at model classes in this process."""
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = _run_here


def _run_here(look: Callable[[], Seen]) -> Seen:
    return look()
