"""Reads runs of `ballast bench run` as the two sides of a PoC, and holds them to be alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ballast.messages import Said
from ballast.poc_values import Measured, Works
from ballast.problem import ProblemError
from ballast.stages import SIMULATED_PREFIX
from ballast.traffic import Times

RESULT = "result.json"
API_SHARE_MAX = 0.01
"""Of a run of own engines; more and it is a run of something else."""
REPLAYED = ("trace", "ledger")


class Ran(NamedTuple):
    """One run."""

    path: Path
    side: Measured
    works: tuple[Works, ...]
    load: dict[str, Any]
    """What makes two runs comparable, by name."""
    price: tuple[float, float] | None
    """Of a million tokens in and out."""
    speed: float
    is_simulated: bool


def read(
    folder: Path,
    currency: str,
    *,
    rent: float | None = None,
    price: tuple[float, float] | None = None,
) -> Ran:
    """A run of an API, or with a `rent` (an hour, of all GPUs; 0 is not known) of own engines,
    whose tokens are priced at the API's `price` too. Raises ProblemError naming the file or what
    it lacks."""
    path = folder / RESULT if folder.is_dir() else folder
    try:
        run = msgspec.json.decode(path.read_bytes())
        made = _made(path, run)
        summary, total = run["summary"], run["summary"]["total"]
        reasons, counted_in = list(summary["reasons"]), summary["currency"]
        seconds, of_apis = float(summary["seconds"]), float(total["api_share"])
        priced = float(total["cost"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProblemError(Said("poc.no_run", path=path, why=error), Said("poc.make_run")) from None
    if reasons:
        what = Said("poc.invalid", path=path, why="; ".join(map(str, reasons)))
        raise ProblemError(what, Said("poc.make_run"))
    if rent is None:
        if 0 <= of_apis < 1 - API_SHARE_MAX:
            what = Said("poc.not_api", path=path, share=f"{of_apis:.1%}")
            raise ProblemError(what, Said("poc.pin_api"))
        if priced and counted_in != currency:
            what = Said("poc.currency", path=path, currency=counted_in, wanted=currency)
            raise ProblemError(what, Said("poc.same_currency", currency=counted_in))
        return made._replace(side=msgspec.structs.replace(made.side, cost=priced or None))
    if of_apis > API_SHARE_MAX:
        what = Said("poc.not_own", path=path, share=f"{of_apis:.1%}")
        raise ProblemError(what, Said("poc.own_alone"))
    # Sent faster than it came, traffic keeps the GPUs busier than they would be: rent is for the
    # time that it took.
    cost = rent * seconds * made.speed / 3600 if rent else None
    at_price = None
    if price is not None:
        tokens = made.side.prompt_tokens, made.side.completion_tokens
        at_price = sum(one * each for one, each in zip(tokens, price, strict=True)) / 1e6
    return made._replace(side=msgspec.structs.replace(made.side, cost=cost, at_api_price=at_price))


def _made(path: Path, run: Any) -> Ran:
    total, scenario = run["summary"]["total"], run["scenario"]
    sent, good = int(total["sent"]), int(total["good"])
    tokens = int(total["prompt_tokens"]), int(total["completion_tokens"])
    first, whole = (_times(total[name]) for name in ("first_ms", "complete_ms"))
    works = tuple(
        Works(str(kind["name"]), int(kind["sent"]), int(kind["good"]))
        for kind in run["summary"]["kinds"]
    )
    arrivals = scenario.get("arrivals") or {}
    speed = float(arrivals.get("speed", 1.0)) if arrivals.get("kind") in REPLAYED else 1.0
    name = str(run.get("pin") or run.get("model", ""))
    # The price of a million tokens is a side's own, the load is not.
    load = {"scenario": scenario | {"price": None}, "seed": run["seed"]}
    return Ran(
        path, Measured(name, str(path), sent, good, sent, *tokens, None, first, whole), works, load,
        _paid(scenario, tokens[0], int(total.get("cached_tokens", 0))), speed,
        name.startswith(SIMULATED_PREFIX),
    )  # fmt: skip


def _paid(scenario: dict[str, Any], prompt: int, cached: int) -> tuple[float, float] | None:
    """What a million tokens in and out cost in this run: input at the share that its cache had.
    None where the scenario names no price."""
    price = scenario.get("price")
    if price is None or "input_per_mtok" not in price:
        return None
    fresh, share = float(price["input_per_mtok"]), cached / prompt if prompt else 0.0
    old = price.get("cached_per_mtok")
    kept = fresh if old is None else float(old)
    return fresh * (1 - share) + kept * share, float(price["output_per_mtok"])


def alike(api: Ran, local: Ran) -> None:
    """Raises ProblemError naming what differs: two loads compared would prove nothing."""
    for name, value in api.load.items():
        if value != local.load[name]:
            what = Said("poc.unlike", api=api.path, local=local.path,
                        what=Said(f"poc.what.{name}"))  # fmt: skip
            raise ProblemError(what, Said("poc.make_run"))


def _times(spread: dict[str, float]) -> Times:
    p50, p95 = float(spread["p50"]), float(spread["p95"])
    return Times() if p50 < 0 else Times(round(p50), round(p95))
