"""What tus clients send in headers: read, or refused in words, whatever it is."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millpond.ground.errors import MillpondError
from millpond.lake.uploads import rules
from millpond.lake.values import LakeLimits

HEADERS = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=200)


def status_of(read, *arguments):
    """Give the status of a refusal, or None where it was read."""
    try:
        read(*arguments)
    except MillpondError as fault:
        return fault.status
    return None


@given(HEADERS)
@example("\u00b2")  # Digits of other kinds are none here.
@example("1" * 19)
@example("007")
def test_any_number_is_read_or_refused(text):
    is_number = text.isascii() and text.isdecimal() and len(text) <= 18
    assert status_of(rules.read_number, "Upload-Length", text) == (None if is_number else 422)
    if is_number:
        assert rules.read_number("Upload-Length", text) == int(text)


@given(HEADERS)
def test_any_metadata_is_read_or_refused(text):
    def read():
        rules.read_asked(rules.read_metadata(text), 1, LakeLimits())

    assert status_of(read) in (None, 422)


@given(st.dictionaries(st.from_regex(r"[A-Za-z]{1,9}", fullmatch=True), st.text(max_size=50)))
def test_metadata_comes_out_as_it_went_in(pairs):
    try:
        text = ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())
    except UnicodeEncodeError:
        return
    assert rules.read_metadata(text) == pairs


@given(HEADERS)
def test_any_checksum_is_read_or_refused(text):
    assert status_of(rules.read_checksum, text) in (None, 422)


def test_other_versions_and_types_are_refused_with_the_protocols_own_numbers():
    for given_version in (None, "", "0.2.2"):
        with pytest.raises(rules.WrongVersionError) as caught:
            rules.check_version(given_version)
        assert caught.value.status == 412
    with pytest.raises(rules.WrongTypeError) as caught:
        rules.check_type("text/plain")
    assert caught.value.status == 415
    rules.check_type("Application/Offset+octet-stream; charset=x")
