"""`ballast alerts`: the bridge from Alertmanager to group robots."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ballast.alerting.__main__ import main_of
from ballast.alerting.settings import load
from serving import logs


def alerts(
    config: Annotated[Path, typer.Option(help="The bridge's file; see docs/alerts.md.")],
) -> None:
    """Tell Feishu, DingTalk and WeCom robots what Alertmanager posts; runs until stopped."""
    logs.configure()
    asyncio.run(main_of(load(config)))
