import re
import shutil

from millpond.ground.findings import look_at_folder
from millpond.ground.units import size_text


def test_a_folder_is_looked_at_also_before_it_is_made(tmp_path):
    found = {one.name: one for one in look_at_folder(tmp_path / "not" / "yet")}
    free = shutil.disk_usage(tmp_path).free
    unit = size_text(free).split()[1]
    assert re.match(rf"[0-9.]+ {unit} free for ", found["disk"].meaning)
    assert found["data folder"].state == "ok"


def test_a_folder_that_others_can_read_is_a_warning_with_the_remedy(tmp_path):
    tmp_path.chmod(0o755)
    found = {one.name: one for one in look_at_folder(tmp_path)}
    assert found["data folder"].state == "warning"
    assert found["data folder"].next_step == f"chmod go-rw {tmp_path}"
    tmp_path.chmod(0o711)  # As the installer makes it: sandboxes of other users walk through it.
    found = {one.name: one for one in look_at_folder(tmp_path)}
    assert found["data folder"].state == "ok"
