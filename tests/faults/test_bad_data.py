"""Bad data: what is refused says why and what to do; odd but honest names go the whole way."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from millpond.ground.errors import InvalidError, MillpondError, TooLargeError

NAMES = (
    b"plain.txt",
    b"empty",
    b"two\nlines.txt",
    b"\xff\xfe not utf-8 \xe9.bin",
    b"sp ace/and\ttab/\xc3\xa4\xc3\xb6.txt",
    b"-rf",
    b"quote'\"`$(touch pwned)",
    b"back\\slash",
    b"%2e%2e%2fetc",
    b"x" * 255,
)
KEEP = """
    import os
    from millpond import Files, Table, pipeline, step

    @step(map=True, files_per_task=3, memory="128 MiB")
    def look(files: Files) -> Table:
        for file in files:
            yield {"path": file.name, "size": file.size, "first": file.read_bytes()[:4].hex()}

    @step(memory="128 MiB")
    def keep(files: Files) -> Files:
        for file in files:
            name = os.path.relpath(os.fsencode(str(file.path)), os.fsencode(str(files.path)))
            yield os.fsdecode(name), file.path

    @pipeline
    def odd(files: Files) -> {"seen": Table, "kept": Files}:
        "Look at oddly named files, and keep them."
        return {"seen": look(files), "kept": keep(files)}
"""


@pytest.fixture(scope="module")
def place(install):
    limits = {"lake_files": 5000}
    with install(**limits) as one:
        one.start()
        with one.client() as client:
            client.projects.make("one")
        yield one
        one.stop()


@pytest.fixture
def client(place):
    with place.client() as opened:
        yield opened


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(*members: tuple[str, bytes, str]) -> bytes:
    """Make a tar of (name, type, link target or content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, rest in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            data = b""
            if kind == tarfile.REGTYPE:
                data = rest.encode()
                info.size = len(data)
            else:
                info.linkname = rest
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


BAD_ARCHIVES = {
    "nothing-in-it.zip": (zipped({}), "no file"),
    "nothing-in-it.tar": (tarred(), "no file"),
    "only-folders.tar": (tarred(("a", tarfile.DIRTYPE, "")), "no file"),
    "no-bytes.zip": (b"", "zip"),
    "no-archive.zip": (b"this is text, and no archive", "zip"),
    "cut-off.zip": (zipped({"a": os.urandom(5000)})[:-200], "zip"),
    "climbs.zip": (zipped({"../../up": b"x"}), "../../up"),
    "climbs.tar": (tarred(("../up", tarfile.REGTYPE, "x")), "../up"),
    "absolute.tar": (tarred(("/etc/cron.d/x", tarfile.REGTYPE, "x")), "/etc/cron.d/x"),
    "linked.tar": (
        tarred(("d", tarfile.SYMTYPE, "/etc"), ("d/passwd", tarfile.REGTYPE, "x")),
        "link",
    ),
    "hard-linked.tar": (tarred(("p", tarfile.LNKTYPE, "/etc/passwd")), "link"),
    "device.tar": (tarred(("null", tarfile.CHRTYPE, "")), "no regular file"),
    "bomb.zip": (lambda: zipped({"zeros": bytes(80 << 20)}), "times"),
    "bomb.tar.gz": (
        lambda: gzip.compress(tarred(("zeros", tarfile.REGTYPE, "0" * (80 << 20))), 9),
        "times",
    ),
    "many.zip": (zipped({f"f{number}": b"" for number in range(6000)}), "5000"),
    "twice.tar": (
        tarred(("a", tarfile.REGTYPE, "one"), ("a", tarfile.REGTYPE, "two")),
        "more than once",
    ),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archive_is_refused_in_words_and_leaves_no_version(client, tmp_path, name):
    data, words = BAD_ARCHIVES[name]
    path = tmp_path / name
    path.write_bytes(data() if callable(data) else data)
    dataset = name.replace(".", "-")
    with pytest.raises((InvalidError, TooLargeError)) as caught:
        client.datasets.push(path, dataset)
    fault = caught.value
    told = " ".join([fault.message, *(each.message for each in getattr(fault, "faults", ()))])
    assert words in told + " ".join(each.field for each in getattr(fault, "faults", ()))
    assert fault.next_step
    assert dataset not in {one.name for one in client.datasets.list()}


def test_every_fault_of_an_archive_is_named_at_once(client, tmp_path):
    path = tmp_path / "many-faults.tar"
    path.write_bytes(
        tarred(
            ("../up", tarfile.REGTYPE, "x"),
            ("good", tarfile.REGTYPE, "x"),
            ("link", tarfile.SYMTYPE, "/etc"),
            ("/absolute", tarfile.REGTYPE, "x"),
        )
    )
    with pytest.raises(InvalidError) as caught:
        client.datasets.push(path, "faults")
    told = " ".join(f"{each.field} {each.message}" for each in caught.value.faults)
    for name in ("../up", "link", "/absolute"):
        assert name in told
    assert "good" not in told


def test_empty_folder_is_refused(client, tmp_path):
    with pytest.raises(MillpondError) as caught:
        client.datasets.push(tmp_path, "nothing")
    assert "no file" in caught.value.message
    assert caught.value.next_step


def write_files(root: bytes) -> dict[bytes, bytes]:
    written = {}
    for number, name in enumerate(NAMES):
        path = Path(os.fsdecode(root + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"" if name == b"empty" else b"%d of them\n" % number
        path.write_bytes(data)
        written[name] = data
    return written


def read_files(root: bytes) -> dict[bytes, bytes]:
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = folder + b"/" + name
            found[os.path.relpath(path, root)] = Path(os.fsdecode(path)).read_bytes()
    return found


def test_odd_names_go_from_push_through_a_run_to_the_download(client, tools, tmp_path):
    folder = tmp_path / "odd"
    written = write_files(os.fsencode(folder))
    pushed = client.datasets.push(folder, "odd")
    assert pushed.version.file_count == len(NAMES)
    assert not pushed.left_out
    client.datasets.download("odd", tmp_path / "back")
    assert read_files(os.fsencode(tmp_path / "back")) == written

    client.pipelines.push(tools.write_code(tmp_path / "code", KEEP), "odd")
    version = client.pipelines.wait("odd")
    assert version.state == "ready", (version.reason, version.faults)
    run = client.runs.wait(client.runs.start("odd", {"files": "odd"}).id)
    assert run.state == "succeeded", run.reason
    client.runs.download(run.id, tmp_path / "out")
    found = read_files(os.fsencode(tmp_path / "out"))
    kept = {name[len(b"files/kept/") :]: data for name, data in found.items() if b"/kept/" in name}
    assert kept == written
    client.runs.download_zip(run.id, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(found)
    seen = found[b"predictions.csv"].decode()
    for shown in ("plain.txt", "empty", "two\nlines.txt", "\\xff\\xfe not utf-8 \\xe9.bin"):
        assert shown in seen


def test_program_meets_odd_names_too(client, tmp_path):
    folder = tmp_path / "odd"
    written = write_files(os.fsencode(folder))
    client.datasets.push(folder, "odd-program")
    script = tmp_path / "copy.sh"
    script.write_text('cp -r "$MILLPOND_INPUT_DATA"/. "$MILLPOND_OUTPUT"/\n')
    run = client.runs.start_program(script, {"data": "odd-program"})
    run = client.runs.wait(run.id)
    assert run.state == "succeeded", (run.reason, client.runs.log(run.id).text)
    client.runs.download(run.id, tmp_path / "out")
    found = read_files(os.fsencode(tmp_path / "out"))
    kept = {n[len(b"files/output/") :]: data for n, data in found.items() if b"/output/" in n}
    assert kept == written


def test_link_in_a_folder_is_left_out_and_named(client, tmp_path):
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "a").write_text("a")
    (folder / "secret").symlink_to("/etc/shadow")
    os.mkfifo(folder / "pipe")
    pushed = client.datasets.push(folder, "linked")
    assert pushed.version.file_count == 1
    assert {Path(path).name for path, _ in pushed.left_out} == {"secret", "pipe"}
    assert all(reason for _, reason in pushed.left_out)
