import json
import socket
import time
from datetime import UTC, datetime

import pytest

from gwainet.errors import ClusterError, ConflictError, LoginError, NotFoundError, UnavailableError
from pipeline.client import Pipelines, Run, Task
from pipeline.login import Login
from tests.pipeline.server import Kubeflow
from tests.serving import Failure, serve


def connect(kubeflow, **login) -> Pipelines:
    return Pipelines(Login(kubeflow.address, kubeflow.address, **login), read_seconds=1)


def upload(server, package, name="0.1.0-abc"):
    return server.upload(package, "gwainet", name)[0]


# ---------------------------------------------------------------- what it does


def test_the_first_upload_makes_the_pipeline_and_the_next_ones_add_versions(kubeflow, package):
    server = connect(kubeflow)
    first = upload(server, package, "v1")
    second = upload(server, package, "v2")
    assert len(kubeflow.pipelines) == 1
    assert [version["display_name"] for version in kubeflow.versions] == ["v1", "v2"]
    assert first.pipeline_id == second.pipeline_id
    assert server.newest_version("gwainet") == second


def test_a_version_of_the_same_name_is_taken_as_it_is(kubeflow, package):
    server = connect(kubeflow)
    first, new = server.upload(package, "gwainet", "v1")
    upload(server, package, "v2")
    again, new_again = server.upload(package, "gwainet", "v1")
    assert (new, new_again) == (True, False)
    assert again == first


def test_two_who_make_the_pipeline_at_once_share_it(kubeflow):
    server = connect(kubeflow)
    assert server.create_pipeline("gwainet") == server.create_pipeline("gwainet")
    assert len(kubeflow.pipelines) == 1


def test_a_run_is_made_of_the_version_in_the_experiment(kubeflow, package):
    server = connect(kubeflow)
    version = upload(server, package)
    first = server.start(version, "trials", "one")
    second = server.start(version, "trials", "two")
    assert [experiment["display_name"] for experiment in kubeflow.experiments] == ["trials"]
    assert [run["display_name"] for run in kubeflow.runs] == ["one", "two"]
    assert kubeflow.runs[0]["pipeline_version_reference"]["pipeline_version_id"] == version.version_id
    assert server.run(first).name == "one"
    assert server.latest_run("trials").run_id == second
    assert server.run_page(first) == f"{kubeflow.address}/#/runs/details/{first}"


def test_what_is_not_there_is_named(kubeflow, package):
    server = connect(kubeflow)
    with pytest.raises(NotFoundError, match="no version of the pipeline `gwainet` on the cluster yet: submit"):
        server.newest_version("gwainet")
    server.create_pipeline("gwainet")
    with pytest.raises(NotFoundError, match="no version of the pipeline"):
        server.newest_version("gwainet")
    with pytest.raises(NotFoundError, match="no experiment `trials` on the cluster"):
        server.latest_run("trials")
    server.open_experiment("trials")
    with pytest.raises(NotFoundError, match="no run in the experiment `trials`"):
        server.latest_run("trials")
    with pytest.raises(NotFoundError, match="no schedule `x`"):
        server.delete_schedule("x")


def test_a_schedule_is_made_listed_and_deleted(kubeflow, package):
    server = connect(kubeflow)
    version = upload(server, package)
    server.create_schedule(version, "trials", "nightly", "0 0 3 * * *")
    (made,) = kubeflow.recurring
    assert (made["mode"], made["max_concurrency"], made["no_catchup"]) == ("ENABLE", "1", True)
    (listed,) = server.schedules()
    assert (listed.name, listed.cron, listed.enabled) == ("nightly", "0 0 3 * * *", True)
    with pytest.raises(ConflictError, match="schedule --delete nightly"):
        server.create_schedule(version, "trials", "nightly", "0 0 4 * * *")
    server.delete_schedule("nightly")
    assert server.schedules() == []


def test_schedules_of_more_than_one_page_are_all_listed_and_a_doubled_name_is_not_guessed_at(kubeflow):
    kubeflow.recurring = [
        {"recurring_run_id": str(n), "display_name": "same", "created_at": "2026-01-01T00:00:00Z"} for n in range(205)
    ]
    server = connect(kubeflow)
    assert len(server.schedules()) == 205
    with pytest.raises(ConflictError, match=r"205 schedules are named `same`: give the id"):
        server.delete_schedule("same")
    server.delete_schedule("7")
    assert len(kubeflow.recurring) == 204


def test_one_user_is_asked_for_without_a_namespace_and_many_with_it(package):
    with serve(Kubeflow()) as single:
        upload(connect(single, namespace="team-a"), package)  # the server refuses any namespace
    with serve(Kubeflow(multi_user=True)) as multi:
        server = connect(multi, namespace="team-a")
        server.start(upload(server, package), "trials", "one")
        assert multi.pipelines[0]["namespace"] == multi.experiments[0]["namespace"] == "team-a"
        with pytest.raises(LoginError, match=r"has many users: give --namespace"):
            connect(multi)


# ---------------------------------------------------------------- login


def test_the_token_goes_with_every_request_and_is_read_again_when_kubernetes_renews_it(package, tmp_path):
    file = tmp_path / "token"
    file.write_text("first")
    with serve(Kubeflow(token="first")) as kubeflow:
        server = connect(kubeflow, token_file=file)
        upload(server, package)
        kubeflow.token = "second"
        file.write_text("second\n")
        server.start(server.newest_version("gwainet"), "trials", "one")
        assert all(request.headers["Authorization"].startswith("Bearer ") for request in kubeflow.requests)


def test_a_cookie_goes_with_every_request(kubeflow, package):
    upload(connect(kubeflow, cookie="authservice_session=abc"), package)
    assert {request.headers["Cookie"] for request in kubeflow.requests} == {"authservice_session=abc"}
    assert all("Authorization" not in request.headers for request in kubeflow.requests)


def test_a_refused_token_says_which_one_was_sent_and_what_to_set():
    with serve(Kubeflow(token="right")) as kubeflow, pytest.raises(LoginError) as caught:
        connect(kubeflow, token="s3cret", credential="the token of KFP_EXISTING_TOKEN")
    message = str(caught.value)
    assert "refused the login (401: Unauthenticated)" in message
    assert "Sent was the token of KFP_EXISTING_TOKEN. Set one of: --token-file FILE" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("answer", "says"), [("page", r"answered with a page \(text/html"), ("redirect", r"sends to /dex/auth\?client_id")]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_to_log_in_is_no_answer(kubeflow, package, answer, says, method):
    server = connect(kubeflow)
    kubeflow.failures = [Failure(method, "pipelines", answer)]
    with pytest.raises(LoginError, match=f"{says}.*Set one of: --token-file"):
        upload(server, package)


def test_a_forbidden_namespace_is_named_with_what_to_ask_for(kubeflow):
    server = connect(kubeflow, namespace="team-b")
    kubeflow.failures = [Failure("GET", "experiments", 403, message="User 'a' is not authorized")]
    with pytest.raises(LoginError, match=r"does not allow it \(403: User 'a' is not.*`team-b`.*RoleBinding"):
        server.experiment_id("trials")


def test_an_upload_that_is_not_allowed_is_a_login_error_though_the_server_answers_400(kubeflow, package):
    server = connect(kubeflow)
    kubeflow.failures = [Failure("POST", "upload", 400, message="pipeline upload denied: permission to create ...")]
    with pytest.raises(LoginError, match="does not allow it"):
        upload(server, package)


# ---------------------------------------------------------------- when it goes wrong


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (400, ClusterError, r"refused it \(400: no\)"),
        (404, NotFoundError, r"knows no such thing \(404: no\).*below /pipeline"),
        (409, ConflictError, r"has one of that name already \(409: no\)"),
        (429, UnavailableError, r"failed \(429: no\)"),
        (500, UnavailableError, r"failed \(500: no\).*logs deploy/ml-pipeline"),
        (503, UnavailableError, r"failed \(503: no\)"),
    ],
)
def test_each_refusal_says_what_was_tried_and_what_the_server_said(kubeflow, status, kind, says):
    server = connect(kubeflow)
    kubeflow.failures = [Failure("GET", "runs", status)]
    with pytest.raises(kind, match=rf"could not read the run `r-1`: {kubeflow.address} {says}") as caught:
        server.run("r-1")
    assert type(caught.value) is kind


def test_the_stack_of_a_failed_server_stays_out_of_the_message(kubeflow):
    server = connect(kubeflow)
    kubeflow.failures = [
        Failure("GET", "runs", 500, message="InternalServerError: db\ngithub.com/kubeflow/pipelines/x.go:1")
    ]
    with pytest.raises(UnavailableError) as caught:
        server.run("r-1")
    assert "InternalServerError: db)" in str(caught.value)
    assert ".go" not in str(caught.value)


@pytest.mark.parametrize("answer", ["silence", "hang up"])
def test_a_server_that_does_not_answer_is_given_up_within_the_time_limit(kubeflow, answer):
    server = connect(kubeflow)
    kubeflow.failures = [Failure("GET", "runs", answer)]
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=r"does not answer \(.*port-forward"):
        server.run("r-1")
    assert time.monotonic() - begun < 2.5


def test_an_unreachable_host_is_told_in_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(
        UnavailableError,
        match=rf"127.0.0.1:{port} does not answer \(Failed to establish a new connection: .*Connection refused\)",
    ):
        Pipelines(Login(f"http://127.0.0.1:{port}", ""))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("answer", ["silence", 500])
def test_a_run_whose_answer_is_lost_is_not_called_absent(kubeflow, package, answer):
    server = connect(kubeflow)
    version = upload(server, package)
    kubeflow.failures = [Failure("POST", "runs", answer)]
    with pytest.raises(UnavailableError, match=r"The run may be there all the same: .*status latest"):
        server.start(version, "trials", "one")
    assert sum(request.method == "POST" and request.path.endswith("/runs") for request in kubeflow.requests) == 1


# ---------------------------------------------------------------- stages


def at(minute):
    return datetime(2026, 1, 1, 10, minute, tzinfo=UTC)


def run(state, *tasks):
    return Run("r", "name", state, None, "", tasks, "p", "v", None)


def test_a_stage_without_a_node_waits_until_the_run_has_ended():
    assert run("RUNNING").stage("train").state == "WAITING"
    assert run("FAILED").stage("train").state == "NOT RUN"


def test_a_stage_is_what_its_node_says_and_not_its_driver_or_executor():
    done = Task("train-driver", "SUCCEEDED", at(0), at(1), "")
    node = Task("train", "RUNNING", at(1), None, "")
    executor = Task("executor", "FAILED", at(1), at(2), "")
    assert run("RUNNING", done, node, executor).stage("train") == Task("train", "RUNNING", at(1), None, "")
    assert run("RUNNING", done, executor).stage("train").state == "WAITING"


def test_a_driver_that_fails_fails_its_stage():
    driver = Task("train-driver", "FAILED", at(0), at(1), "secret not found")
    assert run("FAILED", driver).stage("train") == Task("train", "FAILED", at(0), at(1), "secret not found")


def test_a_stage_is_found_by_its_tasks_name_and_by_its_title():
    for name in ("train-psnr-2", "train_psnr@banet"):
        found = run("RUNNING", Task(name, "RUNNING", at(1), None, "")).stage("train-psnr-2", "train_psnr@banet")
        assert found == Task("train_psnr@banet", "RUNNING", at(1), None, "")


def test_of_a_loops_rounds_the_gravest_counts_from_the_first_start_to_the_last_end():
    rounds = [Task("train", "SUCCEEDED", at(0), at(3), ""), Task("train", "FAILED", at(1), at(2), "oom")]
    assert run("FAILED", *rounds).stage("train") == Task("train", "FAILED", at(0), at(3), "oom")


def test_times_that_were_not_reached_are_none(kubeflow, package):
    kubeflow.play = [("RUNNING", {"fetch-faces": "RUNNING", "train-psnr": "PENDING"})]
    server = connect(kubeflow)
    seen = server.run(server.start(upload(server, package), "trials", "one"))
    assert seen.stage("fetch-faces").started is not None
    assert seen.stage("fetch-faces").ended is None
    assert seen.stage("train-psnr") == Task("train-psnr", "PENDING", None, None, "")


def test_the_toy_server_refuses_what_the_real_one_refuses(kubeflow, package):
    """Else the tests above would prove nothing."""
    server = connect(kubeflow)
    version = upload(server, package)
    experiment = server.open_experiment("trials")
    for body in ({"pipeline_versoin_id": "x"}, {"display_name": "x", "kind": "Run"}):
        kubeflow_client = server._client
        with pytest.raises(Exception, match="unknown fields"):
            kubeflow_client.call_api("/apis/v2beta1/runs", "POST", body=body, response_type="V2beta1Run")
    run = {
        "experiment_id": experiment,
        "pipeline_version_reference": {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.version_id},
        "runtime_config": {"parameters": {"profle": "demo"}},
    }
    with pytest.raises(Exception, match="unknown \\['profle'\\]"):
        server._client.call_api(
            "/apis/v2beta1/runs", "POST", body=json.loads(json.dumps(run)), response_type="V2beta1Run"
        )
