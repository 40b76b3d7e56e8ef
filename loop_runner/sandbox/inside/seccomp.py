"""The filter of system calls, as the raw program that the machine's kernel takes. No library needed.

It is a list of denied calls, not of allowed ones: numpy and similar libraries need a wide set. Numbers newer
than this list get ENOSYS, so that a later system call is not open by accident. Pure: builds bytes, installs
nothing. Runs inside the kernel process; standard library only.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Code = list[bytes]

EPERM, ENOSYS, EOPNOTSUPP = 1, 38, 95
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _MASK, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER_AT, _ARCH_AT, _ARGS_AT = 0, 4, 16
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_FIRST_UNKNOWN = 463  # the first number after ``mseal``; x32's numbers are above it too

_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # both type into the terminal that started the runner
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF
_F_SETOWN, _F_SETOWN_EX = 8, 15  # with F_SETSIG: a signal of one's choice to any process of the same user
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000

# name: (x86_64, aarch64); None where the machine has no such call.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # looking into other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "unshare": (272, 97),
    "setns": (308, 268),
    # large or rarely used parts of the machine's kernel, where its holes were found
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_secret": (447, 447),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "vhangup": (153, 58),
    # files by handle (around every path rule), and watching a whole file system
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # running the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
}
_DENIED = tuple(NUMBERS)

# Denied only in part, or only where the process shares the machine's namespaces (no bubblewrap).
NUMBERS.update(
    {
        "clone": (56, 220),
        "clone3": (435, 435),
        "ioctl": (16, 29),
        "socket": (41, 198),
        "socketpair": (53, 199),
        "connect": (42, 203),
        "bind": (49, 200),
        "listen": (50, 201),
        "accept": (43, 202),
        "accept4": (288, 242),
        "kill": (62, 129),
        "tkill": (200, 130),
        "tgkill": (234, 131),
        "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240),
        "pidfd_send_signal": (424, 424),
        "fcntl": (72, 25),
        "prlimit64": (302, 261),
        "sched_setaffinity": (203, 122),
        "sched_setscheduler": (144, 119),
        "sched_setparam": (142, 118),
        "sched_setattr": (314, 274),
        "setpriority": (141, 140),
        "ioprio_set": (251, 30),
        "setsid": (112, 157),
        "setpgid": (109, 154),
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "semget": (64, 190),
        "semop": (65, 193),
        "semtimedop": (220, 192),
        "semctl": (66, 191),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
        "chmod": (90, None),
        "fchmod": (91, 52),
        "fchmodat": (268, 53),
        "fchmodat2": (452, 452),
        "chown": (92, None),
        "fchown": (93, 55),
        "lchown": (94, None),
        "fchownat": (260, 54),
        "utime": (132, None),
        "utimes": (235, None),
        "futimesat": (261, None),
        "utimensat": (280, 88),
        "setxattr": (188, 5),
        "lsetxattr": (189, 6),
        "fsetxattr": (190, 7),
        "removexattr": (197, 14),
        "lremovexattr": (198, 15),
        "fremovexattr": (199, 16),
        "truncate": (76, 45),
        "open": (2, None),
        "openat": (257, 56),
        "openat2": (437, 437),
    }
)
_SOCKETS = ("socket", "connect", "bind", "listen", "accept", "accept4")
_SHARED_DENIED = (
    *_SOCKETS,
    *("setsid", "setpgid"),  # the host ends everything by its process group
    *("shmget", "shmat", "shmctl", "semget", "semop", "semtimedop", "semctl"),
    *("msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"),
)
# Landlock ignores these: without a mount namespace they would change the user's files anywhere.
# Modes, owners and times are accepted and ignored, so that ``shutil.copy`` and archives keep working.
_IGNORED = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
)
_XATTR = ("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr")


class UnknownMachine(Exception):  # noqa: N818 - a fact about the machine
    """No table of system call numbers for this processor."""


def program(
    machine: str,
    *,
    shared: bool,
    network: bool = False,
    signals_of: int | None = None,
    guard_truncate: bool = False,
) -> list[bytes]:
    """The filter's instructions, eight bytes each.

    ``shared``: the process sees the machine's own network, processes and files (no namespaces), so sockets,
    sessions, System V IPC and file metadata are closed too. ``network``: sockets are open (a verifier whose
    task says so). ``signals_of``: only the process with this pid
    may be signalled (for kernels whose Landlock cannot say that). ``guard_truncate``: Landlock here does not
    stop the emptying of files that it keeps from being written.
    """
    if machine not in _AUDIT_ARCH:
        raise UnknownMachine(machine)
    build = _Builder(machine)
    code = [
        _ins(_LOAD, _ARCH_AT),
        _ins(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _ins(_RETURN, _KILL),  # another set of numbers: the rules below would mean something else
        _ins(_LOAD, _NUMBER_AT),
        _ins(_AT_LEAST, _FIRST_UNKNOWN, 0, 1),
        _errno(ENOSYS),
        *build.answer(_DENIED, EPERM),
        # glibc falls back to ``clone``, whose flags can be read here; those of ``clone3`` are in memory.
        *build.answer(("clone3",), ENOSYS),
        *build.unless_clear("clone", 0, _NEW_NAMESPACES),
        *build.not_equal("ioctl", 1, (_TIOCSTI, _TIOCLINUX)),
    ]
    if shared:
        code += _shared_rules(build, network=network)
    elif not network:
        code += _own_network_rules(build)
    if signals_of is not None:
        code += _signal_rules(build, signals_of)
    if guard_truncate:
        code += _truncate_rules(build)
    return [*code, _ins(_RETURN, _ALLOW)]


def _own_network_rules(build: _Builder) -> Code:
    return [*build.only_equal("socket", 0, (_AF_UNIX,)), *build.only_equal("socketpair", 0, (_AF_UNIX,))]


def _shared_rules(build: _Builder, *, network: bool) -> Code:
    denied = [name for name in _SHARED_DENIED if not (network and name in _SOCKETS)]
    return [
        *build.answer(denied, EPERM),
        *build.answer(_IGNORED, 0),
        *build.answer(_XATTR, EOPNOTSUPP),
        # A connected stream cannot be redirected; a datagram socket could reach any socket on disk.
        *build.all_equal("socketpair", ((0, _AF_UNIX, 0xFFFFFFFF), (1, _SOCK_STREAM, _SOCK_TYPE_MASK))),
        # Limits and priorities of other processes: pid 0 means the caller.
        *build.only_equal("prlimit64", 0, (0,)),
        *build.only_equal("sched_setaffinity", 0, (0,)),
        *build.only_equal("sched_setscheduler", 0, (0,)),
        *build.only_equal("sched_setparam", 0, (0,)),
        *build.only_equal("sched_setattr", 0, (0,)),
        *build.only_equal("setpriority", 1, (0,)),
        *build.only_equal("ioprio_set", 1, (0,)),
    ]


def _signal_rules(build: _Builder, pid: int) -> Code:
    return [
        *build.answer(("tkill", "rt_sigqueueinfo", "pidfd_send_signal"), EPERM),
        *build.only_equal("kill", 0, (0, pid)),
        *build.only_equal("tgkill", 0, (pid,)),
        *build.only_equal("rt_tgsigqueueinfo", 0, (pid,)),
        *build.own_fcntl(pid),
    ]


def _truncate_rules(build: _Builder) -> Code:
    return [
        *build.answer(("truncate",), EPERM),
        *build.answer(("openat2",), ENOSYS),  # its flags are in memory
        *build.no_truncating_read("open", 1),
        *build.no_truncating_read("openat", 2),
    ]


def _ins(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _errno(number: int) -> bytes:
    return _ins(_RETURN, _ERRNO | number)


def _argument(index: int) -> bytes:
    """Load the low half of an argument: all arguments looked at are 32-bit in the kernel, or tiny."""
    return _ins(_LOAD, _ARGS_AT + 8 * index)


class _Builder:
    """Pieces of program for one machine. Each ends in a return, so the number stays loaded for the next."""

    def __init__(self, machine: str) -> None:
        self._column = list(_AUDIT_ARCH).index(machine)

    def _when(self, name: str, body: Code) -> Code:
        number = NUMBERS[name][self._column]
        return [] if number is None else [_ins(_EQUAL, number, 0, len(body)), *body]

    def answer(self, names: Sequence[str], errno: int) -> Code:
        """Each of ``names`` returns ``errno`` and does nothing (0: it claims success)."""
        return [ins for name in names for ins in self._when(name, [_errno(errno)])]

    def unless_clear(self, name: str, index: int, bits: int) -> Code:
        """EPERM if any of ``bits`` is set in the argument."""
        return self._when(
            name, [_argument(index), _ins(_ANY_BIT, bits, 0, 1), _errno(EPERM), _ins(_RETURN, _ALLOW)]
        )

    def not_equal(self, name: str, index: int, values: Sequence[int]) -> Code:
        """EPERM if the argument is one of ``values``."""
        tests = [ins for value in values for ins in (_ins(_EQUAL, value, 0, 1), _errno(EPERM))]
        return self._when(name, [_argument(index), *tests, _ins(_RETURN, _ALLOW)])

    def only_equal(self, name: str, index: int, values: Sequence[int]) -> Code:
        """EPERM unless the argument is one of ``values``."""
        tests = [ins for value in values for ins in (_ins(_EQUAL, value, 0, 1), _ins(_RETURN, _ALLOW))]
        return self._when(name, [_argument(index), *tests, _errno(EPERM)])

    def all_equal(self, name: str, wanted: Sequence[tuple[int, int, int]]) -> Code:
        """EPERM unless every argument has its value: ``(index, value, mask)`` each."""
        tests = [
            ins
            for index, value, mask in wanted
            for ins in (_argument(index), _ins(_MASK, mask), _ins(_EQUAL, value, 1, 0), _errno(EPERM))
        ]
        return self._when(name, [*tests, _ins(_RETURN, _ALLOW)])

    def own_fcntl(self, pid: int) -> Code:
        """F_SETOWN for ``pid`` and its group only; no F_SETOWN_EX, whose target lies in memory."""
        own = [ins for value in (pid, -pid) for ins in (_ins(_EQUAL, value, 0, 1), _ins(_RETURN, _ALLOW))]
        return self._when(
            "fcntl",
            [
                _argument(1),
                _ins(_EQUAL, _F_SETOWN_EX, 0, 1),
                _errno(EPERM),
                _ins(_EQUAL, _F_SETOWN, 1, 0),
                _ins(_RETURN, _ALLOW),
                _argument(2),
                *own,
                _errno(EPERM),
            ],
        )

    def no_truncating_read(self, name: str, index: int) -> Code:
        """EPERM for O_TRUNC together with read-only access."""
        return self._when(
            name,
            [
                _argument(index),
                _ins(_ANY_BIT, _O_TRUNC, 0, 3),
                _ins(_ANY_BIT, _O_ACCMODE, 1, 0),
                _errno(EPERM),
                _ins(_RETURN, _ALLOW),
                _ins(_RETURN, _ALLOW),
            ],
        )
