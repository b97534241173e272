from millpond.ground.settings import DatabaseSettings, ObjectsSettings
from millpond.storage.folder import FolderStore
from millpond.storage.opening import open_database, open_objects
from millpond.storage.s3 import S3Store


def test_without_settings_everything_lies_in_the_data_folder(tmp_path):
    database = open_database(DatabaseSettings(), tmp_path)
    assert database.is_sqlite
    assert (tmp_path / "millpond.db").stat().st_mode & 0o777 == 0o600
    database.close()
    objects = open_objects(ObjectsSettings(), tmp_path, "http://here")
    assert isinstance(objects, FolderStore)
    assert objects.sign("a").startswith("http://here/objects/a?")
    again = open_objects(ObjectsSettings(), tmp_path, "http://here")
    assert isinstance(again, FolderStore)
    query = dict(part.split("=") for part in objects.sign("a").partition("?")[2].split("&"))
    assert again.is_signed("GET", "a", int(query["expires"]), query["signature"])


def test_the_settings_name_others(tmp_path, postgresql, ministack):
    with postgresql.database(empty=True) as url:
        database = open_database(DatabaseSettings(url=url), tmp_path)
        assert not database.is_sqlite
        database.close()
    chosen = ObjectsSettings(
        kind="s3",
        bucket="millpond-tests",
        endpoint=ministack,
        access_key_id="x",
        secret_access_key="x",
        allow_http=True,
        prefix="opening",
    )
    objects = open_objects(chosen, tmp_path, "http://here")
    assert isinstance(objects, S3Store)
    objects.put("a", b"x", overwrite=True)
    assert objects.get("a") == b"x"
    assert list(tmp_path.iterdir()) == []
