"""A third-party OpenAI-compatible API that misbehaves on request.

`python -m serving.fakes.provider --port 9100 --key K --scenario ok`, or `start_provider` in a
test's own loop. A request's scenario is, in this order: its header `x-fake-scenario`, its model's
suffix (`model@scenario`), the next of the script set through `POST /__control`, the default.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

from serving.fakes.provider_app import Provider, ProviderSettings
from serving.fakes.scenarios import SCENARIOS
from serving.fakes.server import Served, run_process, serve

__all__ = ["ProviderSettings", "main", "start_provider"]


async def start_provider(settings: ProviderSettings | None = None) -> Served:
    """Start a provider in the running loop; append `/v1/...` to its `url`. The caller closes it."""
    settings = settings or ProviderSettings()
    return await serve(Provider(settings).app(), settings.host, settings.port)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a process until SIGTERM; prints one JSON line when listening."""
    parser = _parser()
    given = vars(parser.parse_args(argv))
    if given.pop("list"):
        width = max(map(len, SCENARIOS))
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:<{width}}  {scenario.meaning}")
        return 0
    try:
        settings = ProviderSettings(**given)
    except ValueError as error:
        parser.error(str(error))
    return run_process(lambda: start_provider(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serving.fakes.provider", description=__doc__)
    default = {field.name: field.default for field in fields(ProviderSettings)}
    for name, kind, text in (
        ("host", str, "address to bind"),
        ("port", int, "0 = any free port"),
        ("key", str, "the key clients must send"),
        ("scenario", str, "default scenario, see --list"),
        ("ttft-ms", float, "time to the first token"),
        ("itl-ms", float, "time between tokens"),
        ("output-tokens", int, "length of an answer that max_tokens does not cut"),
    ):
        field = name.replace("-", "_")
        parser.add_argument(f"--{name}", type=kind, default=default[field], help=text)
    parser.add_argument("--list", action="store_true", help="print the scenarios and end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
