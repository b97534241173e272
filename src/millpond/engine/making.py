"""Make a sandbox for a task: its folders, its control group, its launch."""

from pathlib import Path

from millpond.engine import rules
from millpond.engine.gpus import NOTHING, Given
from millpond.engine.plain import make_plain_launch, see_plainly
from millpond.engine.port import Transfer
from millpond.engine.probe import Machine
from millpond.engine.sandbox import Shown, compile_kit, make_launch
from millpond.engine.scratch import Scratch
from millpond.engine.starting import Launch
from millpond.engine.values import TaskSpec
from millpond.engine.warm import WarmSandbox


class SandboxMaker:
    """Makes sandboxes, or plain runners where there can be none. Safe to share."""

    def __init__(
        self,
        transfer: Transfer,
        scratch: Scratch,
        machine: Machine,
        *,
        isolate: bool,
        uids: tuple[int, int] = rules.UIDS,
    ) -> None:
        """Make them below a scratch folder, with what the machine can do."""
        self._transfer, self._scratch, self._machine = transfer, scratch, machine
        self._is_isolated, self._uids = isolate, uids
        compile_kit()

    def make(
        self, task: TaskSpec, preload: tuple[str, ...], given: Given = NOTHING
    ) -> tuple[WarmSandbox, Launch]:
        """Make one that has not been started, and what starts it.

        Args:
            task: which the sandbox is for.
            preload: modules to import before it.
            given: graphics processors that it shows, and no others.

        Raises:
            InvalidError: the environment's Python can't be shown to a sandbox.
            NotFoundError: a file of the code is gone.
        """
        machine = self._machine
        uid = rules.choose_uid(task.user_id, self._uids) if machine.is_root else None
        environment = Path(task.environment) if task.environment else self._bare(uid)
        code = self._scratch.code_folder(self._transfer, task)
        folder = self._scratch.make_folder(uid)
        group = machine.groups.make(folder.name, task.limits) if machine.groups else None
        shown = Shown(environment, code, folder, self._scratch.etc)
        sandbox = WarmSandbox(shown, group, is_isolated=self._is_isolated)
        try:
            launch = self._launch(task, preload, sandbox, uid, given)
        except BaseException:
            sandbox.stop()
            raise
        return sandbox, launch

    def _launch(
        self,
        task: TaskSpec,
        preload: tuple[str, ...],
        sandbox: WarmSandbox,
        uid: int | None,
        given: Given,
    ) -> Launch:
        can_mount = self._machine.can_mount
        groups = sandbox.group.join_files if sandbox.group else []
        if not self._is_isolated:
            return make_plain_launch(
                sandbox.shown,
                limits=task.limits,
                preload=preload,
                uid=uid,
                can_mount=can_mount,
                groups=groups,
                given=given,
            )
        return make_launch(
            sandbox.shown,
            limits=task.limits,
            preload=preload,
            network=task.grants.network,
            uid=uid,
            can_mount=can_mount,
            groups=groups,
            gateway=task.grants.gateway,
            given=given,
        )

    def seen_by(self, sandbox: WarmSandbox) -> Shown | None:
        """Give the paths under which a plain runner sees its folders; None for a sandbox."""
        if sandbox.is_isolated:
            return None
        return see_plainly(sandbox.shown, through_mounts=self._machine.can_mount)

    def _bare(self, uid: int | None) -> Path:
        return self._scratch.bare_environment(
            for_other_uid=uid is not None and not self._is_isolated
        )
