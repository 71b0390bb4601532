"""How weights are fetched: mirrors, credentials' places, bounds. Values only.

Credentials are never held here: they come from the environment, or from a file named here, at the
moment they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from serving.engine.weights.errors import SourceError
from serving.engine.weights.sources import Hub

Url = Annotated[str, Meta(pattern=r"^https?://[^\s?#@]+$")]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class WeightsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything about fetching but the source itself."""

    hub: Hub | None = None
    """Where a bare `owner/name` is looked for; None = Hugging Face, or ModelScope where
    `VLLM_USE_MODELSCOPE` is on."""
    huggingface_url: Url | None = None
    """A mirror with the same paths, where the hub itself is slow or out of reach; None =
    `HF_ENDPOINT`, else the hub."""
    huggingface_token_file: str = ""
    """Else `HF_TOKEN`, else nobody."""
    modelscope_url: Url | None = None
    """None = `MODELSCOPE_DOMAIN`, else the hub."""
    modelscope_token_file: str = ""
    """Else `MODELSCOPE_API_TOKEN`, else nobody."""
    s3_url: Url | None = None
    """Endpoint; None = `AWS_ENDPOINT_URL`, else Amazon's of the region."""
    s3_region: Annotated[str, Meta(pattern=r"^[a-z0-9-]{2,40}$")] | None = None
    """Part of each signature; None = `AWS_REGION`, else `us-east-1`, which stores without regions
    take."""
    s3_addressing: Literal["auto", "path", "virtual"] = "auto"
    """`host/bucket/key` or `bucket.host/key`; auto knows the clouds that refuse the first."""
    s3_credentials_file: str = ""
    """In the form of `~/.aws/credentials`, profile `default`; else `AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, else anonymous."""
    is_offline: bool | None = None
    """Nothing is asked of any hub or store; what the cache holds is used. None = as
    `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` say."""
    verify: Literal["always", "changed", "size"] = "changed"
    """When files that are there already are hashed anew: at each start; when a file's size, inode
    or time differs from the record (milliseconds where none does); never after the first time."""
    parallel: Annotated[int, Meta(ge=1, le=32)] = 4
    """Files fetched at once. More streams rarely fill a link better, and hubs throttle."""
    attempts_max: Annotated[int, Meta(ge=1, le=20)] = 6
    """Tries in a row without a new byte, for each file; waits double from 1 s to 30 s."""
    connect_s: Seconds = 10.0
    idle_s: Seconds = 60.0
    """A connection that sends nothing for so long is given up, and resumed."""
    deadline_s: Seconds = 14_400.0
    """For all files together: 700 GB take 1.6 h at 1 Gbit/s."""
    wait_s: Seconds = 300.0
    """For a volume to be mounted and filled, and for another process's fetch of the same model
    beyond `deadline_s`."""
    disk_reserve_mib: Annotated[int, Meta(ge=0)] = 1024
    """Kept free on the cache's disk."""


def completed(settings: WeightsSettings, environ: Mapping[str, str]) -> WeightsSettings:
    """With what the settings leave open taken from the environment, under the names that other
    tools read. Raises SourceError for a variable that cannot be used."""
    domain = environ.get("MODELSCOPE_DOMAIN")
    offline = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    found = {
        "hub": "modelscope" if is_on(environ.get("VLLM_USE_MODELSCOPE")) else "huggingface",
        "huggingface_url": environ.get("HF_ENDPOINT") or "https://huggingface.co",
        "modelscope_url": f"https://{domain}" if domain else "https://modelscope.cn",
        "s3_url": environ.get("AWS_ENDPOINT_URL") or None,
        "s3_region": region or "us-east-1",
        "is_offline": is_on(offline),
    }
    given = msgspec.to_builtins(settings)
    open_ones = {name: value for name, value in found.items() if given[name] is None}
    try:
        return msgspec.convert(given | open_ones, WeightsSettings)
    except msgspec.ValidationError as error:
        raise SourceError(f"the environment: {error}") from None


def is_on(text: str | None) -> bool:
    """Whether a variable switches something on, as hubs and vLLM read it."""
    return (text or "").strip().upper() in ("1", "ON", "YES", "TRUE")
