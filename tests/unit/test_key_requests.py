"""Asking for a key: who asks waits, who approves answers for it, and the key is shown once."""

from __future__ import annotations

from typing import Any

import pytest

from serving.directory import commands, key_requests
from serving.directory.base import encode_event
from serving.directory.changes import By, Change
from serving.directory.values import Directory, Document, build
from serving.errors import CallerError

ASKER, OWNER = By("oidc:u-1", 1_700_000_000_000, "for the shop"), By("owner", 1_700_000_000_000)
TICKET, HMAC = "a" * 64, "b" * 64
ID = "0123456789abcdef"


class World:
    """A directory that changes are stored in."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Document] = {}
        self.version = 0
        self.told: list[bytes] = []
        self.take(commands.create_tenant, {"id": "acme", "residency": "premises"}, OWNER)

    @property
    def now(self) -> Directory:
        return build(self.version, list(self._rows.values()))

    def take(self, command: Any, *values: Any) -> Change:
        change = command(self.now, *values)
        self._rows |= {(d.kind, d.id): d for d in change.documents}
        self.version += 1
        self.told.append(encode_event(change.event))
        return change


def wish(**changes: Any) -> dict[str, Any]:
    return {"id": ID, "key": "acme-web", "tenant": "acme", "ticket_hmac": TICKET} | changes


def refused(world: World, command: Any, *values: Any) -> CallerError:
    with pytest.raises(CallerError) as caught:
        command(world.now, *values)
    return caught.value


@pytest.fixture
def world() -> World:
    world = World()
    world.take(key_requests.ask, wish(latency_class="patient", overflow="never"), ASKER)
    return world


def later(by: By, days: float) -> By:
    return by._replace(at_ms=by.at_ms + int(days * key_requests.DAY_MS))


def test_a_request_makes_no_key_until_it_is_approved_and_fetched(world):
    assert not world.now.keys
    error = refused(world, key_requests.fetch, ID, (TICKET, HMAC), ASKER)
    assert "not approved" in error.message
    world.take(key_requests.approve, ID, OWNER)
    assert not world.now.keys
    assert world.now.requests[ID].approved_by == "owner"
    world.take(key_requests.fetch, ID, (TICKET, HMAC), ASKER)
    key = world.now.keys["acme-web"]
    assert (key.tenant, key.hmac, key.latency_class, key.overflow) == (
        "acme", HMAC, "patient", "never",
    )  # fmt: skip
    assert not world.now.requests


def test_a_key_is_fetched_once(world):
    world.take(key_requests.approve, ID, OWNER)
    world.take(key_requests.fetch, ID, (TICKET, HMAC), ASKER)
    assert refused(world, key_requests.fetch, ID, (TICKET, HMAC), ASKER).code == "not_found"


def test_only_the_ticket_fetches_the_key(world):
    world.take(key_requests.approve, ID, OWNER)
    error = refused(world, key_requests.fetch, ID, ("c" * 64, HMAC), ASKER)
    assert (error.code, error.param) == ("invalid_value", "ticket")


def test_an_approver_may_take_the_key_at_once(world):
    world.take(key_requests.approve_and_make, ID, HMAC, OWNER)
    assert world.now.keys["acme-web"].hmac == HMAC
    assert refused(world, key_requests.fetch, ID, (TICKET, HMAC), ASKER).code == "not_found"


def test_a_refused_request_is_gone_also_after_it_was_approved(world):
    world.take(key_requests.approve, ID, OWNER)
    assert refused(world, key_requests.approve, ID, OWNER).code == "conflict"
    world.take(key_requests.refuse, ID, OWNER)
    assert refused(world, key_requests.fetch, ID, (TICKET, HMAC), ASKER).code == "not_found"
    assert not world.now.keys


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"id": "1" * 16, "key": "n", "tenant": "ghost"}, "not_found"),
        ({"id": "1" * 16, "key": "n", "project": "ghost"}, "not_found"),
        ({"key": "a b"}, "invalid_value"), ({"key": "x" * 65}, "invalid_value"),
        ({"is_forwarder": True}, "invalid_value"), ({"is_load_test": True}, "invalid_value"),
        ({"allowance": {}}, "invalid_value"), ({"ticket_hmac": "x"}, "invalid_value"),
        ({"latency_class": "fast"}, "invalid_value"), ({"id": ID}, "conflict"),
        ({"id": "1" * 16}, "conflict"), ({"id": "1" * 16, "key": "ACME-WEB"}, "conflict"),
    ],
    ids=str,
)  # fmt: skip
def test_what_could_not_be_approved_is_refused_at_once(world, changes, code):
    assert refused(world, key_requests.ask, wish(**changes), ASKER).code == code


def test_nobody_approves_by_asking(world):
    row = wish(id="1" * 16, key="n", approved_by="owner", approved_ms=ASKER.at_ms)
    world.take(key_requests.ask, row, ASKER)
    error = refused(world, key_requests.fetch, "1" * 16, (TICKET, HMAC), ASKER)
    assert "not approved" in error.message


def test_a_key_that_came_in_between_is_not_replaced(world):
    row = {"id": "acme-web", "tenant": "acme", "hmac": "d" * 64}
    world.take(commands.create_key, row, OWNER)
    error = refused(world, key_requests.approve_and_make, ID, HMAC, OWNER)
    assert error.code == "conflict"
    assert world.now.keys["acme-web"].hmac == "d" * 64


def test_a_request_says_what_for(world):
    row = wish(id="2" * 16, key="other")
    assert refused(world, key_requests.ask, row, ASKER._replace(why=" ")).param == "why"


def test_a_tenant_has_so_many_requests_open_and_no_more(world):
    for number in range(key_requests.PER_TENANT_MAX - 1):
        row = wish(id=f"{number:016x}", key=f"key{number}")
        world.take(key_requests.ask, row, ASKER)
    row = wish(id="f" * 16, key="one-more")
    assert "open already" in refused(world, key_requests.ask, row, ASKER).message
    world.take(key_requests.refuse, ID, OWNER)
    world.take(key_requests.ask, row, ASKER)


def test_what_nobody_decides_or_fetches_lapses(world):
    waiting = key_requests.WAITING_DAYS_MAX
    assert world.now.requests[ID]
    assert "lapsed" in refused(world, key_requests.approve, ID, later(OWNER, waiting + 1)).message
    world.take(key_requests.approve, ID, later(OWNER, waiting))
    late = later(ASKER, waiting + key_requests.APPROVED_DAYS_MAX + 1)
    assert "lapsed" in refused(world, key_requests.fetch, ID, (TICKET, HMAC), late).message
    world.take(key_requests.ask, wish(id="3" * 16), late)
    assert set(world.now.requests) == {"3" * 16}, "the lapsed one made room, also for its name"


def test_the_history_tells_who_asked_and_who_approved_and_no_secret(world):
    world.take(key_requests.approve, ID, OWNER)
    world.take(key_requests.fetch, ID, (TICKET, HMAC), ASKER)
    told = b"\n".join(world.told).decode()
    for word in ("oidc:u-1", "owner", "for the shop", "ask", "approve", "fetch", f"request:{ID}"):
        assert word in told
    assert TICKET not in told
    assert HMAC not in told
