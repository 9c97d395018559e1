"""Quality on public splits beside peers and published figures: `python -m benchmarks.quality [data …]`."""
