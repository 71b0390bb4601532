"""Whom to tell what: the same news once, the end only to those who heard of the start. Pure but for
the memory it keeps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import msgspec

from ballast.alerting.cards import Group
from ballast.alerting.settings import Robot

GROUPS_MAX = 2000
"""Remembered, over all robots; the oldest go first and would be told again."""


def heard(group: Group, robot: Robot) -> Group | None:
    """The part of a group that this robot is told of; None is nothing."""
    alerts = tuple(
        a for a in group.alerts if a.labels.get("severity", "note") in robot.severities
    )  # fmt: skip
    return msgspec.structs.replace(group, alerts=alerts) if alerts else None


def news(group: Group) -> Hashable:
    """Equal for posts that say the same."""
    return group.status, frozenset((a.fingerprint, a.status) for a in group.alerts)


class Told:
    """What each robot has been told, bounded."""

    def __init__(self, repeat_s: float) -> None:
        self._repeat_s = repeat_s
        self._said: OrderedDict[tuple[str, str], tuple[Hashable, float]] = OrderedDict()

    def is_new(self, robot: str, group: Group, now_s: float) -> bool:
        """Whether to tell it now."""
        before = self._said.get((robot, group.group_key))
        if before is None:
            return group.status != "resolved"
        said, at_s = before
        return said != news(group) or (
            group.status != "resolved" and now_s - at_s >= self._repeat_s
        )

    def telling(self, robot: str, group: Group, now_s: float) -> None:
        """It is being told."""
        key = robot, group.group_key
        self._said[key] = news(group), now_s
        self._said.move_to_end(key)
        while len(self._said) > GROUPS_MAX:
            self._said.popitem(last=False)

    def failed(self, robot: str, group: Group) -> None:
        """It could not be told: the next post says it again."""
        self._said.pop((robot, group.group_key), None)
