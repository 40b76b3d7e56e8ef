"""The claims that can be made about a sandbox, and the tests that must hold for each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Claim:
    """A sentence that is true when every test in ``tests`` held, and the one that is true otherwise."""

    tests: tuple[str, ...]
    enforced: str
    not_enforced: str
    needed_for: str = ""  # tiers that require it
    gap: str = ""  # ``not_enforced`` in a few words


CLAIMS = (
    _Claim(
        ("read_outside",),
        "no file can be read but the workspace, the inputs, Python's own and the system's shared libraries",
        "files outside the workspace can be read",
        "AB",
        gap="reading files outside",
    ),
    _Claim(
        ("write_outside", "write_input", "write_code", "truncate_outside", "change_mode"),
        "nothing but the workspace and a temporary folder can be changed",
        "files outside the workspace can be changed",
        "AB",
        gap="changing files outside",
    ),
    _Claim(
        ("stat_outside",),
        "names, sizes and times of files outside cannot be seen",
        "names, sizes and times of files outside can be seen",
        "A",
        gap="names of files outside",
    ),
    _Claim(
        ("tcp", "udp"),
        "there is no network, this machine's own services included",
        "the network can be used",
        "AB",
        gap="network",
    ),
    _Claim(
        ("unix_path", "unix_abstract"),
        "local sockets of other programs cannot be reached",
        "local sockets of other programs can be reached",
        "AB",
        gap="local sockets",
    ),
    _Claim(
        ("other_pids", "other_environ"),
        "other processes, their arguments and environments cannot be seen",
        "other processes can be seen",
        "A",
        gap="privacy of other processes",
    ),
    _Claim(
        ("signals",),
        "other processes cannot be signalled",
        "other processes of the same user can be stopped or killed",
        "AB",
        gap="signals to other processes",
    ),
    _Claim(
        ("background",),
        "everything that the model's code starts ends with the kernel",
        "programs that the model's code leaves in the background can outlive the kernel",
        "AB",
        gap="end of background programs",
    ),
    _Claim(
        ("not_root", "capabilities", "privileges", "machine_settings"),
        "the model's code is an ordinary user without special rights and cannot get any",
        "the model's code has special rights, or can get them",
        "ABC",
        gap="special rights",
    ),
    _Claim(
        ("syscalls",),
        "system calls that look into processes, mount, load or trace are refused",
        "risky system calls (ptrace, new namespaces, io_uring, bpf and others) are open",
        "AB",
        gap="risky system calls",
    ),
    _Claim(
        ("environment", "descriptors"),
        "no environment variable and no open file of the runner is passed on",
        "environment variables or open files of the runner are passed on",
        "ABC",
        gap="environment and open files",
    ),
    _Claim(
        ("memory",),
        "memory of each process is limited",
        "memory of a process has no limit",
        "AB",
        gap="memory of a process",
    ),
    _Claim(
        ("total_memory",),
        "memory of all processes of the kernel together is limited",
        "memory of all processes of the kernel together has no limit (each has its own)",
        gap="total memory",
    ),
    _Claim(
        ("processes",),
        "the number of processes and threads is limited",
        "the number of processes has no limit",
        "AB",
        gap="number of processes",
    ),
    _Claim(
        ("file_size", "open_files"),
        "the size of a file and the number of open files are limited",
        "the size of a file or the number of open files has no limit",
        "AB",
        gap="file sizes",
    ),
    _Claim(
        ("temporary_size",),
        "the size of the temporary folders is limited",
        "the temporary folder has no limit of its own in size",
        gap="size of temporary folders",
    ),
)


WORKS = ("python_works", "workspace_works", "inputs_work")


NEVER_TRIED = {  # sentence → the same in a few words
    "the number of files in the workspace is checked only periodically": "number of files",
    "CPU and disk I/O are not limited": "CPU and disk I/O",
    "text sent to remote sub-models leaves this machine": "text sent to remote sub-models",
}
