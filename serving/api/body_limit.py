"""A bound on what the ops listener reads of one request, before anything parses it."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import errors

BYTES_MAX = 1 << 20
"""A row with a thousand models of 200 letters takes 200 KiB."""


class BodyLimit:
    """ASGI middleware: answers 413 to a longer body, whether its length was said or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"")
        pieces: list[Message] = []
        size, is_over = 0, said.isdigit() and int(said) > BYTES_MAX
        while not is_over:
            message = await receive()
            pieces.append(message)
            size += len(message.get("body", b""))
            is_over = size > BYTES_MAX
            if not message.get("more_body", False):
                break
        if is_over:
            await _refuse(send)
            return
        waiting = iter(pieces)

        async def again() -> Message:
            return next(waiting, None) or await receive()

        await self._app(scope, again, send)


async def _refuse(send: Send) -> None:
    body = errors.body("body_too_large", f"the body exceeds {BYTES_MAX} bytes", None)
    head = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": head})
    await send({"type": "http.response.body", "body": body})
