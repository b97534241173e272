"""Where things lie on a machine that Millpond has set up."""

PREFIX = "/opt/millpond"
"""Installations by name, ``current`` among them, and the files that they are made from."""

NODE_FOLDER = "/var/lib/millpond-node"
HOST_FOLDER = "/var/lib/millpond"
UNIT_FOLDER = "/etc/systemd/system"
WORKER_UNIT = "millpond-worker.service"
SERVER_UNIT = "millpond-server.service"
SCHEDULER_UNIT = "millpond-scheduler.service"
CURRENT_PYTHON = f"{PREFIX}/current/bin/python"
CURRENT_MILLPOND = f"{PREFIX}/current/bin/millpond"
