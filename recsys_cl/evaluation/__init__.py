"""Evaluation: exact top-k over the full catalog, metrics with intervals, baselines, and the report for people."""
