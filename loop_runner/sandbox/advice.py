"""What to do on this machine to get a higher tier."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from loop_runner.sandbox.inside import confine

_INSTALL = "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap)"


_HAVE_LANDLOCK = "It needs Linux 5.13 or later with Landlock in the kernel's list of security modules (lsm=)."


_OPEN_IT = (
    "Install Python and loop-runner in a folder that every user may enter (such as /opt), start loop-runner"
    " as an ordinary user, or allow mounts."
)


# Settings of a machine that keep bubblewrap from working: file, value, remedy.
_NAMESPACE_SETTINGS = (
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "an AppArmor profile for bwrap with `userns,` in it, or set that to 0 with sysctl",
    ),
)


def advice(tier: str, failures: Mapping[str, str], bubblewrap: str | None) -> tuple[str, ...]:
    """How to get a better tier than ``tier`` on this machine."""
    if tier == "A":
        return ()
    advice = []
    if bubblewrap is None:
        advice.append(f"For tier A {_INSTALL}.")
    else:
        advice.append(f"Tier A was tried with {bubblewrap} and failed: {failures.get('A', 'unknown')}.")
        advice += _namespace_advice()
    if tier == "C":
        advice.append(f"Tier B was tried and failed: {failures.get('B', 'unknown')}.")
        advice.append(_OPEN_IT if confine.OPEN_TO_ROOT_ONLY in failures.get("B", "") else _HAVE_LANDLOCK)
    return tuple(advice)


def _namespace_advice() -> list[str]:
    advice = []
    for name, bad, remedy in _NAMESPACE_SETTINGS:
        with contextlib.suppress(OSError):
            if (Path("/proc/sys") / name).read_text().strip() == bad:
                advice.append(
                    f"Users of this machine may not make namespaces; an administrator can allow it: {remedy}."
                )
    if not advice:
        advice.append("In a container, allow user namespaces (Docker: --security-opt seccomp=unconfined).")
    return advice
