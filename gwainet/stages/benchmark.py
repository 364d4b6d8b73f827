"""Stage `benchmark`: every system on the same held-out faces, with every metric (docs/paper.md, M1 to M11).

Writes, each the same bytes for the same weights, faces and params on one kind of device:

- `benchmark.json`: `gwainet.evaluation.report.BenchmarkReport`: means with 95 % intervals over people, paired
  differences, digests
- `benchmark.csv`: one row an image and system: `split, row, identity, source_file, guide_row`, then what the slices go
  by (`gwainet.evaluation.appearance`), `system` and the metrics that were measured; `row` and `guide_row` are rows of
  the manifest, `guide_row` is -1 for a system without a guide
- `metrics.json`: split -> system -> metric of the main systems, for `dvc metrics show`
- `costs.csv`: one row a model: what it has, what its training saw and took, how long a face takes here; the only file
  whose bytes differ from run to run
- `benchmark_table.csv`: `system, split, psnr, low, high` of the main systems on the split that the grid shows, for
  `dvc plots show`, whose bars would lie on each other with a row of each split
- `grid.png`: some test faces beside what the systems make of them
- `figure3.png`, `figure4.png`, `figure5.png`: the paper's figures with these faces: all systems, without a guide and
  with one, the right guide and a wrong one
- `benchmark.html`: all of it on one page, with faces, histogram and slices (`gwainet.evaluation.page`)

Figures of a model are kept in `work` once it is measured (`gwainet.evaluation.kept`).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import gwainet
from gwainet import __version__, lpips
from gwainet.baselines.model import SYSTEMS as BASELINE_FACTS
from gwainet.baselines.model import Baseline, BaselineMetadata, forward_macs, load_baseline
from gwainet.dataset import Faces, Rows, Split, open_checked
from gwainet.errors import CheckpointError, DataError, ExtraError
from gwainet.evaluation.kept import Kept
from gwainet.evaluation.measure import MEASURING, look_again, measure
from gwainet.evaluation.page import benchmark_page, choose_examples, gains_of
from gwainet.evaluation.report import (
    DIGITS,
    IdentityReport,
    LpipsReport,
    ModelReport,
    flat,
    headline,
    make_report,
    plot_table,
)
from gwainet.evaluation.show import (
    FIGURES,
    GRID,
    TrainingCost,
    comparisons_table,
    costs_of,
    costs_table,
    distances_table,
    figure,
    results_table,
    seeds_table,
)
from gwainet.evaluation.systems import BASELINES, MAIN, MODELS, SEED, Model, systems_of, systems_of_seeds
from gwainet.files import code_digest, file_digest, staged_directory, write_json
from gwainet.identity import IDENTITY_METRIC, FaceNetwork, face_network
from gwainet.metrics import SMALLEST_SIDE
from gwainet.nets.model import Generator, SuperResolver, load_generator
from gwainet.params import Benchmark as BenchmarkParams
from gwainet.params import Params
from gwainet.progress import console, say
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.device import choose_device, describe, device_facts
from gwainet.training.seeds import SEEDS, seeds_of
from gwainet.training.took import Took
from gwainet.workers import cores

# What a report depends on, as dvc.yaml declares it. Not the commit: one that changes nothing here must change no byte
CODE = (
    "nets",
    "baselines/cascade.py",
    "baselines/edsr.py",
    "baselines/gfrnet.py",
    "baselines/haar.py",
    "baselines/model.py",
    "baselines/srcnn.py",
    "baselines/srresnet.py",
    "baselines/tdae.py",
    "baselines/vdsr.py",
    "baselines/waveletsrnet.py",
    "macs.py",
    "evaluation",
    "templates",
    "dataset.py",
    "identity.py",
    "bicubic.py",
    "enlarge.py",
    "compiled.py",
    "images.py",
    "lpips.py",
    "batch_metrics.py",
    "metrics.py",
    "psnr.py",
    "report.py",
    "stages/benchmark.py",
    "tensors.py",
)

WEIGHTS = "weights.safetensors"


def run(
    params: Params,
    *,
    faces: Path,
    passed: Path,
    psnr: Path,
    adversarial: Path,
    baselines: Path,
    out: Path,
    recorder: Recorder,
    work: Path | None = None,
) -> None:
    """Compare all systems on `benchmark.splits` and write the report.

    Args:
        params: of the profile.
        faces: written by prepare_faces.
        passed: written by check_faces for these faces.
        psnr: holds `guided/weights.safetensors` and `banet/weights.safetensors`.
        adversarial: holds `gwainet/`, `gwanet/` and `banet/`, each with `weights.safetensors`.
        baselines: holds a folder with `weights.safetensors` for each of `BASELINES`; untrained ones are left out. In
            each of all these folders `seeds/` may hold the weights of further trainings.
        out: directory to write.
        recorder: takes metrics, the grid and the files.
        work: where each model's figures are kept once it is measured, so that neither a benchmark that was killed nor
            one of which a part has changed measures it again; None: nothing is kept.

    Raises:
        ContractError: check_faces passed other faces than these.
        DataError: the faces are missing, too small to be measured, or a split has none.
        CheckpointError: weights are missing, damaged or of another kind; those of `benchmark.lpips_weights`, too.
        ExtraError: `benchmark.identity` is `on` and dlib is not installed.
    """
    prepared = open_checked(faces, passed)
    if min(prepared.height, prepared.width) < SMALLEST_SIDE:
        raise DataError(
            f"{faces}: faces of {prepared.height} x {prepared.width} pixels are too small for the metrics: at least "
            f"{SMALLEST_SIDE} a side are needed (prepare_faces.crop)"
        )
    settings = params.benchmark
    if settings.lpips_weights and min(prepared.height, prepared.width) < lpips.SMALLEST_SIDE:
        raise DataError(
            f"{faces}: faces of {prepared.height} x {prepared.width} pixels are too small for LPIPS: at least "
            f"{lpips.SMALLEST_SIDE} a side are needed (prepare_faces.crop), or no benchmark.lpips_weights"
        )
    network = face_network_of(settings)
    rows: dict[Split, Rows] = {split: _rows_of(prepared, split, settings) for split in settings.splits}
    device = choose_device(params.runtime)
    recorder.params(device_facts(device))
    recorder.dataset(params.profile, prepared.digest, _facts(rows, prepared), "benchmark")

    perceptual = [Path(path) for path in settings.lpips_weights]
    perception = lpips.load_lpips(perceptual, device) if perceptual else None
    perceived = None
    if perceptual:
        perceived = LpipsReport(weights_digests={str(path): file_digest(path) for path in perceptual})
    folders = {"psnr": psnr, "adversarial": adversarial, "baselines": baselines}
    known = {**MODELS, **BASELINES}
    weights = {name: folders[model.folder] / model.variant / WEIGHTS for name, model in known.items()}
    folded = params.runtime.fold != "off"
    ours = {name: _load(weights[name], model, device, folded) for name, model in MODELS.items()}
    others = _load_baselines({name: weights[name] for name in BASELINES}, device)
    untrained = {
        name: "the data has no landmarks, which its training needs"
        if BASELINE_FACTS[name].landmarks and not prepared.has_landmarks
        else "train_baselines gives its training no steps"
        for name in BASELINES
        if name not in others
    }
    seeds = {name: seeds_of(weights[name].parent, f"train_{known[name].folder}") for name in (*ours, *others)}
    again = {
        f"{name}{SEED}{seed}": weights[name].parent / SEEDS / str(seed) / WEIGHTS
        for name, of_system in seeds.items()
        for seed in of_system[1:]
    }
    for name, path in again.items():
        if (system := name.partition(SEED)[0]) in MODELS:
            ours[name] = _load(path, MODELS[system], device, folded)
    others |= _load_baselines({name: path for name, path in again.items() if name not in ours}, device)
    if untrained:
        say("Not trained, so not measured: " + ", ".join(f"{name} ({why})" for name, why in untrained.items()))
    weights |= again
    generators: dict[str, SuperResolver] = {**ours, **{name: baseline for name, (baseline, _) in others.items()}}

    shown_split: Split = "test" if "test" in settings.splits else settings.splits[-1]
    shown = choose_faces(rows[shown_split], prepared.identity, settings.grid_faces, settings.seed)
    workers = params.runtime.workers or cores()
    optional = {name for name, generator in generators.items() if generator.guide_optional}
    systems = (*systems_of(optional, others), *systems_of_seeds(again))
    digests = {name: file_digest(path) for name, path in weights.items() if name in generators}
    kept = None
    if work is not None:
        facts = {
            "faces": prepared.digest,
            "rows": {split: chosen.tolist() for split, chosen in rows.items()},
            "shown": shown.tolist(),
            "batch_size": settings.batch_size,
            "identity": network,
            "lpips": perceived and perceived.weights_digests,
            "folded": folded,
            "code": code_digest(Path(gwainet.__file__).parent, (*MEASURING, "baselines")),
            **device_facts(device),
        }
        kept = Kept(work / "benchmark" / params.profile, facts, {name: {"weights": d} for name, d in digests.items()})
    measured = measure(
        prepared,
        rows,
        generators,
        shown,
        settings.batch_size,
        device,
        workers,
        network is not None,
        systems,
        perception,
        kept,
    )
    took = _costs({name: weights[name].parent for name in generators})
    models = {
        name: ModelReport(
            file=str(weights[name].relative_to(folders[known[name.partition(SEED)[0]].folder].parent)),
            weights_digest=digest,
            parameters=sum(parameter.numel() for parameter in generators[name].parameters()),
            guided=generators[name].guided,
            macs=forward_macs(_again(generators[name]), prepared.height, prepared.width),
            images=others[name][1].images if name in others else took[name].images,
            narrow=others[name][1].narrow if name in others else None,
            same=took[name].same,
            epochs=took[name].epochs,
            learning_rate=took[name].learning_rate,
        )
        for name, digest in digests.items()
    }
    identified = None if network is None else IdentityReport(**network._asdict(), faces_found=measured.faces_found)
    sections = STAGES["benchmark"].sections
    several = {name: of_system for name, of_system in seeds.items() if len(of_system) > 1}
    report = make_report(
        params, params.digest(sections), prepared.digest, measured, models, identified, perceived, several, untrained
    )
    picture = figure(measured.pictures, GRID)
    examples = np.unique(np.concatenate(list(choose_examples(gains_of(measured.table, shown_split)).values())))
    page = benchmark_page(
        report,
        measured.table,
        shown_split,
        look_again(ours[MAIN], prepared, examples, settings.batch_size),
        params.flat(sections),
        f"{__version__}, sources {code_digest(Path(gwainet.__file__).parent, CODE)[:12]}",
        drawn=prepared.info["source"] == "drawn",
    )
    with staged_directory(out) as partial:
        write_json(partial / "benchmark.json", report.model_dump(mode="json"))
        write_json(partial / "metrics.json", headline(report))
        measured.table.to_csv(partial / "benchmark.csv", index=False, float_format=f"%.{DIGITS}f")
        costs = pd.DataFrame(asdict(line) for line in costs_of(report, measured.clocks, took))
        costs.assign(device=describe(device)).to_csv(partial / "costs.csv", index=False)
        plot_table(report, shown_split).to_csv(partial / "benchmark_table.csv", index=False)
        picture.save(partial / "grid.png", optimize=True)
        for name, columns in FIGURES.items():  # the file names are in dvc.yaml: figure3.png, figure4.png, figure5.png
            figure(measured.pictures, columns).save(partial / name, optimize=True)
        (partial / "benchmark.html").write_text(page, encoding="utf-8")
        for file in sorted(partial.iterdir()):
            recorder.artifact(file, "benchmark")
        recorder.metrics(flat(report))
        # not of further seeds, which take as long: MLflow takes no name with an @
        clocks = {name: clock for name, clock in measured.clocks.items() if SEED not in name}
        recorder.metrics({f"seconds_per_image.{name}": clock.seconds_per_image() for name, clock in clocks.items()})
        recorder.picture("grid", picture)
    for split in settings.splits:
        console.print(results_table(report, split, measured.clocks))
        console.print(comparisons_table(report, split))
        for table in (distances_table(report, split), seeds_table(report, split)):
            if table is not None:
                console.print(table)
    console.print(costs_table(report, measured.clocks, took))
    say(f"Benchmark: {out / 'benchmark.html'}")


def face_network_of(settings: BenchmarkParams) -> FaceNetwork | None:
    """The network that `benchmark.identity` asks for; None where it is not to be measured."""
    if settings.identity == "off":
        return None
    try:
        return face_network()
    except ExtraError as error:
        if settings.identity == "on":
            raise
        say(f"Not measured: {IDENTITY_METRIC} ({error})")
        return None


def _load(path: Path, model: Model, device: torch.device, folded: bool) -> Generator:
    generator = load_generator(path, device, folded)
    if generator.guided != model.guided:
        raise CheckpointError(
            f"{path} holds a model {'with' if generator.guided else 'without'} a guide, where one "
            f"{'without' if generator.guided else 'with'} belongs: run the stage that writes it again"
        )
    return generator


def _load_baselines(weights: Mapping[str, Path], device: torch.device) -> dict[str, tuple[Baseline, BaselineMetadata]]:
    """Other papers' systems that are trained."""
    loaded: dict[str, tuple[Baseline, BaselineMetadata]] = {}
    for name, path in weights.items():
        baseline, metadata = load_baseline(path, device)
        if metadata.system != name.partition(SEED)[0]:
            raise CheckpointError(
                f"{path} holds {metadata.system}: run train_baselines@{name.partition(SEED)[0]} again"
            )
        if metadata.images:
            loaded[name] = baseline, metadata
    return loaded


# what a training starts from, where that is a model with a row of its own: its images and seconds count, too
STARTS = {"gwainet": "psnr_phase", "gwanet": "psnr_phase", "banet": "banet_psnr", "srgan": "srresnet"}


def _costs(folders: Mapping[str, Path]) -> dict[str, TrainingCost]:
    """Model -> what its training took; `folders` are those that the training stages wrote."""
    found = {name: Took.read(folder) for name, folder in folders.items()}
    costs: dict[str, TrainingCost] = {}
    for name, own in found.items():
        system, at, seed = name.partition(SEED)
        before = None if system not in STARTS else found.get(STARTS[system] + at + seed)
        chain = [own] if system not in STARTS else [before, own]
        known = [took for took in chain if took is not None]
        if len(known) < len(chain):
            costs[name] = TrainingCost()
            continue
        devices = dict.fromkeys(took.device for took in known)
        costs[name] = TrainingCost(
            sum(took.images for took in known),
            round(sum(took.seconds for took in known), 3),
            ", then ".join(devices),
            known[-1].same,
            known[-1].epochs,
            known[-1].learning_rate,
        )
    return costs


def _again(model: SuperResolver) -> Callable[[], SuperResolver]:
    """What builds a model of the same sizes, as it is written: its operations are counted so, whatever is composed."""
    if isinstance(model, Baseline):
        return lambda: Baseline(model.system, model.means, model.narrow)
    assert isinstance(model, Generator)
    return lambda: Generator(model.networks, model.means, model.guided, model.guide_optional)


def choose_faces(rows: Rows, identity: Rows, count: int | None, seed: int) -> Rows:
    """At most `count` of `rows`, drawn by `seed` and spread over the people: none has two more than another.

    People with fewer images than that give all they have.

    Args:
        rows: of the manifest, to choose from.
        identity: of every row of the manifest.
        count: how many; None for all.
        seed: of the choice.

    Returns:
        The chosen rows in ascending order.
    """
    if count is None or count >= len(rows):
        return np.sort(rows)
    order = pd.Series(np.random.default_rng(seed).permutation(rows))
    turn = order.groupby(identity[order.to_numpy()]).cumcount()  # a person's first image, second image, ...
    chosen = order[turn.sort_values(kind="stable").index[:count]]
    return np.sort(chosen.to_numpy(np.int64))


def _rows_of(faces: Faces, split: Split, settings: BenchmarkParams) -> Rows:
    rows = choose_faces(faces.targets(split), faces.identity, settings.max_faces, settings.seed)
    if not len(rows):
        raise DataError(
            f"the {split} split has no faces to measure: see prepare_faces, or take it out of benchmark.splits"
        )
    return rows


def _facts(rows: Mapping[Split, Rows], faces: Faces) -> dict[str, object]:
    facts: dict[str, object] = {"height": faces.height, "width": faces.width}
    for split, chosen in rows.items():
        facts[f"{split}_images"] = len(chosen)
        facts[f"{split}_identities"] = len(np.unique(faces.identity[chosen]))
    return facts
