"""Figures: what is counted is what Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from recsys_cl.serving.metrics import RequestFigures, write_text


def test_requests_are_counted_and_timed_by_route() -> None:
    figures = RequestFigures()
    for seconds in (0.0005, 0.001, 0.3, 99.0):
        figures.count("GET", "/items/{item_id}/neighbors", 200, seconds)
    figures.count("GET", "unmatched", 404, 0.1)
    text = write_text(figures, [('recsys_release_info{release="r"}', "gauge", "It answers.", 1)])
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counts = {tuple(one.labels.values()): one.value for one in families["recsys_requests"].samples}
    assert counts == {("GET", "/items/{item_id}/neighbors", "200"): 4, ("GET", "unmatched", "404"): 1}
    samples = [one for one in families["recsys_request_seconds"].samples if one.labels["route"] != "unmatched"]
    buckets = {one.labels["le"]: one.value for one in samples if one.name.endswith("_bucket")}
    assert (buckets["0.001"], buckets["0.25"], buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (2, 2, 3, 3, 4)
    assert next(one.value for one in samples if one.name.endswith("_sum")) == 0.0005 + 0.001 + 0.3 + 99.0
    assert families["recsys_release_info"].samples[0].labels == {"release": "r"}
