import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.environments import rules
from millpond.ground.errors import InvalidError

GOOD = """\ufeff# a comment
numpy
numpy>=2,<3   # why
pandas == 3.1.1 ; python_version >= "3.11" and sys_platform == 'linux'
scikit-learn[alldeps, extra_one]~=1.9
torch (>=2.0)
zope.interface!=5.*\r
a
"""
BAD = {
    "-r other.txt": "-r",
    "-e .": "-e",
    "--index-url https://u:geheim@example.org/simple": "--index-url",
    "--extra-index-url=x": "--extra-index-url",
    "-i x": "-i",
    "--find-links /tmp": "--find-links",
    "--trusted-host x": "--trusted-host",
    "--no-binary :all:": "--no-binary",
    "six @ https://u:geheim@example.org/six.whl": "address",
    "six@file:///etc": "address",
    "six @ x": "NAME @ ADDRESS",
    "git+ssh:repo": "address",
    "https://example.org/six-1.tar.gz": "address",
    "./six": "path",
    "../six": "path",
    "/etc/passwd": "path",
    "~/six": "path",
    "folder\\six": "path",
    "six-1.17.0.whl": "file",
    "six==1.17 --hash=sha256:00": "hashes",
    "six \\": "continued",
    "six==${HOME}": "not a package",
    "$(id)": "not a package",
    "six==1 six==2": "not a package",
    "-": "not a package",
}


def test_packages_versions_markers_and_comments_are_fine():
    rules.check_requirements(GOOD)
    assert rules.clean_requirements(GOOD).splitlines()[:3] == [
        "numpy",
        "numpy>=2,<3",
        "pandas == 3.1.1 ; python_version >= \"3.11\" and sys_platform == 'linux'",
    ]
    rules.check_requirements("")


@pytest.mark.parametrize(
    "line",
    ["a" + " " * 60_000 + "b", "a" + " " * 400 + "b", "a" + " \t" * 200 + "#", "a;" + " ;" * 200],
)
def test_a_line_of_spaces_does_not_hold_the_server(line):
    start = time.process_time()
    with suppress(InvalidError):
        rules.check_requirements(line)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("line", BAD)
def test_everything_else_is_refused_with_its_line(line):
    with pytest.raises(InvalidError) as caught:
        rules.check_requirements(f"numpy\n{line}\n")
    (fault,) = caught.value.faults
    assert fault.message.startswith("line 2: ")
    assert BAD[line] in fault.message
    assert "geheim" not in fault.message


def test_all_faults_are_named_up_to_twenty():
    with pytest.raises(InvalidError) as caught:
        rules.check_requirements("\n".join(["-r x"] * 30))
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1].message == "and 10 more"
    for text in ("x" * 70_000, "a\n" * 1001):
        with pytest.raises(InvalidError, match="not allowed"):
            rules.check_requirements(text)


@given(st.text())
def test_no_text_gets_an_address_a_path_or_an_option_to_the_resolver(text):
    try:
        rules.check_requirements(text)
    except InvalidError:
        return
    for line in rules.clean_requirements(text).splitlines():
        assert line[0].isalnum()
        assert line.isascii()
        assert not set(line) & set("/\\@$:")


def test_what_a_resolver_says_becomes_words_with_a_hint():
    away = "error: No solution found\n  cause: Because sklearnn was not found in the package registry and you require sklearnn, we"
    assert rules.explain_failure(away) == (
        "There is no package 'sklearnn' in the package index. Check how it is written."
    )
    assert "'pandas'" in rules.explain_failure(away.replace("sklearnn", "pandass"))
    assert "'pillow'" in rules.suggest("PIL")
    assert rules.explain_failure("") == "the installer failed without a word"
    secret = rules.explain_failure("error: failed at https://u:geheim@host/simple")
    assert secret == "failed at https://***@host/simple"
    assert rules.is_index_away("error: Failed to fetch: `x`")
    assert not rules.is_index_away(away)


def test_packages_of_a_lock_are_read():
    body = """six==1.17.0 \\
    --hash=sha256:aa
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:bb
    # via click
Ruamel.Yaml[x]==1 --hash=sha256:cc
"""
    lock = rules.make_lock(body, "3.11")
    assert rules.python_of(lock) == "3.11"
    assert [(one.name, one.version) for one in rules.list_packages(lock)] == [
        ("colorama", "0.4.6"),
        ("ruamel-yaml", "1"),
        ("six", "1.17.0"),
    ]
    with pytest.raises(InvalidError):
        rules.python_of("six==1\n")
