"""The hop guard: two fresh installations in a chain pass each other, one is never passed twice."""

from __future__ import annotations

UNNAMED = {"deployment_id": None}


async def in_front_of(stack, kit, state, **changes):
    """Another gateway, whose only provider is this one."""
    front = type(stack)(state)
    front.session = stack.session
    kit.write_files(state, [kit.row("alpha")])
    (state / "provider-key").write_text(kit.key_of("main"))
    await front.restart(kit.tree_of(state, [], {"alpha": stack.url}, UNNAMED | changes))
    return front


def test_two_fresh_installations_may_stand_in_a_chain(run, kit, tmp_path):
    async def check(stack) -> None:
        front = await in_front_of(stack, kit, tmp_path / "front")
        try:
            reply = await front.chat()
            assert (reply.status, reply.headers["x-ballast-target"]) == (200, "api;alpha/big")
        finally:
            await front.stop()

    model = {"name": "m", "aliases": ["big"], "profile": "instant", "context_tokens": 32768}
    run(check, engines=[kit.engine()], models=[model], **UNNAMED)


def test_a_call_that_comes_back_to_another_process_of_the_deployment_is_a_loop(run, kit):
    async def check(stack) -> None:
        front = await in_front_of(stack, kit, stack.state, **{"gateway.index": 1})
        try:
            assert (await front.chat()).status == 502
        finally:
            await front.stop()
        rows = await stack.rows(2)
        assert sorted((row.status, row.code) for row in rows) == [
            (502, "upstream_unavailable"), (508, "loop_detected"),
        ]  # fmt: skip

    run(check, **UNNAMED)
