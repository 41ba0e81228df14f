"""The real Flask and waitress, by name from PyPI into a folder of the user's cache: what the Python templates stand on."""

import os
import subprocess
import sys

PACKAGES = ["flask==3.1.3", "waitress==3.0.2"]

# On a slow line, in seconds.
INSTALL_LIMIT = 600


def flask_folder():
    """A folder for `sys.path` that has them; installed at first use."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = "-".join(PACKAGES).replace("==", "-") + "-py%d.%d" % sys.version_info[:2]
    folder = os.path.join(cache, "tidegate", "openfaas", name)
    done = os.path.join(folder, ".installed")
    if not os.path.exists(done):
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--root-user-action", "ignore", "--upgrade", "--target", folder, *PACKAGES],
            check=True, timeout=INSTALL_LIMIT,
        )
        # Written last, so that an installation cut short is made anew.
        with open(done, "w"):
            pass
    return folder
