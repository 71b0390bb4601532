"""The lines of input and output files. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from serving.batch.values import Batch, Fault

CUSTOM_ID_CHARS_MAX = 512
FAULTS_MAX = 50
"""More of them tell nobody anything."""
_encode = msgspec.json.Encoder().encode


class _Body(msgspec.Struct):
    model: str | None = None


class _Input(msgspec.Struct):
    custom_id: str | None = None
    method: str | None = None
    url: str | None = None
    body: msgspec.Raw = msgspec.Raw()


_input = msgspec.json.Decoder(_Input).decode
_body = msgspec.json.Decoder(_Body).decode


class Request(msgspec.Struct, frozen=True):
    """What a line of an input file asks for."""

    number: int
    custom_id: str
    model: str
    body: bytes


class Cutter:
    """Cuts a file that comes in pieces into lines."""

    def __init__(self, bytes_max: int, lines_max: int) -> None:
        self._rest: list[bytes] = []
        self._size = 0
        self._bytes_max = bytes_max
        self._lines = 0
        self._lines_max = lines_max
        self.is_endless = False
        """It has more lines than any file of use, blank ones included."""
        self.long_line = 0
        """Number of the first line that exceeds the limit: the file is of no use. 0 is none."""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ended in this piece; none any more once there are too many."""
        # Counted first: a piece of line ends alone would become a million lines.
        if self.is_endless or self._lines + data.count(b"\n") > self._lines_max:
            self.is_endless = True
            return []
        first, *more = data.split(b"\n")
        self._keep(first)
        whole = []
        for part in more:
            whole.append(b"".join(self._rest))
            self._lines += 1
            self._rest, self._size = [], 0
            self._keep(part)
        return whole

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._bytes_max and not self.long_line:
            self.long_line = self._lines + 1
        self._rest.append(part)

    def end(self) -> list[bytes]:
        """What stands behind the last line's end."""
        last = b"" if self.is_endless else b"".join(self._rest)
        return [last] if last else []


def read(data: bytes, number: int, endpoint: str) -> Request | Fault:
    """One line of an input file, or what is wrong with it, without a word of its content."""
    try:
        if not data.isascii():
            data.decode("utf-8")
        given = _input(data)
        model = _body(given.body).model if given.body else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Fault("invalid_json_line", "the line is not the JSON object expected", number)
    if not given.custom_id:
        message = "'custom_id' is required and must be a string"
        return Fault("missing_required_parameter", message, number, "custom_id")
    if len(given.custom_id) > CUSTOM_ID_CHARS_MAX:
        message = f"'custom_id' exceeds {CUSTOM_ID_CHARS_MAX} characters"
        return Fault("invalid_value", message, number, "custom_id")
    if given.method != "POST":
        return Fault("invalid_method", "'method' must be \"POST\"", number, "method")
    if given.url != endpoint:
        message = f"'url' must be the batch's endpoint, {endpoint}"
        return Fault("invalid_url", message, number, "url")
    if not model:
        message = "'body' is required and must name a 'model'"
        return Fault("missing_required_parameter", message, number, "body")
    return Request(number, given.custom_id, model, bytes(given.body))


def answered(custom_id: str, request_id: str, status: int, body: bytes) -> bytes:
    """A line of an output or error file: what the call was answered."""
    response = {"status_code": status, "request_id": request_id, "body": _one_line(body)}
    return _line(custom_id, request_id, response, None)


def unanswered(custom_id: str, request_id: str, code: str, message: str) -> bytes:
    """A line of an error file: the call was never run to its end."""
    return _line(custom_id, request_id, None, {"code": code, "message": message})


def _line(custom_id: str, request_id: str, response: Any, error: Any) -> bytes:
    return _encode({
        "id": f"batch_req_{request_id}", "custom_id": custom_id, "response": response,
        "error": error,
    })  # fmt: skip


def _one_line(body: bytes) -> msgspec.Raw:
    """A JSON body as it may stand in a line: a target may have sent it with line ends."""
    if b"\n" not in body and b"\r" not in body:
        return msgspec.Raw(body)
    return msgspec.Raw(msgspec.json.format(body, indent=-1))


def request_id(batch: Batch, number: int, run: int) -> str:
    """The same for the same run of the same line, whoever runs it: a UUID of version 7 with the
    batch's time, and of its other bits a hash."""
    mark = hashlib.blake2b(f"{batch.id}/{number}/{run}".encode(), digest_size=10).digest()
    bits = int.from_bytes(mark)
    value = (batch.created_ms & ((1 << 48) - 1)) << 80 | bits
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"
