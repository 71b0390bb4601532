"""Pauses between starts that keep failing.

Serve gives a deployment up that never started, but where a replica has served before it makes the
next one at once, for ever. Each try loads the whole model; a pause that doubles keeps the loop from
being all that the machine does. A changed spec starts anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import msgspec

from serving.engine.spec import EngineSpec

PAUSE_S = 15.0
PAUSE_S_MAX = 300.0


class _Failures(msgspec.Struct):
    spec: str
    count: int


def pause_s(failures: int, free: int) -> float:
    """Seconds to wait before the next try, after so many failed in a row; `free` cost nothing."""
    return 0.0 if failures < free else min(PAUSE_S_MAX, PAUSE_S * 2.0 ** min(10, failures - free))


class FailedStarts:
    """Counts failed starts in a row of one spec, in a file beside the start times."""

    def __init__(self, spec: EngineSpec) -> None:
        self._file: Path | None = None
        if spec.start_times:
            self._file = Path(spec.start_times).with_name(f"failed-starts-{spec.model_name}.json")
        self._spec = hashlib.sha256(msgspec.json.encode(spec)).hexdigest()

    def count(self) -> int:
        """Failures since the last good start, of this very spec."""
        if self._file is not None:
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                found = msgspec.json.decode(self._file.read_bytes(), type=_Failures)
                return found.count if found.spec == self._spec else 0
        return 0

    def failed(self) -> None:
        """One more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write_bytes(msgspec.json.encode(_Failures(self._spec, self.count() + 1)))

    def succeeded(self) -> None:
        """The engine is ready."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)
