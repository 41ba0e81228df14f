"""hello-python behind Flask and waitress with four threads: what of-watchdog passes calls to, without of-watchdog.

Two words: the folder with `peers.py` and `reference.py`, and a port of loopback to serve, or `install` to only see that
the packages are there.
"""

import importlib
import os
import sys

tests, port = sys.argv[1:]
sys.path.insert(0, tests)
sys.path.insert(0, importlib.import_module("peers").flask_folder())

if port != "install":
    from waitress import serve

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "hello-python"))
    app = importlib.import_module("reference").app("python3-http", importlib.import_module("handler").handle)
    serve(app, host="127.0.0.1", port=int(port), threads=4)
