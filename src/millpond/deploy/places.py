"""Where things lie on a machine that Millpond has set up."""

import hashlib

PREFIX = "/opt/millpond"
"""Installations by name, ``current`` among them, and the files that they are made from."""

NODE_FOLDER = "/var/lib/millpond-node"
HOST_FOLDER = "/var/lib/millpond"
UNIT_FOLDER = "/etc/systemd/system"
CRON_FOLDER = "/etc/cron.d"
IS_CRON_THERE = (
    f'[ -d {CRON_FOLDER} ] && [ -d "/proc/$(cat /run/crond.pid 2>/dev/null || echo none)" ]'
)
"""For a shell: whether cron runs, which starts what stands in files of its folder."""
WORKER_UNIT = "millpond-worker.service"
SERVER_UNIT = "millpond-server.service"
SCHEDULER_UNIT = "millpond-scheduler.service"
CURRENT_PYTHON = f"{PREFIX}/current/bin/python"
CURRENT_MILLPOND = f"{PREFIX}/current/bin/millpond"
COMMAND = "/usr/local/bin/millpond"
"""Where every shell finds it on a host."""
LOOP = "supervise"
"""Name of the node's loop where no systemd runs."""


def cron_file(folder: str, name: str) -> str:
    """Give where cron reads that it starts a loop; two installations have two of them."""
    return f"{CRON_FOLDER}/millpond-{name}-{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


NODE_CRON_FILE = cron_file(NODE_FOLDER, LOOP)
