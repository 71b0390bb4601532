"""What Serve's reports of an application mean for whoever waits for its engine. Pure."""

from __future__ import annotations

from typing import Any, TypeAlias

from serving.brief import brief
from serving.engine.serve_rest import AppStatus

Event: TypeAlias = tuple[str, dict[str, Any]]
FAILED_START = "failed to start"
"""Serve's words in the status of a deployment one of whose replicas could not be made."""


def phase_of(status: AppStatus) -> str:
    """The event a status stands for."""
    if status.addresses:
        return "ready"
    if status.is_asleep and not status.replica_states:
        return "asleep"
    if status.status == "DEPLOY_FAILED":
        return "failed"
    if "STARTING" in status.replica_states:
        return "loading"
    return "unready" if status.status in ("RUNNING", "UNHEALTHY") else "replica_starting"


class News:
    """Remembers what was told of each application, and tells what is new."""

    def __init__(self) -> None:
        self._seen: dict[str, AppStatus] = {}
        self._phases: dict[str, str] = {}

    def events(self, status: AppStatus) -> list[Event]:
        """What changed since the last report. Mutates."""
        before, phase = self._seen.get(status.name), phase_of(status)
        old = self._phases.get(status.name)
        self._seen[status.name], self._phases[status.name] = status, phase
        found: list[Event] = []
        reason = brief(status.message)
        is_new_message = before is None or before.message != status.message
        if is_new_message and phase != "failed" and FAILED_START in status.message:
            found.append(("start_failed", {"model": status.name, "reason": reason}))
        has_moved = before is not None and before.addresses != status.addresses
        if phase != old or (phase == "ready" and has_moved):
            fields: dict[str, Any] = {"model": status.name}
            if phase == "ready":
                fields["addresses"] = list(status.addresses)
            elif reason and not found:
                fields["reason"] = reason
            found.append((phase, fields))
        return found

    def named(self, phase: str) -> set[str]:
        """Applications that are in a phase."""
        return {name for name, now in self._phases.items() if now == phase}
