"""Calls with the same beginning go to the same engine, and are computed there but once."""

from __future__ import annotations

ENGINES, DOCUMENTS, ASKED = 3, 12, 3
FULL = 4004 // 16 * 16
"""Tokens of a document's full blocks: 16,000 bytes and the head of the message."""


def document(n: int) -> dict[str, str]:
    return {"role": "system", "content": f"{n:04d}" * 4000}


def question(n: int, turn: int) -> list[dict[str, str]]:
    return [document(n), {"role": "user", "content": f"Question {turn}, of its own"}]


async def answered(stack, session: str | None, key: str = "main") -> list[int]:
    """Every document is asked about in turn; returns the cached tokens of each answer."""
    cached = []
    for turn in range(ASKED):
        for n in range(DOCUMENTS):
            headers = {"x-ballast-session": session.format(n=n, turn=turn)} if session else {}
            reply = await stack.chat(key, headers, messages=question(n, turn))
            assert reply.status == 200
            cached.append(reply.json["usage"]["prompt_tokens_details"]["cached_tokens"])
    return cached


async def hits(stack) -> list[int]:
    """Prompt tokens that each engine found."""
    found = []
    for engine in stack.engines:
        headers = {"x-ballast-secret": (stack.state / "secret").read_text()}
        async with stack.session.get(f"{engine.url}/metrics", headers=headers) as response:
            page = (await response.text()).splitlines()
        lines = [line for line in page if line.startswith("vllm:prefix_cache_hits_total")]
        found.append(int(lines[0].rpartition(" ")[2]))
    return found


def engines(kit):
    return [kit.engine(prompt_tokens_details=True) for _ in range(ENGINES)]


def test_a_document_is_computed_once_where_its_beginning_leads(run, kit):
    async def check(stack) -> None:
        cached = await answered(stack, None)
        assert cached == [0] * DOCUMENTS + [FULL] * DOCUMENTS * (ASKED - 1)
        found = await hits(stack)
        assert sum(found) == sum(cached)
        assert sum(count > 0 for count in found) > 1, "documents spread over engines"
        assert all(count % (FULL * (ASKED - 1)) == 0 for count in found), "each whole to one"
        rows = await stack.rows(DOCUMENTS * ASKED)
        assert sum(row.usage.cached_tokens for row in rows) == sum(cached)

    run(check, engines=engines(kit))


def test_sessions_of_their_own_spread_and_compute_a_document_on_each_engine(run, kit):
    async def check(stack) -> None:
        spread = await answered(stack, "{n}-{turn}")
        misses = spread.count(0)
        assert DOCUMENTS < misses <= DOCUMENTS * ENGINES
        assert set(spread) == {0, FULL}
        kept = await answered(stack, "again-{n}")
        assert kept.count(0) < misses, "one session stays with one engine"

    run(check, engines=engines(kit))


def test_tenants_never_share_a_document(run, kit):
    async def check(stack) -> None:
        first = await answered(stack, None)
        other = await answered(stack, None, "other")
        assert other == first, "and found nothing of it the first time"

    run(check, engines=engines(kit)[:1])
