"""The level of messages that the user of a run should see without being warned of anything."""

from __future__ import annotations

NOTICE = 25
"""Between INFO and WARNING: what a run resumes, validates on and stops at, and what it changes in a clip's tracks."""
