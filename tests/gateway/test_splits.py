"""A split on a running gateway: rows say their side, callers stay on it, the report reads it."""

from __future__ import annotations

import json
from datetime import date

from ballast.split_cli import as_object, collect

SPLIT = [
    {"name": "home", "percent": 50, "toward": "own"},
    {"name": "away", "percent": 50, "toward": "alpha/big"},
]


def test_rows_say_side_and_finish_and_sessions_stay_where_they_are(run, kit):
    async def check(stack):
        for turn in range(2):
            for number in range(12):
                head = {"x-ballast-session": f"s{number}"}
                reply = await stack.chat(headers=head, stream=bool(turn))
                assert reply.status == 200
        rows = await stack.rows(24)
        assert {row.route for row in rows} == {"split:home", "split:away"}
        assert {row.finish for row in rows} <= {"stop", "length"}
        assert sum(row.is_stream for row in rows) == 12
        sides: dict[int, set[str]] = {}
        for row in rows:
            sides.setdefault(row.part, set()).add(row.route)
            assert row.name == "m"
            begun = stack.attempts(row.request_id)[0].begin
            assert (begun.route, begun.is_stream) == (row.route, row.is_stream)
        assert all(len(one) == 1 for one in sides.values())
        period = (date(2020, 1, 1), date(2100, 1, 1))
        found = collect(stack.settings, "m", period)
        assert (found.moved, found.elsewhere) == (0, 0)
        assert sum(side.requests for side in found.sides) == 24
        assert [side.targets[0][0] for side in found.sides] == ["own", "alpha/big"]
        json.dumps(as_object(found, period))

    split(run, kit, check)


def test_json_is_judged_only_where_it_was_asked_for(run, kit):
    async def check(stack):
        await stack.chat()
        for stream in (False, True):
            await stack.chat(response_format={"type": "json_object"}, stream=stream)
        rows = await stack.rows(3)
        assert [row.json for row in rows] == ["", "invalid", "invalid"]

    split(run, kit, check)


def test_an_answer_of_no_split_is_not_read_for_json(run, kit):
    async def check(stack):
        await stack.chat(response_format={"type": "json_object"}, stream=True)
        (row,) = await stack.rows(1)
        assert row.json == ""

    run(check, engines=[kit.engine()])


def split(run, kit, check):
    run(
        check, engines=[kit.engine()], providers={"alpha": kit.provider()},
        routing={"names": {"m": {"split": SPLIT}}},
    )  # fmt: skip
