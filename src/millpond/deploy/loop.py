"""Keep a module of Millpond running where no systemd does.

``python -m millpond.deploy.loop -m millpond.main --data DIR``: it is started again whenever it
ends, until the loop is told to stop.
"""

import sys

from millpond.machines.supervising import supervise

if __name__ == "__main__":
    sys.exit(supervise([sys.executable, *sys.argv[1:]]))
