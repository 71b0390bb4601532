"""A provider of machines that misbehaves: in a test's own process, or as the program of an exec
hook (`python -m serving.fakes.machines STATE`), which keeps its state in a JSON file.

Faults are taken one per call of their verb, in order: `busy` (429), `away` (5xx, nothing done),
`lost` (done, and the answer lost), `short`, `no_id` (done, answered without an id), `twice` (made
twice for one token), `stillborn` (made, and fails at its start), `another` (made, answered with the
account's first machine), `ignored` (an end that is said to be done and is not), `blind` (a list
without its first machine), `doubled` (each of a list's machines twice), `account` (a list of all
the account has, whatever its tags), `hang` and `garbage` (as a program only).
"""

from __future__ import annotations

import fcntl
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

KINDS = {"busy": "busy", "away": "away", "lost": "away", "short": "short"}
HANG_S = 600.0


class Made(msgspec.Struct):
    """A machine."""

    id: str
    client_token: str
    deployment: str
    pool: str
    since_ms: int
    hour_micro: int
    is_failed: bool = False
    is_ended: bool = False
    model: str = "m"


class Market(msgspec.Struct):
    """The provider's whole state. `now_ms` is moved by the test."""

    now_ms: int = 0
    hour_micro: int = 2_900_000
    available: int | None = None
    create_ms: int = 60_000
    machines: list[Made] = []
    faults: dict[str, list[str]] = {}
    calls: list[str] = []
    fence: int = 0
    """The highest seen; lower ones are refused."""

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One call of the exec hook's protocol."""
        verb = str(asked["verb"])
        self.calls.append(verb)
        waiting = self.faults.get(verb) or [""]
        fault = waiting.pop(0)
        if fault in ("busy", "away", "short"):
            return _error(KINDS[fault], f"{fault}, as the test wishes", 45.0)
        fence = int((asked.get("order") or asked).get("fence") or self.fence)
        if fence < self.fence:
            return _error("refused", f"fence {fence} is older than {self.fence}", 0.0)
        self.fence = fence
        found: dict[str, Any] = getattr(self, f"_{verb}")(asked, fault)
        return _error("away", "the answer is lost", 0.0) if fault == "lost" else found

    def alive(self, deployment: str = "d") -> list[Made]:
        """What costs money now."""
        return [
            m for m in self.machines
            if m.deployment == deployment and not m.is_ended and not m.is_failed
        ]  # fmt: skip

    def _offers(self, asked: dict[str, Any], fault: str) -> dict[str, Any]:  # noqa: ARG002
        offer = {"id": "a", "hour_micro": self.hour_micro, "available": self.available}
        return {"offers": [offer, {"id": "dear", "hour_micro": 9 * self.hour_micro}]}

    def _create(self, asked: dict[str, Any], fault: str) -> dict[str, Any]:
        order = asked["order"]
        if self.hour_micro > order["hour_micro_max"]:
            return _error("refused", "dearer than you allow", 0.0)
        old = [m for m in self.alive() if m.client_token == order["client_token"]]
        if not old:
            count = 2 if fault == "twice" else 1
            old = [self._made(order, fault == "stillborn") for _ in range(count)]
        told = self._told(old[0])
        if fault == "another":
            return {"machine": self._told(self.machines[0])}
        return {"machine": told | {"id": ""} if fault == "no_id" else told}

    def _made(self, order: dict[str, Any], is_stillborn: bool) -> Made:
        if self.available is not None:
            self.available -= 1
        made = Made(
            f"i-{len(self.machines)}", order["client_token"], order["tags"]["deployment"],
            order["tags"]["pool"], self.now_ms, self.hour_micro, is_stillborn,
            model=order["tags"]["model"],
        )  # fmt: skip
        self.machines.append(made)
        return made

    def _list(self, asked: dict[str, Any], fault: str) -> dict[str, Any]:
        tags = asked["tags"]
        wanted = tags["deployment"], tags["model"], tags["pool"]
        found = [
            self._told(m) for m in self.machines
            if not m.is_ended
            and (fault == "account" or (m.deployment, m.model, m.pool) == wanted)
        ]  # fmt: skip
        return {"machines": found[fault == "blind" :] * (1 + (fault == "doubled"))}

    def _terminate(self, asked: dict[str, Any], fault: str) -> dict[str, Any]:
        for machine in self.machines:
            if machine.id == asked["machine"] and fault != "ignored":
                machine.is_ended = True
        return {}

    def _told(self, machine: Made) -> dict[str, Any]:
        is_up = self.now_ms - machine.since_ms >= self.create_ms
        state = "failed" if machine.is_failed and is_up else "running" if is_up else "creating"
        return {
            "id": machine.id, "client_token": machine.client_token, "state": state,
            "hour_micro": machine.hour_micro, "since_ms": machine.since_ms,
        }  # fmt: skip


def _error(kind: str, message: str, retry_after_s: float) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message, "retry_after_s": retry_after_s}}


def main(argv: list[str]) -> int:
    """One call: the question on standard input, the state in the file named."""
    asked = msgspec.json.decode(sys.stdin.buffer.read())
    path = Path(argv[0])
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        market = msgspec.json.decode(file.read(), type=Market)
        waiting = market.faults.get(asked["verb"]) or [""]
        fault = waiting[0]
        answer = market.answer(asked)
        file.seek(0)
        file.truncate()
        file.write(msgspec.json.encode(market))
    if fault == "hang":
        time.sleep(HANG_S)
    sys.stdout.write("<html>" if fault == "garbage" else msgspec.json.encode(answer).decode())
    return 1 if fault == "garbage" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
