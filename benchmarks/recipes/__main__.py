"""`python -m benchmarks.recipes install [NAME ...]`: other load generators, each in an environment
of its own under the user's cache; prints where their commands are. Ends with 1 when one cannot be
had."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import tools
from benchmarks.recipes import PINS


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("act", choices=["install"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PINS)}; all")
    given = parser.parse_args(argv)
    if unknown := [name for name in given.names if name not in PINS]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(PINS)}")
    is_whole = True
    for name in given.names or PINS:
        try:
            print(f"{name}: {tools.made(PINS[name], name)}", flush=True)
        except tools.ToolMissing as missing:
            print(f"{name}: {missing}", flush=True)
            is_whole = False
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
