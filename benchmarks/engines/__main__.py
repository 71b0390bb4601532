"""`python -m benchmarks.engines run|fill`: tokens a second of 8 streams, on this machine, through
Ballast, a bare vLLM server and Ray Serve's own LLM application.

  run   start them, and ask them in turn, pair by pair; engine threads on core 0, all else on core 1
  fill  put the figures of `run --out` into docs/benchmarks.md

All are up at once and asked one at a time: a server that nobody asks takes next to no CPU. Needs
the extra `cpu`, two cores and about 8 GB of memory; 8 to 12 minutes on a quiet machine. Ends with 1
where the gate does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.engines import pinning, report, servers, waves
from benchmarks.engines.report import EngineReport, Measured
from benchmarks.engines.starting import ROOT, NotReady, Server
from benchmarks.gateway.machine import provenance
from benchmarks.gateway.report import filled
from serving.engine.processes import become_subreaper

WARM_TOKENS = 8
PAGE = ROOT / "docs" / "benchmarks.md"


def run(argv: Sequence[str]) -> int:
    """Measure."""
    given = _parser().parse_args(argv)
    pinning.check()
    become_subreaper()
    origin = provenance(["run", *argv], ROOT, _versions(), "benchmarks.engines")
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="engines-")))
        up, absent = _started(given.servers, folder, running)
        found = _pairs(given, up)
    made = EngineReport(
        origin, given.streams, given.tokens, found, absent, {s.name: s.start_s for s in up}
    )
    if given.out:
        given.out.write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    print(report.markdown(made))
    return 0 if report.verdict(made).startswith("holds") else 1


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="benchmarks.engines run", description=__doc__)
    made.add_argument("--streams", type=int, default=8)
    made.add_argument("--tokens", type=int, default=128, help="of each answer")
    made.add_argument("--pairs", type=int, default=5)
    made.add_argument("--out", type=Path, metavar="FILE.json")
    made.add_argument("--servers", nargs="+", choices=list(servers.STARTS), metavar="NAME",
                      default=list(servers.STARTS), help=", ".join(servers.STARTS))  # fmt: skip
    return made


def _versions() -> dict[str, str]:
    vllm, ray = version(servers.CPU_PACKAGE), version("ray")
    return {"vllm": vllm, "ray": ray}


def _started(
    names: Sequence[str], folder: Path, running: contextlib.ExitStack
) -> tuple[list[Server], dict[str, str]]:
    """Those that come up, pinned and warm, and why the others do not."""
    up, absent = [], {}
    for name in names:
        place = folder / name.replace(" ", "-")
        place.mkdir()
        _say(f"{name}: starting")
        try:
            server = servers.STARTS[name](place)
        except NotReady as error:
            absent[name] = " ".join(str(error).split())[-600:]
            _say(f"{name}: {error}")
            continue
        running.callback(server.started.stop)
        engines = pinning.pin(server.started.pid)
        _say(f"{name}: up in {server.start_s:.0f} s, {engines} engine process(es)")
        up.append(server)
    pinning.pin_self()
    for server in up:
        asyncio.run(waves.wave(server.target, 8, WARM_TOKENS, -1))
    return up, absent


def _pairs(given: argparse.Namespace, up: Sequence[Server]) -> list[Measured]:
    """Each pair begins with another server."""
    found = []
    for pair in range(given.pairs):
        turn = pair % max(1, len(up))
        for server in [*up[turn:], *up[:turn]]:
            found.append(_one(given, server, pair))
            _say(f"pair {pair + 1}: {server.name}: {found[-1].tokens_s:.2f} tokens/s")
    return found


def _one(given: argparse.Namespace, server: Server, pair: int) -> Measured:
    root = server.started.pid
    pinning.pin(root)  # threads and processes made meanwhile
    engine_s, other_s = pinning.cpu_s(root)
    wave = asyncio.run(waves.wave(server.target, given.streams, given.tokens, pair))
    engine_now_s, other_now_s = pinning.cpu_s(root)
    return Measured(
        server.name,
        pair,
        round(wave.tokens_s, 3),
        wave.first_ms,
        round(1000 * (engine_now_s - engine_s) / wave.tokens, 3),
        round(1000 * (other_now_s - other_s) / wave.tokens, 3),
    )


def fill(argv: Sequence[str]) -> int:
    """Put a report into the page."""
    parser = argparse.ArgumentParser(prog="benchmarks.engines fill", description=fill.__doc__)
    parser.add_argument("run", type=Path, metavar="FILE.json", help="of `run --out`")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(argv)
    found = msgspec.json.decode(given.run.read_bytes(), type=EngineReport)
    page = filled(given.page.read_text("utf-8"), "engines", report.markdown(found))
    given.page.write_text(page, "utf-8")
    return 0


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """Entry point."""
    acts = {"run": run, "fill": fill}
    if argv and argv[0] in acts:
        return acts[argv[0]](argv[1:])
    is_asked = bool(argv) and argv[0] in ("-h", "--help")
    print(__doc__, file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
