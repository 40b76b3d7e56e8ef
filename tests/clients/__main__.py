"""``python -m tests.clients``: fetch the real clients, then run the tests here without a network.

Started as root, the tests run in a network namespace that has no network but its loopback: what passes there
asked nobody else. Further arguments go to pytest.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys

from tests.clients import fetch

_INSIDE = "LOOP_RUNNER_TEST_CLIENTS_INSIDE"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def main() -> int:
    if os.environ.get(_INSIDE):
        _loopback_up()
        if "--compare" in sys.argv:
            from tests.clients import compare

            compare.main()
            return 0
        return subprocess.run(
            [sys.executable, "-m", "pytest", "tests/clients", *sys.argv[1:]], check=False
        ).returncode
    missing = 0
    for client in ("claude", "codex"):
        try:
            print(f"{client}: {fetch.fetch(client)}", flush=True)
        except fetch.CannotFetch as error:
            missing += 1
            print(f"\n*** {client} IS NOT TESTED: {error}\n", file=sys.stderr, flush=True)
    if missing == 2:
        return 0
    inside = [sys.executable, "-m", "tests.clients", *sys.argv[1:]]
    # Only as root: the root of a user namespace knows no other user, and gates are never run as root.
    alone = ["unshare", "--net"]
    try:
        has_namespaces = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        has_namespaces = False
    if has_namespaces:
        return subprocess.run([*alone, *inside], env={**os.environ, _INSIDE: "1"}, check=False).returncode
    print(
        "*** no network of their own: THE CLIENTS ARE NOT CUT OFF FROM THE NETWORK",
        file=sys.stderr,
        flush=True,
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/clients", *sys.argv[1:]], check=False
    ).returncode


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        request = struct.pack("16sh", b"lo", 0)
        (flags,) = struct.unpack("16xh", fcntl.ioctl(plug, _SIOCGIFFLAGS, request)[:18])
        fcntl.ioctl(plug, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))


if __name__ == "__main__":
    sys.exit(main())
