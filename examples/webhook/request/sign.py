"""Prints the signature header's value for standard input, as a sender makes it.

    WEBHOOK_SECRET=… python3 sign.py < push.json

The secret comes by the environment: arguments can be read by every user of the machine.
"""

import hashlib
import hmac
import os
import sys


def signature(secret, body):
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


if __name__ == "__main__":
    print(signature(os.environ["WEBHOOK_SECRET"].encode(), sys.stdin.buffer.read()))
