"""Kill a process at every n-th point around its transactions, and count the points.

``install`` makes a database count four points for each transaction that writes: before it
begins, when its body has ended, right before the COMMIT is sent, and after it. At the n-th point
the process kills itself, as a power cut would. Other code adds points of its own by ``reach``,
for example around a submit. ``Children`` runs a script's ``main(facts)`` in fresh processes,
forked from one that has imported everything, so a matrix costs milliseconds for each start.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa


class Points:
    """Counts points; at the n-th (from 0) it kills the process. Without n it only counts."""

    def __init__(self, n=None):
        self.n = n
        self.count = 0
        self._lock = threading.Lock()

    def reach(self):
        with self._lock:
            if self.count == self.n:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()
            self.count += 1


def install(database, n=None):
    """Make a database count, and kill at the n-th point; give the ``Points``."""
    points = Points(n)
    begin = database.transaction

    @contextmanager
    def transaction(request_id=""):
        points.reach()
        with begin(request_id) as tx:
            yield tx
            points.reach()
        points.reach()

    database.transaction = transaction
    sa.event.listen(database.engine, "commit", lambda connection: points.reach())
    return points


class Children:
    """Runs ``main(facts)`` of a script in forked processes, one after the other."""

    def __init__(self, script, modules=()):
        command = [sys.executable, __file__, str(script), *modules]
        self._nursery = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, **facts):
        """Run it; give what it returned (JSON), or ``{"signal": 9}`` when it was killed."""
        self._nursery.stdin.write(json.dumps(facts) + "\n")
        self._nursery.stdin.flush()
        answer = json.loads(self._nursery.stdout.readline())
        assert "exit" not in answer, f"the child failed with {answer}; see stderr"
        return answer

    def close(self):
        self._nursery.stdin.close()
        self._nursery.stdout.close()
        self._nursery.wait(20)


def _bear(main, facts):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            os.write(writing, json.dumps(main(facts)).encode())
            status = 0
        except BaseException:  # noqa: BLE001 - the trace is shown, and the parent told.
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answers:
        answer = answers.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return {"signal": -code}
    return {"exit": code} if code else json.loads(answer)


def _tend(script, modules):
    for module in modules:
        importlib.import_module(module)
    main = runpy.run_path(script)["main"]
    for line in sys.stdin:
        print(json.dumps(_bear(main, json.loads(line))), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    _tend(sys.argv[1], sys.argv[2:])
