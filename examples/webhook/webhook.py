"""Takes deliveries only from a sender who knows the secret: the body's HMAC-SHA256 is in `X-Hub-Signature-256`."""

import hashlib
import hmac
import json
import os

HEADER = "X-Hub-Signature-256"
PREFIX = "sha256="


def handler(event, context):
    secret = os.environ.get("WEBHOOK_SECRET", "")
    if not secret:
        # An empty key would make every signature easy to forge, so nothing is accepted without one.
        raise RuntimeError("WEBHOOK_SECRET is not set; deploy with --secret webhook-secret=WEBHOOK_SECRET")
    reason = wrong(event.headers.get(HEADER), event.body, secret.encode())
    if reason:
        return {"error": reason}, 401
    try:
        delivery = json.loads(event.body)
    except ValueError as broken:
        return {"error": f"the body is not JSON: {broken}"}, 400
    if not isinstance(delivery, dict):
        return {"error": "the body is not a JSON object"}, 400
    print(f"accepted {delivery.get('event', 'a delivery without a name')!r}")
    return {"accepted": True, "event": delivery.get("event"), "bytes": len(event.body)}


def wrong(signature, body, secret):
    """Why the signature does not fit the body; None where it does."""
    if signature is None:
        return f"no {HEADER} header"
    if not signature.startswith(PREFIX):
        return f"{HEADER} does not begin with {PREFIX!r}"
    expected = hmac.new(secret, body, hashlib.sha256).hexdigest()
    # Takes as long wherever the first difference stands, so the time says nothing about the right signature. Compared
    # as bytes, because text beyond ASCII is refused with an exception.
    if not hmac.compare_digest(signature[len(PREFIX):].encode(), expected.encode()):
        return "the signature does not fit the body"
    return None
