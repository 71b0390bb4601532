"""The guard as the gateway uses it: the policies of tenants, the lists of now, the secret that
nonces come from. A thin rim: what is decided is decided in the pure modules.

A tenant without a policy costs one look into a dictionary; its streams are not touched.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from models.worded import Worded
from serving import accounting
from serving.backends.base import BlockStream
from serving.errors import CallerError, UpstreamError
from serving.guard import labels, personal, placeholders, screening
from serving.guard.channels import Output
from serving.guard.inspector import Asked, Inspector
from serving.guard.lists import Lists
from serving.guard.memory import Memory
from serving.guard.moderated import Closed, Moderated, Open
from serving.guard.moderation import Judgement, Moderator
from serving.guard.reading import Rules, TooLong
from serving.guard.settings import GuardSettings
from serving.guard.termfile import ListFault
from serving.guard.transcript import Transcript
from serving.guard.values import Action, Finding, Policy
from serving.records import Block, Call, Surface, Ticket, Usage
from serving.rules import HEARD

_CHAT = Surface.CHAT
_SPEAKING = HEARD | {_CHAT, Surface.COMPLETIONS}
"""Surfaces whose answers say something."""
_MODERATED = {"open": Open, "closed": Closed}
CLOSELY_CHARS, GLANCED_BYTES = 64 << 10, 512 << 10
"""What of a body may be read closely, and what may be glanced at, before others: beyond it a body
is screened in a thread, for it would hold them up for long."""


class Gate:
    """Screens calls and gives out inspectors."""

    def __init__(self, settings: GuardSettings, secret: bytes, moderator: Moderator | None) -> None:
        self._default = settings.default.policy(settings.producer)
        self._tenants = {
            name: tenant.policy(settings.producer) for name, tenant in settings.tenants.items()
        }
        self._secret = secret
        self._moderator = moderator
        self.lists = Lists(settings.terms_dir)
        self._remembers = settings.remembers
        self._memory_secret = secrets.token_bytes(32)
        self._memory = Memory(self._memory_secret, None)

    def load(self) -> None:
        """Read the lists, at the start. Raises ListFault, also for a list that a tenant names and
        that is not there."""
        policies = (self._default, *self._tenants.values())
        if all(policy.is_relay for policy in policies):
            return
        if self._moderator is None and any(policy.moderation != "off" for policy in policies):
            template = "guard: a tenant is to be moderated and no guard.moderation is set"
            raise ListFault(Worded("terms.no_moderation", template))
        self.lists.load()
        personal.prepare(self.lists.folding)
        for policy in policies:
            missing = sorted(policy.lists - self.lists.names)
            if missing:
                template = "guard: no term list named {names} in terms_dir"
                raise ListFault(Worded("terms.no_list", template, names=missing))

    @property
    def remembered(self) -> int:
        """Texts of which it is known what they hold."""
        return len(self._memory)

    def policy(self, tenant: str) -> Policy:
        """What holds for a tenant."""
        return self._tenants.get(tenant, self._default)

    async def admit(self, call: Call) -> screening.Verdict | None:
        """The whole verdict on an input, the external service's included; None for a tenant that is
        relayed. Raises CallerError for what cannot be had with inspection."""
        policy = self.policy(call.tenant)
        if policy.is_relay:
            return None
        if policy.rewrites and screening.wants_logprobs(call.fields):
            message = "logprobs cannot be had while answers are inspected"
            raise CallerError("invalid_value", message, param="logprobs")
        verdict = await self.screen(call)
        if verdict.is_blocked:
            return verdict
        if policy.moderation == "off":
            return verdict
        judged = await self.moderate(call, "\n".join(verdict.texts), "input")
        if judged is None or judged.action is None:
            return verdict
        finding = Finding("moderation", judged.action, "messages", judged.reason)
        return verdict._replace(
            findings={**verdict.findings, finding: 1},
            is_blocked=judged.action is Action.BLOCK,
        )

    async def screen(self, call: Call) -> screening.Verdict:
        """Screen an input; a large one in a thread."""
        policy = self.policy(call.tenant)
        if not policy.looks:
            return screening.relayed(call.fields, policy)
        if call.size <= GLANCED_BYTES:
            try:
                return self._screened(call, policy, CLOSELY_CHARS)
            except TooLong:
                pass
        return await asyncio.to_thread(self._screened, call, policy, None)

    def _screened(self, call: Call, policy: Policy, closely_max: int | None) -> screening.Verdict:
        terms = self.lists.terms
        memory = self._memory
        if memory.terms is not terms:
            # What goes on under the lists before keeps to the memory before.
            memory = self._memory = Memory(self._memory_secret, terms)
        recall = memory.of(call.tenant) if self._remembers else None
        rules = Rules(policy, terms, self.lists.folding, recall, closely_max)
        return screening.screen(call.fields, rules, self._letters(call.request_id))

    def _letters(self, request_id: str) -> Callable[[int], str]:
        return lambda attempt: placeholders.nonce(self._secret, request_id, attempt)

    async def moderate(self, call: Call, text: str, stage: str) -> Judgement | None:
        """Ask the external service where the tenant's policy says so."""
        policy = self.policy(call.tenant)
        if policy.moderation == "off" or self._moderator is None:
            return None
        return await self._moderator.ask(text, stage, fails_open=policy.moderation == "open")

    def seen(self, call: Call, verdict: screening.Verdict, ticket: Ticket) -> Call:
        """The call as the target of one attempt may see it."""
        return seen_by(call, verdict.egress_fields if ticket.is_egress else verdict.fields)

    def inspected(
        self, stream: BlockStream, call: Call, verdict: screening.Verdict, ticket: Ticket
    ) -> BlockStream:
        """An answer, inspected where it must be."""
        inspector = self.inspector(call, verdict, ticket.is_egress)
        if inspector is None:
            return stream
        verdict.answers.append(inspector.output.findings)
        inspected = Inspected(stream, inspector, call.stream)
        policy = self.policy(call.tenant)
        if policy.moderation == "off":
            return inspected
        kind = _MODERATED[policy.moderation] if call.stream else Moderated
        return kind(inspected, inspector, lambda text: self._ask(policy, text))

    async def _ask(self, policy: Policy, text: str) -> Judgement:
        assert self._moderator is not None
        return await self._moderator.ask(text, "output", fails_open=policy.moderation == "open")

    def inspector(
        self, call: Call, verdict: screening.Verdict, is_egress: bool
    ) -> Inspector | None:
        """The inspector of one attempt's answer; None relays it untouched."""
        policy = self.policy(call.tenant)
        if call.surface not in _SPEAKING or not verdict.inspects(policy, is_egress):
            return None
        if call.sound is not None:
            asked = Asked(usage=_estimate(call))
            return Transcript(Output(policy, self.lists.terms, None), asked)
        mark = None
        if policy.ai_producer:
            mark = labels.metadata(policy.ai_producer, call.request_id)
        vault = verdict.vault if is_egress else None
        asked = Asked(
            usage=_estimate(call),
            wants_usage=call.wants_usage,
            mark=mark,
            is_json=_wants_json(call.fields),
            is_chat=call.surface is _CHAT,
        )
        return Inspector(Output(policy, self.lists.terms, vault), asked)


def _estimate(call: Call) -> Callable[[int], Usage]:
    return lambda events: accounting.estimated(call.prompt_tokens, events)


def _wants_json(fields: Mapping[str, msgspec.Raw]) -> bool:
    if (raw := fields.get("response_format")) is None:
        return False
    try:
        return labels.wants_json(msgspec.json.decode(raw))
    except msgspec.MsgspecError:
        return False


def seen_by(call: Call, fields: Mapping[str, msgspec.Raw]) -> Call:
    """The call as a target may see it."""
    if fields is call.fields:
        return call
    changes: dict[str, Any] = {"fields": fields}
    for name in ("messages", "prompt"):
        if name in fields:
            changes["prompt"] = bytes(fields[name])
            break
    return msgspec.structs.replace(call, **changes)


class Inspected:
    """A BlockStream whose Blocks pass an inspector."""

    def __init__(self, stream: BlockStream, inspector: Inspector, is_stream: bool) -> None:
        self._stream = stream
        self._inspector = inspector
        self._is_stream = is_stream
        self._fault: UpstreamError | None = None
        self._is_over = False

    def __aiter__(self) -> Inspected:
        return self

    async def __anext__(self) -> Block:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        if self._is_over:
            raise StopAsyncIteration
        if not self._is_stream:
            return self._inspector.plain(await self._stream.__anext__())
        try:
            block = self._inspector.feed(await self._stream.__anext__())
        except UpstreamError as fault:
            held = self._inspector.end()
            if not held:
                raise
            self._fault = fault
            return Block(held)
        if self._inspector.is_over:
            # The target need not go on with what nobody will read.
            self._is_over = True
            self._stream.abort()
        return block

    def abort(self) -> None:
        """See `BlockStream.abort`."""
        self._is_over = True
        self._stream.abort()
