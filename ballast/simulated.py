"""`python -m ballast.simulated PORT`: the provider behind `ballast up --try`, a part of the stack
like the others: it tells the stack when it listens."""

from __future__ import annotations

import json
import os
import sys

from serving.fakes.provider import ProviderSettings, start_provider
from serving.fakes.server import Served, run_process

KEY_VARIABLE = "SIMULATED_PROVIDER_KEY"
ANSWER_TOKENS = 48
"""Long enough to see it stream, short enough to wait for."""


async def _start() -> Served:
    settings = ProviderSettings(
        port=int(sys.argv[1]), key=os.environ[KEY_VARIABLE], output_tokens=ANSWER_TOKENS
    )
    served = await start_provider(settings)
    sys.stdout.write(json.dumps({"event": "listening", "url": served.url}) + "\n")
    sys.stdout.flush()
    return served


if __name__ == "__main__":
    sys.exit(run_process(_start))
