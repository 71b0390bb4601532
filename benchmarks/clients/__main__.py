"""`python -m benchmarks.clients make|lock|pages`: environments of real clients, and their pages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.clients import environments, pages


def main(argv: list[str] | None = None) -> int:
    """1 where an environment cannot be made, or `pages --check` finds one that differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    acts = parser.add_subparsers(dest="act", required=True)
    for name in ("make", "lock"):
        act = acts.add_parser(name)
        act.add_argument("names", nargs="*", metavar="NAME", help="default: all")
        act.add_argument("--upgrade", action="store_true", help="of lock: newer versions")
    act = acts.add_parser("pages")
    act.add_argument("--check", action="store_true", help="write nothing")
    act.add_argument("--results", type=Path, help="folder that CLIENT_RESULTS named")
    given = parser.parse_args(argv)
    if given.act == "pages":
        return _pages(given)
    known = environments.clients()
    if unknown := set(given.names) - set(known):
        parser.error(f"no client {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        for name in given.names or known:
            if given.act == "lock":
                environments.lock(known[name], is_upgrade=given.upgrade)
            else:
                print(*environments.make(known[name]))
    except environments.EnvironmentMissing as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    return 0


def _pages(given: argparse.Namespace) -> int:
    if given.results:
        pages.take_results(given.results)
    stale = []
    for path, text in pages.rendered().items():
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        stale.append(path.name)
        if not given.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if given.check and stale:
        sys.stderr.write(f"out of step: {', '.join(stale)}: `python -m benchmarks.clients pages`\n")
    return int(given.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
