"""Whether a model named by a hub id can be had: from the cache, or from the hub vLLM would ask.

`python -m serving.engine.hub ID` prints the hub's address, then, with exit code 3, what is wrong.
A process of its own, because asking may hang in name resolution; its caller bounds it. The hubs'
own libraries answer, since they know mirrors, tokens, offline mode and cache folders, and vLLM asks
them too. Fetches no weights.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.engine.weights import CONFIGS, checkpoint_fault

ASK_S_MAX = 8.0
EXIT_UNAVAILABLE = 3
USE_MODELSCOPE = "VLLM_USE_MODELSCOPE"
MODELSCOPE_MISSING = (
    f"{USE_MODELSCOPE} is set and the package modelscope is not installed: vLLM will not start;"
    " install it into this environment, or unset the variable"
)


def uses_modelscope(text: str | None) -> bool:
    """Whether this value of `VLLM_USE_MODELSCOPE` switches it on, as vLLM reads it."""
    return (text or "").strip().lower() in ("1", "true")


def has_modelscope() -> bool:
    """Whether ModelScope's library is installed."""
    return importlib.util.find_spec("modelscope") is not None


def unavailable(hub_id: str) -> str:
    """Why this model cannot be had; empty when it can. Raises what the library raises when the hub
    cannot be reached."""
    if uses_modelscope(os.environ.get(USE_MODELSCOPE)):
        return _on_modelscope(hub_id)
    return _on_hugging_face(hub_id)


def _on_hugging_face(hub_id: str) -> str:
    from huggingface_hub import (
        constants,
        errors,
        get_hf_file_metadata,
        hf_hub_url,
        try_to_load_from_cache,
    )

    _say(constants.ENDPOINT)
    try:
        for name in CONFIGS:
            cached = try_to_load_from_cache(hub_id, name)
            if isinstance(cached, str) and not checkpoint_fault(Path(cached).parent):
                return ""
        if constants.HF_HUB_OFFLINE:
            return (
                f"it is not whole in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE (or"
                " TRANSFORMERS_OFFLINE) forbids to fetch it"
            )
        for name in CONFIGS:
            with contextlib.suppress(errors.EntryNotFoundError):
                get_hf_file_metadata(hf_hub_url(hub_id, name), timeout=ASK_S_MAX)
                return ""
    except errors.HFValidationError as error:
        return f"it is no hub id: {error}"
    except errors.GatedRepoError:
        return "its licence must be accepted on the hub first; then set HF_TOKEN to your token"
    except errors.RepositoryNotFoundError:
        return "the hub has no such model (a private one needs HF_TOKEN)"
    return f"it is no model for vLLM: it holds neither {' nor '.join(CONFIGS)}"


def _on_modelscope(hub_id: str) -> str:
    if not has_modelscope():
        return MODELSCOPE_MISSING
    files = importlib.import_module("modelscope.utils.file_utils")
    hub = importlib.import_module("modelscope.hub.utils.utils")
    _say(hub.get_endpoint())
    if not checkpoint_fault(Path(files.get_model_cache_root()) / hub_id):
        return ""
    download = importlib.import_module("modelscope.hub.snapshot_download").snapshot_download
    with TemporaryDirectory(prefix="ballast-hub-") as folder:
        download(hub_id, cache_dir=folder, allow_patterns=list(CONFIGS))
    return ""


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Entry point."""
    fault = unavailable(argv[1])
    if fault:
        _say(fault)
        return EXIT_UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
