"""Sums for scorecards, in what SQLite and PostgreSQL have in common. Pure.

One hour's rows become one row for each target and way of ending, each bucket of the time to first
content, and the minutes it was up and down. Days are summed of hours. Parameters are `:name`.
"""

from __future__ import annotations

FAULTS = ("connect", "timeout", "overloaded", "server_error", "cut", "protocol")
"""Errors by which a target tells that it is not well: `errors.COUNTS`, as rows have them."""
BRIDGE_MINUTES = 2
"""An open breaker lets one probe through in `breaker.OPEN_S_MAX` (120 s) at the latest: between
two minutes down, so many without a call are down too."""
MINUTE_MS, HOUR_MS = 60_000, 3_600_000

_FAULTS = ", ".join(f"'{kind}'" for kind in FAULTS)
_THIRD = "target IS NOT NULL AND price_currency <> ''"
"""An engine of ours has no currency (`accounting.FREE`)."""
_PERIOD = "ended_ms >= :since_ms AND ended_ms < :until_ms"
_KEYS = "span, begin_ms, target, measure, name, currency"
_SUMS = "count, estimated, prompt_tokens, completion_tokens, cached_tokens, micro"

DROP = "DELETE FROM scores WHERE span = :span AND begin_ms >= :since_ms AND begin_ms < :until_ms"
TRIM = "DELETE FROM scores WHERE span = :span AND begin_ms < :before_ms"
ENDS = f"""
    INSERT INTO scores ({_KEYS}, {_SUMS})
    SELECT 'hour', ended_ms / {HOUR_MS} * {HOUR_MS}, target, 'end',
           outcome || ':' || coalesce(error, ''), coalesce(currency, ''), count(*),
           count(*) FILTER (WHERE is_estimated), coalesce(sum(prompt_tokens), 0),
           coalesce(sum(completion_tokens), 0), coalesce(sum(cached_tokens), 0),
           coalesce(sum(micro), 0)
    FROM attempts WHERE {_PERIOD} AND {_THIRD} GROUP BY 2, 3, 5, 6"""  # noqa: S608 - our words


def bucketed(column: str) -> str:
    """The bucket of a time in milliseconds, by its two leading digits; `bucket_ms` is the way
    back. At most 461 of them."""
    return (
        f"CASE WHEN {column} < 100 THEN {column} WHEN {column} < 1000 THEN 90 + {column} / 10"
        f" WHEN {column} < 10000 THEN 180 + {column} / 100"
        f" WHEN {column} < 100000 THEN 270 + {column} / 1000"
        f" WHEN {column} < 1000000 THEN 360 + {column} / 10000 ELSE 460 END"
    )


_BUCKET = bucketed("first_token_ms")
TIMES = f"""
    INSERT INTO scores ({_KEYS}, count)
    SELECT 'hour', begin_ms, target, 'first', CAST(bucket AS TEXT), '', count(*)
    FROM (SELECT ended_ms / {HOUR_MS} * {HOUR_MS} AS begin_ms, target, {_BUCKET} AS bucket
          FROM attempts WHERE {_PERIOD} AND {_THIRD}
          AND first_token_ms >= 0 AND is_stream) AS seen
    GROUP BY begin_ms, target, bucket"""  # noqa: S608
MINUTES = f"""
    INSERT INTO scores ({_KEYS}, count)
    SELECT 'hour', minute / 60 * {HOUR_MS}, target, 'minutes', state, '', sum(minutes)
    FROM (SELECT target, minute, CASE WHEN is_down = 1 THEN 'down' ELSE 'up' END AS state,
                 CASE WHEN is_down = 1 AND was_down = 1
                      AND minute - before <= {BRIDGE_MINUTES} + 1
                      THEN minute - before ELSE 1 END AS minutes
          FROM (SELECT target, minute, is_down,
                       lag(minute) OVER (PARTITION BY target ORDER BY minute) AS before,
                       lag(is_down) OVER (PARTITION BY target ORDER BY minute) AS was_down
                FROM (SELECT target, ended_ms / {MINUTE_MS} AS minute,
                             min(CASE WHEN outcome = 'ok' THEN 0 ELSE 1 END) AS is_down
                      FROM attempts
                      WHERE ended_ms >= :since_ms - {(BRIDGE_MINUTES + 1) * MINUTE_MS}
                      AND ended_ms < :until_ms AND {_THIRD}
                      AND (outcome = 'ok' OR error IN ({_FAULTS}))
                      GROUP BY target, ended_ms / {MINUTE_MS}) AS told) AS marked) AS counted
    WHERE minute * {MINUTE_MS} >= :since_ms
    GROUP BY minute / 60, target, state"""  # noqa: S608
HOUR = (ENDS, TIMES, MINUTES)
"""`:since_ms` stands on a whole hour."""
ROLL_UP = f"""
    INSERT INTO scores ({_KEYS}, {_SUMS})
    SELECT :span, :begin_ms, target, measure, name, currency,
           {", ".join(f"sum({name})" for name in _SUMS.split(", "))}
    FROM scores WHERE span = :parts AND begin_ms >= :begin_ms AND begin_ms < :end_ms
    GROUP BY target, measure, name, currency"""  # noqa: S608
MONTH = f"""
    SELECT target, measure, name, currency,
           {", ".join(f"sum({name})" for name in _SUMS.split(", "))}
    FROM scores WHERE span = 'day' AND begin_ms >= :since_ms AND begin_ms < :until_ms
    GROUP BY target, measure, name, currency ORDER BY target, measure, name, currency
    LIMIT :limit"""  # noqa: S608


def bucket_ms(bucket: int) -> float:
    """The middle of a bucket's times, milliseconds; off by a twentieth at most."""
    if bucket < 100:
        return float(bucket)
    if bucket >= 460:
        return 1_000_000.0
    decade = (bucket - 100) // 90
    step = 10.0 ** (decade + 1)
    return float((bucket - 90 * (decade + 1) + 0.5) * step)
