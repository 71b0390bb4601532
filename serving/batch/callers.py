"""For whom a batch's lines are run: its key's caller as it is now, not as it was."""

from __future__ import annotations

import msgspec

from serving.batch.values import Batch
from serving.errors import CallerError
from serving.forwarded import FEATURE, PROJECT, TENANT
from serving.keys import Keys
from serving.records import Caller


def caller_of(keys: Keys, batch: Batch) -> Caller | None:
    """The caller; None while nobody knows its key. Raises CallerError once that may do nothing
    more, or is another tenant's."""
    caller = keys.holder(batch.key_id)
    if caller is None:
        return None
    if caller.policy.is_forwarder:
        said = {name: batch.headers.get(name.decode(), "") for name in (TENANT, PROJECT, FEATURE)}
        headers = {name: value.encode("latin-1") for name, value in said.items() if value}
        caller = keys.on_behalf(caller, headers, is_counted=False)  # it was when it was made
        caller = msgspec.structs.replace(caller, user=batch.end_user)
    if caller.tenant != batch.tenant:
        raise CallerError("invalid_api_key", "the API key is another tenant's by now")
    return caller
