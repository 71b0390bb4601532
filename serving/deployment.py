"""What the hop guard knows this deployment by: an id of its own, the same in all its processes.

Named in the settings, or made at the first start and kept in the state folder (0105), where every
process of the deployment finds it. Random, since it travels to the providers: it tells nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from pydantic import ValidationError

from models.worded import Worded
from serving.settings import Settings, SettingsError

FILE = "deployment-id"


def identify(settings: Settings) -> str:
    """The id in force; made and kept at the first call. Raises SettingsError."""
    return settings.deployment_id or ensure(settings.state_dir)


def ensure(state: Path) -> str:
    """The id kept in `state`, made at the first call. Raises SettingsError."""
    path = state / FILE
    try:
        if not path.exists():
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path)
        text = path.read_bytes().decode("ascii", "replace").strip()
        Settings(deployment_id=text)
    except OSError as error:
        raise SettingsError(
            Worded(
                "settings.deployment_keep",
                "deployment_id: cannot keep {path}: {strerror}",
                path=path,
                strerror=error.strerror,
            )
        ) from None
    except ValidationError:
        raise SettingsError(
            Worded(
                "settings.deployment_none",
                "deployment_id: {path} holds none; delete it, or name one",
                path=path,
            )
        ) from None
    return text


def _make(path: Path) -> None:
    """Write a new id whole, mode 0600. Of several processes that start at once one wins."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"ballast-{secrets.token_hex(8)}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
    finally:
        scratch.unlink()
