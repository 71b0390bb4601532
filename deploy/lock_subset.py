"""Part of a lock: some packages with all that they ask for, hashes and all.

`python deploy/lock_subset.py requirements/cpu.lock ray kubernetes` prints a lock that pip and uv
take. An image gets what it needs out of the one lock that was tested. Standard library only: it
runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

ENTRY = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==")
OWN = "ballast"


def entries(text: str) -> dict[str, str]:
    """The lines of each package, by its name."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if match := ENTRY.match(line):
            name = folded(match[1])
            found[name] = ""
        if name and not line.startswith("#"):
            found[name] += line
    return found


def folded(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def askers(entry: str) -> set[str]:
    """Who asks for a package, by the comment that uv leaves."""
    comment = entry.partition("# via")[2]
    return {folded(word) for word in re.findall(r"[A-Za-z0-9][\w.-]*", comment)}


def closure(rows: Mapping[str, str], roots: Iterable[str]) -> list[str]:
    """The roots and all that they ask for, sorted. Raises KeyError for a root that is not there."""
    wanted = {folded(root) for root in roots}
    if missing := sorted(wanted - rows.keys()):
        raise KeyError(f"not in the lock: {', '.join(missing)}")
    asked_by = {name: askers(entry) for name, entry in rows.items()}
    while more := {n for n, by in asked_by.items() if by & wanted} - wanted:
        wanted |= more
    return sorted(wanted)


def own(project: Path) -> list[str]:
    """What the project itself asks for, without extras."""
    data = tomllib.loads(project.read_text("utf-8"))
    found = [re.match(r"[A-Za-z0-9._-]+", text) for text in data["project"]["dependencies"]]
    return [match[0] for match in found if match]


def main(arguments: list[str]) -> None:
    """Print the part."""
    lock, *roots = arguments
    names = [n for root in roots for n in (own(Path("pyproject.toml")) if root == OWN else [root])]
    rows = entries(Path(lock).read_text("utf-8"))
    sys.stdout.write("".join(rows[name] for name in closure(rows, names)))


if __name__ == "__main__":
    main(sys.argv[1:])
