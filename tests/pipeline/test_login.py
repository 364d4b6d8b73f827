import json

import pytest

from gwainet.errors import LoginError
from pipeline.login import IN_CLUSTER, POD_NAMESPACE, TOKEN_VOLUME, find_login


@pytest.fixture
def find(tmp_path):
    """Look for a login on a machine that has nothing but what the test gives it."""

    def find(*flags, **environment):
        return find_login(
            *flags, environment=environment, volumes=tmp_path / "secrets", context=tmp_path / "context.json"
        )

    return find


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def pod(tmp_path):
    """What Kubernetes mounts."""
    write(tmp_path / "secrets" / POD_NAMESPACE, "team-a\n")
    return write(tmp_path / "secrets" / TOKEN_VOLUME, "mounted\n")


def test_without_an_endpoint_it_says_what_to_set(find):
    with pytest.raises(LoginError, match=r"--endpoint URL or set KF_PIPELINES_ENDPOINT.*port-forward"):
        find()


def test_the_flag_comes_before_the_environment_before_the_cluster_around_the_pod(find, pod):
    places = {"KF_PIPELINES_ENDPOINT": "https://environment", "KFP_ENDPOINT": "https://command"}
    assert find("https://flag", **places).endpoint == "https://flag"
    assert find(**places).endpoint == "https://environment"
    assert find(KFP_ENDPOINT="https://command").endpoint == "https://command"
    assert find().endpoint == IN_CLUSTER


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("http://localhost:8080/", "http://localhost:8080"),
        ("https://host/pipeline/#/runs/details/1", "https://host/pipeline"),
        (" https://host/pipeline ", "https://host/pipeline"),
    ],
)
def test_an_address_copied_from_a_browser_is_cut_to_its_base(find, given, endpoint):
    assert find(given).endpoint == endpoint


@pytest.mark.parametrize("given", ["localhost:8080", "ftp://host", "https://", "host"])
def test_an_address_without_scheme_or_host_is_refused(find, given):
    with pytest.raises(LoginError, match=r"must begin with http:// or https://"):
        find(given)


def test_the_pages_may_be_elsewhere(find):
    assert find("http://api").pages == "http://api"
    assert find("http://api", KF_PIPELINES_UI_ENDPOINT="https://pages/").pages == "https://pages"


def test_the_namespace_comes_from_flag_environment_context_and_pod_in_this_order(find, pod, tmp_path):
    assert find("http://a").namespace == "team-a"
    write(tmp_path / "context.json", json.dumps({"namespace": "saved"}))
    assert find("http://a").namespace == "saved"
    assert find("http://a", KFP_NAMESPACE="set").namespace == "set"
    assert find("http://a", "flag", KFP_NAMESPACE="set").namespace == "flag"


def test_credentials_come_from_flag_environment_context_and_volume_in_this_order(find, pod, tmp_path):
    assert find("http://a").bearer() == "mounted"
    write(tmp_path / "context.json", json.dumps({"client_authentication_cookie": "saved=1"}))
    assert (find("http://a").cookie, find("http://a").bearer()) == ("saved=1", "")
    assert find("http://a", KFP_COOKIES="set=1").cookie == "set=1"
    file = write(tmp_path / "other", "from a file")
    environment = {"KF_PIPELINES_SA_TOKEN_PATH": str(file), "KFP_COOKIES": "set=1"}
    assert (find("http://a", **environment).bearer(), find("http://a", **environment).cookie) == ("from a file", "")
    assert find("http://a", KFP_EXISTING_TOKEN="literal\n", **environment).bearer() == "literal"
    flag = write(tmp_path / "flag", "from the flag")
    assert find("http://a", None, flag, KFP_EXISTING_TOKEN="literal", **environment).bearer() == "from the flag"


def test_a_token_in_a_file_is_read_again_each_time(find, pod):
    login = find("http://a")
    pod.write_text("renewed\n")
    assert login.bearer() == "renewed"


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), ("  \n", "is empty"), (b"\xff\xfe", "not text")]
)
def test_a_token_file_that_cannot_be_used_is_named_at_once(find, tmp_path, content, reason):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LoginError, match=rf"KF_PIPELINES_SA_TOKEN_PATH.*{reason}.*KFP_EXISTING_TOKEN"):
        find("http://a", KF_PIPELINES_SA_TOKEN_PATH=str(file))


def test_a_certificate_that_is_not_there_and_a_broken_context_are_told(find, tmp_path):
    with pytest.raises(LoginError, match="--ca-cert"):
        find("http://a", None, None, tmp_path / "absent.pem")
    write(tmp_path / "context.json", "[")
    with pytest.raises(LoginError, match=r"context\.json is not what kfp writes"):
        find("http://a")


def test_no_message_shows_a_token(find):
    login = find("http://a", KFP_EXISTING_TOKEN="s3cret")
    assert "s3cret" not in login.credential
    assert "s3cret" not in repr(login)
