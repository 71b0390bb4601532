"""What a call must pass before it is placed: its caller's allowances, and the guard.

Called by the pipeline, which knows the order; writes what it finds into the call's progress.
"""

from __future__ import annotations

from serving.allowances import Allowances, Exceeded
from serving.errors import CallerError
from serving.guard.gate import Gate
from serving.progress import Progress
from serving.records import Sensitivity
from serving.rules import AS_WRITTEN, confined

_INTERNAL = Sensitivity.INTERNAL  # looking a member up on its class costs 0.2 us in Python 3.11


def let_in(progress: Progress, allowances: Allowances, now_s: float) -> None:
    """Take from the allowances. Raises CallerError: the caller's own limit is a 429."""
    found = allowances.take(progress.call, progress.caller.policy.subjects, now_s)
    progress.standing = found.standing
    if isinstance(found, Exceeded):
        message = f"{found.subject.id} may have {found.limit} {found.what}"
        wait_s = max(1.0, found.retry_after_s)
        raise CallerError("rate_limit_exceeded", message, retry_after_s=wait_s)
    progress.lease = found


async def screen(progress: Progress, gate: Gate) -> None:
    """Classify the input and confine it to where it may be processed. Raises CallerError for what
    its tenant's rules block."""
    policy = gate.policy(progress.call.tenant)
    progress.sensitivity = policy.label
    if not policy.is_relay:
        progress.verdict = verdict = await gate.admit(progress.call)
        if verdict is not None:
            progress.sensitivity = verdict.sensitivity
            if verdict.is_blocked:
                message = "the input holds what this tenant's rules refuse"
                raise CallerError("content_filter", message)
            if progress.call.surface in AS_WRITTEN and verdict.vault.values:
                # A vector of masked text is another vector, and a mask said aloud is not mended:
                # the text stays where it may be read.
                progress.call = confined(progress.call, progress.caller, Sensitivity.SECRET)
    if progress.call.sound is not None:
        # A voice is its speaker's, whatever the guard's settings say of what it cannot read.
        progress.sensitivity = max(progress.sensitivity, Sensitivity.PERSONAL)
    if progress.sensitivity > _INTERNAL:
        progress.call = confined(progress.call, progress.caller, progress.sensitivity)
