"""The guard's settings, as `guard:` in the settings file. Every term list, service address and mask
is the operator's: a tenant sets none of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from serving.guard import labels
from serving.guard.values import PERSONAL_ACTIONS, Action, Kind, Policy
from serving.records import Sensitivity

Level = Literal["public", "internal", "personal", "secret"]
Does = Literal["off", "flag", "mask", "block"]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TenantGuard(_Group):
    """What the guard does for one tenant. Nothing set is `relay`: nothing is read."""

    sensitivity: Level = "internal"
    """The least an input is; findings only raise it."""
    lists: tuple[str, ...] = ()
    """Term lists, by file name without `.txt`; they hold for inputs and answers."""
    personal: Does = "off"
    """For all kinds of personal data in inputs; masked before anything leaves the premises."""
    kinds: dict[Kind, Does] = {}
    """Kinds for which something else holds, by the name that placeholders show."""
    opaque: Level = "personal"
    """What pictures, sound and prompts in tokens are at least: the guard cannot read them."""
    blocks_opaque: bool = False
    """Refuse what cannot be read."""
    mask: str = Field("*", pattern=r"^[^\w\s]$")
    """Stands for each character of a masked term."""
    ai_text: str = Field("", max_length=200)
    """Appended once to each answer in text; `default` for labels.EXPLICIT."""
    ai_metadata: bool = False
    """Answers carry the AIGC member that names the producer."""
    moderation: Literal["off", "open", "closed"] = "off"
    """Ask the external service; when it does not answer, `open` lets pass, `closed` refuses."""

    @field_validator("ai_text")
    @classmethod
    def _default_text(cls, text: str) -> str:
        return labels.EXPLICIT if text == "default" else text

    def policy(self, producer: str) -> Policy:
        """As the guard reads it."""
        return Policy(
            label=Sensitivity[self.sensitivity.upper()],
            lists=frozenset(self.lists),
            personal=_actions(self.personal, self.kinds),
            opaque=Sensitivity[self.opaque.upper()],
            opaque_action=Action.BLOCK if self.blocks_opaque else Action.FLAG,
            mask=self.mask,
            ai_text=self.ai_text,
            ai_producer=producer if self.ai_metadata else "",
            moderation=self.moderation,
        )


def _actions(every: Does, kinds: Mapping[Kind, Does]) -> dict[Kind, Action]:
    out: dict[Kind, Action] = {}
    for kind in Kind:
        does = kinds.get(kind, every)
        if does == "off":
            continue
        action = Action[does.upper()]
        if kind not in kinds and action is Action.MASK:
            action = PERSONAL_ACTIONS[kind]
        out[kind] = action
    return out


class ModerationSettings(_Group):
    """An external service that judges texts."""

    url: str = Field(pattern=r"^https?://([^@/?#:\s]+|\[[0-9a-f:]+\])(:\d{1,5})?(/[^?#\s]*)?$")
    """Only the operator's; redirects are not followed."""
    token_file: Path | None = None
    timeout_s: float = Field(2.0, gt=0, le=30)
    """For one question; it stands before the first token."""
    concurrent_max: int = Field(64, ge=1)


class GuardSettings(_Group):
    """The root."""

    terms_dir: Path | None = None
    """A folder of `*.txt`, one list each; changed files are taken up while running."""
    check_s: float = Field(1.0, gt=0)
    """How often the folder is looked at."""
    remembers: bool = True
    """Keep what texts were found to hold, under keyed digests and never the texts, so that the past
    of a talk is not read again with each turn."""
    producer: str = Field("", max_length=128)
    """Name or registered code of the service, for the metadata of answers."""
    default: TenantGuard = TenantGuard()
    tenants: dict[str, TenantGuard] = {}
    """By tenant; one that is not named has the default."""
    moderation: ModerationSettings | None = None
