"""Write the launch of a runner without a sandbox: for machines without bubblewrap, and marked so.

It has the user's own files and network at hand. Only its resources are limited, and its processes
are ended with it: they come back to the runner, which is their subreaper.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from millpond.engine.gpus import NOTHING, Given
from millpond.engine.sandbox import KIT, Shown, boot, choose_place, variables
from millpond.engine.starting import Launch
from millpond.engine.values import Limits

_INSIDE = re.compile(r"(?<![\w.])(/task|/code|/env)(?=/|$)")


def see_plainly(shown: Shown, *, through_mounts: bool) -> Shown:
    """Give the paths under which a plain runner sees its folders.

    As root it runs under another uid, which can't walk to data in a closed folder: then it is
    shown them in a mount namespace of its own.
    """
    if not through_mounts:
        return shown
    place = Path(choose_place())
    return Shown(place / "env", place / "code", place / "task", shown.etc)


def make_plain_launch(
    shown: Shown,
    *,
    limits: Limits,
    preload: Sequence[str],
    uid: int | None,
    can_mount: bool,
    groups: Sequence[str] = (),
    given: Given = NOTHING,
) -> Launch:
    """Write the launch of a plain runner; ``uid`` is None unless we are root."""
    through_mounts = uid is not None and can_mount
    seen = see_plainly(shown, through_mounts=through_mounts)
    place = choose_place() if through_mounts else ""
    if through_mounts:
        kit = f"{place}/kit"
        mounts = [
            (str(shown.environment), str(seen.environment)),
            (str(shown.code), str(seen.code)),
            (str(shown.folder), str(seen.folder)),
            (str(KIT), f"{kit}/millpond"),
        ]
    else:
        kit, mounts = _named_kit(shown.folder), []
    task, environment, code = str(seen.folder), str(seen.environment), str(seen.code)
    python, private = f"{environment}/bin/python", f"{task}/tmp"  # noqa: S108 - below its own folder.
    return Launch(
        command=boot(python, [kit, code], f"{task}/out", [private], preload),
        environment={
            **variables(limits, environment, kit, code, task, private),
            **given.variables,
        },
        place=place,
        mounts=mounts,
        groups=list(groups),
        uid=uid,
        gids=list(given.gids),
        session=True,
    )


def _named_kit(folder: Path) -> str:
    """Give a folder in which the kit has the name that users import."""
    named = folder / "kit"
    named.mkdir(exist_ok=True)
    (named / "millpond").symlink_to(KIT)
    return str(named)


def translate(value: Any, seen: Shown) -> Any:
    """Write a message with this machine's paths in place of the sandbox's, all through it."""
    if isinstance(value, str):
        names = {
            "/task": str(seen.folder),
            "/code": str(seen.code),
            "/env": str(seen.environment),
        }
        return _INSIDE.sub(lambda match: names[match[0]], value)
    if isinstance(value, dict):
        return {key: translate(each, seen) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [translate(each, seen) for each in value]
    return value


def can_walk(path: Path) -> bool:
    """Tell whether any uid may walk to a file."""
    real = path.resolve()
    return all(each.stat().st_mode & 0o001 for each in (real, *real.parents))
