"""Which files of a state folder no export carries, and why. Pure but for links."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECRETS = frozenset({
    "secret", "pepper", "demo-key", "admin-key", "admin-token", "audit-key.pem", "review-key",
    "ray_token",
})  # fmt: skip
"""Files that open something, wherever they lie below the state folder; whoever moves carries them
by hand."""
TICKETS = "tickets/"
"""Each fetches a key that was asked for."""
REPLAYS = "poc/"
"""Locks and keys of replays under way."""
_OPENS = ("secret_file", "key_file", "token_file", "password_file", "pepper_file", "kubeconfig")
"""Ends of the settings that name such files, wherever they lie."""
PASSING = ("-wal", "-shm", "-journal", ".lock", "lease", ".new")
"""Ends of names that mean something to a running process only."""


def named_secrets(tree: Any, name: str = "") -> set[Path]:
    """Files of secrets that settings name."""
    if isinstance(tree, Mapping):
        return {path for key, value in tree.items() for path in named_secrets(value, str(key))}
    if isinstance(tree, list | tuple):
        return {path for value in tree for path in named_secrets(value, name)}
    is_one = isinstance(tree, Path) and name.endswith(_OPENS)
    return {tree.expanduser().resolve()} if is_one else set()


def reason(name: str) -> str:
    """Why a file of the state folder is not copied; empty where it is, as the journal's segments
    are, whose last records may not be in the ledger yet."""
    if name.rpartition("/")[2] in SECRETS or name.startswith(TICKETS):
        return "secret"
    if name.endswith(PASSING) or name.startswith(REPLAYS):
        return "passing"
    if name.startswith(("logs/", "ray.log")):
        return "logs"
    return "in_tables" if name.endswith(".sqlite") else ""
