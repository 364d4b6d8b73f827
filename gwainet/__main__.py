"""`python -m gwainet`: run one stage of the pipeline, as `dvc.yaml` does.

Imports nothing heavy before a stage starts, so that `--help` is instant.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer
from rich.console import Console
from ruamel.yaml import YAML

from gwainet.errors import GwainetError
from gwainet.params import Device, Params, Runtime, Sampler, load_params
from gwainet.progress import console, say
from gwainet.stages import STAGES, Stage
from gwainet.training import TRACE

app = typer.Typer(
    help="Exemplar-guided face super-resolution: the stages of the pipeline, in order. `dvc repro` runs them all.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

ParamsFile = Annotated[Path, typer.Option("--params", help="The file of params.", show_default=True)]
Profile = Annotated[str | None, typer.Option("--profile", help="Profile to run; default: the file's own.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, applied last, such as train_psnr.learning_rate=2e-4; repeatable."),
]
Root = Annotated[Path, typer.Option("--root", help="Where data/, models/ and reports/ lie.")]

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="See whether it would run: a training makes a few steps. Nothing is written."),
]


def _in_a_folder(path: Path | None) -> Path | None:
    """Refuse a file to write whose folder does not exist, before any work."""
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"the folder {path.parent} does not exist: create it, or give another path")
    return path


Trace = Annotated[
    Path | None,
    typer.Option("--trace", help="Write a trace of some training steps (ui.perfetto.dev).", callback=_in_a_folder),
]

LONG_LINE = 4000  # characters: in a file or a pipe nothing is wrapped

SUMMARIES = {
    "fetch_faces": "Check what the user brought, or draw the demo's people.",
    "prepare_faces": "Crop, filter identities, split, make low-resolution images and the manifest.",
    "check_faces": "Hold the data contract; everything later depends on it.",
    "pretrain_inet": "Pretrain the identity encoder.",
    "pretrain_wnet": "Pretrain the warper.",
    "train_psnr": "Train warper and generator for PSNR.",
    "train_adversarial": "Train with the critic.",
    "train_baselines": "Train another paper's system, as long as ours.",
    "benchmark": "Measure every system on held-out people.",
    "register_model": "Register the model in MLflow with its benchmark.",
}


def run_stage(
    stage: Stage,
    variant: str | None,
    params_file: Path,
    profile: str | None,
    overrides: list[str],
    root: Path,
    dry_run: bool = False,
) -> None:
    """Load the params and run the stage on the paths that `dvc.yaml` names.

    Raises:
        GwainetError: any error a user can meet.
    """
    params = load_params(params_file, profile, overrides)
    # a DVC experiment may run in a copy of the tree: its records and checkpoints belong to the repository
    store = Path(os.environ.get("DVC_ROOT", root))
    paths = stage.paths(params.profile, variant, root)
    if dry_run:
        stage.rehearse(params, variant, paths)
    else:
        stage.execute(params, variant, paths, store)


@contextmanager
def user_errors(code: int = 1) -> Iterator[None]:
    """Print an error that a user can meet as one message and exit with `code`; any other keeps its traceback."""
    # SIGTERM (a cluster's, `kill`) ends a stage like Ctrl-C does: the tracked run is closed as killed
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except GwainetError as error:
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        say(str(error))
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        say("interrupted; a training continues from its last checkpoint when the stage is run again")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _trace(stage: Stage, path: Path | None) -> None:
    """Hand the trace's file on to the training, which may run in other processes."""
    if path is None:
        return
    if not stage.trains:
        raise typer.BadParameter(f"{stage.name} trains nothing that could be traced")
    os.environ[TRACE] = str(path.resolve())


def _add(stage: Stage) -> None:
    """Make a command of a stage."""

    def command(
        params: ParamsFile = Path("params.yaml"),
        profile: Profile = None,
        overrides: Overrides = None,
        root: Root = Path(),
        dry_run: DryRun = False,
        trace: Trace = None,
    ) -> None:
        _trace(stage, trace)
        with user_errors():
            run_stage(stage, None, params, profile, overrides or [], root, dry_run)

    def command_of_variant(
        variant: Annotated[str, typer.Option("--variant", help=f"One of: {', '.join(stage.variants)}.")],
        params: ParamsFile = Path("params.yaml"),
        profile: Profile = None,
        overrides: Overrides = None,
        root: Root = Path(),
        dry_run: DryRun = False,
        trace: Trace = None,
    ) -> None:
        if variant not in stage.variants:
            raise typer.BadParameter(f"{stage.name} has the variants {', '.join(stage.variants)}, not {variant}")
        _trace(stage, trace)
        with user_errors():
            run_stage(stage, variant, params, profile, overrides or [], root, dry_run)

    function: Callable[..., None] = command_of_variant if stage.variants else command
    app.command(stage.name, help=SUMMARIES[stage.name])(function)


for _stage in STAGES.values():
    _add(_stage)


@app.command("params", help="Print every param of a profile, merged and checked, as YAML.")
def show_params(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only what differs from the defaults, which are the paper's.")
    ] = False,
) -> None:
    """Print what a profile comes to."""
    with user_errors():
        merged = load_params(params, profile, overrides or [])
    typer.echo(_differences(merged) if diff else _as_yaml(merged), nl=False)


@app.command("plan")
def show_plan(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    root: Root = Path(),
    images: Annotated[
        int | None,
        typer.Option(help="Training targets; default: those of the prepared faces, else what the params say.", min=1),
    ] = None,
    time: Annotated[
        bool, typer.Option(help="Measure steps on this machine and estimate how long it will take.")
    ] = True,
    seconds: Annotated[
        float,
        typer.Option(
            help="To spend on measuring, about; two steps and a validation are made in any case.",
            min=0,
        ),
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what training a profile will take: steps, updates, operations, time. Nothing is trained or written.

    An operation is a multiply-add (MAC) of a convolution or a matrix product, as the real step runs them: forward and
    backward, in the critic's step also the generator's forward and the gradient penalty with its double backward. FLOPs
    are twice as many. What is not counted (activations, sampling, Adam) is in the time, as are the validations;
    checkpoints, tracking and reading a cold disk are not.
    """
    with user_errors():
        from gwainet import plan
        from gwainet.plan import table

        made = plan.make_plan(load_params(params, profile, overrides or []), root, images, seconds if time else None)
    if as_json:
        typer.echo(json.dumps(plan.as_dict(made), indent=2))
    else:
        table.show(made)


@app.command("search-rates")
def search_learning_rates(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    root: Root = Path(),
    system: Annotated[
        list[str] | None, typer.Option("--system", help="A variant of train_baselines, or guided; repeatable.")
    ] = None,
) -> None:
    """Try the learning rates of `search_rates` for other papers' systems and ours, on validation faces alone.

    Each is trained for a share of its epochs. The table is reports/PROFILE/search_rates/rates.csv; the rates that
    trainings use stand in the file of params, where you put them. A search that was killed goes on.
    """
    with user_errors():
        from gwainet import search_rates  # heavy

        loaded = load_params(params, profile, overrides or [])
        store = Path(os.environ.get("DVC_ROOT", root))
        search_rates.search(loaded, root, store, system or search_rates.SYSTEMS)


@app.command("where", help="Say where to look at what the pipeline made.")
def show_where(params: ParamsFile = Path("params.yaml"), root: Root = Path()) -> None:
    """Print paths of the reports and of MLflow's pages."""
    with user_errors():
        profile = load_params(params).profile
    from gwainet import tracking

    reports = root / "reports" / profile
    for title, path in (
        ("data report", reports / "check_faces" / "report.html"),
        ("benchmark", reports / "benchmark" / "benchmark.html"),
        ("pictures", reports / "benchmark" / "grid.png"),
        ("registered model", root / "models" / profile / "register_model" / "registered.json"),
    ):
        typer.echo(f"{title:>16}: {path}" if path.exists() else f"{title:>16}: not made yet ({path})")
    typer.echo(f"{'numbers':>16}: dvc metrics show; dvc plots show")
    typer.echo(f"{'runs':>16}: {tracking.where(root)}")


@app.command("ui", help="Serve MLflow's pages with the runs made here.")
def serve_ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
    root: Root = Path(),
) -> None:
    """Start `mlflow server` on this machine alone; Ctrl-C ends it."""
    from gwainet import tracking

    with user_errors():
        tracking.serve(root, port)


@app.command("send-unsent", help="Send to MLflow what it could not take while a stage ran.")
def send_later(root: Root = Path()) -> None:
    """Send what lies in .gwainet/unsent."""
    with user_errors():
        from gwainet.tracking.unsent import send_unsent  # heavy

        send_unsent(Path(os.environ.get("DVC_ROOT", root)).resolve())


@app.command(
    "mirror-source",
    help="Bring data/source/<profile> up to date with the bucket that fetch_faces.location names, if it names one.",
)
def mirror_source(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    root: Root = Path(),
) -> None:
    """Look into the bucket, which DVC does not: it runs `fetch_faces` only when params or files here have changed."""
    with user_errors():
        loaded = load_params(params, profile, overrides or [])
        if loaded.fetch_faces.location is not None:
            from gwainet.sources.bucket import bring

            bring(loaded.fetch_faces, STAGES["fetch_faces"].paths(loaded.profile, None, root)["source"])


Reason = Annotated[str, typer.Option("--reason", help="Why: kept with the version.")]
AsJson = Annotated[bool, typer.Option("--json", help="For machines, on standard output.")]


@app.command("promote")
def promote_model(
    model: Annotated[str, typer.Argument(help="@challenger, a number, or models:/NAME/3.")] = "@challenger",
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    root: Root = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Promote it, if it may; else the verdict is only shown.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Hold a registered model against the champion, and let it take its place if it is better.

    Exit code 0: it may (with --yes: it has). 3: it is refused, with a table of reasons. 1: it could not be judged.
    """
    with user_errors():
        from gwainet import promotion  # heavy

        outcome = promotion.promote(load_params(params, profile, overrides or []), root, model, yes=yes, reason=reason)
    if as_json:
        verdict = outcome.verdict and outcome.verdict.model_dump(mode="json")
        typer.echo(json.dumps({"promoted": outcome.promoted, "verdict": verdict}, indent=2))
    if outcome.refused:
        raise typer.Exit(3)


@app.command("rollback")
def roll_back(
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    overrides: Overrides = None,
    root: Root = Path(),
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make the champion's predecessor, `previous`, the champion again; at once."""
    with user_errors():
        from gwainet import promotion  # heavy

        change = promotion.rollback(load_params(params, profile, overrides or []), root, reason=reason)
    if as_json:
        typer.echo(json.dumps(change, indent=2))


@app.command("lineage")
def show_lineage(
    model: Annotated[
        str,
        typer.Argument(
            help="models:/NAME/VERSION, models:/NAME@ALIAS, m-ID, runs:/RUN or a run's id.", metavar="MODEL_URI"
        ),
    ],
    root: Root = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Walk from a model back to its photos, code and params, run by run; what is missing is said."""
    with user_errors():
        from gwainet.tracking.lineage import lineage, tree  # heavy

        walk = lineage(Path(os.environ.get("DVC_ROOT", root)).resolve(), model)
    if as_json:
        typer.echo(json.dumps(walk.as_dict(), indent=2))
    else:
        on_terminal = Console().is_terminal
        Console(highlight=False, emoji=False, width=None if on_terminal else LONG_LINE).print(tree(walk))


def _picture(path: Path | None) -> Path | None:
    """Refuse a picture to write in a format that the suffix does not name."""
    from PIL import Image

    if path is not None and Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise typer.BadParameter(f"{path.name} names no format of pictures: end it in .png")
    return _in_a_folder(path)


@app.command("show-faces")
def show_prepared_faces(
    out: Annotated[Path, typer.Option(help="Picture to write.", callback=_picture)],
    params: ParamsFile = Path("params.yaml"),
    profile: Profile = None,
    root: Root = Path(),
    identity: Annotated[str | None, typer.Option(help="Only this person's faces.")] = None,
    split: Annotated[Literal["train", "validation", "test"] | None, typer.Option(help="Only this split's.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Photos that were not used, and why.")] = False,
    most: Annotated[int, typer.Option(help="Tiles at most; of more, evenly spread ones.", min=1)] = 60,
) -> None:
    """Write a contact sheet of prepared faces: each with its low-resolution image and its fixed guide.

    These are your photos: they do not belong into a repository.
    """
    if rejected and (identity or split):
        raise typer.BadParameter("--rejected stands alone: those photos have no split, and some no person")
    with user_errors():
        from gwainet.show_faces import write_sheet  # heavy

        merged = load_params(params, profile)
        write_sheet(merged, root, out, identity=identity, split=split, rejected=rejected, most=most)


@app.command("contract")
def show_contract(
    params: ParamsFile = Path("params.yaml"), profile: Profile = None, overrides: Overrides = None
) -> None:
    """Print the data contract of a profile for people, as Markdown: every rule with its limits, and why."""
    with user_errors():
        from gwainet import quality  # heavy

        rules = quality.contract_of(load_params(params, profile, overrides or []))
    typer.echo(quality.as_markdown(rules), nl=False)


Means = tuple[float, float, float]


@app.command("import-checkpoint", help="Make a weights file of the authors' released TensorFlow checkpoint.")
def import_released_checkpoint(
    prefix: Annotated[Path, typer.Argument(help="The checkpoint's path without `.index` and `.data-...`.")],
    out: Annotated[Path, typer.Option(help="Weights file to write (safetensors).", callback=_in_a_folder)],
    means_lr: Annotated[
        Means | None, typer.Option(help="Red, green, blue of 0..255, subtracted from I_LR; default: the released ones.")
    ] = None,
    means_hr: Annotated[
        Means | None, typer.Option(help="The same, subtracted from the guide; default: the released ones.")
    ] = None,
    sampler: Annotated[Sampler, typer.Option(help="Rule outside the image (docs/paper.md, N9).")] = "released",
) -> None:
    """Import the authors' weights."""
    with user_errors():
        from gwainet import released  # heavy

        released.import_checkpoint(prefix, out, means_lr or released.MEANS_LR, means_hr or released.MEANS_HR, sampler)


@app.command("super-resolve", help="Super-resolve a face's picture, 8x, with another photo of the same person.")
def super_resolve(
    lr: Annotated[Path, typer.Argument(help="Low-resolution face, h x w pixels.", exists=True, dir_okay=False)],
    weights: Annotated[Path, typer.Option(help="weights.safetensors of a generator, or an ONNX file of `export`.")],
    out: Annotated[Path, typer.Option(help="Picture to write, 8h x 8w pixels.", callback=_picture)],
    guide: Annotated[
        Path | None,
        typer.Argument(
            help="Photo of the same person, 8h x 8w pixels; none for BAnet's weights, and for those trained without.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    downscale: Annotated[
        bool, typer.Option("--downscale", help="LR is a full-size photo (8h x 8w): make it 8 times smaller first.")
    ] = False,
    warped_out: Annotated[
        Path | None, typer.Option(help="Picture of the warped guide to write, too.", callback=_picture)
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: a GPU if there is one.")] = "auto",
) -> None:
    """Super-resolve one picture."""
    with user_errors():
        from gwainet.super_resolve import super_resolve_files  # heavy

        super_resolve_files(
            lr, guide, weights=weights, out=out, warped_out=warped_out, shrink=downscale, runtime=Runtime(device=device)
        )


@app.command("export", help="Write a generator as an ONNX file: faster on a CPU, and it needs no torch.")
def export(
    weights: Annotated[Path, typer.Argument(help="weights.safetensors of a generator.")],
    out: Annotated[Path, typer.Option(help="File to write, such as model.onnx.", callback=_in_a_folder)],
    height: Annotated[
        int | None, typer.Option(help="Of the super-resolved pictures; default: of the training faces.", min=24)
    ] = None,
    width: Annotated[int | None, typer.Option(help="Likewise.", min=24)] = None,
) -> None:
    """Export one generator; what was written is compared with the weights first."""
    with user_errors():
        from gwainet.exported import export_onnx  # heavy

        export_onnx(weights, out, height, width)


def _as_yaml(params: Params) -> str:
    text = StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(params.model_dump(mode="json"), text)
    return text.getvalue()


def _differences(params: Params) -> str:
    """A line of YAML (JSON is YAML too) for each param that has not its default."""
    defaults = Params(profile=params.profile).flat()
    return "".join(
        f"{name}: {json.dumps(value)}  # default: {json.dumps(defaults.get(name))}\n"
        for name, value in params.flat().items()
        if value != defaults.get(name)
    )


if __name__ == "__main__":
    app()
