"""The fake provider with MiniMax's accent: thinking in details, a status in each body. Pure."""

from __future__ import annotations

from serving.fakes.provider_answer import Answer, Json

_FINE = {"status_code": 0, "status_msg": ""}


class MinimaxAnswer(Answer):
    """What OpenAI's dialect says, with the accent."""

    def chunks(self) -> list[Json]:
        """The whole stream; the last event repeats the answer as a message."""
        events = [_accented(event) for event in super().chunks()]
        message = super().plain()["choices"][0]["message"]
        events[-1]["choices"][0]["message"] = message
        return events

    def plain(self) -> Json:
        """The whole answer as one object."""
        return _accented(super().plain())


def _accented(event: Json) -> Json:
    for choice in event["choices"]:
        said = choice.get("delta", choice.get("message", {}))
        if "reasoning_content" in said:
            detail = {"type": "reasoning.text", "index": 0, "text": said.pop("reasoning_content")}
            said["reasoning_details"] = [detail]
    return {**event, "base_resp": _FINE}
