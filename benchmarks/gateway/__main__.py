"""`python -m benchmarks.gateway COMMAND`: what the gateway costs, measured.

  run       CPU per request and per coalesced chunk, added latency, beside peers
  slow      events 20 ms apart, and the check of 1,000 slow streams
  instructions  what a request costs in instructions, which no noise changes
  load      load on any endpoint, alone
  upstream  the instant upstream, alone
  install   peers into environments of their own, under the user's cache
  fill      put the figures of `run --out` and `slow --out` into docs/benchmarks.md

`COMMAND --help` tells the flags. Everything stays on loopback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.gateway import instructions, load, peers, report, run, slow, upstream
from benchmarks.gateway.contenders import ROOT


def fill(argv: Sequence[str]) -> int:
    """Put reports into the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway fill", description=fill.__doc__)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--run", type=Path, metavar="FILE.json", help="of `run --out`")
    parser.add_argument("--slow", type=Path, metavar="FILE.json", help="of `slow --out`")
    parser.add_argument("--instructions", type=Path, metavar="FILE.json", help="likewise")
    given = parser.parse_args(argv)
    page = given.page.read_text("utf-8")
    if given.run:
        found = msgspec.json.decode(given.run.read_bytes(), type=report.Report)
        page = report.filled(page, "gateway", report.markdown(found))
    if given.slow:
        other = msgspec.json.decode(given.slow.read_bytes(), type=slow.SlowReport)
        page = report.filled(page, "slow", slow.markdown(other))
    if given.instructions:
        counted = msgspec.json.decode(given.instructions.read_bytes(), type=instructions.Report)
        page = report.filled(page, "instructions", instructions.markdown(counted))
    given.page.write_text(page, "utf-8")
    return 0


def install(argv: Sequence[str]) -> int:
    """Make the peers' environments; what cannot be had is named, and ends with 1."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway install", description=install.__doc__)
    known = ", ".join(peers.PEERS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default all: {known}")
    names = parser.parse_args(argv).names or list(peers.PEERS)
    if unknown := [name for name in names if name not in peers.PEERS]:
        parser.error(f"{unknown[0]!r} is none of {known}")
    missing = peers.install(names)
    for name in names:
        print(f"{name}: {missing.get(name) or peers.installed(name)}")
    return int(bool(missing))


COMMANDS = {
    "install": install,
    "run": run.main,
    "slow": slow.main,
    "instructions": instructions.main,
    "load": load.main,
    "upstream": upstream.main,
    "fill": fill,
}


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    is_asked = bool(argv) and argv[0] in ("-h", "--help")
    print(__doc__, file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
