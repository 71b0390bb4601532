"""`python -m benchmarks.fuzz`: schemathesis on every endpoint of a real gateway; none answers 5xx.

The public listener's requests are made from `v1.yaml`, the admin API's from the schema that it
serves itself: right and wrong ones, by the tool's own lot. schemathesis stands in an environment of
its own (`benchmarks.tools`).
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks import tools
from benchmarks.drills.asking import key_of
from benchmarks.drills.ground import Ground
from benchmarks.drills.papers import PEPPER
from benchmarks.drills.values import MODEL, Engine, Provider, Topology
from benchmarks.gateway.processes import StartFailed
from serving.audit import sign
from serving.audit.auditor import KEY_FILE
from serving.auth import digest
from serving.review.store import KEY_FILE as REVIEW_KEY_FILE

REQUIREMENTS = ("schemathesis==4.32.5",)
PUBLIC = Path(__file__).with_name("v1.yaml")
OWNER = "ba-fuzz"
ALLOWED = 5.0
"""Of the time asked for: how long the tool may take before it is ended."""


class Door(NamedTuple):
    """One listener and the schema of what it takes."""

    name: str
    schema: str
    url: str
    key: str


def topology() -> Topology:
    """One engine that answers every surface, one third party, one administrator."""
    surfaces = ["chat", "completions", "embeddings", "rerank", "score"]
    model = {"name": MODEL, "aliases": ["m-alias"], "profile": "instant", "context_tokens": 32768,
             "offerings": ["alpha/big"], "surfaces": surfaces}  # fmt: skip
    owner = {"id": "owner", "role": "admin", "hmac": digest(PEPPER, OWNER.encode()).hex()}
    return Topology(
        engines=(Engine(output_tokens=8),), providers={"alpha": Provider(output_tokens=8)},
        settings={"models": [model], "administrators": [owner]},
    )  # fmt: skip


def _with_keys(state: Path) -> None:
    """What `ballast up` makes beside a gateway, so that nothing is refused for want of it."""
    state.mkdir()
    (state / KEY_FILE).write_text(sign.new_key())
    (state / REVIEW_KEY_FILE).write_text(secrets.token_hex(32))


def doors(ground: Ground) -> list[Door]:
    """Of a gateway that stands. The admin API comes last: it revokes what it can."""
    url, ops = ground.urls[0], ground.ops[0]
    return [
        Door("public", str(PUBLIC), url, key_of("plain")),
        Door("ops", f"{ops}/openapi.json", ops, OWNER),
    ]


def tried(door: Door, command: Path, seconds: float, seed: int) -> int:
    """The tool's exit code; its words go to ours."""
    asked = [
        str(command), "run", door.schema, "--url", door.url, "--checks", "not_a_server_error",
        "--header", f"Authorization: Bearer {door.key}", "--max-time", str(round(seconds)),
        "--seed", str(seed), "--request-timeout", "20", "--continue-on-failure", "--no-color",
        "--warnings", "off", "--suppress-health-check", "all",
        "--phases", "examples,coverage,fuzzing",
    ]  # fmt: skip
    print(f"== {door.name}: {door.url}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ballast-fuzz-") as folder:  # it keeps a cache
        limit_s = ALLOWED * seconds + 60
        done = subprocess.run(asked, check=False, timeout=limit_s, cwd=folder)
    return done.returncode


def statuses(log: Path) -> Counter[int]:
    """Of the calls that left a row, by the gateway's own log: that the tool got through at all."""
    found: Counter[int] = Counter()
    for line in log.read_bytes().splitlines():
        if line.startswith(b'{"event":"request"'):
            found[msgspec.json.decode(line)["status"]] += 1
    return found


def main(argv: Sequence[str]) -> int:
    """Entry point: 0 no 5xx, 1 some, 3 nothing could be tried."""
    parser = argparse.ArgumentParser(prog="benchmarks.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="on each listener; default 60")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--only", choices=("public", "ops"))
    given = parser.parse_args(argv)
    try:
        command = tools.made(REQUIREMENTS, "st")
    except tools.ToolMissing as missing:
        print(f"error: {missing}", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="ballast-fuzz-") as folder:
        ground = Ground(topology(), Path(folder))
        try:
            _with_keys(Path(folder) / "state0")
            ground.start()
            codes = [
                tried(door, command, given.seconds, given.seed)
                for door in doors(ground)
                if given.only in (None, door.name)
            ]
            found = statuses(Path(folder) / "gateway0.log")
            told = ", ".join(f"{status}: {count}" for status, count in sorted(found.items()))
            print(f"calls with a row, by status: {told}")
        except StartFailed as failed:
            print(f"error: {failed}", file=sys.stderr)
            return 3
        finally:
            ground.stop()
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
