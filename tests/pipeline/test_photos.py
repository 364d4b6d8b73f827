"""A pipeline with photos and checkpoints in buckets: what is mounted, what the cache knows, what pods hear."""

import json
from typing import Any

import pytest

from gwainet.errors import StorageError
from gwainet.params import check_params
from gwainet.stages import STAGES
from pipeline.cluster import ClusterSettings
from pipeline.photos import with_photos
from tests.pipeline.test_compiling import CLUSTER, compiled, constant, profile
from tests.storage.conftest import BUCKET, moto_server, s3, server  # noqa: F401  fixtures


def with_buckets() -> ClusterSettings:
    values = CLUSTER.model_dump(mode="json")
    values["volumes"] = {"source": {"s3": f"s3://{BUCKET}/photos"}, "work": {"s3": f"s3://{BUCKET}/work"}}
    return ClusterSettings.model_validate(values)


@pytest.fixture
def bucket(s3: Any) -> Any:  # noqa: F811
    s3.put_object(Bucket=BUCKET, Key="photos/lfw/lfw.zip", Body=b"photos")
    return s3


def test_nothing_is_mounted_and_pods_are_told_where_to_look(bucket, tmp_path):
    pipeline = compiled(tmp_path, profile("lfw"), with_buckets())
    for task, pod in pipeline.kubernetes.items():
        assert not pod.pvc_mount
        fields = {field.name: field.field_path for field in pod.field_path_as_env}
        trains = STAGES[task.split("@")[0]].trains
        assert ("GWAINET_CHECKPOINTS" in fields) == trains
        if trains:
            assert fields["GWAINET_CHECKPOINTS"] == "metadata.annotations['gwainet/checkpoints']"
            assert pod.pod_metadata.annotations["gwainet/checkpoints"] == f"s3://{BUCKET}/work"
        assert "env" not in pipeline.executors[task], "a literal variable is part of Kubeflow's cache key"


def test_other_photos_in_the_bucket_change_the_first_stages_argument_and_no_other_stages(bucket, tmp_path):
    def arguments() -> dict[str, str]:
        pipeline = compiled(tmp_path, profile("lfw"), with_buckets())
        return {task: constant(spec, "params") for task, spec in pipeline.tasks.items()}

    before, again = arguments(), arguments()
    bucket.put_object(Bucket=BUCKET, Key="photos/lfw/lfw.zip", Body=b"PHOTOS")
    after = arguments()
    assert before == again
    assert {task for task in before if before[task] != after[task]} == {"fetch_faces", "register_model"}
    settings = json.loads(after["fetch_faces"])["fetch_faces"]
    assert settings["location"] == f"s3://{BUCKET}/photos/lfw"
    assert check_params(json.loads(after["fetch_faces"])).fetch_faces.location_version is not None


def test_a_bucket_that_is_not_to_be_asked_is_not_asked(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    pinned = check_params(
        {
            "profile": "lfw",
            "fetch_faces": {"source": "folder", "location": "s3://mine", "location_version": "0123456789ab"},
        }
    )
    assert with_photos(pinned, with_buckets()) == pinned, "the params' own location comes first"
    drawn = profile("demo")
    assert with_photos(drawn, with_buckets()) == drawn


def test_a_bucket_without_the_photos_stops_the_compiler_which_says_how_to_do_without(bucket, tmp_path):
    bucket.delete_object(Bucket=BUCKET, Key="photos/lfw/lfw.zip")
    with pytest.raises(StorageError, match=r"holds no lfw.zip(.|\n)*set fetch_faces.location_version"):
        compiled(tmp_path, profile("lfw"), with_buckets())
    assert not list(tmp_path.iterdir())
