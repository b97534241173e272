"""Empty a folder that somebody else has filled, however deep, long-named or closed it is."""

import os
import stat

_ROUNDS = 64
_OPEN = 0o700


def clear_folder(folder: str) -> int:
    """Delete everything below a folder, never following a link; give how many names it held.

    Works without recursion and with paths longer than the system's limit: folders found inside
    are first moved up to the top under names of their own, then emptied in turn.

    Raises:
        OSError: something is still there after many rounds: somebody goes on writing.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        names = os.listdir(top)
        held, number = len(names), 0
        for _ in range(_ROUNDS):
            while names:
                number = _clear(top, names.pop(), number, names)
            names = os.listdir(top)
            if not names:
                return held
        raise OSError(f"the folder does not become empty: {folder}")
    finally:
        os.close(top)


def _clear(top: int, name: str, number: int, names: "list[str]") -> int:
    """Delete a file, or empty a folder of its files and move its folders up to the top."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=top).st_mode):
            os.unlink(name, dir_fd=top)
            return number
        try:
            here = _enter(top, name)
        except FileNotFoundError:
            return number
        try:
            for entry in os.listdir(here):
                try:
                    if not stat.S_ISDIR(os.lstat(entry, dir_fd=here).st_mode):
                        os.unlink(entry, dir_fd=here)
                        continue
                    _open_up(here, entry)  # Moving a folder writes its own "..".
                    number += 1
                    moved = f".millpond-clearing-{os.getpid()}-{number}"
                    os.rename(entry, moved, src_dir_fd=here, dst_dir_fd=top)
                    names.append(moved)
                except FileNotFoundError:
                    continue
        finally:
            os.close(here)
        os.rmdir(name, dir_fd=top)
    except OSError:
        pass  # The next round meets it again; the last one reports it.
    return number


def _enter(top: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    _open_up(top, name)
    return os.open(name, flags, dir_fd=top)


def _open_up(parent: int, name: str) -> None:
    """Make a folder of our own uid writable again; its owner may have closed it."""
    if os.geteuid() == 0 or stat.S_IMODE(os.lstat(name, dir_fd=parent).st_mode) & _OPEN == _OPEN:
        return  # Root needs no permission.
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)  # By handle: the name may have become a link.
    except OSError:
        pass  # Not ours.
    finally:
        os.close(handle)
