"""Two programs are the same Millpond when their code is, whatever their number says."""

from importlib.metadata import version as version_of
from pathlib import Path

from millpond.ground import versions

LOCK = b"httpx==1.0\n"


def package(folder: Path, text: str = "NUMBER = 1\n") -> Path:
    """Write a package as a checkout has it."""
    home = folder / "src" / "millpond"
    home.mkdir(parents=True)
    home.joinpath("one.py").write_text(text)
    home.joinpath("page.html").write_text("<p>A page.</p>")
    (folder / "locks").mkdir()
    (folder / "locks" / "run.txt").write_bytes(LOCK)
    return home


def test_a_version_is_the_number_and_the_code() -> None:
    assert versions.code_version() == version_of("millpond")  # Tests run from a checkout.
    assert versions.in_words("1.0", "a" * 64) == "1.0+aaaaaaaa"
    assert versions.in_words("1.0+lab", "a" * 64) == "1.0+lab.aaaaaaaa"
    assert versions.number_of("1.0+aaaaaaaa") == "1.0"


def test_who_has_other_code_of_the_same_number_is_not_the_same() -> None:
    assert versions.is_same("1.0+aa", "1.0+aa")
    assert not versions.is_same("1.0+aa", "1.0+bb")
    assert versions.is_same("1.0", "1.0+bb")  # One of them runs from a checkout.
    assert not versions.is_same("1.1", "1.0+bb")
    assert not versions.is_same("1.1", "1.0")


def test_each_module_and_the_lock_count_and_nothing_else(tmp_path: Path) -> None:
    home = package(tmp_path / "one")
    before = versions.digest_of(versions.code_below(home))
    home.joinpath("page.html").write_text("<p>Another.</p>")
    home.joinpath("examples").mkdir()
    home.joinpath("examples", "count.py").write_text("print(1)\n")
    assert versions.digest_of(versions.code_below(home)) == before
    other = package(tmp_path / "other", "NUMBER = 2\n")
    assert versions.digest_of(versions.code_below(other)) != before
    home.joinpath("two.py").write_text("")
    added = versions.digest_of(versions.code_below(home))
    assert added != before
    (tmp_path / "one" / "locks" / "run.txt").write_bytes(b"httpx==2.0\n")
    assert versions.digest_of(versions.code_below(home)) not in (before, added)


def test_a_wheel_has_its_lock_inside_and_is_the_same(tmp_path: Path) -> None:
    home = package(tmp_path)
    before = versions.digest_of(versions.code_below(home))
    home.joinpath("deploy").mkdir()
    (tmp_path / "locks" / "run.txt").rename(home / "deploy" / "run.txt")
    assert versions.digest_of(versions.code_below(home)) == before
