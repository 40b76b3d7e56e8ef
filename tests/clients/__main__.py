"""``python -m tests.clients``: fetch the real clients, then run the tests here without a network.

Where there are namespaces (of users too, unless it is root who starts it), the tests run in one that has no
network but its loopback: what passes there asked nobody else. Further arguments go to pytest.
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
_IDS = "LOOP_RUNNER_TEST_CLIENTS_IDS"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def main() -> int:
    stage = os.environ.get(_INSIDE)
    if stage == "alone":
        _loopback_up()
        again = [*_as_oneself(), sys.executable, "-m", "tests.clients", *sys.argv[1:]]
        return subprocess.run(again, env={**os.environ, _INSIDE: "ready"}, check=False).returncode
    if stage == "ready":
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
    alone, env = _alone()
    if alone:
        return subprocess.run([*alone, *inside], env={**os.environ, **env}, check=False).returncode
    print(
        "*** no network of their own: THE CLIENTS ARE NOT CUT OFF FROM THE NETWORK",
        file=sys.stderr,
        flush=True,
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/clients", *sys.argv[1:]], check=False
    ).returncode


def _alone() -> tuple[list[str], dict[str, str]]:
    """The command that gives a network of one's own, and what is told inside; none where there is none.

    Root takes it directly. Anybody else is root in a user namespace for as long as it takes to turn the
    loopback on, and then themselves again in another: gates are never run as root, and the root of a
    namespace knows no other user.
    """
    shown = {_INSIDE: "alone", _IDS: f"{os.getuid()} {os.getgid()}"}
    way = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    try:
        tried = subprocess.run([*way, *_as_oneself(shown[_IDS]), "true"], capture_output=True, check=False)
    except OSError:
        return [], {}
    return (way, shown) if tried.returncode == 0 else ([], {})


def _as_oneself(ids: str | None = None) -> list[str]:
    """The command that makes the root of a user namespace the user again who made it."""
    uid, gid = (ids or os.environ[_IDS]).split()
    return [] if uid == "0" else ["unshare", "--user", f"--map-user={uid}", f"--map-group={gid}"]


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        request = struct.pack("16sh", b"lo", 0)
        (flags,) = struct.unpack("16xh", fcntl.ioctl(plug, _SIOCGIFFLAGS, request)[:18])
        fcntl.ioctl(plug, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))


if __name__ == "__main__":
    sys.exit(main())
