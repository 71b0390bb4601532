"""Settings of Ballast as the comparison starts it: relaying, with the guard, with policies."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.gateway.script import MODEL
from benchmarks.guard.samples import SEED, term_list
from serving.auth import digest, new_key

BALLAST, WITHOUT_LEDGER = "ballast", "ballast-without-ledger"
GUARD, POLICIES, TWO = "ballast-guard", "ballast-policies", "ballast-two"
BESIDE = (GUARD, POLICIES, TWO)
"""Reported after the peers."""
TERMS = 20_000
SPOKEN = ("hello", "tok")
"""What the shortest prompts and plain answers consist of: as terms they would be found at each
word, and end the answer."""
AMPLE = 900_000_000
"""An allowance that no measurement uses up, but that each request is counted against."""
LIMIT = 4096
"""Places of one engine: more than any measurement opens on one of eight."""
SAID = {
    BALLAST: "relay: keys, admission, routing, accounting, journal, ledger, one log line a request",
    GUARD: f"the same, its guard reading prompts and answers: {TERMS:,} terms, personal data; each "
    "prompt as if never met before",
    POLICIES: "the same as the first with allowances of key and tenant (a minute, a month, at "
    "once), a residency rule and a key bound to named models",
    TWO: "two processes of the first on one port",
}


def settings(name: str, upstreams: Sequence[str], folder: Path) -> tuple[dict[str, Any], str]:
    """(settings, key) of a gateway before these engines; its files go to `folder`."""
    key, pepper = new_key(secrets.token_bytes(32)), secrets.token_hex(32).encode()
    (folder / "pepper").write_bytes(pepper)
    (folder / "secret").write_text(secrets.token_hex(16) + "\n")
    row = {"id": "k1", "hmac": digest(pepper, key.encode()).hex(), "tenant": "bench"}
    made: dict[str, Any] = {
        "state_dir": str(folder / "state"),
        "pepper_file": str(folder / "pepper"),
        "gateway": {"port": 0, "ops_port": 0},
        "fleet": {
            "secret_file": str(folder / "secret"),
            "static": [{"model": MODEL, "url": url, "limit": LIMIT} for url in upstreams],
        },
        "models": [{"name": MODEL, "profile": "instant", "context_tokens": 131_072}],
        "tenants": [{"id": "bench"}],
        "keys": [row],
    }
    if name == GUARD:
        made["guard"] = _guard(folder / "terms")
    if name == POLICIES:
        made["tenants"] = [{"id": "bench", "residency": "mainland", "allowance": _allowance()}]
        made["keys"] = [row | {"models": [MODEL], "allowance": _allowance()}]
    return made, key


def write(made: dict[str, Any], path: Path) -> None:
    """As the gateway reads it."""
    path.write_text(yaml.safe_dump(made), "utf-8")


def terms() -> list[str]:
    """Terms of which no prompt and no answer of a measurement holds one."""
    made = (term.text for term in term_list(TERMS, random.Random(SEED)))
    return [term for term in made if term not in SPOKEN]


def _guard(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    lines = ["#! category: bench", "#! action: block", *terms()]
    (folder / "bench.txt").write_text("\n".join(lines), "utf-8")
    of_tenant = {"lists": ["bench"], "personal": "mask"}
    # One prompt is sent all along: remembered, it would cost what no first prompt costs.
    return {"terms_dir": str(folder), "remembers": False, "tenants": {"bench": of_tenant}}


def _allowance() -> dict[str, int]:
    names = ("requests_per_min", "tokens_per_min", "requests_per_month", "tokens_per_month",
             "concurrent")  # fmt: skip
    return dict.fromkeys(names, AMPLE)
