"""The changes of the directory that rollouts make: by people, and by the controller. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from models.worded import packed
from serving.directory.changes import By, Change, event, found, keeping, put, validated
from serving.directory.values import Directory, removed
from serving.errors import CallerError
from serving.rollout import refusals, words
from serving.rollout.decide import Advance, Arrive, Finish, Hold, Pause, RollBack, Step
from serving.rollout.values import Rollout

REASON_CHARS_MAX = 500


def start(directory: Directory, row: Mapping[str, Any], by: By) -> Change:
    """A new rollout. One that has ended gives way; one that is done hands on what the name means
    now. Raises CallerError."""
    name = str(row.get("id", ""))
    given = {
        **row, "by": by.actor, "started_ms": by.at_ms, "since_ms": by.at_ms, "state": "running",
        "step": -1, **_why(row.get("reason", words.STARTED)), "has_begun": False,
    }  # fmt: skip
    new = validated(Rollout, given)
    had = directory.rollouts.get(name)
    if had is not None and had.is_under_way:
        raise CallerError("conflict", refusals.under_way(had))
    if had is not None and had.state == "done" and had.new != new.old:
        raise CallerError("conflict", refusals.means(had, new.old))
    return put("rollout", new, "start", by)


def pause(directory: Directory, name: str, by: By) -> Change:
    """Stay at this weight. Like `abort` also of a row that a newer Ballast wrote: what stops a
    rollout must not wait for an upgrade."""
    row = found(directory.rollouts, name, "rollout")
    if row.state != "running":
        raise CallerError("conflict", refusals.is_now(row))
    change = _moved(row, "pause", by, state="paused", **_why(_said(by, "paused")))
    return keeping(directory, change)


def resume(directory: Directory, name: str, by: By) -> Change:
    """Go on: the step's time and counts begin anew."""
    row = found(directory.rollouts, name, "rollout")
    if row.state != "paused":
        raise CallerError("conflict", refusals.is_now(row))
    changes = {"state": "running", **_why(_said(by, "resumed")), "since_ms": by.at_ms}
    return _moved(row, "resume", by, **changes)


def abort(directory: Directory, name: str, by: By) -> Change:
    """All calls to the old model again, also of one that is done."""
    row = found(directory.rollouts, name, "rollout")
    if row.state not in ("running", "paused", "done"):
        raise CallerError("conflict", refusals.is_already(row))
    change = _moved(row, "abort", by, state="aborted", **_why(_said(by, "aborted")))
    return keeping(directory, change)


def close(directory: Directory, name: str, by: By, meant: str) -> Change:
    """Take the row away. `meant`: the model that the settings give the name; one that is done must
    mean the same by then, or the name would jump back."""
    row = found(directory.rollouts, name, "rollout")
    if row.is_under_way:
        raise CallerError("conflict", refusals.abort_first(row))
    if row.state == "done" and meant != row.new:
        raise CallerError("conflict", refusals.still_given(row, meant))
    return Change([removed("rollout", name)], event(f"rollout:{name}", "close", by, {}))


def taken(row: Rollout, step: Step, by: By) -> Change | None:
    """What the controller stores of a decision; None where nothing changes."""
    if isinstance(step, Hold):
        return None
    why = _why(step.reason)
    by = by._replace(why=why["reason"])
    if isinstance(step, Advance):
        changes = {"step": step.step, "since_ms": by.at_ms, **why}
        return _moved(row, "advance", by, **changes)
    if isinstance(step, Arrive):
        changes = {"has_begun": True, "since_ms": by.at_ms, **why}
        return _moved(row, "arrive", by, **changes)
    if isinstance(step, Finish):
        return _moved(row, "finish", by, state="done", **why, since_ms=by.at_ms)
    if isinstance(step, RollBack):
        return _moved(row, "roll_back", by, state="rolled_back", **why)
    if isinstance(step, Pause):
        return _moved(row, "pause", by, state="paused", **why)
    assert_never(step)


def _moved(row: Rollout, action: str, by: By, **changes: Any) -> Change:
    new = row.model_copy(update=changes)
    told = {
        "old": row.old, "new": row.new, "percent_before": row.percent, "percent": new.percent,
        "state": new.state,
    }  # fmt: skip
    if changes.get("said") and by.why == new.reason:
        told["said"] = new.said  # the controller's: of the reason that the history keeps
    return put("rollout", new, action, by, told)


def _said(by: By, what: str) -> str:
    return words.by_hand(what, by.actor, by.why)


def _why(reason: str) -> dict[str, Any]:
    """The fields of a row that say why: English, and the same by code and values. A reason that is
    cut is English alone: its values would tell what the row does not."""
    is_whole = len(reason) <= REASON_CHARS_MAX
    return {"reason": str(reason)[:REASON_CHARS_MAX], "said": packed(reason) if is_whole else None}
