"""From user interaction logs to a live nearest-neighbor index."""
