"""Bad pipelines: each is told apart in words, harms nobody, and leaves nothing behind.

All are pushed and run at once on one server, while an honest run of another user goes on.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from millpond import Client
from millpond.ground.errors import ConflictError, InvalidError, MillpondError, NotFoundError

TOP = """
from millpond import Files, Param, Table, pipeline, step
from typing import Annotated, Literal
"""
TAIL = """
@pipeline
def bad(files: Files) -> {kind}:
    "A bad one."
    return work(files)
"""
COMPILE_SECONDS = 4


def bad_step(body: str, options: str = "", kind: str = "Files") -> str:
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    options = ", ".join(filter(None, ['memory="128 MiB"', 'disk="8 MiB"', "seconds=20", options]))
    return f"{TOP}\n@step({options})\ndef work(files: Files) -> {kind}:\n{lines}\n" + TAIL.format(
        kind=kind
    )


# Code that can't be a pipeline: what is asserted of its version ------------------------------------


@dataclass(frozen=True)
class Broken:
    source: str
    words: tuple[str, ...]
    line: int = 0
    requirements: str = ""


GOOD = bad_step("return ('a', b'a')")
BROKEN = {
    "import fails": Broken(
        TOP + "import no_such_package_here\n" + GOOD,
        ("no_such_package_here", "requirements.txt"),
        line=3,
    ),
    "import raises": Broken(TOP + "1 / 0\n" + GOOD, ("ZeroDivisionError",), line=3),
    "syntax": Broken(TOP + "def broken(:\n", ("SyntaxError",), line=3),
    "import ends the process": Broken(TOP + "import os; os._exit(0)\n" + GOOD, ("pipeline.py",)),
    "import exits": Broken(TOP + "import sys; sys.exit(3)\n" + GOOD, ("SystemExit",), line=3),
    "import is killed": Broken(
        TOP + "import os; os.kill(os.getpid(), 9)\n" + GOOD, ("signal SIGKILL",)
    ),
    "import hangs": Broken(
        TOP + "import time; time.sleep(600)\n" + GOOD,
        (f"more than {COMPILE_SECONDS} seconds", "do that in a step"),
    ),
    "import spins": Broken(TOP + "while True: pass\n" + GOOD, ("more than", "do that in a step")),
    "import fills the memory": Broken(
        TOP + "kept = b'x' * (1 << 40)\n" + GOOD, ("MemoryError",), line=3
    ),
    "import reads the network": Broken(
        TOP + "import urllib.request as u; u.urlopen('http://example.com', timeout=3)\n" + GOOD,
        ("network",),
        line=3,
    ),
    "import forges a specification": Broken(
        TOP
        + "import os; os.makedirs('/task/out/.millpond', exist_ok=True)\n"
        + "open('/task/out/spec.json', 'w').write('{\"format\": 1}')\n"
        + "open('/task/out/.millpond/result.json', 'w').write('{\"ok\": true}'); os._exit(0)\n",
        ("specification", "form"),
    ),
    "requirement does not exist": Broken(
        GOOD,
        ("no-such-package-of-millpond",),
        requirements="no-such-package-of-millpond==1.0\n",
    ),
    "requirements contradict": Broken(GOOD, ("six",), requirements="six==1.16.0\nsix==1.17.0\n"),
    "hint that is none": Broken(
        bad_step("return files").replace("def bad(files: Files)", "def bad(files: Filez)"),
        ("Filez",),
    ),
    "no return hint": Broken(bad_step("return 1").replace(" -> Files:", ":", 1), ("return hint",)),
    "parameter without a hint": Broken(
        bad_step("return 1").replace("def bad(files: Files)", "def bad(files: Files, much)"),
        ("much", "no type hint"),
    ),
    "default out of bounds": Broken(
        bad_step("return 1")
        .replace("def work(files: Files)", "def work(files: Files, much: float = 1)")
        .replace(
            "def bad(files: Files)",
            "def bad(files: Files, much: Annotated[float, Param(ge=0, le=1)] = 5.0)",
        )
        .replace("work(files)", "work(files, much=much)"),
        ("much", "default"),
    ),
    "unknown option": Broken(bad_step("return 1", "memmory='1 GiB'"), ("memmory", "memory")),
    "wrong options": Broken(bad_step("return 1", "retries=-1, slots='two'"), ("retries", "slots")),
    "no pipeline at all": Broken(TOP + "print('hello')\n", ("@pipeline",)),
    "computes instead of wiring": Broken(
        bad_step("return 1").replace("return work(files)", "return len(files)"),
        ("in a step",),
    ),
}


# Steps that misbehave: what is asserted of their run -----------------------------------------------


@dataclass(frozen=True)
class Wild:
    source: str
    words: tuple[str, ...]
    log: str = ""
    state: str = "failed"


WILD = {
    "raises": Wild(
        bad_step("raise ValueError('no such thing as luck')"),
        ("exit code 1", "log"),
        log="ValueError: no such thing as luck",
    ),
    "exits": Wild(bad_step("import sys; sys.exit('not today')"), ("exit code",), log="not today"),
    "crashes": Wild(bad_step("import ctypes; ctypes.string_at(0)"), ("signal SIGSEGV",)),
    "kills itself": Wild(bad_step("import os; os.kill(os.getpid(), 9)"), ("signal SIGKILL",)),
    "hangs": Wild(
        bad_step("import time; time.sleep(600)").replace("seconds=20", "seconds=2"),
        ("limit of 2 seconds",),
    ),
    "hangs and ignores signals": Wild(
        bad_step(
            "import signal, time\n"
            "for number in range(1, 32):\n"
            "    if number not in (9, 19): signal.signal(number, signal.SIG_IGN)\n"
            "while True: time.sleep(1)"
        ).replace("seconds=20", "seconds=2"),
        ("limit of 2 seconds",),
    ),
    "forks without end": Wild(
        bad_step("import os\nwhile True: os.fork()", "processes=32").replace(
            "seconds=20", "seconds=6"
        ),
        (),
    ),
    "fills its disk": Wild(
        bad_step("with open('a', 'wb') as f:\n    while True: f.write(bytes(1 << 16))"),
        ("exit code 1", "File too large"),
    ),
    "fills its disk with small files": Wild(
        bad_step("for n in range(10**7): open(f'f{n}', 'wb').write(b'x' * 5000)"),
        ("8 MiB",),
    ),
    "fills /tmp": Wild(
        bad_step(
            "for number in range(10**6):\n"
            "    with open(f'/tmp/{number}', 'wb') as f: f.write(bytes(4 << 20))"
        ),
        ("No space left",),
    ),
    "fills its memory": Wild(
        bad_step("kept = []\nwhile True: kept.append(bytearray(b'x' * (1 << 20)))"),
        ("memory", "128 MiB"),
    ),
    "prints without end": Wild(
        bad_step("while True: print('again and again and again')").replace(
            "seconds=20", "seconds=3"
        ),
        ("limit of 3 seconds",),
        log="again and again",
    ),
    "prints a line without end": Wild(
        bad_step(
            "import sys\nfor _ in range(2000): sys.stdout.write('x' * 10000)\nreturn ('a', b'a')"
        ),
        (),
        state="succeeded",
    ),
    "leaves a daemon": Wild(
        bad_step(
            "import os, subprocess, sys\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0: os.execvp('sleep', ['sleep', '600.125'])\n"
            "    os._exit(0)\n"
            "return ('a', b'a')"
        ),
        (),
        state="succeeded",
    ),
    "links out of its folder": Wild(
        bad_step(
            "import os; os.symlink('/etc/passwd', 'taken'); os.link('/task/in/../out/taken', 'b')"
        ),
        (),
        state="",
    ),
    "names a file outside": Wild(
        bad_step("return ('../../up', b'x')"), ("exit code",), log="leaves the folder"
    ),
    "gives the same name twice": Wild(
        bad_step("return [('a', b'1'), ('a', b'2')]"), ("exit code",), log="two outputs"
    ),
    "returns nonsense": Wild(bad_step("return 42"), ("exit code",), log="files are paths"),
    "returns nonsense as a table": Wild(
        bad_step("return 42", kind="Table"), ("exit code",), log="rows"
    ),
    "gives rows that are none": Wild(
        bad_step("yield 42", kind="Table"), ("exit code", "a row is a dict"), log="a row"
    ),
    "asks for more than there is": Wild(
        bad_step("return ('a', b'a')").replace('"128 MiB"', '"900 TiB"'),
        ("memory_bytes", "Ask for less"),
    ),
    "asks for more cores than there are": Wild(
        bad_step("return ('a', b'a')", "slots=900"), ("slots", "Ask for less")
    ),
}

HONEST = (
    TOP
    + """
import time
@step(map=True, files_per_task=1, memory="128 MiB")
def look(files: Files) -> Table:
    for file in files:
        time.sleep(0.5)
        yield {"path": file.name, "size": file.size}

@pipeline
def honest(
    files: Files,
    share: Annotated[float, Param(ge=0, le=1, unit="share")] = 0.5,
    count: int = 1,
    way: Literal["up", "down"] = "up",
    name: Annotated[str, Param(min_length=2)] = "ab",
) -> Table:
    "Honest work."
    return look(files)
""".replace(
        "look(files: Files)",
        "look(files: Files, share: float = 0, count: int = 0, way: str = '', name: str = '')",
    ).replace(
        "return look(files)", "return look(files, share=share, count=count, way=way, name=name)"
    )
)


@dataclass
class Seen:
    """What became of all of them."""

    versions: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    honest: Any = None
    slowest_answer: float = 0.0


def slug(name: str) -> str:
    return name.replace(" ", "-").replace("/", "")


@pytest.fixture(scope="module")
def place(install):
    limits = {
        "pipelines_compile_seconds": COMPILE_SECONDS,
        "engine_slots": 8,
        "engine_idle_sandboxes": 2,
        "jobs_workers": 60,
    }
    with install(**limits) as one:
        one.start()
        with one.client("wild") as client:
            client.projects.make("wild")
            client.users.make("ana", "a long password of ana")
        yield one
        one.stop()
        assert one.processes() == []


@pytest.fixture(scope="module")
def files(place):
    folder = place.folder / "files"
    folder.mkdir()
    for number in range(16):
        (folder / f"f{number}").write_text(str(number))
    return folder


@pytest.fixture(scope="module")
def ana(place, files, tools):
    """Give another user, with a project of her own and a pipeline that is good."""
    environ = {"HOME": str(place.folder / "ana")}
    with Client(f"http://127.0.0.1:{place.port}", environ=environ) as door:
        token = door.account.sign_in("ana", "a long password of ana").text
    with Client(door.url, token, project="honest", environ=environ) as client:
        client.projects.make("honest")
        client.datasets.push(files, "files")
        client.pipelines.push(tools.write_code(place.folder / "honest", HONEST), "honest")
        version = client.pipelines.wait("honest")
        assert version.state == "ready", (version.reason, version.faults)
        yield client


@pytest.fixture(scope="module")
def seen(place, files, ana, tools):
    """Push and run everything at once, and see how it ends."""
    seen = Seen()
    with place.client("wild") as client, watching(client, seen), ThreadPoolExecutor(6) as pool:
        client.datasets.push(files, "files")
        honest = ana.runs.start("honest", {"files": "files"}).id

        def push(name):
            case = BROKEN.get(name) or WILD[name]
            code = place.folder / slug(name)
            tools.write_code(code, case.source, getattr(case, "requirements", ""))
            client.pipelines.push(code, slug(name))

        list(pool.map(push, [*WILD, *BROKEN]))

        def run(name):
            version = client.pipelines.wait(slug(name))
            assert version.state == "ready", (name, version.reason, version.faults)
            return client.runs.start(slug(name), {"files": "files"}).id

        started = dict(zip(WILD, pool.map(run, WILD), strict=True))
        for name in BROKEN:
            seen.versions[name] = client.pipelines.wait(slug(name))
        for name, run_id in started.items():
            seen.runs[name] = client.runs.wait(run_id)
            seen.logs[name] = client.runs.log(run_id).text
            seen.outputs[name] = [entry.path for entry in client.runs.outputs(run_id)]
        seen.honest = ana.runs.wait(honest)
    return seen


class watching:
    """Ask the server for its health all the while; note the slowest answer."""

    def __init__(self, client, seen):
        self._url, self._seen, self._over = client.url, seen, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.2):
            begin = time.monotonic()
            httpx.get(f"{self._url}/healthz", timeout=60).raise_for_status()
            took = time.monotonic() - begin
            self._seen.slowest_answer = max(self._seen.slowest_answer, took)


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_broken_code_fails_in_words(seen, name):
    case, version = BROKEN[name], seen.versions[name]
    told = " ".join([version.reason, *(each["message"] for each in version.faults)])
    assert version.state == "failed", told
    for words in case.words:
        assert words in told
    if case.line:
        assert ("pipeline.py", case.line) in {(e["file"], e["line"]) for e in version.faults}
    for ours in ("Traceback", "/kit/", "/code/", "/task/"):
        assert ours not in told


@pytest.mark.slow
def test_broken_version_is_refused_a_run_with_a_next_step(seen, place):
    with place.client("wild") as client, pytest.raises(ConflictError) as caught:
        client.runs.start("import-raises", {"files": "files"})
    assert "ZeroDivisionError" in caught.value.message
    assert "push it again" in caught.value.next_step


@pytest.mark.slow
@pytest.mark.parametrize("name", WILD)
def test_wild_step_ends_in_words(seen, name):
    case, run = WILD[name], seen.runs[name]
    assert run.state == (case.state or run.state), run.reason
    for words in case.words:
        assert words in run.reason
    assert case.log in seen.logs[name]
    assert len(seen.logs[name]) < 5 << 20
    if run.state == "failed":
        assert run.reason.startswith("Step work: ")
        assert "provenance.json" in seen.outputs[name], "what there is of it can be looked at"
    assert not [path for path in seen.outputs[name] if "up" in path or "passwd" in path]


@pytest.mark.slow
def test_honest_run_of_another_user_ends_as_if_alone(seen):
    assert seen.honest.state == "succeeded", seen.honest.reason
    assert seen.honest.progress.items_done == 16


@pytest.mark.slow
def test_server_answers_all_the_while(seen):
    assert 0 < seen.slowest_answer < 5


@pytest.mark.slow
def test_record_tells_of_all(seen, place):
    with place.client("wild") as client:
        failed = {entry.target for entry in client.log.list(verb="run.failed", most=None)}
        wanted = {f"run/{run.id}" for run in seen.runs.values() if run.state == "failed"}
        assert failed == wanted
        assert client.log.verify().is_ok


# What is refused at the door -----------------------------------------------------------------------


def faults_of(call):
    with pytest.raises(InvalidError) as caught:
        call()
    assert caught.value.next_step
    return {fault.field: fault.message for fault in caught.value.faults}


def test_every_wrong_parameter_is_named_at_once(ana):
    parameters = {"share": 1.5, "count": "many", "way": "left", "name": "a", "nmae": "x"}
    faults = faults_of(lambda: ana.runs.start("honest", {"files": "files"}, parameters))
    assert faults.keys() == {f"parameters.{name}" for name in parameters}
    assert "1" in faults["parameters.share"]
    assert "whole number" in faults["parameters.count"] or "integer" in faults["parameters.count"]
    assert "up" in faults["parameters.way"]
    assert "down" in faults["parameters.way"]
    assert "'name'" in faults["parameters.nmae"]


@pytest.mark.parametrize(
    "value",
    [True, None, "0.5", [0.5], {"a": 1}, 1e308 * 10, -0.0001, 10**400],
    ids=lambda one: str(one)[:9],
)
def test_number_that_is_none_is_refused(ana, value):
    try:
        faults = faults_of(lambda: ana.runs.start("honest", {"files": "files"}, {"share": value}))
    except ValueError:
        assert value in (float("inf"), 10**400), "what JSON can't write does not even leave"
        return
    assert faults.keys() & {"parameters.share", "body"}


def test_missing_and_unknown_inputs_and_datasets_are_named_at_once(ana):
    faults = faults_of(lambda: ana.runs.start("honest", {"fils": "no-such-data@7"}))
    assert faults.keys() == {"inputs.files", "inputs.fils"}
    assert "missing" in faults["inputs.files"]
    assert "no-such-data" in faults["inputs.fils"]
    faults = faults_of(lambda: ana.runs.start("honest", {"files": "files@99"}))
    assert "files@1" in faults["inputs.files"]


def test_unknown_pipeline_and_version_say_what_there_is(ana):
    for address, words in (("honst", "list"), ("honest@9", "honest@1")):
        with pytest.raises(NotFoundError) as caught:
            ana.runs.start(address, {"files": "files"})
        assert words in caught.value.next_step


def test_folder_without_a_pipeline_is_refused_at_once(ana, tmp_path):
    (tmp_path / "other.py").write_text("print()")
    assert "pipeline.py" in faults_of(lambda: ana.pipelines.push(tmp_path))["files"]
    (tmp_path / "pipeline.py").write_text("")
    assert "name" in faults_of(lambda: ana.pipelines.push(tmp_path))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("evil @ https://example.com/evil.whl", "https"),
        ("--index-url https://example.com/simple\nsix", "index"),
        ("-r /etc/passwd", "-r"),
        ("../evil", "../evil"),
        ("six==1.17.0 --hash=md5:00", "hash"),
    ],
)
def test_requirement_that_names_a_place_is_refused_at_once(ana, tools, tmp_path, line, words):
    code = tools.write_code(tmp_path / "code", GOOD, line + "\n")
    with pytest.raises(InvalidError) as caught:
        ana.pipelines.push(code, "places")
    told = " ".join(f"{fault.field} {fault.message}" for fault in caught.value.faults)
    assert words in told + caught.value.message
    assert caught.value.next_step


def test_nobody_else_sees_or_runs_it(seen, ana):
    with pytest.raises(MillpondError) as caught:
        ana.runs.start("raises", {"files": "files"}, project="wild")
    assert caught.value.status == 404
