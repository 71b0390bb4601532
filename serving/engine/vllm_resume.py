"""vLLM's engine client with a memory of what another replica has generated (0124).

The known tokens are appended to the prompt, so that the engine computes them in one prefill; the
front end is told of them one by one as if they had just been made, by vLLM's own detokenizer over
the original prompt. So a character in several tokens, text held back for a stop string, a
reasoning parser's state and the usage are what they would be had nothing happened.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from serving.codecs.going_on import Answer, Begun
from serving.engine.resume import current

Generate = Callable[..., AsyncIterator[Any]]
PAUSE_EVERY = 32
"""Known tokens told before the engine's other answers have a turn: telling one waits for nothing,
as what the client has is dropped, and an answer may have 100,000."""


def following(base: Any) -> Any:
    """`base` (AsyncLLM) whose answers tell their ids, and go on with what was begun elsewhere."""

    class FollowedLLM(base):  # type: ignore[misc]
        def generate(
            self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
        ) -> AsyncIterator[Any]:
            answer = current()
            generate = super().generate
            if answer is None:
                return generate(prompt, sampling_params, request_id, **more)  # type: ignore[no-any-return]
            if answer.begun is None:
                return _told(generate(prompt, sampling_params, request_id, **more), answer)

            def rest(longer: Any, params: Any) -> AsyncIterator[Any]:
                return generate(longer, params, request_id, **more)  # type: ignore[no-any-return]

            known = _Known(self.output_processor.tokenizer, prompt, sampling_params, answer.begun)
            return known.answer(rest, answer, request_id)

    return FollowedLLM


async def _told(outputs: Any, answer: Answer) -> AsyncIterator[Any]:
    async with aclosing(outputs):
        async for output in outputs:
            for one in output.outputs:
                answer.made(one.token_ids, _finish(one))
            yield output


def _finish(one: Any) -> str | None:
    """Why the last token is the last one. Not of a stop string: whoever is told the tokens anew
    finds that by itself, and what of the last token's text stands before it."""
    return None if isinstance(one.stop_reason, str) else one.finish_reason


class _Known:
    """An answer whose first tokens are known."""

    def __init__(self, tokenizer: Any, prompt: Any, params: Any, begun: Begun) -> None:
        from vllm.v1.engine.detokenizer import IncrementalDetokenizer

        self._prompt, self._params, self._begun = prompt, params, begun
        self._prompt_ids: list[int] = list(prompt["prompt_token_ids"])
        request = SimpleNamespace(
            request_id="resumed", prompt_token_ids=self._prompt_ids, prompt_embeds=None,
            sampling_params=params,
        )  # fmt: skip
        self._text = IncrementalDetokenizer.from_new_request(
            tokenizer if params.detokenize else None, request
        )

    async def answer(
        self, rest: Callable[[Any, Any], AsyncIterator[Any]], answer: Answer, request_id: str
    ) -> AsyncIterator[Any]:
        """Everything, from the first token on."""
        for at, output in enumerate(self._replay(request_id), 1):
            yield output
            if output.finished:
                return
            if at % PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        longer = {**self._prompt, "prompt_token_ids": self._prompt_ids + list(self._begun.ids)}
        outputs: Any = rest(longer, self._remaining())
        async with aclosing(outputs):
            async for output in outputs:
                (one,) = output.outputs
                ids, text, finish, reason = self._take(list(one.token_ids), one)
                one.token_ids, one.text = ids, text
                one.finish_reason, one.stop_reason = finish, reason
                output.prompt_token_ids = self._prompt_ids
                output.finished = output.finished or finish is not None
                answer.made(ids, _finish(one))
                yield output
                if output.finished:
                    return

    def _replay(self, request_id: str) -> Iterator[Any]:
        from vllm.outputs import CompletionOutput, RequestOutput

        last = len(self._begun.ids) - 1
        for at, token in enumerate(self._begun.ids):
            finish = self._begun.finish or None if at == last else None
            known = SimpleNamespace(finish_reason=finish, stop_reason=self._reason(token, finish))
            ids, text, finish, reason = self._take([token], known)
            one = CompletionOutput(0, text, ids, None, None)
            one.finish_reason, one.stop_reason = finish, reason
            yield RequestOutput(
                request_id, self._prompt.get("prompt"), self._prompt_ids, None, [one],
                finish is not None, num_cached_tokens=0, num_cache_creation_tokens=0,
            )  # fmt: skip

    def _take(self, ids: list[int], one: Any) -> tuple[list[int], str, str | None, Any]:
        """What new tokens add: themselves, their text, and whether they end the answer. As vLLM's
        output processor does it."""
        finish, reason, before = one.finish_reason, one.stop_reason, self._text.num_output_tokens()
        stop = self._text.update(ids, finish == "stop")
        if stop:
            finish, reason = "stop", stop
            ids = ids[: self._text.num_output_tokens() - before]
        return ids, self._text.get_next_output_text(finish is not None, True), finish, reason

    def _reason(self, token: int, finish: str | None) -> int | None:
        """vLLM names the stop token that the caller asked for, not the model's own."""
        asked = self._params.stop_token_ids or ()
        return token if finish == "stop" and token in asked else None

    def _remaining(self) -> Any:
        """What is still to be made; text and stop strings are ours."""
        params, known = self._params.clone(), len(self._begun.ids)
        params.stop, params.detokenize = [], False
        params.min_tokens = max(0, params.min_tokens - known)
        if params.max_tokens is not None:
            params.max_tokens = max(1, params.max_tokens - known)
        return params
