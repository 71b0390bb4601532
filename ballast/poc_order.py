"""What `ballast poc run` is to replay, found: rows, offering, price, own engine. Reads, never
sends."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import NamedTuple

from ballast import ledger_trace, poc_plan
from ballast.books import amount
from ballast.messages import Said
from ballast.poc_plan import PROMPT_MARGIN, Bounds, Row
from ballast.poc_run import Order
from ballast.poc_values import REQUESTS_MIN
from ballast.problem import ProblemError
from models.provider import Sold
from serving import offerings
from serving.provider_access import Terms
from serving.rates import UnknownPrice, contracted, listed
from serving.records import Price
from serving.settings import Model, Settings


class Asked(NamedTuple):
    """What the flags say."""

    out: Path
    trace: str = ""
    """FILE[@FROM-UNTIL]; empty: the ledger."""
    days: int = 7
    model: str = ""
    api: str = ""
    own_model: str = ""
    tenant: str = ""
    requests: int = 300
    minutes: float = 10.0
    spend_micro: int = 10_000_000
    seed: int = 1


def order(settings: Settings, wish: Asked) -> tuple[Order, list[Said]]:
    """The order and what is told before anything is sent. Raises ProblemError for a side that is
    missing, traffic that is not there, and a bound of money that would be passed."""
    model = _model(settings, wish.model)
    own = _model(settings, wish.own_model) if wish.own_model else model
    fixed = {replica.model for replica in settings.fleet.static}
    if own.engine is None and own.name not in fixed and not settings.fleet.serve_url:
        raise ProblemError(Said("poc.run.no_own", name=own.name), Said("poc.run.add_own"))
    target = _target(model, wish.api)
    price, context = _sold(settings, target)
    contexts = [n for n in (context, model.context_tokens, own.context_tokens) if n]
    found, source = _traffic(settings, wish)
    bounds = Bounds(wish.requests, wish.minutes * 60.0, min(contexts, default=0), wish.spend_micro)
    plan = poc_plan.made(found, bounds, price)
    if not plan.rows:
        what = Said("poc.run.none_fit", count=plan.of, context=f"{bounds.context_tokens:,}")
        raise ProblemError(what, Said("poc.run.longer_context"))
    if plan.most_micro > wish.spend_micro:
        what = Said("poc.run.dear", most=amount(price.currency, plan.most_micro),
                    spend=amount(price.currency, wish.spend_micro))  # fmt: skip
        raise ProblemError(what, Said("poc.run.fewer", count=plan.affordable))
    tenant = wish.tenant or (settings.tenants[0].id if settings.tenants else "demo")
    made = Order(plan, price, model.name, target, own.name, tenant, wish.spend_micro, wish.seed,
                 wish.out)  # fmt: skip
    return made, _told(made, source)


def _told(made: Order, source: str) -> list[Said]:
    plan, currency = made.plan, made.price.currency
    lines = [
        Said("poc.run.plan", count=len(plan.rows), of=plan.of, source=source,
             minutes=f"{plan.seconds / 60:.1f}", speed=f"{plan.speed:.3g}"),
        Said("poc.run.api", target=made.target, prompt=f"{plan.prompt_tokens:,}",
             output=f"{plan.output_tokens:,}", most=amount(currency, plan.most_micro),
             margin=PROMPT_MARGIN, spend=amount(currency, made.spend_micro)),
        Said("poc.run.own", model=made.own_model),
    ]  # fmt: skip
    if plan.too_long:
        lines.append(Said("poc.run.too_long", count=plan.too_long))
    if len(plan.rows) < REQUESTS_MIN:
        lines.append(Said("poc.run.few", count=REQUESTS_MIN))
    return lines


def _model(settings: Settings, name: str) -> Model:
    """By name or alias; without a name the first that has an API behind it."""
    for model in settings.models:
        if name in (model.name, *model.aliases) or (not name and model.offerings):
            return model
    if not name:
        raise ProblemError(Said("poc.run.no_api"), Said("poc.run.add_api"))
    names = ", ".join(model.name for model in settings.models) or "-"
    raise ProblemError(Said("poc.run.no_model", name=name), Said("poc.run.known", names=names))


def _target(model: Model, wanted: str) -> str:
    if wanted in model.offerings or (not wanted and model.offerings):
        return wanted or model.offerings[0]
    what = Said("poc.run.no_offering", name=model.name, wanted=f" {wanted}" if wanted else "")
    raise ProblemError(what, Said("poc.run.add_offering", names=", ".join(model.offerings) or "-"))


def _sold(settings: Settings, target: str) -> tuple[Price, int]:
    """Its price, and its context in tokens, 0 where that is not known."""
    provider, _, upstream = target.partition("/")
    access = next((one for one in settings.providers if one.id == provider), None)
    terms = (access.models.get(upstream) if access is not None else None) or Terms()
    row = offerings.rows(settings).get(provider)
    sold: Sold | None = next((m for m in row.models if m.id == upstream), None) if row else None
    context = terms.context_tokens or (sold.context_tokens if sold else None) or 0
    try:
        if found := contracted(terms):
            return found[0], context
        if sold is not None:
            return listed(sold)[0], context
    except UnknownPrice:
        pass
    raise ProblemError(Said("poc.run.no_price", name=target), Said("poc.run.add_price"))


def _traffic(settings: Settings, wish: Asked) -> tuple[list[Row], str]:
    """Requests in order of time, and where they are from."""
    try:
        if wish.trace:
            return _traced(wish.trace), wish.trace
        with tempfile.TemporaryDirectory() as private:
            file = Path(private) / "ledger.csv"
            try:
                ledger_trace.write(settings, ledger_trace.Wanted(wish.days), file)
            except ProblemError:
                if not file.exists():  # the ledger itself is away: that says so
                    raise
                what = Said("poc.run.no_traffic", days=wish.days)
                raise ProblemError(what, Said("poc.run.name_trace")) from None
            with file.open(encoding="utf-8", newline="") as stream:
                lines = list(csv.reader(stream))[1:]
            found = [Row(float(at), int(prompt), int(out)) for at, prompt, out in lines]
            return found, Said("poc.run.ledger", days=wish.days)
    except OSError as error:
        raise _bad_trace(error) from None


def _traced(address: str) -> list[Row]:
    """Of a file; an image without the extra `reports` replays the ledger alone."""
    try:
        from autoscale.arrivals import TraceError, asked, rows
    except ImportError as error:
        raise ProblemError(
            Said("plan.traces_need", name=error.name), Said("plan.install")
        ) from None
    try:
        return [Row(*one) for one in rows(asked(address))]
    except TraceError as error:
        raise _bad_trace(error) from None


def _bad_trace(error: Exception) -> ProblemError:
    return ProblemError(Said("poc.run.bad_trace", why=error), Said("poc.run.name_trace"))
