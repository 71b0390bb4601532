"""Clients as they are sold: real packages, each in an environment of its own, against the gateway.

`environments` makes them; `pages` writes docs/clients.md and a page for each; the programs that run
in them, and what they are pinned to, lie in `tests/gateway/clients`.
"""
