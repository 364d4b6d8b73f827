"""Stage `register_model`: the trained generator becomes a version in MLflow's registry, with its benchmark.

The version gets the alias `challenger`; making it `champion` is a separate, guarded act. Weights that are registered
already, with the same report and served by the same code, are not registered twice.

Writes `registered.json`: see docs/formats.md.
"""

from pathlib import Path

from pydantic import ValidationError

from gwainet.dataset import open_checked
from gwainet.errors import DataError
from gwainet.evaluation.report import BenchmarkReport, Estimate, SystemReport
from gwainet.files import file_digest, staged_directory, write_json
from gwainet.nets.model import read_weights
from gwainet.params import Params
from gwainet.progress import say
from gwainet.recorder import Recorder
from gwainet.tracking import registry

RIVALS = ("bicubic", "banet", "psnr_phase")  # shown beside the model on its page


def run(
    params: Params, *, faces: Path, passed: Path, adversarial: Path, report: Path, out: Path, recorder: Recorder
) -> None:
    """Register `register_model.variant` as `register_model.name`.

    Args:
        params: of the profile.
        faces: written by prepare_faces.
        passed: written by check_faces for these faces.
        adversarial: holds `<variant>/weights.safetensors`.
        report: written by benchmark for these faces and weights.
        out: directory to write.
        recorder: of a tracked run.

    Raises:
        ContractError: check_faces passed other faces than these.
        CheckpointError: the weights are missing, damaged or of another kind.
        DataError: the benchmark is missing or of other weights or faces.
        TrackingError: the recorder has no MLflow run, or the server refuses.
    """
    data, settings = open_checked(faces, passed), params.register_model
    weights = adversarial / settings.variant / "weights.safetensors"
    metadata = read_weights(weights, "generator")[1]
    benchmark = _read(report / "benchmark.json")
    model = benchmark.models.get(settings.variant)
    if model is None or model.weights_digest != file_digest(weights) or benchmark.data_digest != data.digest:
        raise DataError(f"{report} is not of {weights} and {faces} as they are now: run benchmark again")
    figures = headline(benchmark, settings.variant)
    registered = registry.register(
        registry.Candidate(
            name=settings.name,
            weights=weights,
            guided=metadata.guided,
            report=report,
            metrics=figures,
            shown=tuple(name for name in figures if name.startswith(f"{judged(benchmark)}.")),
            tags={
                "variant": settings.variant,
                "profile": params.profile,
                "params_digest": params.digest(),
                "data_digest": data.digest,
                "metric_code_digest": benchmark.metric_code_digest,
            },
            description=describe(benchmark, settings.variant, settings.name),
        ),
        recorder,
    )
    for name in registry.REPORT:
        recorder.artifact(report / name, "benchmark")
    counts = {f"{split}_images": part.images for split, part in benchmark.splits.items()}
    recorder.dataset(params.profile, data.digest, counts, "benchmark")
    recorder.tags({"gwainet.model": registered.uri, "gwainet.reused": str(registered.reused).lower()})
    with staged_directory(out) as partial:
        write_json(
            partial / "registered.json",
            {
                "format": 1,
                "name": settings.name,
                "version": registered.version,
                "uri": registered.uri,
                "variant": settings.variant,
                "run_id": registered.run_id,
                "model_id": registered.model_id,
                "weights_digest": registered.weights_digest,
                "report_digest": registered.report_digest,
                "data_digest": data.digest,
                "params_digest": params.digest(),
            },
        )
    if registered.reused:
        say(f"These weights and this report are registered already: {registered.uri} stays, no new version was made")
    else:
        say(f"Registered {registered.uri}, alias {registry.CHALLENGER}: load it with mlflow.pyfunc.load_model")


def headline(benchmark: BenchmarkReport, variant: str) -> dict[str, float]:
    """`<split>.<metric>` of the model, and `<split>.psnr_over_<rival>` in dB."""
    figures: dict[str, float] = {}
    for split, metrics in _system(benchmark, variant).splits.items():
        figures |= {f"{split}.{name}": estimate.mean for name, estimate in metrics.items()}
        for pair in benchmark.comparisons:
            if pair.a == variant:
                figures[f"{split}.psnr_over_{pair.b}"] = pair.splits[split]["psnr"].mean
    return figures


def judged(benchmark: BenchmarkReport) -> str:
    """The split whose figures stand for a version: test, or the last where it was left out."""
    return "test" if "test" in benchmark.splits else list(benchmark.splits)[-1]


def describe(benchmark: BenchmarkReport, variant: str, name: str) -> str:
    """The version's page, in Markdown."""
    model = benchmark.models[variant]
    own = _system(benchmark, variant)
    titles = {entry.system: entry.title for entry in benchmark.systems}
    rows = [system for system in dict.fromkeys((*RIVALS, variant, f"{variant}-r")) if system in titles]
    how, inputs, shapes = "without a guide", '{"lr": lr}', "`lr` (B, h, w, 3)"
    if model.guided:
        how = "with another photo of the same person as guide"
        inputs, shapes = '{"lr": lr, "guide": guide}', f"{shapes}, `guide` (B, 8h, 8w, 3)"
    figures, shown = headline(benchmark, variant), judged(benchmark)
    lines = [
        # the table of versions shows the first words, and shows Markdown as it is written
        f"{figures[f'{shown}.psnr']:.2f} dB, {figures[f'{shown}.psnr_over_bicubic']:+.2f} over bicubic: {own.title}, "
        f"8x face super-resolution {how}; {model.parameters:,} parameters, trained on the data of profile "
        f"`{benchmark.profile}`.",
        "",
        "```python",
        f'model = mlflow.pyfunc.load_model("models:/{name}/<version>")  # or @{registry.CHAMPION}',
        f'sr = model.predict({inputs})["sr"]',
        "```",
        f"uint8 RGB: {shapes}, `sr` (B, 8h, 8w, 3).",
    ]
    for split, part in benchmark.splits.items():
        lines += [
            "",
            f"#### {split}: {part.images} faces of {part.identities} people; mean [95 % interval over people]",
            "",
            "| system | " + " | ".join(benchmark.metrics) + " |",
            "|---" * (len(benchmark.metrics) + 1) + "|",
        ]
        for system in rows:
            estimates = _system(benchmark, system).splits[split]
            # MLflow's tables have no space between their columns
            cells = " &ensp;| ".join([titles[system], *(_cell(estimates[metric]) for metric in benchmark.metrics)])
            lines.append(f"| {cells} |")
    # slices are on the benchmark's page, not here
    told = {name: text for name, text in benchmark.conventions.items() if not name.startswith("slices")}
    lines += ["", "#### what the figures are", *(f"- {name}: {text}" for name, text in told.items())]
    return "\n".join(lines)


def _read(path: Path) -> BenchmarkReport:
    try:
        return BenchmarkReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise DataError(f"{path} is not what benchmark writes ({error}): run benchmark again") from error


def _system(benchmark: BenchmarkReport, system: str) -> SystemReport:
    return next(entry for entry in benchmark.systems if entry.system == system)


def _cell(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
