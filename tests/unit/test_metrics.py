"""Series: named with units, closed in number, rendered as Prometheus reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import SERIES_MAX, Counter, Histogram, Metrics


def samples(metrics):
    text = metrics.render().decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_a_counter_is_rendered_with_its_labels_and_total():
    metrics = Metrics(list)
    metrics.attempts.add(("m", "own", "ok"))
    metrics.attempts.add(("m", "own", "ok"), 2)
    labels = (("model", "m"), ("outcome", "ok"), ("tier", "own"))
    assert samples(metrics)["ballast_attempts_total", labels] == 3


def test_a_histogram_counts_up_to_each_bound():
    metrics = Metrics(list)
    for value in (0.05, 0.06, 1000.0):
        metrics.queue_wait.observe(("m",), value)
    found = samples(metrics)

    def bucket(bound):
        return found["ballast_queue_wait_seconds_bucket", (("le", bound), ("model", "m"))]

    assert (bucket("0.05"), bucket("0.1"), bucket("60.0"), bucket("+Inf")) == (1, 2, 2, 3)
    assert found["ballast_queue_wait_seconds_sum", (("model", "m"),)] == pytest.approx(1000.11)


def test_gauges_are_read_at_the_scrape():
    values = {("m",): 1.0}
    metrics = Metrics(lambda: [("ballast_depth", "Depth", ("model",), values)])
    values["m",] = 7.0
    assert samples(metrics)["ballast_depth", (("model", "m"),)] == 7.0


def test_every_series_name_says_what_it_counts():
    metrics = Metrics(list)
    for family in metrics.collect():
        assert family.name.startswith("ballast_")
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_ratio"))


def test_no_label_ever_makes_more_series_than_the_bound():
    counter = Counter("c", "c", ("a", "b"))
    histogram = Histogram("h", "h", ("a",), (1.0,))
    for n in range(SERIES_MAX + 500):
        counter.add((str(n), "x"))
        histogram.observe((str(n),), 0.5)
    assert len(counter.values) <= SERIES_MAX + 1
    assert counter.values["other", "other"] == 500
    assert len(histogram.values) <= SERIES_MAX + 1
    assert histogram.values["other",][0] == [500, 0]
    counter.add(("0", "x"))
    assert counter.values["0", "x"] == 2, "known series go on counting"


def test_labels_cannot_forge_another_line():
    metrics = Metrics(list)
    evil = 'm"} 1\nballast_money_micro_total{model="x'
    metrics.unparsed.add((evil,))
    assert samples(metrics)["ballast_unparsed_requests_total", (("code", evil),)] == 1


@given(st.lists(st.floats(0, 1e4), max_size=50))
def test_buckets_add_up_to_what_was_observed(values):
    histogram = Histogram("h", "h", (), (0.1, 1.0, 10.0))
    for value in values:
        histogram.observe((), value)
    for counts, total in histogram.values.values():
        assert sum(counts) == len(values)
        assert total[0] == pytest.approx(sum(values))
