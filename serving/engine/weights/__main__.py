"""`python -m serving.engine.weights`: make weights ready and say where they are.

Prints the value for vLLM's `--model`; with `--json` one JSON line per event, as the cluster reads
them. Exit codes: 3 when somebody must mend something, 4 when a later try may do.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from serving.engine.weights.errors import WeightsError
from serving.engine.weights.look import look
from serving.engine.weights.resolve import Order, Outside, resolve
from serving.engine.weights.settings import WeightsSettings
from serving.engine.weights.sources import EMBEDDED

EXIT_MEND = 3
EXIT_LATER = 4
PROGRESS_S = 2.0


class Progress:
    """Counts bytes, and says so now and then."""

    def __init__(self, is_json: bool) -> None:
        self._is_json = is_json
        self._bytes = 0
        self._told_s = time.monotonic()

    def add(self, count: int) -> None:
        self._bytes += count
        now_s = time.monotonic()
        if now_s - self._told_s >= PROGRESS_S:
            self._told_s = now_s
            self.emit("fetching", gib=round(self._bytes / 2**30, 2))

    def emit(self, event: str, **fields: Any) -> None:
        if self._is_json:
            sys.stdout.write(json.dumps({"event": event} | fields) + "\n")
            sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    options = _parser().parse_args(argv)
    progress = Progress(options.json)
    started_s = time.monotonic()
    try:
        settings = msgspec.json.decode(options.settings, type=WeightsSettings)
        order = Order(
            options.source, options.cache, options.kind, options.load, options.dtype,
            options.with_code, options.manifest, tuple(map(_sum, options.sha256)),
        )  # fmt: skip
        outside = Outside(os.environ, on_bytes=progress.add)
        if options.check:
            sys.stdout.write(asyncio.run(look(order, settings, outside)) + "\n")
            return 0
        found = asyncio.run(resolve(order, settings, outside))
    except msgspec.MsgspecError as error:
        sys.stderr.write(f"--settings: {error}\n")
        return EXIT_MEND
    except WeightsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_LATER if error.is_passing else EXIT_MEND
    seconds = round(time.monotonic() - started_s, 3)
    progress.emit("resolved", seconds=seconds, **found._asdict())
    if not options.json:
        sys.stdout.write(f"{found.path}\n")
    return 0


def _sum(text: str) -> tuple[str, str]:
    path, _, sha256 = text.rpartition("=")
    return path, sha256


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.engine.weights")
    parser.add_argument("--cache", required=True, type=Path, help="folder that keeps checkpoints")
    parser.add_argument("--kind", choices=("model", "adapter"), default="model")
    parser.add_argument("--load", default="auto", help="how vLLM will read them")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--with-code", action="store_true", help="fetch Python files too")
    parser.add_argument("--manifest", default="", help="file written by sha256sum")
    parser.add_argument("--sha256", action="append", default=[], metavar="PATH=HEX")
    parser.add_argument("--settings", default="{}", help="WeightsSettings as JSON")
    parser.add_argument("--check", action="store_true", help="only say where they are; fetch none")
    parser.add_argument("--json", action="store_true", help="one JSON line per event")
    parser.add_argument(
        "source", nargs="?", default=EMBEDDED, help="embedded, folder, hub id, s3:// or pvc:"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
