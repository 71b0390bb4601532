"""Panels in one form, so that a dashboard reads as a list of questions and queries."""

from __future__ import annotations

from pathlib import Path

import msgspec
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
WIDTH, HEIGHT = 24, 8
"""Grafana's grid is 24 columns wide."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One panel: what it answers, and the queries that do."""

    title: str
    queries: dict[str, str]
    """PromQL by legend."""
    unit: str = "short"
    """A Grafana unit: `s`, `percentunit`, `reqps`, `short`, `decbytes`."""
    help: str = ""
    width: int = 8


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One dashboard."""

    uid: str
    title: str
    about: str
    questions: list[Question]
    by_model: bool = True
    """Has a variable `$model`."""


def pages() -> list[Page]:
    """All dashboards."""
    return msgspec.yaml.decode(Path(__file__).with_name("pages.yaml").read_bytes(), type=list[Page])


def built(page: Page) -> dashboard.Dashboard:
    """The dashboard, ready to be encoded."""
    board = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.about)
        .tags(["ballast"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("source").label("Source").type("prometheus"))
    )
    if page.by_model:
        board = board.with_variable(
            dashboard.QueryVariable("model")
            .label("Model")
            .datasource(SOURCE)
            .query("label_values(ballast_replicas, model)")
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    column = row = 0
    for number, question in enumerate(page.questions, start=1):
        if column + question.width > WIDTH:
            column, row = 0, row + HEIGHT
        place = GridPos(h=HEIGHT, w=question.width, x=column, y=row)
        board = board.with_panel(_panel(question, number, place))
        column += question.width
    return board


def _panel(question: Question, number: int, place: GridPos) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .placement(LegendPlacement.BOTTOM)
        .display_mode(LegendDisplayMode.LIST)
    )
    panel = (
        timeseries.Panel()
        .id(number)
        .title(question.title)
        .description(question.help)
        .unit(question.unit)
        .min(0)
        .fill_opacity(8)
        .legend(legend)
        .datasource(SOURCE)
        .grid_pos(place)
    )
    for index, (name, query) in enumerate(question.queries.items()):
        asked = prometheus.Dataquery().expr(query).legend_format(name)
        panel = panel.with_target(asked.ref_id(chr(ord("A") + index)))
    return panel
