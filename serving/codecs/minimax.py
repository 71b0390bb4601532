"""MiniMax's accent of OpenAI's dialect: errors under status 200, thinking in details. Pure.

`base_resp.status_code` other than 0 is a failure; `reasoning_details` hold what others call
`reasoning_content`, each event its own piece.
"""

from __future__ import annotations

from typing import Any

from serving.codecs.accent import Accent
from serving.codecs.payloads import listed, mapping

Json = dict[str, Any]


def _error(event: Json) -> Json | None:
    told = mapping(event.get("base_resp"))
    code = told.get("status_code")
    return {"code": str(code), "message": str(told.get("status_msg", ""))} if code else None


def _unify(said: Json) -> None:
    details = listed(said.pop("reasoning_details", None))
    if text := "".join(str(detail.get("text") or "") for detail in details):
        said["reasoning_content"] = text


MINIMAX = Accent(_unify, _error)
