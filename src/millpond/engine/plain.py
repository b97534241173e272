"""Write the launch of a runner without a sandbox: for machines without bubblewrap, and marked so.

It has the user's own files and network at hand. Only its resources are limited, per process, and
its processes are ended with it: they come back to the runner, which is their subreaper.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millpond.engine.sandbox import KIT, Shown, boot, variables
from millpond.engine.starting import Launch
from millpond.engine.values import Limits

_INSIDE = re.compile(r"(?<![\w.])(/task|/code|/env)(?=/|$)")


def make_plain_launch(
    shown: Shown,
    *,
    limits: Limits,
    preload: Sequence[str],
    uid: int | None,
    groups: Sequence[str] = (),
    rlimits: Mapping[str, int] | None = None,
) -> Launch:
    """Write the launch of a plain runner; ``uid`` is None unless we are root."""
    named = shown.folder / "kit"
    named.mkdir(exist_ok=True)
    link = named / "millpond"
    if not link.is_symlink():
        link.symlink_to(KIT)
    kit, code, private = str(named), str(shown.code), str(shown.folder / "tmp")
    task, environment = str(shown.folder), str(shown.environment)
    return Launch(
        command=boot(f"{environment}/bin/python", [kit, code], f"{task}/out", preload),
        environment=variables(limits, environment, kit, code, task, private),
        groups=list(groups),
        uid=uid,
        rlimits=rlimits or {},
        session=True,
    )


def can_walk(path: Path) -> bool:
    """Tell whether any uid may walk to a folder: without mounts a dropped uid must."""
    real = path.resolve()
    return all(each.stat().st_mode & 0o001 for each in (real, *real.parents))


def translate(value: Any, shown: Shown) -> Any:
    """Write a message with this machine's paths in place of the sandbox's, all through it."""
    if isinstance(value, str):
        names = {
            "/task": str(shown.folder),
            "/code": str(shown.code),
            "/env": str(shown.environment),
        }
        return _INSIDE.sub(lambda match: names[match[0]], value)
    if isinstance(value, dict):
        return {key: translate(each, shown) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [translate(each, shown) for each in value]
    return value
