"""The design report's three-year table: reproduced from its assumptions, its hidden price, and its
three break-evens held against the table itself. Pure.
"""

from __future__ import annotations

import msgspec

from ballast.planning_report_file import Report

YEAR_HOURS = 8760


class Row(msgspec.Struct, frozen=True):
    """A scheme, and whether our figures are the printed ones."""

    scheme: str
    years: tuple[float, ...]
    total: float
    is_as_printed: bool


class Rest(msgspec.Struct, frozen=True):
    """What is left of a year's figure when GPUs and other costs are taken off."""

    scheme: str
    year: str
    printed: float
    other: float
    gpus: int
    rent: float
    rest: float
    engineers: float
    """That the rest would pay."""


class Claim(msgspec.Struct, frozen=True):
    """One named break-even held against the table."""

    said: str
    calls_low: float
    calls_high: float
    """A month."""
    api: float
    """Pure API a year at the lower load, CNY."""
    costs: dict[str, float]
    """Of the other schemes there, by the table's own line."""
    price_wanted: dict[str, float]
    """Blended price, CNY per million tokens, that would make it true."""


class Crossing(msgspec.Struct, frozen=True):
    """Where the table's own line of a scheme meets that of pure API."""

    scheme: str
    calls_per_month: float | None
    is_beyond: bool
    """Above the last year: the line is carried on."""


class Verdict(msgspec.Struct, frozen=True):
    """The table's last year at another price of the API."""

    name: str
    blended: float
    api: float
    cheapest: str
    saving: float
    """Of the cheapest against pure API, 0 to 1."""


def rows(report: Report) -> list[Row]:
    """The table, worked out anew."""
    price = report.api_usd_per_mtok * report.per_usd
    api = tuple(report.mtok(k) * price for k in range(len(report.years)))
    made = [("pure API", api)]
    made += [(one.name, tuple(usd * report.per_usd for usd in one.usd)) for one in report.schemes]
    found = []
    for name, years in made:
        printed = report.printed.get(name, ())
        wanted = (*years, sum(years))
        same = len(printed) == len(wanted) and all(
            abs(a - b) < 0.5 for a, b in zip(printed, wanted, strict=True)
        )
        found.append(Row(name, years, sum(years), same))
    return found


def hidden_price(report: Report) -> float:
    """CNY for a million tokens, prompt and answer together, that the printed API line implies."""
    return report.printed["pure API"][0] / report.mtok(0)


def rests(report: Report, requests_per_s: float) -> list[Rest]:
    """What people must cost for the self-hosted figures to be true, when GPUs are rented all year
    and one does `requests_per_s`; the load is taken at twice its mean."""
    found = []
    for line in report.schemes:
        if line.kind != "own":
            continue
        for k, one in enumerate(report.years):
            rate = one.requests_per_month * 12 / (YEAR_HOURS * 3600)
            gpus = max(1, -int(-2 * rate // requests_per_s))
            printed = line.usd[k] * report.per_usd
            other = printed * report.other_share
            rent = gpus * report.gpu.cny_per_hour * YEAR_HOURS
            rest = printed - other - rent
            found.append(Rest(line.name, one.name, printed, other, gpus, rent, rest,
                              rest / report.engineer_cny_per_year))  # fmt: skip
    return found


def line_at(report: Report, name: str, calls: float) -> float:
    """A year's cost at so many calls a month: straight between the table's years, and on beyond."""
    xs = [one.requests_per_month for one in report.years]
    ys = next(row.years for row in rows(report) if row.scheme == name)
    k = max(0, min(len(xs) - 2, sum(x <= calls for x in xs) - 1))
    slope = (ys[k + 1] - ys[k]) / (xs[k + 1] - xs[k])
    return ys[k] + slope * (calls - xs[k])


def claims(report: Report) -> list[Claim]:
    """Each named break-even beside what the table says there."""
    found = []
    for one in report.break_evens:
        span = one.calls_per_month
        if span is None:
            assert one.tokens_per_month is not None
            span = (
                one.tokens_per_month[0] / report.tokens,
                one.tokens_per_month[1] / report.tokens,
            )
        api = line_at(report, "pure API", span[1])
        costs = {row.scheme: line_at(report, row.scheme, span[1]) for row in rows(report)[1:]}
        mtok = span[1] * 12 * report.tokens / 1e6
        wanted = {name: cost / mtok for name, cost in costs.items()}
        found.append(Claim(one.said, span[0], span[1], api, costs, wanted))
    return found


def crossings(report: Report) -> list[Crossing]:
    """Where the table's lines really meet."""
    found = []
    xs = [one.requests_per_month for one in report.years]
    for row in rows(report)[1:]:
        at = None
        for k in range(len(xs) - 1):
            gaps = [row.years[j] - line_at(report, "pure API", xs[j]) for j in (k, k + 1)]
            is_last = k == len(xs) - 2
            falls = gaps[0] > 0 and gaps[1] < gaps[0]
            if falls and (gaps[1] <= 0 or is_last):
                at = xs[k] + (xs[k + 1] - xs[k]) * gaps[0] / (gaps[0] - gaps[1])
                break
        found.append(Crossing(row.scheme, at, at is not None and at > xs[-1]))
    return found


def verdicts(report: Report) -> list[Verdict]:
    """The last year at the prices of the report's own list, and at the hidden one."""
    last = len(report.years) - 1
    named = [("the table's hidden price", hidden_price(report))]
    for one in report.prices:
        both = one.input * report.request_tokens.prompt + one.output * report.request_tokens.output
        named.append((one.name, both / report.tokens))
    found = []
    for name, blended in sorted(named, key=lambda pair: pair[1]):
        api = blended * report.mtok(last)
        costs = {"pure API": api} | {row.scheme: row.years[last] for row in rows(report)[1:]}
        cheapest = min(costs, key=lambda scheme: costs[scheme])
        found.append(Verdict(name, blended, api, cheapest, 1 - costs[cheapest] / api))
    return found
