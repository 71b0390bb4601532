"""`ballast doctor` beside a running stack: judges that one, by the settings it was started with and
with the environment its gateway has, and not what this shell would start."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ballast import plan, running, stages
from ballast import up as stacking
from ballast.doctor import Finding, Level
from ballast.messages import Said
from ballast.stages import Keyed
from serving.engine.processes import descendants
from serving.settings import load

GATEWAY = b"serving.app"
"""Of a command line: the part whose environment holds keys and passwords."""
PROC = Path("/proc")


def pid_of(wish: plan.Wish, config: Path | None) -> int | None:
    """The running stack's process, where nothing was named that could mean another one."""
    if config is not None or wish != plan.Wish():
        return None
    return stacking.owner(load(None).state_dir.expanduser())


def findings(pid: int) -> Iterator[Finding]:
    """Of the stack that runs as that process. Raises ProblemError, SettingsError."""
    settings = running.settings_of(None)
    state = settings.state_dir.expanduser()
    began, where = running.began(state), state / running.SETTINGS
    yield Finding("stack", Level.OK, Said("doctor.judged", pid=pid, file=where))
    if began.stage:
        stage = stages.Name(began.stage)
        about = Said("stage.is", stage=stage.value, about=Said(f"stage.about.{stage.value}"))
        yield Finding("stage", Level.OK, about)
        # Its providers are on, so their keys are there: none is asked after here.
        for lack in stages.lacks(stage, settings, Keyed((), ()), ()):
            level = Level.STOP if lack.stops else Level.WARN
            yield Finding("stage", level, Said("stage.missing", what=lack.what), lack.remedy)
    with environment_of(pid):
        found = stacking.findings(settings, plan.Wish(has_engine=began.has_engine))
        yield from (one for one in found if one.subject != "stack")  # that it runs is said


@contextmanager
def environment_of(pid: int) -> Iterator[None]:
    """Within this, what the stack's gateway has in its environment is in ours: else keys that were
    set in its shell alone would be missed. Linux; elsewhere ours is as it is."""
    before = dict(os.environ)
    try:
        os.environ.update(_gateways(pid))
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _gateways(pid: int) -> Mapping[str, str]:
    with suppress(OSError):
        for child in descendants(pid):
            with suppress(OSError):
                if GATEWAY in (PROC / str(child) / "cmdline").read_bytes().split(b"\0"):
                    words = (PROC / str(child) / "environ").read_bytes().split(b"\0")
                    pairs = (os.fsdecode(word).partition("=") for word in words if word)
                    return {name: text for name, _, text in pairs if name}
    return {}
