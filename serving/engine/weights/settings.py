"""How weights are fetched: mirrors, credentials' places, bounds. Values only.

Credentials are never held here: they come from the environment, or from a file named here, at the
moment they are used.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from serving.engine.weights.sources import Hub

Url = Annotated[str, Meta(pattern=r"^https?://[^\s?#@]+$")]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class WeightsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything about fetching but the source itself."""

    hub: Hub = "huggingface"
    """Where a bare `owner/name` is looked for."""
    huggingface_url: Url = "https://huggingface.co"
    """A mirror with the same paths, where the hub itself is slow or out of reach."""
    huggingface_token_file: str = ""
    """Else `HF_TOKEN`, else nobody."""
    modelscope_url: Url = "https://modelscope.cn"
    modelscope_token_file: str = ""
    """Else `MODELSCOPE_API_TOKEN`, else nobody."""
    s3_url: Url | None = None
    """Endpoint; None is Amazon's of the region."""
    s3_region: Annotated[str, Meta(pattern=r"^[a-z0-9-]{2,40}$")] = "us-east-1"
    """Part of each signature; stores without regions take the default."""
    s3_addressing: Literal["auto", "path", "virtual"] = "auto"
    """`host/bucket/key` or `bucket.host/key`; auto knows the clouds that refuse the first."""
    s3_credentials_file: str = ""
    """In the form of `~/.aws/credentials`, profile `default`; else `AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, else anonymous."""
    is_offline: bool = False
    """Nothing is asked of any hub or store; what the cache holds is used."""
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
