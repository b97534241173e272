"""Environments over the SDK: make one from requirements, follow its build, read its lock."""

import time
from collections.abc import Callable, Iterable, Sequence

from millpond.client.decoding import decode
from millpond.client.room import Room
from millpond.environments.values import Environment, EnvironmentVersion, LogPart
from millpond.ground.address import parse_address

_POLL_SECONDS = 0.5


class EnvironmentsRoom(Room):
    """A project's environments and their locked versions."""

    def make(
        self,
        name: str,
        requirements: str,
        *,
        upgrade: bool = False,
        build_from_source: Iterable[str] = (),
        project: str | None = None,
    ) -> EnvironmentVersion:
        """Ask for an environment; the same requirements give the version there is.

        Args:
            name: the environment's name.
            requirements: text of a requirements file.
            upgrade: whether to lock today's packages even so.
            build_from_source: packages to build from source, in the sandbox; all others come
                as wheels.
            project: the project to put it in.
        """
        body: dict[str, object] = {"name": name, "requirements": requirements}
        if upgrade:
            body["upgrade"] = True
        if names := [*build_from_source]:
            body["build_from_source"] = names
        made = self._transport.make(self._in(project, "environments"), body)
        return decode(EnvironmentVersion, made)

    def list(self, *, project: str | None = None) -> Sequence[Environment]:
        """List the environments by name."""
        return list(self._transport.pages(Environment, self._in(project, "environments")))

    def get(self, name: str, *, project: str | None = None) -> EnvironmentVersion:
        """Show the newest version of an environment."""
        return self._transport.read(EnvironmentVersion, self._in(project, "environments", name))

    def versions(self, name: str, *, project: str | None = None) -> Sequence[EnvironmentVersion]:
        """List an environment's versions, newest first."""
        path = self._in(project, "environments", name, "versions")
        return list(self._transport.pages(EnvironmentVersion, path))

    def version(self, address: str, *, project: str | None = None) -> EnvironmentVersion:
        """Show the version at ``NAME`` (the newest) or ``NAME@N``."""
        return self._transport.read(EnvironmentVersion, self._version_path(address, project))

    def log(self, address: str, after: int = 0, *, project: str | None = None) -> LogPart:
        """Read a piece of the log of a build, from ``after`` on."""
        path = self._version_path(address, project) + "/log"
        return self._transport.read(LogPart, path, {"after": after})

    def lock(self, address: str, *, project: str | None = None) -> str:
        """Give the lock: a requirements file with hashes."""
        return str(self._transport.get(self._version_path(address, project) + "/lock"))

    def wait(
        self,
        address: str,
        on_text: Callable[[str], None] = lambda _: None,
        *,
        project: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> EnvironmentVersion:
        """Follow the log of a build until the version is ready or has failed."""
        path = self._version_path(address, project)
        after = 0
        while True:
            part = self._transport.read(LogPart, path + "/log", {"after": after})
            if part.text:
                on_text(part.text)
            after = part.next
            if part.is_complete:
                return self._transport.read(EnvironmentVersion, path)
            if not part.text:
                pause(_POLL_SECONDS)

    def _version_path(self, address: str, project: str | None) -> str:
        wanted = parse_address(address)
        number = wanted.number
        if number is None:
            number = self.get(wanted.name, project=project).number
        return self._in(project, "environments", wanted.name, "versions", number)
