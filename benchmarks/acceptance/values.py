"""The state of an acceptance: what was asked, and how far each step has come. Kept in one file that
is replaced whole after each step, so that it may be stopped and begun anew at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from benchmarks.load import results
from benchmarks.load.results import ResultsError
from models.worded import Worded

FILE = "acceptance.json"
FORMAT = 1
Status: TypeAlias = Literal["todo", "done", "failed", "stopped"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What must be alike when a run goes on; other flags may change."""

    url: str
    model: str
    scenario: str
    card: str = ""
    """A profile's name, as `qwen3-32b/fp8@1xh100-80`; empty = nothing to hold it against."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `found` is what later steps and the report need of it."""

    name: str
    status: Status = "todo"
    seconds: float = 0.0
    """Spent on it, over all tries."""
    words: str = ""
    said: Mapping[str, Any] | None = None
    """`words` for a reader of another language."""
    found: dict[str, Any] = {}


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    format: int = FORMAT
    asked: Asked
    began_s: float
    """UTC seconds since 1970 when the first step of the first try began: rent runs from then."""
    steps: tuple[Step, ...]

    @property
    def spent_s(self) -> float:
        """In steps."""
        return sum(step.seconds for step in self.steps)

    def step(self, name: str) -> Step:
        """The one of that name."""
        return next(step for step in self.steps if step.name == name)

    def with_step(self, changed: Step) -> State:
        """A copy in which that step has changed."""
        steps = tuple(changed if step.name == changed.name else step for step in self.steps)
        return msgspec.structs.replace(self, steps=steps)


class Different(Exception):  # noqa: N818 - a state of the folder
    """The folder holds an acceptance of something else."""


def read(folder: Path, asked: Asked) -> State | None:
    """What an earlier try left; None = nothing. Raises ResultsError, Different."""
    path = folder / FILE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        template = "{path}: cannot be read: {why}; name another --out"
        raise ResultsError(Worded("results.unreadable", template, path=path, why=error)) from None
    if state.format != FORMAT:
        template, found = "{folder}: format {was}; this version reads {now}", state.format
        raise ResultsError(Worded("results.format", template, folder=path, was=found, now=FORMAT))
    for name in Asked.__struct_fields__:
        was, now = getattr(state.asked, name), getattr(asked, name)
        if was != now:
            template = "{path} is of another run: {name} was {was} and is {now}; name another --out"
            raise Different(
                Worded("acceptance.other", template, path=path, name=name, was=repr(was),
                       now=repr(now))
            )  # fmt: skip
    return state


def write(folder: Path, state: State) -> None:
    """Replace the file. Raises ResultsError."""
    results.put(
        folder / FILE, msgspec.json.format(msgspec.json.encode(state, enc_hook=str), indent=1)
    )
