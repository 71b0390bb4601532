"""What can be done to a part in the middle of a load. Blocking: called off the load's loop."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.drills import clock
from benchmarks.drills.ground import Ground, read_text
from benchmarks.drills.values import Fault


def kill(ground: Ground, kind: str, name: str, _how: Mapping[str, Any]) -> None:
    """SIGKILL; of PostgreSQL a crash, of Redis the loss of all it knew."""
    if kind == "redis":
        assert ground.redis is not None
        ground.redis.stop()
    elif kind == "postgres":
        assert ground.postgres is not None
        ground.postgres.stop(signal.SIGQUIT)
    else:
        ground.kill(kind, int(name))


def start(ground: Ground, kind: str, name: str, _how: Mapping[str, Any]) -> None:
    """Bring it up (again), where it was."""
    if kind == "redis":
        assert ground.redis is not None
        ground.redis.start()
    elif kind == "postgres":
        assert ground.postgres is not None
        ground.postgres.start()
    elif kind == "engine":
        ground.start_engine(int(name))
    else:
        ground.start_gateway(int(name))


def behave(ground: Ground, kind: str, name: str, how: Mapping[str, Any]) -> None:
    """Tell a fake how to behave: a scenario, a pace, a drain."""
    ground.control(kind, name, how)


def cut(ground: Ground, _kind: str, name: str, _how: Mapping[str, Any]) -> None:
    """A gateway's network is gone: silence, no reset."""
    ground.links[int(name)].process.send_signal(signal.SIGSTOP)


def heal(ground: Ground, _kind: str, name: str, _how: Mapping[str, Any]) -> None:
    """It is back."""
    ground.links[int(name)].process.send_signal(signal.SIGCONT)


def jump(ground: Ground, _kind: str, _name: str, how: Mapping[str, Any]) -> None:
    """The gateways' wall clock is so many seconds ahead of the machine's from now on."""
    clock.set_by(ground.folder, float(how["seconds"]))


def read(ground: Ground, kind: str, name: str, how: Mapping[str, Any]) -> float:
    """A number: of a gauge on a gateway's /metrics, its samples summed; of what a provider saw."""
    if kind == "provider":
        return float(ground.count(name))
    text = read_text(ground.ops[int(name)] + "/metrics")
    pattern = re.compile(rf"^{re.escape(how['metric'])}(?:\{{[^}}]*\}})? (\S+)$", re.MULTILINE)
    return sum(float(found) for found in pattern.findall(text))


ACTS: dict[str, Callable[[Ground, str, str, Mapping[str, Any]], float | None]] = {
    "kill": kill, "start": start, "behave": behave, "cut": cut, "heal": heal, "jump": jump,
    "read": read,
}  # fmt: skip


def done(ground: Ground, fault: Fault) -> float | None:
    """Do it; what it read, if it reads."""
    kind, _, name = fault.on.partition(":")
    return ACTS[fault.act](ground, kind, name, fault.how)
