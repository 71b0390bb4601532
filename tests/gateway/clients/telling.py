"""What each program here shares: where the gateway is, and one JSON line a check on stdout.

Runs in the client's own environment, so it takes nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

URL = os.environ["CLIENT_URL"]
"""With /v1."""
KEY = os.environ["CLIENT_KEY"]
OWN, API, VECTORS = "m", "api", "vectors"
"""Models: on an engine of ours, on a third party, an embedder of ours."""
QUESTION = "What is the weather in Shanghai?"
ANSWER = "sunny, 23 degrees"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
CALLED = {"city": "上海", "days": 3}
"""What the third party's model asks of a tool; a right client hands over just this."""


def told(**checks: Callable[[], Any]) -> None:
    """Run all, one after another; a check passes when it raises nothing."""
    failed = 0
    for name, check in checks.items():
        line = {"check": name, "fault": ""}
        try:
            found = check()
            if inspect.isawaitable(found):
                asyncio.run(_awaited(found))
        except Exception as error:  # noqa: BLE001 - the line says what it was
            traceback.print_exc()
            line["fault"] = f"{type(error).__name__}: {error}"[:500]
            failed += 1
        print(json.dumps(line), flush=True)
    sys.exit(1 if failed else 0)


async def _awaited(found: Any) -> None:
    await found
