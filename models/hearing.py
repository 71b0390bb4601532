"""Sound at third parties: in which formats a model speaks; and of one that writes down what is
said, what it takes and what it bills.

A tenth of a second counts as a token, in limits, in budgets and in the books: by that measure
OpenAI's models count the sound they hear, so a price by the hour and one by the token have one unit
(0141).
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

TOKENS_PER_S: Final = 10
SECONDS_MAX: Final = 24 * 3600
"""Of one file, where a row knows no bound but its bytes."""
AudioFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
"""Of OpenAI's `/v1/audio/speech` (openai 3.54.0, `SpeechCreateParams`)."""
Container: TypeAlias = Literal["flac", "mp3", "mp4", "ogg", "wav", "webm"]
_TOKENS_PER_HOUR = 3600 * TOKENS_PER_S


class Hearing(BaseModel):
    """Of a row's model. It then does nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["time", "token"]
    """What its vendor bills. `token`: the model's own prices; its answers must tell the usage."""
    per_hour: Annotated[Decimal, Field(ge=0, decimal_places=6)] | None = None
    """Of sound, in the row's currency; for `time`. None is unknown."""
    seconds_min: int = Field(0, ge=0)
    """Shorter sound is billed as if it were so long."""
    seconds_max: int | None = Field(None, ge=1)
    """The longest it takes; None where only the file's bytes are bounded."""
    bytes_max: int = Field(ge=1024)
    """The largest file it takes."""
    containers: tuple[Container, ...] = ("flac", "mp3", "mp4", "ogg", "wav", "webm")
    has_times: bool = False
    """Answers `verbose_json`, of which subtitles are made."""
    translates: bool = False
    """Has `/audio/translations`."""

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        if self.by == "token" and (self.per_hour is not None or self.seconds_min):
            raise ValueError("hearing: by token: per_hour and seconds_min are for `time`")
        return self

    @property
    def tokens_max(self) -> int:
        """The longest sound it takes, in tokens."""
        return (self.seconds_max or SECONDS_MAX) * TOKENS_PER_S

    @property
    def micro_per_mtok(self) -> int | None:
        """The hour's price for a million tokens, in micro-units: rounded once, to a millionth of a
        unit an hour's 27th part."""
        if self.per_hour is None:
            return None
        exact = self.per_hour * 1_000_000 * 1_000_000 / _TOKENS_PER_HOUR
        return int(exact.to_integral_value(ROUND_HALF_UP))

    def billed(self, tokens: int) -> int:
        """Tokens that sound of so many is billed as: whole seconds, and no fewer than the least."""
        whole = -(-tokens // TOKENS_PER_S) * TOKENS_PER_S
        return max(whole, self.seconds_min * TOKENS_PER_S)
