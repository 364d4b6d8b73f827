"""`python -m pipeline`: the graph for Kubeflow Pipelines. Imports kfp (a second) only when a command starts."""

from pathlib import Path
from typing import Annotated

import typer

from gwainet.__main__ import Overrides, ParamsFile, Profile, user_errors
from gwainet.params import load_params
from gwainet.progress import say
from pipeline import client_commands
from pipeline.client_commands import ClusterFile
from pipeline.cluster import CLUSTER_FILE, load_cluster

app = typer.Typer(
    help="The same stages on Kubeflow Pipelines: compile the graph, run it on this machine or on a cluster. "
    "See docs/kubeflow.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


@app.command("compile", help="Write the pipeline of a profile as Kubeflow reads it (IR YAML).")
def compile_command(
    out: Annotated[Path, typer.Option("--out", help="File to write; its name ends in .yaml.")],
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    cluster: ClusterFile = CLUSTER_FILE,
) -> None:
    """Compile."""
    with user_errors():
        loaded, settings = load_params(params, profile, overrides or []), load_cluster(cluster)
        from pipeline.compiling import compile_pipeline  # heavy

        compile_pipeline(loaded, settings, out)
        say(f"compile: wrote {out}: profile {loaded.profile}, params {loaded.digest()}, image {settings.image}")


@app.command("run-local", help="Run the pipeline on this machine, without a cluster; the same results as dvc repro.")
def run_local_command(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    cluster: ClusterFile = CLUSTER_FILE,
    root: Annotated[Path, typer.Option("--root", help="Where data/source/ and .gwainet/ lie.")] = Path(),
    out: Annotated[
        Path | None, typer.Option("--out", help="Where runs are kept; default: .gwainet/kubeflow/ below the root.")
    ] = None,
    retries: Annotated[int, typer.Option(help="Start a stage that failed again, so many times.", min=0)] = 0,
    image: Annotated[
        str | None, typer.Option("--image", help="Run each stage in a Docker container of this image; default: here.")
    ] = None,
) -> None:
    """Run."""
    with user_errors():
        loaded, settings = load_params(params, profile, overrides or []), load_cluster(cluster)
        from gwainet import tracking  # heavy
        from pipeline.local import run_local

        made = run_local(loaded, settings, root, out or root / ".gwainet" / "kubeflow", retries, image)
        wide = 1 + max(map(len, made))
        for stage, folder in made.items():
            typer.echo(f"{stage:>{wide}}: {folder}")
        typer.echo(f"{'benchmark':>{wide}}: {made['benchmark'] / 'benchmark.html'}")
        typer.echo(f"{'data report':>{wide}}: {made['check_faces'] / 'report.html'}")
        typer.echo(f"{'runs':>{wide}}: {tracking.where(root)}")


client_commands.register(app)


if __name__ == "__main__":
    app()
