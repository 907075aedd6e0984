"""Sources in a bucket, on a local S3 server."""

import boto3
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer

from app.bulk.errors import BulkError
from app.bulk.items import Reading
from app.bulk.places import BucketPlace, bucket_files, find_place
from app.bulk.sources import check_sources, count_images
from app.bulk.worker import Worker
from app.settings import Settings
from tests.app.bulk.conftest import READING, outcomes, parquet_file, read, tar_file, zip_file

# pyarrow's threads outlive the tests, and moto's server closes some connections late.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        bucket_files.cache_clear()
        yield f"http://{host}:{port}"
        bucket_files.cache_clear()
        server.stop()


@pytest.fixture(scope="module")
def bucket(server, tmp_path_factory, photos) -> str:
    client, folder = boto3.client("s3", endpoint_url=server, region_name="us-east-1"), tmp_path_factory.mktemp("s3")
    client.create_bucket(Bucket="photos")
    objects = {f"some/{name}": content for name, content in photos.items()}
    objects |= {"some/deep/x.png": photos["0.png"], "some/.hidden.png": b"", "other/y.png": photos["0.png"]}
    objects["some/a.zip"] = zip_file(folder / "a.zip", photos).read_bytes()
    objects["some/b.tar.gz"] = tar_file(folder / "b.tar.gz", photos, "w:gz").read_bytes()
    objects["some/c.tar"] = tar_file(folder / "c.tar", photos).read_bytes()
    table = parquet_file(folder / "d.parquet", {"image": list(photos.values()), "path": ["some/0.png"] * 5})
    objects["some/d.parquet"] = table.read_bytes()
    for key, content in objects.items():
        client.put_object(Bucket="photos", Key=key, Body=content)
    return "s3://photos"


def test_a_prefix_is_read_like_a_folder(bucket, photos):
    items = read(f"{bucket}/some/")
    names = [item.id.removeprefix("s3://photos/some/") for item in items]
    singles, archives = (
        list(photos),
        [f"{archive}/{name}" for archive in ("a.zip", "b.tar.gz", "c.tar") for name in photos],
    )
    assert names == [*singles, *archives, *(f"d.parquet#{row}" for row in range(5)), "deep/x.png"]
    assert [item.content for item in items[5:25]] == list(photos.values()) * 4
    assert items[0].content == BucketPlace("photos/some/0.png")


def test_objects_are_classified_and_missing_ones_are_rows(bucket, photos):
    items = read(f"{bucket}/some/1.png", f"{bucket}/other", f"{bucket}/some/gone.png")
    answered = Worker(Settings()).answer([*items, items[0]._replace(content=BucketPlace("photos/some/vanished.png"))])
    assert answered.errors == {"unreadable": 2} and answered.rows.num_rows == 4
    assert answered.rows.column("label").null_count == 2


def test_paths_in_a_table_of_a_bucket_are_not_read(bucket):
    codes = outcomes(read(f"{bucket}/some/d.parquet", reading=Reading(9, "path"))).values()
    assert list(codes) == ["address_not_fetched"] * 5


def test_a_whole_bucket_is_counted(bucket):
    assert sum(count_images([find_place(f"{bucket}/other"), find_place(f"{bucket}/some/d.parquet")])) == 6
    assert None in count_images([find_place(bucket)])  # it has a tar


def test_a_bucket_that_does_not_exist_is_a_mistake_of_the_command_line(server):
    with pytest.raises(BulkError, match=r"s3://unheard-of/some: No such file or directory; check the path"):
        check_sources([find_place("s3://unheard-of/some")], READING)


def test_a_server_that_is_gone_ends_the_run(bucket, monkeypatch):
    place = find_place(f"{bucket}/some/1.png")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket_files.cache_clear()
    with pytest.raises(BulkError, match="cannot be reached"):
        read(place.name)
    monkeypatch.undo()
    bucket_files.cache_clear()


def test_arrow_is_the_only_client(bucket):
    assert isinstance(bucket_files("photos"), pa.fs.S3FileSystem)
