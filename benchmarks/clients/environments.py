"""Makes a client's environment from its lock, once, and keeps it under the cache folder.

Python's with uv, Node's with npm, both by their usual settings for mirrors; nothing of them comes
near the project's own environment or lock.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/gateway/clients"
LOCKS = FOLDER / "environments"
MAKE_S_MAX = 900.0
"""The largest (CrewAI, 835 MB) took 7 s from a warm cache of packages, 2 minutes without."""
NPM_FLAGS = ("--ignore-scripts", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved")


class EnvironmentMissing(Exception):  # noqa: N818 - a condition, as ServerMissing
    """The environment cannot be made; says what failed and which setting mends it."""


class Client(NamedTuple):
    """One client and how to try it."""

    name: str
    is_node: bool

    @property
    def lock(self) -> Path:
        """What its environment is pinned to."""
        return LOCKS / (f"{self.name}/package-lock.json" if self.is_node else f"{self.name}.txt")

    @property
    def program(self) -> Path:
        """What runs in it."""
        return FOLDER / f"{self.name}_program.{'mjs' if self.is_node else 'py'}"

    @property
    def wanted(self) -> tuple[str, ...]:
        """The packages it is made for, in the order of its pages."""
        if self.is_node:
            return tuple(self.unpacked) or tuple(self._package["dependencies"])
        return tuple((LOCKS / f"{self.name}.in").read_text("utf-8").split())

    @property
    def unpacked(self) -> dict[str, dict[str, str]]:
        """Packages taken out of their archive without what they depend on: version, integrity.

        For one whose parts need few of its dependencies; those stand under `dependencies`.
        """
        found: dict[str, dict[str, str]] = self._package.get("unpacked", {}) if self.is_node else {}
        return found

    @property
    def _package(self) -> dict[str, Any]:
        text = (LOCKS / self.name / "package.json").read_text("utf-8")
        made: dict[str, Any] = json.loads(text)
        return made

    @property
    def versions(self) -> dict[str, str]:
        """Version of each wanted package, from the lock."""
        if self.unpacked:
            return {name: one["version"] for name, one in self.unpacked.items()}
        text = self.lock.read_text("utf-8")
        found = {}
        for name in self.wanted:
            plain = name.partition("[")[0]
            pattern = rf'"node_modules/{plain}": {{\s*"version": "([^"]+)"'
            matched = re.search(pattern if self.is_node else rf"(?m)^{plain}==(\S+)", text)
            if matched is None:
                raise EnvironmentMissing(f"{self.lock.name} does not pin {plain}: lock it anew")
            found[plain] = matched[1]
        return found


def clients() -> dict[str, Client]:
    """All that have a lock, by name."""
    python = {path.stem: Client(path.stem, False) for path in LOCKS.glob("*.in")}
    node = {p.parent.name: Client(p.parent.name, True) for p in LOCKS.glob("*/package.json")}
    return dict(sorted((python | node).items()))


def make(client: Client, cache: Path | None = None) -> tuple[str, ...]:
    """The command that runs the client's program, its environment made where it is not there.

    Raises EnvironmentMissing.
    """
    folder = cache or cache_folder()
    pinned = client.lock.read_bytes() + json.dumps(client.unpacked).encode()
    digest = hashlib.sha256(pinned + sys.version.encode()).hexdigest()[:12]
    made = folder / f"{client.name}-{digest}"
    with _held(folder, client.name):
        if not (made / "made").exists():
            for old in folder.glob(f"{client.name}-*"):
                shutil.rmtree(old)
            made.mkdir(parents=True)
            (_make_node if client.is_node else _make_python)(client, made)
            (made / "made").touch()
        if client.is_node:  # Node looks for packages from where a program lies
            for path in (client.program, FOLDER / "telling.mjs"):
                shutil.copy(path, made / path.name)
            return _tool("node"), str(made / client.program.name)
    return str(made / "bin/python"), str(client.program)


def cache_folder() -> Path:
    """Where environments are kept between runs; may be removed at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ballast/clients"


def lock(client: Client, *, is_upgrade: bool) -> None:
    """Pin what the client wants anew. Raises EnvironmentMissing."""
    if client.is_node:
        _run(client, LOCKS / client.name, _tool("npm"), "update" if is_upgrade else "install",
             "--package-lock-only", *_npm_flags(client))  # fmt: skip
        return
    flags = ["--python-version", "3.11", "--no-emit-index-url", "--no-annotate", "--no-header"]
    flags += ["--upgrade"] if is_upgrade else []
    _run(client, LOCKS, _uv(), "pip", "compile", "--quiet", *flags, f"{client.name}.in",
         "--output-file", client.lock.name)  # fmt: skip


def _make_python(client: Client, made: Path) -> None:
    _run(client, made, _uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(made))
    _run(client, made, _uv(), "pip", "install", "--quiet", "--no-deps", "--python",
         str(made / "bin/python"), "--requirements", str(client.lock))  # fmt: skip


def _make_node(client: Client, made: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCKS / client.name / name, made / name)
    _run(client, made, _tool("npm"), "ci", *_npm_flags(client))
    for name, one in client.unpacked.items():
        _unpack(client, made, name, one)


def _npm_flags(client: Client) -> tuple[str, ...]:
    """What a large package pins contradicts the peers of what else it pins (Flowise's does)."""
    return (*NPM_FLAGS, "--legacy-peer-deps") if client.unpacked else NPM_FLAGS


def _unpack(client: Client, made: Path, name: str, one: Mapping[str, str]) -> None:
    """Put a package among the installed ones, byte for byte as its archive has it."""
    _run(client, made, _tool("npm"), "pack", "--silent", f"{name}@{one['version']}")
    (archive,) = made.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if one["integrity"] != f"sha512-{found}":
        raise EnvironmentMissing(f"{client.name}: {name} is not what package.json pins: {found}")
    with tarfile.open(archive) as packed:
        packed.extractall(made / "unpacked", filter="data")
    (made / "unpacked/package").rename(made / "node_modules" / name)
    archive.unlink()


def _run(client: Client, folder: Path, *command: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env=_environ(), capture_output=True, text=True,
            timeout=MAKE_S_MAX, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EnvironmentMissing(
            f"{client.name}: {command[0]} was not done after {MAKE_S_MAX:.0f} s: the package"
            " registry is slow or out of reach"
        ) from None
    if done.returncode:
        setting = "npm_config_registry" if client.is_node else "UV_DEFAULT_INDEX or PIP_INDEX_URL"
        raise EnvironmentMissing(
            f"{client.name}: its packages could not be installed. If the registry is out of reach,"
            f" name a mirror by {setting}. {Path(command[0]).name} said:\n{done.stderr[-2000:]}"
        )


def _environ() -> Mapping[str, str]:
    """Ours; pip's mirror and certificates handed on to uv, as requirements/install.sh does."""
    made = dict(os.environ)
    for ours, pips in (("UV_DEFAULT_INDEX", "PIP_INDEX_URL"), ("SSL_CERT_FILE", "PIP_CERT")):
        if pips in made:
            made.setdefault(ours, made[pips])
    return made


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else _tool("uv")


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise EnvironmentMissing(f"{name} is not installed here")
    return found


@contextmanager
def _held(folder: Path, name: str) -> Iterator[None]:
    """One process makes an environment at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
