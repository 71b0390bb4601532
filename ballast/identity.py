"""What makes this deployment itself: id, secret, pepper, the owner's and the demo key, made once.

All lie in the state folder, mode 0600. Nothing here is ever printed but the demo key, by `up`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import yaml

from ballast.messages import Said
from ballast.problem import ProblemError
from serving import deployment
from serving.audit import sign
from serving.audit.auditor import KEY_FILE
from serving.auth import ADMIN_PREFIX, digest, new_key
from serving.records import Exposure, LatencyClass, Overflow

DEMO = "demo"
OWNER = "owner"
"""The administrator of the first hour; its key lies beside the others and is never printed."""
ADMIN_KEY = "admin-key"
ADMIN_TOKEN = "admin-token"  # noqa: S105 - a file's name
"""Of whoever logged in here with `ballast login`."""
SECRET_BYTES = 32


class Identity:
    """Paths of a deployment's secrets, its id, and its keys: the demo's and the owner's."""

    def __init__(self, state: Path, deployment_id: str, keys: tuple[str, str]) -> None:
        self.state = state
        self.deployment_id = deployment_id
        self.demo_key, self.admin_key = keys
        self.secret_file = state / "secret"
        self.pepper_file = state / "pepper"
        self.keys_file = state / "keys.yaml"


def ensure(state: Path) -> Identity:
    """The identity kept in `state`, made at the first call.

    Raises ProblemError; SettingsError for a damaged deployment id.
    """
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        _once(state / "secret", secrets.token_hex(SECRET_BYTES))
        pepper = _once(state / "pepper", secrets.token_hex(SECRET_BYTES))
        key = _once(state / "demo-key", new_key(secrets.token_bytes(SECRET_BYTES)))
        admin = _once(state / ADMIN_KEY, new_key(secrets.token_bytes(SECRET_BYTES), ADMIN_PREFIX))
        _once(state / "keys.yaml", _key_list(pepper, key))
        _once(state / "review-key", secrets.token_hex(SECRET_BYTES))
        if not (state / KEY_FILE).exists():
            write_private(state / KEY_FILE, sign.new_key())
    except OSError as error:
        raise ProblemError(
            Said("up.no_state", state=state, reason=error.strerror), Said("up.writable")
        ) from None
    return Identity(state, deployment.ensure(state), (key, admin))


def is_made(state: Path) -> bool:
    """Whether a deployment was up here once."""
    return (state / "demo-key").exists()


def demo_key(state: Path) -> str:
    """The demo key of a deployment that was up once. Raises ProblemError."""
    try:
        return (state / "demo-key").read_text("ascii").strip()
    except OSError:
        raise ProblemError(Said("up.no_demo_key", state=state), Said("up.run_first")) from None


def _key_list(pepper: str, key: str) -> str:
    """`keys.yaml` with the demo key: patient, may overflow, sees every decision."""
    row = {
        "id": DEMO,
        "hmac": digest(pepper.encode(), key.encode()).hex(),
        "tenant": DEMO,
        "overflow": Overflow.ALLOWED.value,
        "latency_class": LatencyClass.PATIENT.value,
        "exposure": Exposure.FULL.value,
    }
    return yaml.safe_dump([row], sort_keys=False)


def _once(path: Path, text: str) -> str:
    """The file's text, or `text` after writing it whole, mode 0600."""
    if path.exists():
        return path.read_text("ascii").strip()
    write_private(path, text)
    return text


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    scratch = path.with_name(f".{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    scratch.replace(path)
