import fcntl
import json
import os
import stat
import subprocess
import threading
import zipfile

import pytest

from millpond.environments.rules import list_packages, make_lock
from millpond.ground.errors import BusyError, InvalidError


def run(place, code):
    command = [str(place.path / "bin" / "python"), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def kinds_of(folder):
    for path, _, names in os.walk(folder):
        for name in names:
            info = os.lstat(f"{path}/{name}")
            if not stat.S_ISLNK(info.st_mode):
                yield f"{path}/{name}", info


def test_a_lock_becomes_a_read_only_venv_of_its_own(builder):
    lines = []
    lock = builder.lock("# two small ones\nsix==1.17.0\niniconfig  # any\n", lines.append)
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    packages = {one.name: one.version for one in list_packages(lock)}
    assert packages["six"] == "1.17.0"
    assert set(packages) == {"six", "iniconfig"}
    place = builder.ensure(lock, lines.append)
    assert run(place, "import six, iniconfig; print(six.__version__)") == "1.17.0"
    assert any("six==1.17.0" in line for line in lines)
    files = dict(kinds_of(place.path))
    assert any(path.endswith(".pyc") and "six" in path for path in files)
    assert [path for path, info in files.items() if info.st_mode & 0o222] == []
    # A file shared with uv's cache, or with another environment, would have two names.
    assert [path for path, info in files.items() if info.st_nlink != 1] == []
    assert place.python_prefix.is_dir()
    quiet = []
    assert builder.ensure(lock, quiet.append) == place == builder.find(lock)
    assert quiet == []
    other = builder.ensure(builder.lock("six==1.17.0", lines.append), lines.append)
    assert other.path != place.path


def test_nothing_of_a_package_runs_when_it_is_built(make_builder, tmp_path):
    """Python runs the lines of a ``.pth`` file whenever it starts in the venv."""
    told = tmp_path / "told"
    wheel = write_wheel(
        tmp_path / "wheels",
        {"quiet.py": "x = 1\n", "quiet.pth": f"import os; open({str(told)!r}, 'w').write('ran')\n"},
    )
    builder = make_builder(UV_NO_INDEX="1", UV_FIND_LINKS=str(wheel.parent))
    place = builder.ensure(builder.lock("quiet", print), print)
    assert not told.exists()
    assert list(place.path.glob("lib/*/site-packages/__pycache__/quiet.*.pyc"))
    run(place, "import quiet")
    assert told.read_text() == "ran"


def write_wheel(folder, files):
    folder.mkdir()
    path, info = folder / "quiet-1.0-py3-none-any.whl", "quiet-1.0.dist-info"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    named = "Metadata-Version: 2.1\nName: quiet\nVersion: 1.0\n"
    files = {**files, f"{info}/METADATA": named, f"{info}/WHEEL": tags}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    return path


def test_no_requirements_make_an_environment_of_the_standard_library(builder):
    lock = builder.lock("# nothing\n\n", print)
    assert list_packages(lock) == ()
    place = builder.ensure(lock, print)
    assert json.loads(run(place, "import json, sys; print(json.dumps(sys.prefix))")) == str(
        place.path
    )


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("millpond-no-such-package-x9", "There is no package 'millpond-no-such-package-x9'"),
        ("iniconfig==0.0.99", "iniconfig"),
        ("six>=1.17\nsix<1.16", "six"),
    ],
)
def test_what_cannot_be_resolved_is_named(builder, requirements, words):
    with pytest.raises(InvalidError) as caught:
        builder.lock(requirements, print)
    assert words in caught.value.message


def test_a_wrong_hash_is_refused_and_leaves_nothing(builder, tmp_path):
    lock = make_lock(f"six==1.17.0 \\\n    --hash=sha256:{'0' * 64}", builder.python_version)
    with pytest.raises(InvalidError, match=r"(?i)hash"):
        builder.ensure(lock, print)
    assert builder.find(lock) is None
    left = [path.name for path in (tmp_path / "environments").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []


def test_a_lock_for_another_python_is_refused(builder):
    with pytest.raises(InvalidError, match=r"Python 3\.2"):
        builder.ensure(make_lock("", "3.2"), print)


def test_a_build_has_a_time_limit(make_builder):
    with pytest.raises(InvalidError, match=r"stopped after 0\.001 seconds"):
        make_builder(seconds=0.001).lock("six", print)


def test_many_at_once_make_it_once(make_builder):
    lock = make_builder().lock("", print)
    lines = []
    places = []
    builders = [make_builder() for _ in range(4)]
    threads = [
        threading.Thread(target=lambda b=b: places.append(b.ensure(lock, lines.append)))
        for b in builders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({place.path for place in places}) == 1
    assert len(places) == 4
    assert lines.count("Making it read-only") == 1


def test_half_made_ones_are_never_used_and_are_swept(make_builder, tmp_path):
    builder = make_builder()
    lock = builder.lock("", print)
    place = builder.ensure(lock, print)
    half = tmp_path / "environments" / f".making-{place.key}-dead"
    place.path.rename(half)
    (half / ".complete").chmod(0o644)
    (half / ".complete").unlink()
    assert builder.find(lock) is None
    busy = tmp_path / "environments" / ".making-abc-1234"
    busy.mkdir()
    with (tmp_path / "environments" / "abc.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert builder.sweep() == 1
        assert not half.exists()
        assert busy.exists()
    assert builder.sweep() == 1
    assert builder.ensure(lock, print).path == place.path


def test_an_index_that_is_away_is_told_and_its_secret_is_not(make_builder):
    builder = make_builder(
        UV_DEFAULT_INDEX="http://ana:geheim@127.0.0.1:9/simple", UV_HTTP_RETRIES="0"
    )
    lines = []
    with pytest.raises(BusyError) as caught:
        builder.lock("millpond-never-seen", lines.append)
    assert "can't be reached" in caught.value.message
    assert "geheim" not in caught.value.message + "".join(lines)


def test_what_the_cache_holds_is_enough_without_a_network(make_builder, tmp_path):
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}
    first = make_builder(**cache)
    lock = first.lock("six==1.17.0", print)
    place = first.ensure(lock, print)
    subprocess.run(["rm", "-rf", str(place.path)], check=True)
    offline = make_builder(**cache, UV_OFFLINE="1")
    assert offline.lock("six==1.17.0", print) == lock
    assert run(offline.ensure(lock, print), "import six; print(six.__name__)") == "six"
