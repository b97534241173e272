"""What a task leaves behind in its sandbox besides processes: private files, shared memory."""

import os

from .clearing import clear_folder
from .processes import Passing, call

_SHARED = (("shm", "shmctl"), ("sem", "semctl"), ("msg", "msgctl"))
_SHARED_BYTES, _SHARED_ROUNDS = 1 << 16, 1000


def open_shared() -> "list[tuple[str, int]]":
    """Open the lists of shared memory, semaphores and queues, where these are ours alone."""
    found = []
    for kind, remove in _SHARED if os.getpid() == 1 else ():
        with Passing(OSError):
            found.append((remove, os.open("/proc/sysvipc/" + kind, os.O_RDONLY | os.O_CLOEXEC)))
    return found


def leave_nothing(folders: "list[str]", shared: "list[tuple[str, int]]") -> bool:
    """Empty the private folders and remove shared memory; True if something stayed."""
    unclean = False
    for folder in folders:
        try:
            clear_folder(folder)
        except OSError:
            unclean = True
    for remove, fd in shared:
        for _ in range(_SHARED_ROUNDS):
            lines = os.pread(fd, _SHARED_BYTES, 0).splitlines()[1:]
            if not lines or unclean:
                break
            for line in lines:
                number = int(line.split()[1])
                arguments = (number, 0, 0) if remove == "semctl" else (number, 0, None)
                unclean |= call(remove, arguments) != 0
    return unclean
