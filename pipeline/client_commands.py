"""The commands that talk to a cluster: submit, status, schedule, diff."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

import gwainet
from gwainet.__main__ import Overrides, ParamsFile, Profile, user_errors
from gwainet.errors import ClusterError, TrackingError
from gwainet.params import load_params
from gwainet.progress import say
from gwainet.tracking.execution import code_version, kubeflow_key
from pipeline import PIPELINE_NAME
from pipeline.cluster import CLUSTER_FILE
from pipeline.cron import check_cron
from pipeline.login import Login, find_login

if TYPE_CHECKING:  # kfp takes a second to import: --help must not
    from pipeline.client import Pipelines, Run, Version
    from pipeline.package import Package


_CONNECTION = "Connection"
Endpoint = Annotated[
    str | None,
    typer.Option(
        help="Address of Kubeflow Pipelines. Default: KF_PIPELINES_ENDPOINT; in a pod the cluster's own.",
        rich_help_panel=_CONNECTION,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        help="Of your profile, where Kubeflow has many users. Default: KFP_NAMESPACE, kfp's context, the pod's own.",
        rich_help_panel=_CONNECTION,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="File with a bearer token, read again for every request. Default: KFP_EXISTING_TOKEN (the token itself), "
        "KF_PIPELINES_SA_TOKEN_PATH, KFP_COOKIES, kfp's context, the pod's token volume.",
        rich_help_panel=_CONNECTION,
    ),
]
CaCert = Annotated[
    Path | None,
    typer.Option(help="Certificate of the authority to trust, in PEM.", rich_help_panel=_CONNECTION),
]
ClusterFile = Annotated[Path, typer.Option("--cluster", help="The file of the cluster's settings.", show_default=True)]
PackageFile = Annotated[
    Path | None,
    typer.Option(
        help="A pipeline compiled before, instead of compiling now; without --profile, --set and --cluster.",
    ),
]
Experiment = Annotated[
    str | None,
    typer.Option(help="Kubeflow's experiment. Default: KF_PIPELINES_DEFAULT_EXPERIMENT_NAME, else gwainet."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the run to its end; exit with 1 if it does not succeed.")]

Every = Annotated[float, typer.Option(help="With --wait: seconds between two looks at the run.", min=0.01)]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command("submit", help="Upload the pipeline as a version, start a run of it and print the run's address.")(
        submit
    )
    app.command("status", help="Show the stages of a run; --wait follows it to its end.")(status)
    app.command("schedule", help="Run the pipeline again and again, at the times of a cron expression.")(schedule)
    app.command(
        "diff",
        help="Say what differs between the newest version on the cluster and this one: params, images, resources, "
        "code. Exits with 0 if nothing, 1 if something, 2 on an error.",
    )(diff)


def submit(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    cluster: ClusterFile = CLUSTER_FILE,
    package: PackageFile = None,
    experiment: Experiment = None,
    run_name: Annotated[str | None, typer.Option(help="Default: pipeline, profile and time.")] = None,
    wait: Wait = False,
    every: Every = 5.0,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_cert: CaCert = None,
) -> None:
    """Compile, upload, start; the run's address goes to standard output."""
    _check_package_alone(package, profile, overrides)
    with user_errors():
        login = find_login(endpoint, namespace, token_file, ca_cert)
        with _compiled(params, profile, overrides, cluster, package) as compiled:
            server = _connect(login)
            version = compiled.upload(server)
            title = run_name or f"{compiled.name}-{_stamp()}"
            run_id = server.start(version, _experiment(experiment), title)
            typer.echo(server.run_page(run_id))
            _track(compiled.package, version.name, run_id, title, server.run_page(run_id))
            if wait:
                _follow(server, run_id, compiled.package.stages(), every)


def status(
    run: Annotated[str, typer.Argument(help="A run's id, or `latest` for the newest of the experiment.")] = "latest",
    experiment: Experiment = None,
    wait: Wait = False,
    every: Every = 5.0,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_cert: CaCert = None,
) -> None:
    """Show or follow a run."""
    with user_errors():
        server = _connect(find_login(endpoint, namespace, token_file, ca_cert))
        found = server.latest_run(_experiment(experiment)) if run == "latest" else server.run(run)
        stages = _stages(server, found)
        if wait:
            typer.echo(server.run_page(found.run_id))
            _follow(server, found.run_id, stages, every)
            return
        from rich.console import Console

        from pipeline.watching import table

        Console(highlight=False, emoji=False).print(table(found, stages))
        typer.echo(server.run_page(found.run_id))


def schedule(
    cron: Annotated[
        str | None,
        typer.Option(
            help="Six fields, second first, in the cluster's time zone (UTC): '0 0 3 * * *' is 3:00 each night."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the schedule. Default: pipeline and profile.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List the schedules instead.")] = False,
    delete: Annotated[str | None, typer.Option(help="Remove the schedule of this name or id instead.")] = None,
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    cluster: ClusterFile = CLUSTER_FILE,
    package: PackageFile = None,
    experiment: Experiment = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_cert: CaCert = None,
) -> None:
    """Create, list or delete recurring runs."""
    if [cron is not None, show, delete is not None].count(True) != 1:
        raise typer.BadParameter("give one of --cron, --list and --delete")
    _check_package_alone(package, profile, overrides)
    with user_errors():
        times = check_cron(cron) if cron is not None else ""
        login = find_login(endpoint, namespace, token_file, ca_cert)
        if show:
            for found in _connect(login).schedules():
                state = "enabled" if found.enabled else "disabled"
                typer.echo(f"{found.name}\t{found.cron}\t{state}\t{found.schedule_id}")
        elif delete is not None:
            _connect(login).delete_schedule(delete)
            say(f"schedule `{delete}` deleted; the runs that it started stay")
        else:
            with _compiled(params, profile, overrides, cluster, package) as compiled:
                server = _connect(login)
                version = compiled.upload(server)
                title = name or compiled.name
                schedule_id = server.create_schedule(version, _experiment(experiment), title, times)
                say(
                    f"schedule `{title}` runs version {version.name} at `{times}`; a later version needs a new schedule"
                )
                typer.echo(schedule_id)


def diff(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    cluster: ClusterFile = CLUSTER_FILE,
    package: PackageFile = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    token_file: TokenFile = None,
    ca_cert: CaCert = None,
) -> None:
    """Compare the newest version on the cluster with this one."""
    _check_package_alone(package, profile, overrides)
    with user_errors(2):
        login = find_login(endpoint, namespace, token_file, ca_cert)
        with _compiled(params, profile, overrides, cluster, package) as compiled:
            from pipeline.package import differences, package_of

            newest = _connect(login).newest_version(PIPELINE_NAME)
            theirs = package_of(newest.document, f"the version {newest.name} on the cluster")
            lines = differences(theirs, compiled.package)
    if not lines:
        say(f"no difference from version {newest.name} on the cluster")
        return
    made = f", made {newest.created:%Y-%m-%d %H:%M}" if newest.created else ""
    typer.echo(f"--- on the cluster: {newest.name}{made}")
    typer.echo(f"+++ here: {compiled.version_name}")
    colors = {"-": typer.colors.RED, "+": typer.colors.GREEN}
    for line in lines:
        typer.secho(line, fg=colors[line[0]])
    raise typer.Exit(1)


class _Compiled:
    """A compiled pipeline with the names that follow from it."""

    def __init__(self, path: Path, package: "Package", name: str, version_name: str) -> None:
        self.path = path
        self.package = package
        self.name = name
        self.version_name = version_name

    def upload(self, server: "Pipelines") -> "Version":
        version, new = server.upload(self.path, PIPELINE_NAME, self.version_name)
        say(f"version {version.name}: {'uploaded' if new else 'already on the cluster'}")
        return version


@contextmanager
def _compiled(
    params_file: Path, profile: str | None, overrides: Sequence[str] | None, cluster: Path, package: Path | None
) -> Iterator[_Compiled]:
    """Compile, or read what was compiled before.

    The version's name is this project's version, the code's, the digest of the params and that of the whole pipeline,
    the cluster's settings among it: the same name is the same pipeline. Blanks and signs stay out, because Kubeflow may
    keep versions as Kubernetes resources.
    """
    start = f"{gwainet.__version__}-{str(code_version(Path())).replace('+', '-')}"
    with TemporaryDirectory(prefix="gwainet-") as directory:
        if package is None:
            from pipeline.cluster import load_cluster
            from pipeline.compiling import compile_pipeline

            values = load_params(params_file, profile, overrides or [])
            package = Path(directory) / "pipeline.yaml"
            compile_pipeline(values, load_cluster(cluster), package)
            name, start = f"{PIPELINE_NAME}-{values.profile}", f"{start}-{values.digest()}"
        else:
            name = PIPELINE_NAME
        from pipeline.package import read_package

        content = read_package(package)
        yield _Compiled(package, content, name, f"{start}-{content.digest}")


def _track(package: "Package", version: str, run_id: str, title: str, page: str) -> None:
    """Make the run's MLflow run before its stages start: clocks of pods differ, so they should only look it up.

    Whatever hinders it is said and hinders no run: the first stage makes what is missing.
    """
    instead = "the first stage will make this execution's MLflow run"
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not package.gives("MLFLOW_TRACKING_URI"):
        say("MLflow: the pods get no MLFLOW_TRACKING_URI (`mlflow` in cluster.yaml): Kubeflow's plugin makes runs")
    elif not uri.startswith("http"):
        say(f"MLflow: MLFLOW_TRACKING_URI names no server here, so {instead}")
    else:
        from gwainet import tracking  # heavy

        tags = {"gwainet.pipeline_version": version, "gwainet.kubeflow_run": page}
        try:
            made = tracking.open_execution(Path(), kubeflow_key(run_id), title, tags, package.params())
        except TrackingError as error:
            say(f"MLflow: {error}. The run goes on, and {instead}")
        else:
            say(f"MLflow: {made}")


def _connect(login: Login) -> "Pipelines":
    from pipeline.client import Pipelines

    return Pipelines(login)


def _experiment(given: str | None) -> str:
    """The experiment's name, in kfp's order; it says so where the environment overrides it."""
    name = given or os.environ.get("KF_PIPELINES_DEFAULT_EXPERIMENT_NAME") or PIPELINE_NAME
    override = os.environ.get("KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME")
    if override and override != name:
        say(f"experiment `{override}` and not `{name}`: KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME is set")
    return override or name


def _stages(server: "Pipelines", run: "Run") -> dict[str, str]:
    """The stages of a run that perhaps another checkout submitted: from its own spec."""
    from pipeline.package import package_of

    document = run.document or server.version(run.pipeline_id, run.version_id).document
    return package_of(document, f"the pipeline of the run `{run.run_id}`").stages()


def _follow(server: "Pipelines", run_id: str, stages: Mapping[str, str], every: float) -> None:
    """Follow a run to its end; whatever ends the following leaves the run alone, and says so."""
    from pipeline.watching import check_success, follow

    again = f"python -m pipeline status {run_id} --wait"
    try:
        run = follow(lambda: server.run(run_id), stages, poll=every)
    except KeyboardInterrupt:
        say(f"no longer following; the run goes on. Follow it again: {again}")
        say(f"End it on its page: {server.run_page(run_id)}")
        raise typer.Exit(130) from None
    except ClusterError as error:
        raise type(error)(f"{error}\nThe run itself may go on. Follow it again: {again}") from None
    check_success(run, stages, server.run_page(run_id), server.namespace)
    say(f"the run `{run.name}` succeeded")


def _check_package_alone(package: Path | None, profile: str | None, overrides: Sequence[str] | None) -> None:
    if package is not None and (profile is not None or overrides):
        raise typer.BadParameter("--package is compiled already: --profile and --set come too late for it")


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
