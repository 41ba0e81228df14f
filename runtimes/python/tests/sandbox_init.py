"""The init of a test's sandbox: makes namespaces, waits for its id maps, becomes pid 1 of them.

Without privilege the makers of such maps are separate programs; here the test
is root and writes them, between the two lines this prints.
"""

import ctypes
import os
import socket
import sys

# user, pid, mount, network, ipc, uts
KINDS = 0x10000000 | 0x20000000 | 0x00020000 | 0x40000000 | 0x08000000 | 0x04000000
MS_REC_PRIVATE = 0x4000 | 0x40000

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


check(libc.unshare(KINDS))
print("unshared", flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    check(libc.mount(None, b"/", None, MS_REC_PRIVATE, None))
    check(libc.mount(b"proc", b"/proc", b"proc", 0, None))
    socket.sethostname("inside")
    print("made", flush=True)
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
os.waitpid(child, 0)
