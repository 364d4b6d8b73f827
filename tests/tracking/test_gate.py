import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from gwainet.errors import TrackingError
from gwainet.tracking.claim import PREFIX
from gwainet.tracking.execution import user
from gwainet.tracking.gate import Registry, Version
from tests.servers.tracking import Server
from tests.tracking.promoting import act_once, promote_again_and_again
from tests.tracking.test_runs import server  # noqa: F401  a fixture

TRIES = 50


def make_versions(client: MlflowClient, count: int = 3) -> None:
    client.create_registered_model("faces")
    for number in range(1, count + 1):
        # as if each but the last had been promoted over the one before
        promoted = {"gwainet.verdict": "{}"} if number < count else {}
        followed = {"gwainet.predecessor": str(number - 1)} if 1 < number < count else {}
        client.create_model_version("faces", f"s3://nowhere/{number}", tags={**promoted, **followed})


def stand(client: MlflowClient, **aliases: str | None) -> None:
    for alias in ("champion", "challenger", "previous"):
        number = aliases.get(alias)
        if number is None:
            client.delete_registered_model_alias("faces", alias)
        else:
            client.set_registered_model_alias("faces", alias, number)


def standing(client: MlflowClient) -> dict[str, str]:
    return {alias: str(number) for alias, number in client.get_registered_model("faces").aliases.items()}


def tags(client: MlflowClient, number: str) -> dict[str, str]:
    return dict(client.get_model_version("faces", number).tags)


@pytest.fixture
def registry(root: Path, client: MlflowClient) -> Registry:
    """Version 1 followed nobody, version 2 followed it and is champion, version 3 challenges."""
    make_versions(client)
    stand(client, champion="2", previous="1", challenger="3")
    return Registry(root, "faces", 60.0)


def promote(registry: Registry, reason: str = "sharper") -> None:
    registry.promote(registry.find("@challenger"), registry.champion(), '{"passed": true}', reason)


def test_a_promotion_moves_all_aliases_and_says_on_the_version_who_when_and_why(
    registry: Registry, client: MlflowClient
):
    assert standing(client) == {"champion": "2", "previous": "1", "challenger": "3"}
    promote(registry)
    assert standing(client) == {"champion": "3", "previous": "2"}
    kept = tags(client, "3")
    assert kept["gwainet.promoted_by"] == user()
    assert kept["gwainet.promoted_because"] == "sharper"
    assert kept["gwainet.promoted_at"].endswith("+00:00")
    assert kept["gwainet.promoted_host"]
    assert (kept["gwainet.predecessor"], kept["gwainet.verdict"]) == ("2", '{"passed": true}')
    assert not client.get_registered_model("faces").tags  # no claim is left


def test_the_first_champion_follows_nobody(root: Path, client: MlflowClient):
    make_versions(client, 1)
    stand(client, challenger="1")
    registry = Registry(root, "faces", 60.0)
    promote(registry)
    assert standing(client) == {"champion": "1"}
    assert "gwainet.predecessor" not in tags(client, "1")
    with pytest.raises(TrackingError, match="has no predecessor"):
        registry.rollback("")
    assert standing(client) == {"champion": "1"}


def test_rollback_brings_the_predecessor_back_and_again_the_other(registry: Registry, client: MlflowClient):
    promote(registry)
    change = registry.rollback("it blurs eyes")
    assert change.previous is not None
    assert (change.champion.number, change.previous.number) == ("2", "3")
    assert standing(client) == {"champion": "2", "previous": "3"}
    assert tags(client, "3")["gwainet.rolled_back_because"] == "it blurs eyes"
    assert tags(client, "2")["gwainet.restored_by"] == user()
    registry.rollback("it does not")
    assert standing(client) == {"champion": "3", "previous": "2"}


def test_a_champion_that_challenges_again_is_no_challenger_after_a_rollback(registry: Registry, client: MlflowClient):
    client.set_registered_model_alias("faces", "challenger", "1")  # registered anew
    registry.rollback("")
    assert standing(client) == {"champion": "1", "previous": "2"}


def test_nothing_is_written_when_the_champion_changed_after_the_decision(registry: Registry, client: MlflowClient):
    challenger, decided_on = registry.find("3"), registry.champion()
    client.set_registered_model_alias("faces", "champion", "1")  # by hand, on MLflow's page
    with pytest.raises(TrackingError, match=r"was models:/faces/2 when this was decided and is models:/faces/1 now"):
        registry.promote(challenger, decided_on, "{}", "")
    with pytest.raises(TrackingError, match="was none when this was decided"):
        registry.promote(challenger, None, "{}", "")
    assert standing(client) == {"champion": "1", "previous": "1", "challenger": "3"}
    assert "gwainet.verdict" not in tags(client, "3")
    assert not client.get_registered_model("faces").tags


def test_a_version_that_was_deleted_meanwhile_is_not_promoted(registry: Registry, client: MlflowClient):
    challenger, champion = registry.find("3"), registry.champion()
    client.delete_model_version("faces", "3")
    with pytest.raises(TrackingError, match="has no version 3"):
        registry.promote(challenger, champion, "{}", "")
    assert standing(client) == {"champion": "2", "previous": "1"}


def test_a_newer_challenger_stays_one(registry: Registry, client: MlflowClient):
    challenger, champion = registry.find("1"), registry.champion()
    registry.promote(challenger, champion, "{}", "")
    assert standing(client) == {"champion": "1", "previous": "2", "challenger": "3"}


def test_versions_are_found_by_alias_number_and_uri_and_others_are_refused(registry: Registry):
    for model in ("@challenger", "3", "models:/faces/3", "models:/faces@challenger"):
        assert registry.find(model) == registry.find("3")
    for model, message in (
        ("@nobody", "no version with the alias nobody .the champion is models:/faces/2."),
        ("9", "has no version 9"),
        ("models:/other/3", "names no version of faces"),
        ("newest", "names no version of faces"),
    ):
        with pytest.raises(TrackingError, match=message):
            registry.find(model)


def test_a_registry_without_the_model_says_what_to_run(root: Path, tmp_path: Path, client: MlflowClient):
    for place in (root, tmp_path / "absent"):
        with pytest.raises(TrackingError, match=r"there is no registered model faces.*register_model"):
            Registry(place, "faces", 60.0)
    assert not (tmp_path / "absent").exists()


# ---------------------------------------------------------------- killed half-way


class Killed(BaseException):
    """The process ends here."""


class Killing:
    """A client whose process ends at its n-th write: that write and all later ones are not made."""

    def __init__(self, client: MlflowClient, at: int) -> None:
        self._client, self._at, self.writes = client, at, 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith(("set_", "delete_")):
            return method

        def write(*arguments: Any) -> object:
            self.writes += 1
            if self.writes >= self._at:
                raise Killed
            return method(*arguments)

        return write


def check_killed(client: MlflowClient, act: str, fresh: Registry) -> None:
    """However far it came: a whole champion, and both the rerun and the way back work."""
    found = standing(client)
    assert found["champion"] in ("2", "3")
    champion = tags(client, found["champion"])
    assert "gwainet.verdict" in champion
    assert champion["gwainet.predecessor"] in ("1", "2", "3")
    if act == "promote":
        champion_now = fresh.champion()
        assert champion_now is not None
        if champion_now.number == "3":
            fresh.finish(champion_now)
        else:
            promote(fresh)
        assert standing(client) == {"champion": "3", "previous": "2"}
        fresh.rollback("")
        assert standing(client) == {"champion": "2", "previous": "3"}
    elif found["champion"] == "3":
        fresh.rollback("")
        assert standing(client) == {"champion": "2", "previous": "3"}
    else:
        assert found["previous"] == "3"


WRITES = {"promote": 12, "rollback": 14}  # two and one of the claim, tags, aliases


# before and after each alias is written, and in the midst of the tags; all of them: with the real server, below
STEPS = [("promote", at) for at in (2, 5, 9, 10, 11, 12)] + [("rollback", at) for at in (5, 8, 12, 13, 14)]


@pytest.mark.parametrize(("act", "at"), STEPS)
def test_killed_at_a_write_the_aliases_are_consistent_and_a_rerun_completes(
    registry: Registry, client: MlflowClient, act: str, at: int
):
    if act == "rollback":
        promote(registry)
    killing = Killing(client, at)
    registry.client = killing
    with pytest.raises(Killed):
        promote(registry) if act == "promote" else registry.rollback("")
    for claim in client.get_registered_model("faces").tags:
        assert claim.startswith(PREFIX)
        client.delete_registered_model_tag("faces", claim)  # its time is over (test_claim.py)
    registry.client = client
    check_killed(client, act, registry)


@pytest.mark.parametrize("act", list(WRITES))
def test_the_number_of_writes_is_the_one_that_was_tried(registry: Registry, client: MlflowClient, act: str):
    if act == "rollback":
        promote(registry)
    counting = Killing(client, 10**6)
    registry.client = counting
    promote(registry) if act == "promote" else registry.rollback("")
    assert counting.writes == WRITES[act]


def test_a_promotion_killed_before_champion_moved_can_be_rolled_back_to_whom_the_champion_followed(
    registry: Registry, client: MlflowClient
):
    registry.client = Killing(client, 10)  # `previous` is moved, `champion` is not
    with pytest.raises(Killed):
        promote(registry)
    for claim in client.get_registered_model("faces").tags:
        client.delete_registered_model_tag("faces", claim)
    assert standing(client) == {"champion": "2", "previous": "2", "challenger": "3"}
    registry.client = client
    registry.rollback("")
    assert standing(client) == {"champion": "1", "previous": "2", "challenger": "3"}


# ---------------------------------------------------------------- a real server


def processes() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tracking.promoting"])
    return context


@pytest.mark.system
def test_of_two_processes_on_a_real_server_exactly_one_promotes_each_time(server: Server):  # noqa: F811
    client, context = MlflowClient(server.uri), processes()
    make_versions(client)
    gate, results = context.Barrier(3, timeout=120), context.Queue()
    rivals = [
        context.Process(target=promote_again_and_again, args=(server.uri, number, TRIES, seed, gate, results))
        for seed, number in enumerate(("2", "3"))
    ]
    for rival in rivals:
        rival.start()
    won = []
    try:
        for _ in range(TRIES):
            stand(client, champion="1", challenger="2", previous=None)
            gate.wait()
            gate.wait()
            gate.wait()
            told = sorted((results.get(timeout=60) for _ in rivals), key=lambda one: "won" in one)
            assert "when this was decided and is models:/faces/" in told[0], told
            assert told[1].endswith("won"), told
            won.append(told[1][0])
            found = standing(client)
            assert (found["champion"], found["previous"]) == (won[-1], "1")
            assert ("challenger" in found) == (won[-1] != "2")
            assert not client.get_registered_model("faces").tags
    finally:
        gate.abort()
        for rival in rivals:
            rival.join(20)
            if rival.is_alive():
                rival.kill()
    assert len(won) == TRIES
    print(f"{TRIES} tries: version 2 won {won.count('2')}, version 3 won {won.count('3')}, both or none: 0")


class Proxy(ThreadingHTTPServer):
    """Stands before a server and kills the process that asks, when its n-th write arrives: that one is not sent on."""

    def __init__(self, port: int, at: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.at, self.writes = port, at, 0
        self.process: BaseProcess | None = None
        self.started = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Sends a request on and its answer back."""

    server: Proxy

    def _pass_on(self) -> None:
        proxy = self.server
        if self.command != "GET":
            proxy.writes += 1
            if proxy.writes == proxy.at:
                proxy.started.wait(20)
                assert proxy.process is not None
                assert proxy.process.pid is not None
                os.kill(proxy.process.pid, signal.SIGKILL)
                self.close_connection = True
                return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = HTTPConnection("127.0.0.1", proxy.behind, timeout=60)
        connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _pass_on  # noqa: N815  the library's names

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def proxy_before(server: Server, at: int) -> Iterator[Proxy]:  # noqa: F811
    proxy = Proxy(server.port, at)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.system
@pytest.mark.parametrize("act", list(WRITES))
def test_a_process_killed_at_any_write_to_a_real_server_leaves_a_registry_that_the_next_puts_right(
    server: Server,  # noqa: F811
    act: str,
):
    client, context = MlflowClient(server.uri), processes()
    make_versions(client)
    registry = Registry(Path(), "faces", 10.0)
    stand(client, champion="2")
    registry.promote(registry.find("3"), registry.find("2"), "{}", "")
    for at in range(1, WRITES[act] + 1):
        before = {"champion": "3", "previous": "2"}
        if act == "promote":
            before = {"champion": "2", "previous": "1", "challenger": "3"}
        stand(client, **before)
        for number, predecessor in (("2", "1"), ("3", "2")):
            client.set_model_version_tag("faces", number, "gwainet.predecessor", predecessor)
        with proxy_before(server, at) as proxy:
            process = context.Process(target=act_once, args=(f"http://127.0.0.1:{proxy.server_port}", act))
            proxy.process = process
            process.start()
            proxy.started.set()
            process.join(120)
        assert process.exitcode == -signal.SIGKILL, at
        left = client.get_registered_model("faces").tags
        assert len(left) == (at > 1)  # the claim of the dead
        if at != 9:  # once its time is waited for
            for claim in left:
                client.delete_registered_model_tag("faces", claim)
        check_killed(client, act, registry)
        assert standing(client) == {"champion": "2", "previous": "3"}
        assert not client.get_registered_model("faces").tags


def test_the_verdict_may_be_long(registry: Registry, client: MlflowClient):
    verdict = json.dumps({"checks": ["x" * 100] * 200})
    registry.promote(registry.find("3"), registry.champion(), verdict, "")
    assert tags(client, "3")["gwainet.verdict"] == verdict


def test_a_version_knows_its_uri_and_tags():
    version = Version("faces", "3", "run", "models:/m-1", {"gwainet.variant": "gwanet"})
    assert (version.uri, version.tag("variant"), version.tag("absent")) == ("models:/faces/3", "gwanet", "")
