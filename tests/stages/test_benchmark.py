import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from gwainet import identity
from gwainet.baselines.model import SYSTEMS as OTHERS
from gwainet.baselines.model import BaselineMetadata, build_baseline, forward_macs
from gwainet.dataset import Faces
from gwainet.errors import CheckpointError, ContractError, DataError, ExtraError
from gwainet.evaluation import measure as measuring
from gwainet.evaluation.appearance import appearance
from gwainet.evaluation.distances import FRECHET, KERNEL, distances
from gwainet.evaluation.report import BenchmarkReport, SliceReport, narrowed
from gwainet.evaluation.show import best_of, maps_of
from gwainet.evaluation.slices import SLICES
from gwainet.evaluation.systems import BASELINES, COMPARISONS, HEADLINE, MODELS, SYSTEMS
from gwainet.files import file_digest, write_json
from gwainet.identity import IDENTITY_METRIC, described_as, similarities
from gwainet.images import upscale
from gwainet.lpips import LPIPS, load_lpips
from gwainet.metrics import CONVENTIONS, METRICS, PSNR_CAP, all_metrics, bootstrap_interval, paired_difference
from gwainet.nets.model import Metadata, build_generator, load_generator, save_weights
from gwainet.params import BaselineRates, Networks, Params, check_params
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES
from gwainet.stages.benchmark import CODE, choose_faces, run
from gwainet.training.took import Took
from tests.faces import write_faces
from tests.training_params import make_project

NETWORKS = Networks(width=8, blocks_per_group=1, warp_blocks=1)
FOLDERS = {"psnr": ("guided", "banet"), "adversarial": ("gwainet", "gwanet", "banet")}
IMAGES = {"validation": 9, "test": 12}
FILES = {"benchmark.json", "benchmark.csv", "metrics.json", "benchmark_table.csv", "grid.png", "benchmark.html"}
FILES |= {"costs.csv", "figure3.png", "figure4.png", "figure5.png"}


@dataclass
class Notebook(NullRecorder):
    """Keeps what a stage reports."""

    numbers: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    datasets: list[str] = field(default_factory=list)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.numbers.update(values)

    def picture(self, name: str, picture: Image.Image, step: int = 0) -> None:
        self.pictures[name] = picture

    def artifact(self, path: Path, folder: str = "") -> None:
        assert path.is_file()
        self.artifacts.add(f"{folder}/{path.name}")

    def dataset(self, name: str, digest: str, profile: Mapping[str, object], context: str) -> None:
        self.datasets.append(digest)


@dataclass(frozen=True)
class World:
    """Prepared faces, weights and what the stage is called with."""

    root: Path

    @property
    def inputs(self) -> dict[str, Path]:
        names = {"faces": "faces", "passed": "passed.json", "psnr": "train_psnr", "adversarial": "train_adversarial"}
        names["baselines"] = "train_baselines"
        return {argument: self.root / name for argument, name in names.items()}

    def weights(self, name: str) -> Path:
        model = {**MODELS, **BASELINES}[name]
        return self.inputs[model.folder] / model.variant / "weights.safetensors"


def write_world(root: Path, height: int = 48, width: int = 40, guides: str = "sampled") -> World:
    world = World(root)
    fixed = guides == "fixed"
    write_faces(
        world.inputs["faces"],
        identities={"train": 2, "validation": 3, "test": 4},
        images=4 if fixed else 3,
        height=height,
        width=width,
        guides="fixed" if fixed else "sampled",
    )
    faces = Faces(world.inputs["faces"])
    write_json(world.inputs["passed"], {"format": 1, "digest": faces.digest, "expectations": 12})
    for seed, (name, model) in enumerate(MODELS.items()):
        path = world.weights(name)
        path.parent.mkdir(parents=True)
        # the PSNR-phase model leaves its guide where it is: its warped guide is known
        networks = NETWORKS.model_copy(update={"zero_flow": name == "psnr_phase"})
        generator = build_generator(networks, faces.means, model.guided, seed)
        save_weights(
            path, generator, Metadata("generator", networks, faces.means, faces.height, faces.width, model.guided)
        )
    write_baselines(world, trained=())
    return world


def write_baselines(world: World, trained: tuple[str, ...]) -> None:
    """Weights of every baseline; those not in `trained` say that they are not."""
    faces = Faces(world.inputs["faces"])
    for system in OTHERS:
        path = world.weights(system)
        path.parent.mkdir(parents=True, exist_ok=True)
        images = 100 if system in trained else 0
        metadata = BaselineMetadata(system, 32, faces.means, faces.height, faces.width, images)
        save_weights(path, build_baseline(system, faces.means, 32, 0), metadata)


def make_params(workers: int = 2, **values: object) -> Params:
    benchmark = {"batch_size": 5, "bootstrap_samples": 200, "grid_faces": 3, **values}
    return check_params(
        {
            "profile": "tiny",
            "benchmark": benchmark,
            "runtime": {"device": "cpu", "threads": 1, "workers": workers},
        }
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture(scope="module")
def out(world: World, notebook: Notebook) -> Path:
    directory = world.root / "report"
    run(make_params(), **world.inputs, out=directory, recorder=notebook)
    return directory


@pytest.fixture(scope="module")
def report(out: Path) -> BenchmarkReport:
    return BenchmarkReport.model_validate_json((out / "benchmark.json").read_text())


@pytest.fixture(scope="module")
def table(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "benchmark.csv")


@pytest.fixture(scope="module")
def faces(world: World) -> Faces:
    return Faces(world.inputs["faces"])


def of_system(table: pd.DataFrame, system: str) -> pd.DataFrame:
    return table[table["system"] == system]


def test_the_report_has_its_files_and_follows_its_schema(out, report, faces):
    assert {file.name for file in out.iterdir()} == FILES
    assert report.format == 2
    assert report.profile == "tiny"
    assert report.data_digest == faces.digest
    assert report.params_digest == make_params().digest(["networks", "benchmark"])
    assert set(report.conventions) == {
        *CONVENTIONS, LPIPS, IDENTITY_METRIC, FRECHET, KERNEL, "interval", "slices",
        *(f"slices.{name}" for name in SLICES),
    }  # fmt: skip
    assert [entry.system for entry in report.systems] == [system.name for system in SYSTEMS]
    assert [(pair.a, pair.b) for pair in report.comparisons] == list(COMPARISONS)
    for entry in [*report.systems, *report.comparisons]:
        assert set(entry.splits) == set(IMAGES)
        for metrics in entry.splits.values():
            assert set(metrics) == set(METRICS)
            for estimate in metrics.values():
                assert estimate.low - 1e-6 <= estimate.mean <= estimate.high + 1e-6
    assert {split: part.images for split, part in report.splits.items()} == IMAGES
    assert {split: part.identities for split, part in report.splits.items()} == {"validation": 3, "test": 4}


def test_the_systems_are_the_papers_with_every_kind_of_guide():
    guided = {f"{name}{suffix}" for name in ("psnr_phase", "gwanet", "gwainet") for suffix in ("", "-r", "-target")}
    copying = {f"{name}{suffix}" for name in ("guide_only", "warped_guide") for suffix in ("", "-r", "-target")}
    assert {system.name for system in SYSTEMS} == guided | copying | {"bicubic", "banet_psnr", "banet"}
    names = {system.name for system in SYSTEMS}
    assert set(HEADLINE) <= names
    assert {name for pair in COMPARISONS for name in pair} <= names


def test_the_models_are_named_by_digest_and_size(report, world):
    assert set(report.models) == set(MODELS)
    for name, model in report.models.items():
        assert model.weights_digest == file_digest(world.weights(name))
        assert model.file == str(world.weights(name).relative_to(world.root))
        generator = load_generator(world.weights(name), torch.device("cpu"))
        assert model.parameters == sum(tensor.numel() for tensor in generator.state_dict().values())
        assert model.guided == MODELS[name].guided


def test_the_table_has_one_row_for_each_face_and_system_with_the_manifests_facts(table, faces):
    about = ["split", "row", "identity", "source_file", "guide_row"]
    assert list(table.columns) == [*about, *SLICES, "system", *METRICS]
    assert len(table) == sum(IMAGES.values()) * len(SYSTEMS)
    assert not table.duplicated(["row", "system"]).any()
    assert table.drop(columns="skin_tone").notna().all(axis=None)  # random colours are not always those of skin
    manifest = faces.manifest.iloc[table["row"]].reset_index()
    for column in ("split", "identity", "source_file"):
        assert (table[column] == manifest[column]).all()
    wanted = {
        "own": manifest["guide_row"],
        "other": manifest["other_guide_row"],
        "target": manifest["row"],
        "none": pd.Series(-1, index=table.index),
    }
    for system in SYSTEMS:
        chosen = table["system"] == system.name
        assert (table.loc[chosen, "guide_row"] == wanted[system.guide][chosen]).all()


def test_bicubic_and_the_guide_as_the_answer_have_the_values_of_those_pictures(table, faces):
    for system, picture in (
        ("bicubic", lambda entry: upscale(faces.lr[entry.row])),
        ("guide_only", lambda entry: faces.hr[faces.guide_row[entry.row]]),
        ("guide_only-r", lambda entry: faces.hr[faces.other_guide_row[entry.row]]),
    ):
        for entry in of_system(table, system).itertuples():
            values = all_metrics(np.array(picture(entry)), np.array(faces.hr[entry.row]), np.array(faces.lr[entry.row]))
            assert values == pytest.approx({metric: getattr(entry, metric) for metric in METRICS}, abs=1e-6)


def test_the_target_as_the_answer_is_perfect(table):
    perfect = of_system(table, "guide_only-target")
    assert len(perfect) == sum(IMAGES.values())
    assert (perfect["psnr"] == PSNR_CAP).all()
    assert (perfect["psnr_y"] == PSNR_CAP).all()
    assert (perfect["lr_psnr"] == PSNR_CAP).all()
    assert perfect["ssim"].to_numpy() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("suffix", ["", "-r", "-target"])
def test_a_warper_with_zero_flow_answers_with_the_guide_itself(table, suffix):
    warped, guide = (of_system(table, name + suffix) for name in ("warped_guide", "guide_only"))
    assert np.abs(warped[list(METRICS)].to_numpy() - guide[list(METRICS)].to_numpy()).max() < 1e-6


@pytest.mark.parametrize(
    ("system", "model", "guide"),
    [
        ("banet_psnr", "banet_psnr", None),
        ("psnr_phase", "psnr_phase", "guide_row"),
        ("banet", "banet", None),
        ("gwanet-r", "gwanet", "other_guide_row"),
        ("gwainet", "gwainet", "guide_row"),
        ("gwainet-target", "gwainet", "row"),
    ],
)
def test_a_models_figures_are_those_of_its_own_pictures(table, faces, world, system, model, guide):
    generator = load_generator(world.weights(model), torch.device("cpu"))
    entry = of_system(table, system).iloc[-1]
    row = int(entry["row"])
    guide_picture = None if guide is None else faces.hr[[int(faces.manifest[guide][row])]]
    sr = generator.super_resolve(np.array(faces.lr[[row]]), guide_picture).sr[0]
    values = all_metrics(sr, np.array(faces.hr[row]), np.array(faces.lr[row]))
    # alone or in a batch, the last bit of a sum may round a pixel the other way
    assert values == pytest.approx({metric: entry[metric] for metric in METRICS}, abs=1e-3)


def test_another_guide_changes_the_answer_of_every_guided_model(table):
    for model in ("psnr_phase", "gwanet", "gwainet"):
        own, other = (of_system(table, model + suffix)["psnr"].to_numpy() for suffix in ("", "-r"))
        assert not np.allclose(own, other)


def test_means_intervals_and_differences_are_those_of_the_table(table, report):
    for split in IMAGES:
        of_split = table[table["split"] == split]
        for entry in report.systems:
            part = of_system(of_split, entry.system)
            for metric in METRICS:
                interval = bootstrap_interval(part[metric], part["identity"], 200, 0)
                estimate = entry.splits[split][metric]
                assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(tuple(interval), abs=2e-6)
        for pair in report.comparisons:
            a, b = of_system(of_split, pair.a), of_system(of_split, pair.b)
            difference = paired_difference(a["psnr"], b["psnr"], a["identity"], 200, 0)
            estimate = pair.splits[split]["psnr"]
            assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(tuple(difference), abs=2e-6)


def test_slices_go_by_how_targets_and_their_own_guides_look_whatever_the_system_is_given(table, faces):
    for entry in table.iloc[::17].itertuples():
        values = appearance(np.array(faces.hr[entry.row]), np.array(faces.hr[faces.guide_row[entry.row]]))
        found = {name: getattr(entry, name) for name in SLICES}
        assert found == pytest.approx(values, abs=1e-6, nan_ok=True)


def test_slices_have_every_model_and_split_and_their_gains_are_those_of_the_table(table, report):
    assert {entry.system for entry in report.slices} == set(MODELS)
    assert all(entry.too_small for entry in report.slices)  # 3 and 4 people
    for split, images in IMAGES.items():
        for name, kind in SLICES.items():
            parts = [e for e in report.slices if (e.slice, e.split, e.system) == (name, split, "gwainet")]
            assert sum(entry.images for entry in parts) == images
            assert [entry.group for entry in parts] == [group for group in kind.groups if group in kind_groups(parts)]
            of_split = table[table["split"] == split]
            main, plain = (of_system(of_split, system).set_index("row") for system in ("gwainet", "bicubic"))
            groups = kind.group(main[name].to_numpy())
            for entry in parts:
                rows = main.index[groups == entry.group]
                who = main.loc[rows, "identity"]
                wanted = paired_difference(main.loc[rows, "psnr"], plain.loc[rows, "psnr"], who, 200, 0)
                assert (entry.images, entry.identities) == (len(rows), who.nunique())
                found = (entry.gain.mean, entry.gain.low, entry.gain.high)
                assert found == pytest.approx(tuple(wanted), abs=3e-6)


def kind_groups(parts: list[SliceReport]) -> set[str]:
    return {entry.group for entry in parts}


def test_the_code_that_a_page_names_is_what_the_stage_depends_on():
    stages = YAML(typ="safe").load(Path(__file__).parents[2] / "dvc.yaml")["stages"]
    source = {dep.removeprefix("gwainet/") for dep in stages["benchmark"]["deps"] if dep.startswith("gwainet/")}
    assert set(CODE) == source


def test_the_page_shows_faces_of_the_main_model_and_its_figures(out, report, table):
    page = (out / "benchmark.html").read_text()
    gain = next(pair for pair in report.comparisons if (pair.a, pair.b) == ("gwainet", "bicubic"))
    assert f"{abs(gain.splits['test']['psnr'].mean):.2f} dB" in page
    assert page.count("<figure") == 12  # of 12 test faces the best, middle and worst four
    for name in of_system(table, "gwainet").query("split == 'test'")["source_file"]:
        assert name in page
    for model in report.models.values():
        assert model.weights_digest in page


def test_the_headline_and_the_plot_table_of_the_test_split_repeat_the_report_in_four_digits(out, report):
    headline = json.loads((out / "metrics.json").read_text())
    plot = pd.read_csv(out / "benchmark_table.csv")
    assert list(plot.columns) == ["system", "split", "psnr", "low", "high"]
    assert sorted(plot["system"]) == sorted(HEADLINE)  # once each: a bar a system
    assert set(plot["split"]) == {"test"}
    for split in IMAGES:
        assert set(headline[split]) == set(HEADLINE)
        for entry in report.systems:
            psnr = entry.splits[split]["psnr"]
            if split == "test" and entry.system in HEADLINE:
                line = plot[plot["system"] == entry.system].iloc[0]
                wanted = tuple(round(value, 4) for value in (psnr.mean, psnr.low, psnr.high))
                assert (line["psnr"], line["low"], line["high"]) == wanted
            if entry.system in HEADLINE:
                ssim = entry.splits[split]["ssim"].mean
                assert headline[split][entry.system] == {"psnr": round(psnr.mean, 4), "ssim": round(ssim, 4)}


def test_the_grid_shows_the_test_faces_in_ten_columns(out, faces):
    with Image.open(out / "grid.png") as picture:
        assert picture.size == (10 * (faces.width + 4) + 4, 18 + 3 * (faces.height + 4) + 4)
        sheet = np.asarray(picture.convert("RGB"))
    shown = choose_faces(faces.targets("test"), faces.identity, 3, 0)
    for line, row in enumerate(shown):
        top = 18 + 4 + line * (faces.height + 4)
        tiles = [sheet[top : top + faces.height, 4 + c * (faces.width + 4) :][:, : faces.width] for c in range(10)]
        assert np.array_equal(tiles[0], faces.lr[row].repeat(8, axis=0).repeat(8, axis=1))
        assert np.array_equal(tiles[1], faces.hr[faces.guide_row[row]])
        assert np.array_equal(tiles[3], upscale(faces.lr[row]))
        assert np.array_equal(tiles[9], faces.hr[row])


def test_the_recorder_gets_figures_times_picture_files_and_data(out, notebook, report, faces):
    for entry in report.systems:
        for split, metrics in entry.splits.items():
            for metric, estimate in metrics.items():
                assert notebook.numbers[f"{split}.{entry.system}.{metric}"] == estimate.mean
    gain = next(pair for pair in report.comparisons if (pair.a, pair.b) == ("psnr_phase", "bicubic"))
    assert notebook.numbers["test.psnr_phase_minus_bicubic.psnr_low"] == gain.splits["test"]["psnr"].low
    for model in MODELS:
        assert 0 < notebook.numbers[f"seconds_per_image.{model}"] < 10
    assert notebook.artifacts == {f"benchmark/{name}" for name in FILES}
    assert notebook.datasets == [faces.digest]
    assert notebook.pictures["grid"].size[0] > 10 * faces.width


def test_a_second_run_writes_the_same_bytes_whatever_the_number_of_workers(world, out):
    again = world.root / "again"
    run(make_params(workers=1), **world.inputs, out=again, recorder=NullRecorder())
    for name in FILES - {"costs.csv"}:  # which has the times of this run
        assert (again / name).read_bytes() == (out / name).read_bytes(), name


def test_a_limit_takes_that_many_faces_of_each_split_and_the_user_sees_the_table(world, tmp_path, capsys):
    params = make_params(max_faces=4, splits=["test"], grid_faces=8)
    run(params, **world.inputs, out=tmp_path / "report", recorder=NullRecorder())
    report = BenchmarkReport.model_validate_json((tmp_path / "report/benchmark.json").read_text())
    assert {split: (part.images, part.identities) for split, part in report.splits.items()} == {"test": (4, 4)}
    shown = capsys.readouterr().err
    assert "test: 4 faces of 4 people" in shown
    for system in SYSTEMS:
        assert system.title in shown


@pytest.fixture(scope="module")
def identified(world: World, notebook: Notebook) -> Path:
    """The same benchmark with faces compared, on few of them: dlib is slow."""
    if util.find_spec("dlib") is None:
        pytest.skip("the extra `identity` is not installed")
    directory = world.root / "identified"
    run(make_params(identity="on", splits=["test"], max_faces=4), **world.inputs, out=directory, recorder=notebook)
    return directory


def test_similarity_of_faces_goes_where_every_metric_goes(identified, notebook, faces):
    report = BenchmarkReport.model_validate_json((identified / "benchmark.json").read_text())
    table = pd.read_csv(identified / "benchmark.csv")
    assert report.metrics == (*METRICS, IDENTITY_METRIC)
    assert list(table.columns)[-1] == IDENTITY_METRIC
    assert report.identity is not None
    assert report.identity.faces_found == {"test": 0}  # the tests' pictures are no faces
    assert "cosine" in report.conventions[IDENTITY_METRIC]
    headline = json.loads((identified / "metrics.json").read_text())["test"]
    for entry in report.systems:
        part = of_system(table, entry.system)
        wanted = bootstrap_interval(part[IDENTITY_METRIC], part["identity"], 200, 0)
        estimate = entry.splits["test"][IDENTITY_METRIC]
        assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(tuple(wanted), abs=2e-6)
        assert notebook.numbers[f"test.{entry.system}.{IDENTITY_METRIC}"] == estimate.mean
        if entry.system in HEADLINE:
            assert headline[entry.system][IDENTITY_METRIC] == round(estimate.mean, 4)
    truth = [np.array(faces.hr[row]) for row in table["row"].unique()]
    upscaled = [upscale(np.array(faces.lr[row])) for row in table["row"].unique()]
    described = [described_as(gt, {"sr": sr}) for gt, sr in zip(truth, upscaled, strict=True)]
    apart = distances([made["sr"] for _, made in described], [face.descriptor for face, _ in described])
    by_name = {entry.system: entry.distances["test"] for entry in report.systems}
    assert by_name["bicubic"].identity_frechet == pytest.approx(apart.frechet, abs=1e-5)
    assert by_name["bicubic"].identity_kernel == pytest.approx(apart.kernel, abs=1e-5)
    assert notebook.numbers["test.bicubic.identity_frechet"] == by_name["bicubic"].identity_frechet
    assert by_name["guide_only-target"].identity_frechet == pytest.approx(0, abs=1e-6)
    assert {entry.images for entry in by_name.values()} == {4}
    assert "Kernel distance" in (identified / "benchmark.html").read_text()
    for pair in report.comparisons:
        a, b = of_system(table, pair.a), of_system(table, pair.b)
        wanted = paired_difference(a[IDENTITY_METRIC], b[IDENTITY_METRIC], a["identity"], 200, 0)
        assert pair.splits["test"][IDENTITY_METRIC].mean == pytest.approx(wanted.mean, abs=2e-6)
    assert (of_system(table, "guide_only-target")[IDENTITY_METRIC] == 1).all()
    for row in table["row"].unique()[[0, -1]]:
        shown = {"bicubic": upscale(faces.lr[row]), "guide_only": np.array(faces.hr[faces.guide_row[row]])}
        cosines = similarities(np.array(faces.hr[row]), shown).cosines
        for system, cosine in cosines.items():
            value = of_system(table, system).set_index("row").loc[row, IDENTITY_METRIC]
            assert value == pytest.approx(cosine, abs=1e-6)


def test_comparing_faces_leaves_the_other_figures_as_they_were(identified, table):
    with_faces = pd.read_csv(identified / "benchmark.csv").drop(columns=IDENTITY_METRIC)
    key = ["row", "system"]
    without = table[table["row"].isin(with_faces["row"])].set_index(key).sort_index()
    # in batches of other faces the last bit of a sum may round a pixel the other way
    pd.testing.assert_frame_equal(with_faces.set_index(key).sort_index(), without, rtol=0, atol=1e-3)


def test_a_report_says_that_similarity_was_not_measured(report, table):
    assert report.identity is None
    assert report.conventions[IDENTITY_METRIC] == "not measured: benchmark.identity is `off`"
    assert IDENTITY_METRIC not in table.columns
    assert not any(entry.distances for entry in report.systems)
    assert all(IDENTITY_METRIC not in metrics for entry in report.systems for metrics in entry.splits.values())


@pytest.fixture
def no_dlib(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "dlib", None)  # what an import of a missing package finds
    identity._models.cache_clear()
    yield
    identity._models.cache_clear()


@pytest.mark.usefixtures("no_dlib")
def test_on_without_the_extra_stops_before_any_work(world, tmp_path):
    with pytest.raises(ExtraError, match=r"pip install 'gwainet\[identity\]'"):
        run(make_params(identity="on"), **world.inputs, out=tmp_path / "report", recorder=NullRecorder())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_dlib")
def test_auto_without_the_extra_measures_the_rest_and_says_so(world, tmp_path, capsys):
    params = make_params(identity="auto", splits=["test"], max_faces=4)
    run(params, **world.inputs, out=tmp_path / "report", recorder=NullRecorder())
    report = BenchmarkReport.model_validate_json((tmp_path / "report/benchmark.json").read_text())
    assert report.metrics == METRICS
    assert "extra `identity` was not installed" in report.conventions[IDENTITY_METRIC]
    assert "Not measured: identity_similarity" in " ".join(capsys.readouterr().err.split())


def test_of_pairs_only_targets_are_measured(tmp_path):
    world = write_world(tmp_path, height=24, width=24, guides="fixed")
    run(make_params(splits=["test"]), **world.inputs, out=tmp_path / "report", recorder=NullRecorder())
    table = pd.read_csv(tmp_path / "report/benchmark.csv")
    faces = Faces(world.inputs["faces"])
    assert set(table["row"]) == set(faces.targets("test").tolist())
    assert faces.manifest["is_target"].to_numpy()[table["row"]].all()
    assert not faces.manifest["is_target"].to_numpy()[of_system(table, "guide_only")["guide_row"]].any()


def _no_passed(world: World) -> None:
    world.inputs["passed"].unlink()


def _other_faces(world: World) -> None:
    write_json(world.inputs["passed"], {"format": 1, "digest": "0" * 64, "expectations": 12})


def _no_weights(world: World) -> None:
    world.weights("gwanet").unlink()


def _cut_weights(world: World) -> None:
    path = world.weights("banet")
    path.write_bytes(path.read_bytes()[:-100])


def _exchanged_weights(world: World) -> None:
    world.weights("psnr_phase").write_bytes(world.weights("banet_psnr").read_bytes())


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (_no_passed, ContractError, "run check_faces"),
        (_other_faces, ContractError, "run check_faces"),
        (_no_weights, CheckpointError, "gwanet/weights.safetensors does not exist"),
        (_cut_weights, CheckpointError, "not a complete safetensors file"),
        (_exchanged_weights, CheckpointError, "without a guide"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_is_written(
    tmp_path: Path, harm: Callable[[World], None], error: type[Exception], message: str
):
    world = write_world(tmp_path, height=24, width=24)
    harm(world)
    with pytest.raises(error, match=message):
        run(make_params(), **world.inputs, out=tmp_path / "report", recorder=NullRecorder())
    assert not list(tmp_path.glob("*report*"))


def test_faces_too_small_for_the_metrics_are_refused_before_any_work(tmp_path):
    world = write_world(tmp_path, height=24, width=16)
    with pytest.raises(DataError, match="24 x 16 pixels are too small"):
        run(make_params(), **world.inputs, out=tmp_path / "report", recorder=NullRecorder())


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), count=st.integers(1, 30), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_chosen_faces_are_spread_over_the_people(sizes, count, seed):
    identity = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(identity))
    chosen = choose_faces(rows, identity, count, seed)
    assert len(chosen) == min(count, len(rows)) == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all()
    taken = np.bincount(identity[chosen], minlength=len(sizes))
    for person, size in enumerate(sizes):
        assert taken[person] == size or taken[person] >= taken.max() - 1
    assert np.array_equal(chosen, choose_faces(rows, identity, count, seed))


def test_the_seed_chooses_the_faces_and_null_takes_all():
    identity = np.repeat(np.arange(40), 5)
    rows = np.arange(100, 200)
    assert np.array_equal(choose_faces(rows, identity, None, 0), rows)
    assert np.array_equal(choose_faces(rows, identity, 100, 0), rows)
    first, second = (choose_faces(rows, identity, 10, seed) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert set(first.tolist()) <= set(rows.tolist())


def test_a_model_whose_guide_may_be_left_out_answers_without_it_in_a_row_of_its_own(tmp_path):
    world = write_world(tmp_path)
    faces = Faces(world.inputs["faces"])
    generator = build_generator(NETWORKS, faces.means, True, 7, guide_optional=True)
    metadata = Metadata("generator", NETWORKS, faces.means, faces.height, faces.width, guide_optional=True)
    save_weights(world.weights("gwainet"), generator, metadata)
    out = tmp_path / "out"
    run(make_params(), **world.inputs, out=out, recorder=NullRecorder())
    report = BenchmarkReport.model_validate_json((out / "benchmark.json").read_text())
    (row,) = (entry for entry in report.systems if entry.system.endswith("-none"))
    assert (row.system, row.title, row.model, row.guide) == ("gwainet-none", "GWAInet (no guide)", "gwainet", "none")
    table = of_system(pd.read_csv(out / "benchmark.csv"), "gwainet-none")
    assert (table["guide_row"] == -1).all()
    for row, psnr in zip(table["row"].tolist(), table["psnr"].tolist(), strict=True):
        made = generator.eval().super_resolve(np.array(faces.lr[row])[None]).sr[0]
        expected = all_metrics(made, np.array(faces.hr[row]), np.array(faces.lr[row]))["psnr"]
        assert psnr == pytest.approx(expected, abs=0.02)  # decoders are composed there


# ---------------------------------------------------------------- other papers' systems


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A world with two systems that are trained, and its report."""
    world = write_world(tmp_path_factory.mktemp("several"))
    write_baselines(world, trained=("srcnn", "gfrnet"))
    run(make_params(), **world.inputs, out=world.root / "report", recorder=NullRecorder())
    return world, world.root / "report"


def test_trained_systems_of_others_have_rows_and_paired_differences_and_untrained_ones_none(several):
    _, out = several
    report = BenchmarkReport.model_validate_json((out / "benchmark.json").read_text())
    ours = [system.name for system in SYSTEMS]
    rows = [entry.system for entry in report.systems]
    assert set(rows) == {*ours, "srcnn", "gfrnet", "gfrnet-r", "gfrnet-target"}
    assert [name for name in rows if name in ours] == ours
    assert rows.index("srcnn") < rows.index("banet_psnr")
    assert [(pair.a, pair.b) for pair in report.comparisons] == [
        *COMPARISONS, ("gwainet", "srcnn"), ("gwainet", "gfrnet")
    ]  # fmt: skip
    table = pd.read_csv(out / "benchmark.csv")
    assert set(table["system"]) == set(rows)
    assert (of_system(table, "srcnn")["guide_row"] == -1).all()
    assert (of_system(table, "gfrnet")["guide_row"] >= 0).all()
    pair = report.comparisons[-1].splits["test"]["psnr"].mean
    test = table[table["split"] == "test"]
    difference = of_system(test, "gwainet")["psnr"].mean() - of_system(test, "gfrnet")["psnr"].mean()
    assert pair == pytest.approx(difference, abs=1e-5)
    page = (out / "benchmark.html").read_text()
    assert "SRCNN" in page
    assert "GFRNet-style" in page


def test_the_page_says_which_system_the_data_cannot_train_and_which_had_no_steps(several, capsys):
    _, out = several
    report = BenchmarkReport.model_validate_json((out / "benchmark.json").read_text())
    assert len(report.untrained) == len(OTHERS) - 2
    assert report.untrained["GFRNet-style, landmarks"] == "the data has no landmarks, which its training needs"
    assert report.untrained["VDSR"] == "train_baselines gives its training no steps"
    page = " ".join((out / "benchmark.html").read_text().split())
    assert "in no row, as they were not trained: VDSR (train_baselines gives its training no steps)" in page
    assert "GFRNet-style, landmarks (the data has no landmarks, which its training needs)." in page


def test_a_table_of_all_systems_names_no_untrained_one(tmp_path):
    world = write_world(tmp_path)
    write_baselines(world, trained=tuple(OTHERS))
    run(make_params(splits=["test"]), **world.inputs, out=tmp_path / "report", recorder=NullRecorder())
    report = BenchmarkReport.model_validate_json((tmp_path / "report" / "benchmark.json").read_text())
    rows = [entry.system for entry in report.systems]
    assert rows[rows.index("gfrnet-target") + 1 :][:3] == [
        "gfrnet_landmarks", "gfrnet_landmarks-r", "gfrnet_landmarks-target"
    ]  # fmt: skip
    assert ("gwainet", "gfrnet_landmarks") in [(pair.a, pair.b) for pair in report.comparisons]
    assert report.untrained == {}
    assert "in no row" not in (tmp_path / "report" / "benchmark.html").read_text()


def test_the_report_says_what_each_system_costs_and_what_it_saw(several, faces):
    _, out = several
    models = BenchmarkReport.model_validate_json((out / "benchmark.json").read_text()).models
    assert set(models) == {*MODELS, "srcnn", "gfrnet"}
    assert (models["srcnn"].images, models["srcnn"].narrow) == (100, 32)
    assert (models["gwainet"].images, models["gwainet"].narrow) == (None, None)
    for name, model in models.items():
        assert model.macs is not None
        assert model.macs > 0, name
    made = forward_macs(lambda: build_baseline("srcnn", faces.means, 32, 0), faces.height, faces.width)
    assert models["srcnn"].macs == made == (2 * 243 + 2 + 3 * 25) * faces.height * faces.width
    ours = [models[name].macs or 0 for name in ("gwainet", "gwanet", "banet")]
    assert ours[0] == ours[1] > ours[2]


def test_what_a_narrowed_system_is_called():
    assert [narrowed(narrow) for narrow in (None, 1, 4, 3)] == ["", "", ", 1/4 width", ", 21/64 width"]
    assert [maps_of(narrow) for narrow in (None, 1, 4, 3)] == ["", "64", "16", "21"]


def test_the_papers_figures_have_a_column_for_each_system_that_answered(out, several):
    """LR, bicubic, BAnet, GWAnet, GWAInet and GT, and the two systems that one world has on top; 4 pixels between."""
    widths = [Image.open(of / "figure3.png").width for of in (out, several[1])]
    assert widths == [(40 + 4) * columns + 4 for columns in (6, 8)]
    assert Image.open(out / "figure4.png").width == (40 + 4) * 10 + 4
    assert Image.open(out / "figure5.png").width == (40 + 4) * 8 + 4


def test_the_systems_are_the_same_everywhere():
    assert tuple(BASELINES) == tuple(OTHERS) == STAGES["train_baselines"].variants
    assert tuple(BaselineRates.model_fields) == tuple(OTHERS)
    assert all(BASELINES[name].guided == facts.guided for name, facts in OTHERS.items())


def test_a_system_under_anothers_name_is_refused(tmp_path):
    world = write_world(tmp_path)
    (world.weights("srcnn")).write_bytes(world.weights("vdsr").read_bytes())
    with pytest.raises(CheckpointError, match="holds vdsr: run train_baselines@srcnn again"):
        run(make_params(), **world.inputs, out=tmp_path / "report", recorder=NullRecorder())
    assert not (tmp_path / "report").exists()


# ---------------------------------------------------------------- several seeds, costs


def write_seeds(world: World, system: str, seeds: list[int]) -> None:
    """Weights of further seeds beside those of a system, of ours too."""
    faces, folder = Faces(world.inputs["faces"]), world.weights(system).parent / "seeds"
    write_json(folder / "seeds.json", {"seeds": seeds})
    sizes = (faces.means, faces.height, faces.width)
    for seed in seeds[1:]:
        path = folder / str(seed) / "weights.safetensors"
        path.parent.mkdir()
        if system in MODELS:
            guided = MODELS[system].guided
            generator = build_generator(NETWORKS, faces.means, guided, 100 + seed)
            save_weights(path, generator, Metadata("generator", NETWORKS, *sizes, guided))
        else:
            metadata = BaselineMetadata(system, 32, *sizes, 100)  # type: ignore[arg-type]
            save_weights(path, build_baseline(system, faces.means, 32, seed), metadata)  # type: ignore[arg-type]


def test_a_system_of_several_seeds_has_their_spread_and_the_first_ones_figures(tmp_path, capsys):
    world = write_world(tmp_path)
    write_baselines(world, trained=("srcnn", "gfrnet"))
    run(make_params(), **world.inputs, out=tmp_path / "one", recorder=NullRecorder())
    write_seeds(world, "srcnn", [0, 3, 5])
    write_seeds(world, "gfrnet", [0, 4])
    write_seeds(world, "banet", [0, 6])
    write_seeds(world, "gwainet", [0, 3, 5])
    run(make_params(), **world.inputs, out=tmp_path / "several", recorder=NullRecorder())
    one, several = (
        BenchmarkReport.model_validate_json((tmp_path / name / "benchmark.json").read_text())
        for name in ("one", "several")
    )
    assert [(e.system, e.splits) for e in one.systems] == [(e.system, e.splits) for e in several.systems]
    assert one.comparisons == several.comparisons
    assert one.slices == several.slices
    assert {e.system: e.seeds.seeds for e in several.systems if e.seeds} == {
        "srcnn": [0, 3, 5], "gfrnet": [0, 4], "banet": [0, 6], "gwainet": [0, 3, 5]
    }  # fmt: skip
    assert not any(entry.seeds for entry in one.systems)
    again = {"srcnn@3", "srcnn@5", "gfrnet@4", "banet@6", "gwainet@3", "gwainet@5"}
    assert set(several.models) - set(one.models) == again
    assert several.models["gwainet@3"].file == "train_adversarial/gwainet/seeds/3/weights.safetensors"
    table = pd.read_csv(tmp_path / "several/benchmark.csv")
    for name in ("gfrnet@4", "gwainet@3"):
        first = of_system(table, name.partition("@")[0])
        assert (of_system(table, name)["guide_row"] == first["guide_row"].to_numpy()).all()
    assert (of_system(table, "banet@6")["guide_row"] == -1).all()
    for system in ("srcnn", "gwainet"):
        spread = next(e.seeds for e in several.systems if e.system == system)
        assert spread is not None
        for split in IMAGES:
            of_split = table[table["split"] == split]
            means = [of_system(of_split, name)["ssim"].mean() for name in (system, f"{system}@3", f"{system}@5")]
            found = spread.splits[split]["ssim"]
            assert found.mean == pytest.approx(np.mean(means), abs=2e-6)
            assert found.deviation == pytest.approx(np.std(means, ddof=1), abs=2e-6)
            assert (found.lowest, found.highest) == pytest.approx((min(means), max(means)), abs=2e-6)
            assert found.deviation > 0
    costs = pd.read_csv(tmp_path / "several/costs.csv").set_index("model")
    assert costs["seeds"].to_dict() == dict.fromkeys(one.models, 1) | {
        "srcnn": 3, "gfrnet": 2, "banet": 2, "gwainet": 3
    }  # fmt: skip
    shown = capsys.readouterr().err
    assert "over seeds" in shown
    assert "\u2026" not in shown  # no figure is cut where a log has 80 columns
    assert "Spread over seeds" in (tmp_path / "several/benchmark.html").read_text()


def test_a_further_seed_of_another_system_names_the_stage_to_run(tmp_path):
    world = write_world(tmp_path)
    write_baselines(world, trained=("srcnn", "vdsr"))
    write_seeds(world, "srcnn", [0, 1])
    wrong = world.weights("srcnn").parent / "seeds/1/weights.safetensors"
    wrong.write_bytes(world.weights("vdsr").read_bytes())
    with pytest.raises(CheckpointError, match="holds vdsr: run train_baselines@srcnn again"):
        run(make_params(), **world.inputs, out=tmp_path / "out", recorder=NullRecorder())


def test_a_further_seed_of_ours_that_takes_no_guide_where_one_belongs_is_told_by_its_path(tmp_path):
    world = write_world(tmp_path)
    write_seeds(world, "gwainet", [0, 1])
    wrong = world.weights("gwainet").parent / "seeds/1/weights.safetensors"
    wrong.write_bytes(world.weights("banet").read_bytes())
    with pytest.raises(CheckpointError, match=r"gwainet/seeds/1/weights\.safetensors holds a model without a guide"):
        run(make_params(), **world.inputs, out=tmp_path / "out", recorder=NullRecorder())


@pytest.mark.parametrize(
    ("system", "maker"),
    [("srcnn", "train_baselines@srcnn"), ("psnr_phase", "train_psnr@guided"), ("banet", "train_adversarial@banet")],
)
def test_a_seeds_list_that_is_damaged_is_named(tmp_path, system, maker):
    world = write_world(tmp_path)
    write_baselines(world, trained=("srcnn",))
    folder = world.weights(system).parent / "seeds"
    folder.mkdir()
    (folder / "seeds.json").write_text("{}")
    with pytest.raises(CheckpointError, match=rf"seeds\.json is damaged.*run {maker} again"):
        run(make_params(), **world.inputs, out=tmp_path / "out", recorder=NullRecorder())


def test_what_the_stages_train_with_more_seeds_is_what_is_measured_and_tracked(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    project = make_project(tmp_path)
    project.run("pretrain_inet", epochs=0.0)
    project.run("pretrain_wnet", epochs=0.0)
    trainings: dict[str, dict[str, Any]] = {
        "train_psnr": {"epochs": 0.25},
        "train_adversarial": {"schedule": [{"epochs": 0.125, "learning_rate": 1e-3}]},
        "train_baselines": {"epochs": 0.0, "critic_epochs": 0.0},
    }
    for stage, changed in trainings.items():
        for variant in STAGES[stage].variants:
            seeds = [1] if stage != "train_baselines" else []
            project.run(stage, variant, validate_every=100, more_seeds=seeds, **changed)
    params = make_params(splits=["test"], max_faces=2, grid_faces=1)
    STAGES["benchmark"].execute(params, None, project.paths("benchmark"), tmp_path)  # MLflow takes some names alone
    out = project.paths("benchmark")["out"]
    report = BenchmarkReport.model_validate_json((out / "benchmark.json").read_text())
    assert set(report.models) == {f"{name}{again}" for name in MODELS for again in ("", "@1")}
    assert {e.system: e.seeds.seeds for e in report.systems if e.seeds} == {name: [0, 1] for name in MODELS}
    for name in MODELS:
        one, other = report.models[name], report.models[f"{name}@1"]
        assert one.weights_digest != other.weights_digest
        assert (one.images, one.epochs, one.learning_rate) == (other.images, other.epochs, other.learning_rate)
    # two steps of two faces; then one step with two batches for the critic and one for the generator
    assert report.models["psnr_phase@1"].images == 4
    assert report.models["gwainet@1"].images == 4 + 6


def test_what_a_model_cost_counts_what_it_started_from(tmp_path):
    world = write_world(tmp_path)
    write_baselines(world, trained=("srresnet", "srgan", "vdsr"))
    for name in ("psnr_phase", "gwainet", "gwanet"):
        write_seeds(world, name, [0, 1])
    Took(10, 1.0, "CPU", 1).write(world.weights("psnr_phase").parent / "seeds/1")
    Took(20, 2.0, "CPU", 1).write(world.weights("gwainet").parent / "seeds/1")
    for name, seconds in {"psnr_phase": 100.0, "gwainet": 20.0, "srresnet": 7.0, "srgan": 3.0, "gwanet": 5.0}.items():
        rule = {"epochs": 0.25, "learning_rate": 1e-4, "same": "compute"} if name == "srgan" else {}
        device = "GPU X" if name == "srgan" else "CPU"
        Took(int(10 * seconds), seconds, device, 1, **rule).write(world.weights(name).parent)  # type: ignore[arg-type]
    run(make_params(), **world.inputs, out=tmp_path / "out", recorder=NullRecorder())
    report = BenchmarkReport.model_validate_json((tmp_path / "out/benchmark.json").read_text())
    costs = pd.read_csv(tmp_path / "out/costs.csv").set_index("model").astype(object)
    costs = costs.where(costs.notna(), None)
    columns = ["training_seconds", "training_device"]
    found = {name: (m.images, *costs.loc[name, columns]) for name, m in report.models.items() if name in costs.index}
    assert found["psnr_phase"] == (1000, 100.0, "CPU")
    assert found["gwainet"] == (1200, 120.0, "CPU")
    assert found["gwanet"] == (1050, 105.0, "CPU")
    assert found["srgan"] == (100, 10.0, "CPU, then GPU X")  # its weights say how many images, srresnet's included
    assert found["banet"] == (None, None, None)
    # a further seed started from the PSNR phase's of the same seed, and says nothing where one of the two does not
    assert [report.models[name].images for name in ("psnr_phase@1", "gwainet@1", "gwanet@1")] == [10, 30, None]
    assert found["vdsr"] == (100, None, None)
    srgan, titles = report.models["srgan"], {entry.system: entry.title for entry in report.systems}
    assert (srgan.same, srgan.epochs, srgan.learning_rate) == ("compute", 0.25, 1e-4)
    assert report.models["gwainet"].same is None
    assert report.models["vdsr"].epochs is None
    assert (titles["vdsr"], titles["gwainet"]) == ("VDSR, 1/32 width", "GWAInet")
    page = (tmp_path / "out/benchmark.html").read_text()
    (row,) = (line for line in page.splitlines() if "Inet for VGG, 1/32 width" in line and "<td>compute</td>" in line)
    assert '<td class="number">2</td><td>compute</td><td class="number">0.25</td><td class="number">0.0001</td>' in row
    assert set(costs.index) == {name for name in report.models if "@" not in name}
    assert (costs["seconds_per_image"] > 0).all()
    assert costs["device"].str.startswith("CPU").all()
    assert costs.loc["vdsr", "macs"] == report.models["vdsr"].macs


# ---------------------------------------------------------------- LPIPS


@pytest.fixture(scope="module")
def lpips_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tensors = {}
    layers = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    for place, (index, (after, before, kernel)) in enumerate(layers.items()):
        tensors[f"features.{index}.weight"] = torch.randn(after, before, kernel, kernel) / (before * kernel**2) ** 0.5
        tensors[f"features.{index}.bias"] = torch.zeros(after)
        tensors[f"lin{place}.model.1.weight"] = torch.rand(1, after, 1, 1)
    path = tmp_path_factory.mktemp("lpips") / "lpips.pt"
    torch.save(tensors, path)
    return path


def test_lpips_is_measured_with_the_users_weights_and_lower_is_better(world, faces, lpips_weights, tmp_path):
    params = make_params(lpips_weights=[str(lpips_weights)], splits=["test"], max_faces=4)
    run(params, **world.inputs, out=tmp_path / "out", recorder=NullRecorder())
    report = BenchmarkReport.model_validate_json((tmp_path / "out/benchmark.json").read_text())
    table = pd.read_csv(tmp_path / "out/benchmark.csv")
    assert report.metrics == (*METRICS, LPIPS)
    assert report.lpips is not None
    assert report.lpips.weights_digests == {str(lpips_weights): file_digest(lpips_weights)}
    assert "LPIPS v0.1" in report.conventions[LPIPS]
    network = load_lpips([lpips_weights], torch.device("cpu"))
    for entry in of_system(table, "bicubic").itertuples():
        (value,) = network.of_pictures(
            upscale(np.array(faces.lr[entry.row]))[None], np.array(faces.hr[entry.row])[None]
        )
        assert entry.lpips == pytest.approx(value, abs=1e-5)
    assert (of_system(table, "guide_only-target")[LPIPS] == 0).all()
    lowest = min(
        (entry for entry in report.systems if entry.guide != "target"), key=lambda e: e.splits["test"][LPIPS].mean
    )
    assert best_of(report, "test")[LPIPS] == lowest.splits["test"][LPIPS].mean


def test_faces_too_small_for_lpips_and_files_that_do_not_fit_stop_before_any_work(tmp_path, lpips_weights, world):
    small = write_world(tmp_path / "small", height=24, width=24)
    with pytest.raises(DataError, match="too small for LPIPS"):
        run(
            make_params(lpips_weights=[str(lpips_weights)]), **small.inputs, out=tmp_path / "r", recorder=NullRecorder()
        )
    with pytest.raises(CheckpointError, match=r"absent\.pth does not exist"):
        run(make_params(lpips_weights=["absent.pth"]), **world.inputs, out=tmp_path / "r", recorder=NullRecorder())
    assert not (tmp_path / "r").exists()


# ---------------------------------------------------------------- what is kept


@pytest.fixture
def measured_parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are measured, not taken from an earlier benchmark: their first system."""
    parts: list[str] = []
    whole = measuring._Measuring.part

    def part(self, systems, generators, plain):
        parts.append(systems[0].name)
        return whole(self, systems, generators, plain)

    monkeypatch.setattr(measuring._Measuring, "part", part)
    return parts


ALL_PARTS = ["bicubic", "warped_guide", "banet_psnr", "banet", "gwanet", "gwainet"]


def same_files(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES - {"costs.csv"})


def test_a_killed_benchmark_measures_no_finished_model_again_and_ends_with_the_same_bytes(
    world, out, tmp_path, measured_parts, monkeypatch
):
    whole = measuring._Measuring.part

    def killed(self, systems, generators, plain):
        if systems[0].name == "banet":
            raise KeyboardInterrupt
        return whole(self, systems, generators, plain)

    with monkeypatch.context() as patched:
        patched.setattr(measuring._Measuring, "part", killed)
        with pytest.raises(KeyboardInterrupt):
            run(make_params(), **world.inputs, out=tmp_path / "r", recorder=NullRecorder(), work=tmp_path)
    assert measured_parts == ALL_PARTS[:3]
    run(make_params(), **world.inputs, out=tmp_path / "r", recorder=NullRecorder(), work=tmp_path)
    assert measured_parts == ALL_PARTS
    assert same_files(tmp_path / "r", out)


def test_what_was_measured_is_measured_again_only_where_something_it_depends_on_has_changed(
    tmp_path, measured_parts, capsys
):
    world = write_world(tmp_path / "world")

    def again(**values: Any) -> list[str]:
        measured_parts.clear()
        params = make_params(**values)
        run(params, **world.inputs, out=tmp_path / "r", recorder=NullRecorder(), work=tmp_path / "work")
        return list(measured_parts)

    assert again() == ALL_PARTS
    assert again() == []
    assert again(bootstrap_samples=50) == []
    world.weights("gwanet").write_bytes(world.weights("gwainet").read_bytes())
    assert again() == ["gwanet"]
    assert again(max_faces=4) == ALL_PARTS  # other faces
    assert again() == ALL_PARTS
    file = tmp_path / "work/benchmark/tiny/banet.npz"
    file.write_bytes(file.read_bytes()[:-200])
    capsys.readouterr()
    assert again() == ["banet"]
    assert "banet is measured again" in " ".join(capsys.readouterr().err.split())


def test_what_was_measured_on_another_device_is_measured_again(world, tmp_path, measured_parts):
    threads = torch.get_num_threads()
    try:
        for number in (1, 1, 2):
            params = make_params()
            params = params.model_copy(update={"runtime": params.runtime.model_copy(update={"threads": number})})
            run(params, **world.inputs, out=tmp_path / "r", recorder=NullRecorder(), work=tmp_path / "work")
    finally:
        torch.set_num_threads(threads)
    assert measured_parts == [*ALL_PARTS, *ALL_PARTS]


# ---------------------------------------------------------------- a batch at once


def test_a_benchmark_that_measures_batches_at_once_writes_the_same_figures(world, table, tmp_path, monkeypatch):
    batches = []

    def at_once(pool, answers, low, truth, ticker):
        batches.append(len(low))
        return measuring.batch_at_once(torch.device("cpu"), answers, low, truth, ticker)

    monkeypatch.setattr(measuring, "one_by_one", at_once)
    run(make_params(), **world.inputs, out=tmp_path / "r", recorder=NullRecorder())
    assert batches == [5, 4, 5, 5, 2] * len(ALL_PARTS)  # the 9 faces of one split and the 12 of the other
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "r/benchmark.csv"), table, rtol=0, atol=1.1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_figures_of_pictures_that_no_model_made_are_those_of_the_cpu(world, table, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "one_by_one", None)  # not called there
    params = make_params()
    params = params.model_copy(update={"runtime": params.runtime.model_copy(update={"device": "cuda"})})
    run(params, **world.inputs, out=tmp_path / "r", recorder=NullRecorder())
    found = pd.read_csv(tmp_path / "r/benchmark.csv")
    given = found["system"].str.fullmatch("bicubic|guide_only.*")
    pd.testing.assert_frame_equal(found[given], table[given], rtol=0, atol=1.1e-6)
    assert given.sum() == 4 * sum(IMAGES.values())
