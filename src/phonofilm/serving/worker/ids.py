"""Names of workers. Apart from the worker itself, which imports PyTorch."""

from __future__ import annotations

import secrets

# The exit code of a worker that can never start: a broken checkpoint, a store that cannot be used.
CANNOT_START = 3


def new_worker_id() -> str:
    """A name that no other worker has, or had."""
    return f"worker_{secrets.token_hex(8)}"
