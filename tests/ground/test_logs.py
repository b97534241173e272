import io
import json
import logging

import pytest

from millpond.ground.logs import REQUEST_ID, set_up_logs


@pytest.fixture
def stream():
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_json_lines_carry_the_request_the_facts_and_the_trace(stream):
    set_up_logs("INFO", to=stream)
    mark = REQUEST_ID.set("req_1")
    try:
        logging.getLogger("millpond.x").info("two\nlines %s", "é", extra={"path": "/a"})
        try:
            int("broken")
        except ValueError:
            logging.getLogger("millpond.x").exception("Defect")
        logging.getLogger("millpond.x").debug("not shown")
    finally:
        REQUEST_ID.reset(mark)
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first["message"] == "two\nlines é"
    assert (first["level"], first["request_id"], first["path"]) == ("info", "req_1", "/a")
    assert first["at"].endswith("Z")
    assert "ValueError: invalid" in second["trace"]


def test_lines_for_people_hold_no_control_characters(stream):
    set_up_logs("INFO", is_human=True, to=stream)
    logging.getLogger("millpond.x").warning("a\x1b[31mred\nnew", extra={"status": 200})
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert line.endswith("warning a\\x1b[31mred\\nnew status=200")
