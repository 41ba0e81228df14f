"""Calls function/handler.py with standard input, as OpenFaaS's template @LANGUAGE@ does: a process a call."""

import sys

from function import handler

if __name__ == "__main__":
    answer = handler.handle(sys.stdin.read())
    if answer is not None:
        print(answer)
