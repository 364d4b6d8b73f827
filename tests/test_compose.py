"""What `compose.yaml` promises: nobody gets in who should not, no password is known, every version is named.

tests/tracking/test_team_server_system.py runs its commands; no engine is needed here.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers.tracking import COMPOSE, bare_environment, compose

PROJECT = COMPOSE.parent
PASSWORDS = {"POSTGRES_PASSWORD": "of-the-database", "S3_SECRET_KEY": "of-the-bucket"}
OWN = ("bucket", "mlflow")  # services of the image that is built here


@pytest.fixture
def services() -> dict[str, Any]:
    return compose(**PASSWORDS)


def pins() -> dict[str, str]:
    return dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines())


def test_only_mlflow_is_published_and_on_the_loopback_interface_unless_told_otherwise(services: dict[str, Any]):
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "mlflow": ["127.0.0.1:5000:5000"]
    }
    told = compose(**PASSWORDS, MLFLOW_BIND="10.0.0.7", MLFLOW_PUBLISHED_PORT="8080")
    assert told["mlflow"]["ports"] == ["10.0.0.7:8080:5000"]
    assert {name for name, service in services.items() if "published" in service["networks"]} == {"mlflow"}
    assert not [name for name, service in services.items() if service.get("network_mode") or service.get("privileged")]


def allowed(services: dict[str, Any]) -> list[str]:
    (option,) = [one for one in services["mlflow"]["command"] if one.startswith("--allowed-hosts=")]
    return str(option).partition("=")[2].split(",")


def test_hosts_are_checked_and_those_of_this_machine_alone_are_let_in_unless_told_otherwise(services: dict[str, Any]):
    assert allowed(services) == ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"]
    assert allowed(compose(**PASSWORDS, MLFLOW_ALLOWED_HOSTS="mlflow.example.com")) == ["mlflow.example.com"]
    text = COMPOSE.read_text()
    assert "--disable-security-middleware" not in text
    assert "DISABLE_SECURITY" not in text
    assert "--cors-allowed-origins" not in text


@pytest.mark.parametrize("name", PASSWORDS)
@pytest.mark.parametrize("value", [{}, {"": ""}])
def test_it_does_not_start_without_a_password(name: str, value: dict[str, str]):
    with pytest.raises(ValueError, match=rf"{name}: set it in \.env \(see \.env\.example\)"):
        compose(**without(name), **{name: value.get("", "")} if value else {})


def test_no_password_is_committed_and_the_file_that_holds_them_never_will_be():
    example = (PROJECT / ".env.example").read_text()
    assert re.findall(r"^([A-Z_0-9]+)=(.*)$", example, re.MULTILINE) == [(name, "") for name in PASSWORDS]
    assert "/.env" in (PROJECT / ".gitignore").read_text().splitlines()
    variables = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    named = set(re.findall(r"^(?:# )?([A-Z_0-9]+)=", example, re.MULTILINE))
    assert variables == named


def test_every_password_goes_by_a_variable_and_into_no_command_or_address(services: dict[str, Any]):
    where = {
        name: [key for key, value in settings(service).items() if value in PASSWORDS.values()]
        for name, service in services.items()
    }
    assert where == {
        "postgres": ["POSTGRES_PASSWORD"],
        "s3": ["ROOT_SECRET_ACCESS_KEY"],
        "bucket": ["AWS_SECRET_ACCESS_KEY"],
        "mlflow": ["AWS_SECRET_ACCESS_KEY", "PGPASSWORD"],
    }
    for service in services.values():
        rest = str({key: value for key, value in service.items() if key != "environment"})
        assert not [password for password in PASSWORDS.values() if password in rest]
    keys = settings(services["mlflow"])["AWS_ACCESS_KEY_ID"], settings(services["mlflow"])["PGUSER"]
    assert keys == (settings(services["s3"])["ROOT_ACCESS_KEY_ID"], settings(services["postgres"])["POSTGRES_USER"])


def settings(service: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = service.get("environment", {})
    return found


def test_every_version_is_named(services: dict[str, Any]):
    for name, service in services.items():
        assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+", service["image"]), name
    assert {services[name]["image"] for name in OWN} == {f"gwainet-mlflow:{pins()['mlflow']}"}


def test_whoever_needs_another_waits_until_it_is_well(services: dict[str, Any]):
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits == {
        "postgres": {},
        "s3": {},
        "bucket": {"s3": "service_healthy"},
        "mlflow": {"postgres": "service_healthy", "bucket": "service_completed_successfully"},
    }
    for name, service in services.items():
        if name == "bucket":
            assert service["restart"] == "no"
        else:
            assert service["healthcheck"]["test"][0] == "CMD", name
            assert service["restart"] == "unless-stopped", name


def test_what_must_last_lies_in_a_named_volume(services: dict[str, Any]):
    volumes = {name: service.get("volumes", []) for name, service in services.items()}
    assert volumes["postgres"] == ["postgres:/var/lib/postgresql/data"]
    assert volumes["s3"] == ["s3:/data"]
    assert services["s3"]["command"][-2:] == ["posix", "/data"]


def test_the_servers_image_has_the_pinned_versions_of_all_that_it_needs_and_no_root():
    text = (PROJECT / "Dockerfile.mlflow").read_text()
    (installed,) = re.findall(r"install -c /constraints\.txt ([^\n]+)", text)
    assert set(installed.split()) == {"mlflow", "boto3", "psycopg2-binary"} <= set(pins())
    assert re.findall(r"^USER (\d+)", text, re.MULTILINE) == ["1000"]
    copied = re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE)
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert copied == ["constraints.txt"]
    assert "!constraints.txt" in ignored
    assert "!.env" not in ignored


# ---------------------------------------------------------------- Docker Compose itself


@pytest.fixture(scope="module")
def program() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            told = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
            if told.returncode == 0 and not told.stdout.startswith("1."):
                return command
    pytest.skip("needs Docker Compose 2: apt-get install docker-compose-plugin, or docker.com")


def config(program: list[str], folder: Path, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """What `docker compose config` says, without the `.env` of whoever runs the test."""
    (folder / "empty").touch()
    command = [*program, "--env-file", str(folder / "empty"), "--file", str(COMPOSE), "config", *options]
    kept = {name: value for name, value in bare_environment().items() if name not in PASSWORDS}
    return subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True, check=False)


@pytest.mark.system
def test_docker_compose_reads_the_file_as_the_tests_do(program: list[str], tmp_path: Path):
    import yaml

    told = config(program, tmp_path, **PASSWORDS)
    assert told.returncode == 0, told.stderr
    read, ours = yaml.safe_load(told.stdout)["services"], compose(**PASSWORDS)
    assert read.keys() == ours.keys()
    for name, service in read.items():
        for key in ("image", "command", "environment"):
            assert service.get(key) == ours[name].get(key), (name, key)
    (port,) = read["mlflow"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "5000", 5000)


@pytest.mark.system
@pytest.mark.parametrize("name", PASSWORDS)
def test_docker_compose_refuses_to_start_without_a_password(program: list[str], tmp_path: Path, name: str):
    for value in ({}, {name: ""}):
        told = config(program, tmp_path, "--quiet", **{**PASSWORDS, **value} if value else without(name))
        assert told.returncode != 0
        assert f"required variable {name} is missing a value: set it in .env" in told.stderr


def without(name: str) -> dict[str, str]:
    return {other: value for other, value in PASSWORDS.items() if other != name}
