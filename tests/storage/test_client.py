"""What a user can meet at a bucket, each as one message that says what to do and holds no secret."""

import pytest

from gwainet.errors import GwainetError, ParamsError, StorageError
from gwainet.params import check_params, check_s3
from gwainet.storage import look
from tests.servers.s3 import restrict
from tests.storage.conftest import BUCKET

URL = f"s3://{BUCKET}/photos"
SECRET = "hunter2-secret"


@pytest.fixture(autouse=True)
def one_attempt(server, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def told(url: str = URL) -> str:
    with pytest.raises(StorageError) as caught:
        look(url, ["set.zip"])
    text = str(caught.value)
    assert "s3://" in text
    assert SECRET not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


def test_no_credentials(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "there are no credentials: set AWS_ACCESS_KEY_ID" in told()


def test_half_of_the_credentials(s3, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "there are no credentials: set AWS_ACCESS_KEY_ID" in told()


def test_wrong_credentials(s3, monkeypatch, server):
    restrict(server)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert "the store refuses the credentials: check AWS_ACCESS_KEY_ID" in told()


def test_no_permission(s3, monkeypatch, server):
    key, secret = restrict(server, "s3:PutObject")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    text = told()
    assert "does not allow it: they need s3:ListBucket and s3:GetObject" in text
    assert secret not in text


def test_a_missing_bucket(s3):
    assert "there is no such bucket: correct its name, create it" in told("s3://face/photos")


def test_a_missing_object(s3):
    assert told() == f"{URL} holds no set.zip: correct its name in the params, or upload it"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", f"http://user:{SECRET}@127.0.0.1:9"])
def test_an_endpoint_that_does_not_answer(s3, monkeypatch, endpoint):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert "the store does not answer" in told()
    assert "AWS_ENDPOINT_URL" in told()


def test_an_endpoint_that_is_no_address(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    assert "AWS_ENDPOINT_URL" in told()


def test_a_profile_that_does_not_exist(s3, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE" in told()


@pytest.mark.parametrize(
    "url",
    [
        "bucket/prefix",
        "https://bucket/prefix",
        "s3://",
        "s3:///prefix",
        "s3://Bucket",
        "s3://b",
        "s3://bucket/../other",
        "s3://bucket//prefix",
        "s3://bucket/prefix?versionId=1",
        f"s3://key:{SECRET}@bucket/prefix",
    ],
)
def test_what_is_no_place_in_a_bucket_is_refused_and_a_login_in_it_not_repeated(url):
    with pytest.raises(ParamsError, match=r"fetch_faces.location = .*must be s3://bucket/prefix") as caught:
        check_params({"profile": "x", "fetch_faces": {"source": "folder", "location": url}})
    assert SECRET not in str(caught.value)
    with pytest.raises(ParamsError, match="X must be s3://bucket/prefix"):
        check_s3(url, "X")


def test_a_place_in_a_bucket_has_one_spelling():
    assert check_s3("s3://bucket/a/b/") == check_s3("s3://bucket/a/b") == "s3://bucket/a/b"
    assert check_s3("s3://bucket/") == "s3://bucket"


@pytest.mark.parametrize(
    "settings",
    [
        {"source": "drawn", "location": "s3://bucket"},
        {"source": "folder", "location_version": "0" * 12},
        {"source": "folder", "location": "s3://bucket", "location_version": "1"},
    ],
)
def test_a_location_that_makes_no_sense_is_refused(settings):
    with pytest.raises(GwainetError, match="location"):
        check_params({"profile": "x", "fetch_faces": settings})
