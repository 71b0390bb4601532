"""What `/v1/models` says: from the settings, never from live replicas, so that a model with no GPU
left can still be asked for and so wake one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from models.worded import Worded
from serving.errors import CallerError
from serving.records import Caller, FleetView
from serving.rollout.endings import header_lines, told
from serving.settings import Model, SettingsError
from serving.settings_rollout import Ending


class Catalogue:
    """The names this gateway answers to. Raises SettingsError when one is ambiguous."""

    def __init__(
        self, models: Iterable[Model], view: Callable[[], FleetView], created_s: int,
        endings: Mapping[str, Ending] | None = None,
    ) -> None:  # fmt: skip
        self._view = view
        self._created_s = created_s
        self._by_name: dict[str, Model] = {}
        for model in models:
            for name in (model.name, *model.aliases, *(a.name for a in model.adapters)):
                if name in self._by_name:
                    template = "models: the name {name} is given twice"
                    raise SettingsError(Worded("settings.twice", template, name=repr(name)))
                self._by_name[name] = model
        self.adapters = frozenset(a.name for m in self._by_name.values() for a in m.adapters)
        """Names of LoRA adapters, each served by its model's engines."""
        self._endings = endings or {}
        if unknown := sorted(self._endings.keys() - self._by_name.keys()):
            template = "rollout.endings: no model, alias or adapter {name}"
            raise SettingsError(Worded("settings.endings", template, name=repr(unknown[0])))
        self.notices = {name: header_lines(one) for name, one in self._endings.items()}
        """Header lines of answers, by public name."""

    @property
    def names(self) -> list[str]:
        """Every name, aliases and adapters too."""
        return list(self._by_name)

    def find(self, name: str) -> Model | None:
        """The model behind a name."""
        return self._by_name.get(name)

    def render(self, name: str, caller: Caller) -> bytes:
        """JSON of all models the caller may use, or of one. Raises CallerError."""
        rows = [
            self._row(alias, model)
            for alias, model in self._by_name.items()
            if self.allows(alias, model, caller)
        ]
        if not name:
            return msgspec.json.encode({"object": "list", "data": rows})
        for row in rows:
            if row["id"] == name:
                return msgspec.json.encode(row)
        raise CallerError("model_not_found", f"model {name[:200]!r} is not served here")

    def allows(self, name: str, model: Model, caller: Caller) -> bool:
        """Whether a key may call `model` by `name`: by the model's name, or by the adapter's."""
        allowed = caller.policy.models
        if allowed is None or model.name in allowed:
            return True
        return name in self.adapters and name in allowed

    def _row(self, alias: str, model: Model) -> dict[str, Any]:
        view = self._view()
        status = "unavailable"
        if view.replicas.get(model.name):
            status = "ready"
        elif model.name in view.pending:
            status = "loading"
        elif view.offerings.get(model.name):
            status = "api"
        return {
            "id": alias,
            "object": "model",
            "created": self._created_s,
            "owned_by": "ballast",
            "max_model_len": model.context_tokens,
            "ballast": {"model": model.name, "status": status} | self._ending(alias),
        } | ({"parent": model.name} if alias in self.adapters else {})

    def _ending(self, name: str) -> dict[str, Any]:
        ending = self._endings.get(name)
        return {"deprecation": told(name, ending)} if ending is not None else {}
