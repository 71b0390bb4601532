"""An error whose reader is a person at a terminal: what is wrong, and what to do about it."""

from __future__ import annotations

from ballast.messages import Language, tell
from models.worded import of as worded

__all__ = ["ProblemError", "worded"]


class ProblemError(Exception):
    """Ends a command with a message instead of a traceback."""

    def __init__(self, what: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(str(what))
        self.what = str(what)
        self.remedy = str(remedy)
        self.exit_code = exit_code
        self.said = what
        """What is wrong, as a message where it is one; to stand in another."""
        self.todo = remedy
        """What to do, likewise."""
        self._said = what, remedy

    def told(self, language: Language) -> tuple[str, str]:
        """What is wrong and what to do, in that language as far as they are in the catalogue."""
        what, remedy = self._said
        return tell(what, language), tell(remedy, language)
