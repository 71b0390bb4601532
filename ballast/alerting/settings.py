"""The bridge's own small file: who is told, how, in which language."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec
import yaml
from pydantic import Field, ValidationError, model_validator

from ballast.alerting.cards import Kind, Language
from ballast.problem import ProblemError
from serving.settings import EXIT_CODE, Group
from serving.settings_tree import reason

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Robot(Group):
    """One group robot."""

    name: str = Field(min_length=1, max_length=60)
    kind: Kind
    url_file: Path
    """Holds its address: it is a secret."""
    secret_file: Path | None = None
    """Its signing secret, where it has one (Feishu, DingTalk)."""
    language: Language = "zh"
    severities: tuple[str, ...] = ("page", "ticket")
    """It is told of no others; of what is over when it was told of the start."""


class Alerting(Group):
    """All of it."""

    robots: tuple[Robot, ...] = Field(min_length=1, max_length=32)
    host: str = "127.0.0.1"
    port: int = Field(9095, ge=0, le=65535)
    token_file: Path | None = None
    """Alertmanager must show it as a bearer token; needed off loopback."""
    proxy: str | None = Field(None, pattern=r"^https?://[^@/?#\s]+$")
    """All robots are reached through it; None: directly."""
    repeat_s: float = Field(3600.0, ge=0)
    """The same news of a group is not told again within this."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.token_file is None and self.host not in LOOPBACK:
            raise ValueError("token_file: needed when `host` is not loopback")
        names = [robot.name for robot in self.robots]
        if len(set(names)) < len(names):
            raise ValueError("robots: two have the same name")
        return self


class Secrets(msgspec.Struct, frozen=True):
    """What the files hold."""

    url: str
    secret: str


def load(path: Path) -> Alerting:
    """Raises ProblemError naming the field, or the file that cannot be read."""
    try:
        return Alerting.model_validate(yaml.safe_load(path.read_bytes()))
    except (OSError, yaml.YAMLError) as error:
        raise _problem(f"{path}: {reason(error)}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _problem(f"{path}: {where}: {first['msg']}") from None


def secrets(robot: Robot) -> Secrets:
    """Raises ProblemError for a file that cannot be read, or an address that is none."""
    url = line(robot.url_file, f"robots.{robot.name}.url_file")
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise _problem(f"robots.{robot.name}.url_file: holds no https address")
    secret = ""
    if robot.secret_file is not None:
        secret = line(robot.secret_file, f"robots.{robot.name}.secret_file")
    return Secrets(url, secret)


def line(path: Path, field: str) -> str:
    """What a secret file holds. Raises ProblemError."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _problem(f"{field}: {path}: {type(error).__name__}") from None


def _problem(message: str) -> ProblemError:
    return ProblemError(message, "see docs/alerts.md for an example", exit_code=EXIT_CODE)
