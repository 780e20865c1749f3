"""How callbacks are signed: as Standard Webhooks are, HMAC-SHA256 over "id.time.body", with the operator's secret as the key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time

from phonofilm.errors import InputError

CALLBACK_SECRET = "PHONOFILM_CALLBACK_SECRET"
SHORTEST_SECRET = 16
_BASE64 = "whsec_"
_FORM = f"use {_BASE64} and base64 of {SHORTEST_SECRET} bytes or more, as of: echo {_BASE64}$(openssl rand -base64 32)"


def key_from_environment() -> bytes:
    """The key of the secret that the operator set. Raises InputError for one that is not there, too short, or not in its form."""
    return signing_key(os.environ.get(CALLBACK_SECRET, ""))


def signing_key(secret: str) -> bytes:
    """The key of a secret: base64 after "whsec_", or any other text as it is. Raises InputError, without the secret in it."""
    if not secret.startswith(_BASE64):
        if len(secret) < SHORTEST_SECRET:
            raise InputError(
                f"callbacks are signed: set {CALLBACK_SECRET} to {SHORTEST_SECRET} characters or more; {_FORM}"
            )
        return os.fsencode(secret)
    try:
        key = base64.b64decode(secret.removeprefix(_BASE64), validate=True)
    except ValueError:
        raise InputError(f"{CALLBACK_SECRET} begins with {_BASE64}, and the rest is no base64; {_FORM}") from None
    if len(key) < SHORTEST_SECRET:
        raise InputError(f"{CALLBACK_SECRET} holds {len(key)} bytes; {_FORM}")
    return key


def signed_headers(key: bytes, event_id: str, body: bytes) -> dict[str, str]:
    """The headers that let a receiver check who sent `body`, and when."""
    at = int(time.time())
    digest = hmac.new(key, f"{event_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
