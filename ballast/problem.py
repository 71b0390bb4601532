"""An error whose reader is a person at a terminal: what is wrong, and what to do about it."""

from __future__ import annotations


class ProblemError(Exception):
    """Ends a command with a message instead of a traceback."""

    def __init__(self, what: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.exit_code = exit_code
