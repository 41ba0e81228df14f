"""The host without a zygote: `python3 -I -B host_main.py`, control channel on descriptor 3.

The configuration comes as the first control message. The caller has confined
the process already.
"""

import os
import sys

# An image may have any Python. Said in what the oldest can read.
if sys.version_info < (3, 9):
    sys.exit("Python %d.%d is too old; the host runs on 3.9 and newer" % sys.version_info[:2])

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, _HERE)

from tidegate_host import life  # noqa: E402

if __name__ == "__main__":
    sys.path.remove(_HERE)
    life.leave(life.live(life.open_control(), None))
