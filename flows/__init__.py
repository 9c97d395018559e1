"""Prefect flows: when the stages run, and what is tried again. No algorithm and no I/O of their own.

Prefect's telemetry is off unless the environment says otherwise.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
# The embedded server may take longer to start on a busy machine than Prefect waits for.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
