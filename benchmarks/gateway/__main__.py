"""`python -m benchmarks.gateway COMMAND`: what the gateway costs, measured.

  compare   Ballast beside its peers: CPU, first byte, memory, start-up, and the gates
  instructions  what a request costs in instructions, which no noise changes
  load      load on any endpoint, alone
  upstream  the instant upstream, alone
  install   peers into environments of their own, under the user's cache
  fill      put the figures of `compare --out` into docs/benchmarks.md

`COMMAND --help` tells the flags. Everything stays on loopback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.gateway import compare, instructions, load, peers, report, upstream
from benchmarks.gateway.contenders import ROOT


def fill(argv: Sequence[str]) -> int:
    """Put a report into the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway fill", description=fill.__doc__)
    parser.add_argument("report", type=Path, metavar="FILE.json", help="of `compare --out`")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    given = parser.parse_args(argv)
    found = msgspec.json.decode(given.report.read_bytes(), type=report.Report)
    page = given.page.read_text("utf-8")
    given.page.write_text(report.filled(page, "peers", report.markdown(found)), "utf-8")
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
    "compare": compare.main,
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
