"""Whether an input file can be run: read as a whole before its first line is. Pure."""

from __future__ import annotations

from serving.batch import envelope
from serving.batch.envelope import FAULTS_MAX, Cutter, Request
from serving.batch.settings import BatchSettings
from serving.batch.values import Fault

BLANKS_MAX = 1000
"""Beside one blank line for each request."""


class Checking:
    """Takes a file piece by piece; gives its lines, and finds what is wrong."""

    def __init__(self, endpoint: str, given: BatchSettings) -> None:
        self._endpoint = endpoint
        self._given = given
        self._lines_max = 2 * given.lines_of_batch_max + BLANKS_MAX
        self._cutter = Cutter(given.line_bytes_max, self._lines_max)
        self._ids: set[str] = set()
        self._number = 0
        self.lines = 0
        self.model = ""
        self.faults: list[Fault] = []

    @property
    def is_hopeless(self) -> bool:
        """Whether reading on tells nothing more."""
        cutter = self._cutter
        return bool(cutter.long_line) or cutter.is_endless or len(self.faults) >= FAULTS_MAX

    def feed(self, piece: bytes) -> list[Request]:
        """The requests of the lines that ended in this piece."""
        return self._read(self._cutter.feed(piece))

    def end(self) -> list[Request]:
        """Those of the last line, and what can only be said of the whole."""
        found = self._read(self._cutter.end())
        if self._cutter.long_line:
            message = f"a line exceeds {self._given.line_bytes_max} bytes"
            self.faults.append(Fault("line_too_long", message, self._cutter.long_line))
        elif self._cutter.is_endless:
            message = f"the file has more than {self._lines_max} lines, blank ones included"
            self.faults.append(Fault("too_many_lines", message, self._lines_max + 1))
        elif not self.lines and not self.faults:
            self.faults.append(Fault("empty_file", "the file holds no request"))
        return found

    def _read(self, lines: list[bytes]) -> list[Request]:
        found = []
        for data in lines:
            self._number += 1
            if not data.strip() or self.is_hopeless:
                continue
            request = envelope.read(data, self._number, self._endpoint)
            fault = request if isinstance(request, Fault) else self._fault(request)
            if fault is not None:
                self.faults.append(fault)
            elif isinstance(request, Request):
                self.lines += 1
                found.append(request)
        return found

    def _fault(self, request: Request) -> Fault | None:
        number = request.number
        if self.lines >= self._given.lines_of_batch_max:
            message = f"a batch has at most {self._given.lines_of_batch_max} requests"
            return Fault("too_many_requests", message, number)
        if request.custom_id in self._ids:
            message = "this 'custom_id' stands in an earlier line too"
            return Fault("duplicate_custom_id", message, number, "custom_id")
        self._ids.add(request.custom_id)
        self.model = self.model or request.model
        if request.model != self.model:
            message = "all requests of a batch must name the same 'model'"
            return Fault("mismatched_model", message, number, "body.model")
        return None
