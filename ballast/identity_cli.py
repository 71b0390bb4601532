"""`ballast identity FOLDER`: what a deployment in a cluster needs to be itself, as files.

The chart takes these from Secrets and is never told them; the one line it is told is the owner's
HMAC, which opens nothing.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
import yaml

from ballast.identity import OWNER, ensure, write_private
from ballast.messages import Said, say
from ballast.problem import ProblemError
from serving.auth import digest
from serving.records import Role

RAY_TOKEN = "auth_token"  # noqa: S105 - a file's name
VALUES = "values.yaml"
Folder = Annotated[Path, typer.Argument(help="Made if it is not there; kept if it is.")]


def make(folder: Folder) -> None:
    """Make the secrets of a deployment in a cluster, once, and say how it gets them."""
    own = ensure(folder)
    token = folder / RAY_TOKEN
    try:
        if not token.exists():
            write_private(token, secrets.token_hex(32))
        write_private(folder / VALUES, values(folder, own.admin_key))
    except OSError as error:
        raise ProblemError(
            Said("desk.cannot_write", folder=folder, strerror=error.strerror),
            Said("desk.name_another"),
        ) from None
    typer.echo(say("desk.made_in", folder=folder))
    typer.echo(kubectl(folder))


def values(folder: Path, admin_key: str) -> str:
    """A values file that names the owner."""
    pepper = (folder / "pepper").read_bytes().strip()
    hmac = digest(pepper, admin_key.encode()).hex()
    owner = {"id": OWNER, "role": Role.ADMIN.value, "hmac": hmac}
    head = "# The owner, by the HMAC of its key. Made by `ballast identity`.\n"
    return head + yaml.safe_dump({"settings": {"administrators": [owner]}}, sort_keys=False)


def kubectl(folder: Path) -> str:
    """The commands that put the files into a namespace."""
    entries = ("deployment-id", "secret", "pepper", "audit-key.pem", "review-key", "keys.yaml")
    given = " \\\n".join(f"  --from-file={name}={folder / name}" for name in entries)
    return (
        f"kubectl create secret generic ballast-identity --namespace llm \\\n{given}\n"
        "kubectl create secret generic ballast-ray --namespace llm \\\n"
        f"  --from-file={RAY_TOKEN}={folder / RAY_TOKEN}"
    )
