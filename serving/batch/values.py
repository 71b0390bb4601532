"""Files, batches and their lines, as they are stored. Values only."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from serving.records import Label


class Status(Label):
    """Of a batch, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


OPEN = frozenset({Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING})


class Purpose(Label):
    """Of a file."""

    BATCH = "batch"
    OUTPUT = "batch_output"


class State(IntEnum):
    """Of a line."""

    WAITING = 0
    RUNNING = 1
    """Given out once more; whoever finds it so after a crash gives it out again."""
    DONE = 2
    FAILED = 3
    """Its answer is an error."""


class File(msgspec.Struct, frozen=True):
    """One file. Its bytes stand beside it, in pieces."""

    id: str
    tenant: str
    """Of a forwarder's customer `forwarder/customer`."""
    key_id: str
    purpose: Purpose
    name: str
    size: int
    created_ms: int
    expires_ms: int
    end_user: str = ""
    """HMAC of the end user it was made for; empty when nobody said."""
    is_whole: bool = False
    """False while it comes in."""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with an input file."""

    code: str
    message: str
    line: int | None = None
    """From 1 on."""
    param: str | None = None


class Counts(msgspec.Struct, frozen=True):
    """Lines of a batch by state."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.running + self.done + self.failed


class Batch(msgspec.Struct, frozen=True):
    """One batch."""

    id: str
    tenant: str
    key_id: str
    """Under whose policy its lines run, as it stands then."""
    endpoint: str
    input_file: str
    window: str
    created_ms: int
    expires_ms: int
    """End of the completion window."""
    status: Status = Status.VALIDATING
    model: str = ""
    """As its lines name it; all name the same."""
    end_user: str = ""
    headers: dict[str, str] = {}
    """What its caller said when it was made: residency, project, feature, customer."""
    metadata: dict[str, str] | None = None
    output_days: int = 0
    """How long its files are kept; 0 as the settings say."""
    output_file: str = ""
    error_file: str = ""
    errors: tuple[Fault, ...] = ()
    ends_as: Status = Status.COMPLETED
    """What it will be once its files are written."""
    counts: Counts | None = None
    """Once it has ended and its lines are gone."""
    times: dict[str, int] = {}
    """When it came to be what it was, UTC ms by status."""
    input_size: int = 0
    """Of its input file, bytes: its lines stand in the store once more until it has ended."""
    mark: str = ""
    """Of what was asked when it was made; empty where its caller sent no `Idempotency-Key`."""

    @property
    def is_open(self) -> bool:
        """Whether anything is left to do."""
        return self.status in OPEN


class Line(msgspec.Struct, frozen=True):
    """One line that is to be run."""

    number: int
    """From 1 on, as in the input file."""
    custom_id: str
    run: int
    """How often it was given out, this time included."""
    data: bytes
    """The call's body."""
    is_home_only: bool = False
    """A third party refused its content in an earlier run."""


class Ended(msgspec.Struct, frozen=True):
    """How a line ended."""

    number: int
    state: State
    data: bytes
    """Its line of the output or error file, without the line's end."""


class Standing(msgspec.Struct, frozen=True):
    """A batch as others may have asked for meanwhile."""

    batch: Batch
    cancel_ms: int = 0
    """When its end was asked for; 0 is never."""
