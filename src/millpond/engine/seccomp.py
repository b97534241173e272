"""Write the system-call filter that every sandboxed process carries, as the kernel's own bytes.

It takes away what no data program needs and what kernel faults have again and again lived in.
Source: Linux, Documentation/userspace-api/seccomp_filter.rst; the numbers are of the kernel's
``syscall_64.tbl`` and ``asm-generic/unistd.h``.
"""

import functools
import platform
import struct

_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # Offsets in struct seccomp_data.
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_X32 = 0x40000000
_FAMILIES = (1, 2, 10, 16)  # Unix, IPv4, IPv6, netlink; never vsock, packet, alg, key, ...
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX.

# Refused by number: x86_64, aarch64 (None: it has none).
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# Architecture's audit number; clone, clone3, socket, socketpair, ioctl, prlimit64.
_MACHINES = {
    "x86_64": (0, 0xC000003E, (56, 435, 41, 53, 16, 302)),
    "aarch64": (1, 0xC00000B7, (220, 435, 198, 199, 29, 261)),
}

REFUSED_CALLS = tuple(sorted(_REFUSED))
"""Names of the system calls that are refused whatever their arguments."""


@functools.cache
def make_filter(machine: str = "") -> bytes:
    """Write the filter for a machine (this one when none is named); empty for an unknown one."""
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return b""
    column, architecture, (clone, clone3, socket, socketpair, ioctl, prlimit) = known
    refuse, gone = _errno(_EPERM), _errno(_ENOSYS)
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture, 1, 0),
        gone,  # Calls of another architecture, such as 32-bit ones, have other numbers.
        _step(_LOAD, _NUMBER),
    ]
    if column == 0:
        program += [_step(_JUMP_AT_LEAST, _X32, 0, 1), gone]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            program += [_step(_JUMP_EQUAL, number, 0, 1), refuse]
    # clone3 hides its flags in memory, where no filter can look: the C library then uses clone.
    program += [_step(_JUMP_EQUAL, clone3, 0, 1), gone]
    program += [
        _step(_JUMP_EQUAL, clone, 0, 4),
        _step(_LOAD, _FIRST),
        _step(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        refuse,
        _step(_RETURN, _ALLOW),
    ]
    program += [
        _step(_JUMP_EQUAL, ioctl, 0, 5),
        _step(_LOAD, _SECOND),
        _step(_JUMP_EQUAL, _TERMINAL_INJECTION[0], 1, 0),
        _step(_JUMP_EQUAL, _TERMINAL_INJECTION[1], 0, 1),
        refuse,
        _step(_RETURN, _ALLOW),
    ]
    program += [  # Of its own processes only: the runner has the same uid.
        _step(_JUMP_EQUAL, prlimit, 0, 4),
        _step(_LOAD, _FIRST),
        _step(_JUMP_EQUAL, 0, 1, 0),
        refuse,
        _step(_RETURN, _ALLOW),
    ]
    for number in (socket, socketpair):
        program += [_step(_JUMP_EQUAL, number, 0, len(_FAMILIES) + 3), _step(_LOAD, _FIRST)]
        for left, family in zip(range(len(_FAMILIES), 0, -1), _FAMILIES, strict=True):
            program.append(_step(_JUMP_EQUAL, family, left, 0))
        program += [_errno(_EAFNOSUPPORT), _step(_RETURN, _ALLOW)]
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _errno(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)
