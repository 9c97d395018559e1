"""Telling of a change of state: comes in what happened, goes out as JSON to a webhook and to a command.

Nobody's run depends on it: what goes wrong comes back as lines that name no secret, for the log.
"""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from recsys_cl.database import expand_variables
from recsys_cl.errors import ConfigError
from recsys_cl.scheduled_sections import NotifyConfig


def notify(config: NotifyConfig, message: Mapping[str, Any]) -> list[str]:
    """Send a message, JSON values by name, to all that are configured; gives what went wrong, a line each.

    Each is waited for at most `timeout_seconds`, and asked once.
    """
    body = json.dumps(message, ensure_ascii=False).encode()
    return [*_post(config, body), *_run(config, body)]


def _post(config: NotifyConfig, body: bytes) -> list[str]:
    if not config.webhook:
        return []
    try:
        url = expand_variables(config.webhook)
        where = urlsplit(url)
        if where.scheme not in ("http", "https"):
            return ["notify.webhook names no URL of http or https; nobody was told"]
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=config.timeout_seconds):
            return []
    except ConfigError as error:
        return [f"nobody was told: {error}"]
    except urllib.error.HTTPError as error:
        return [f"the webhook at {where.hostname} answered {error.code}"]
    except (OSError, ValueError, HTTPException):  # their texts may repeat the URL
        return ["the webhook could not be reached"]


def _run(config: NotifyConfig, body: bytes) -> list[str]:
    if not config.command:
        return []
    name = config.command[0]
    try:
        done = subprocess.run(
            config.command,
            input=body,
            timeout=config.timeout_seconds,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return [f"{name} was ended after {config.timeout_seconds:g} s (notify.timeout_seconds)"]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return [f"{name} could not be started ({reason})"]
    return [] if done.returncode == 0 else [f"{name} ended with {done.returncode}"]
