"""Every system's answer to every face, and every metric of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

import gwainet
from gwainet.batch_metrics import batch_metrics
from gwainet.dataset import Faces, Rows, Split
from gwainet.evaluation.appearance import appearance
from gwainet.evaluation.distances import LEAST, Distances, distances
from gwainet.evaluation.kept import Arrays, Kept
from gwainet.evaluation.systems import NO_GUIDE, SUFFIXES, SYSTEMS, Guide, System
from gwainet.files import code_digest
from gwainet.identity import IDENTITY_METRIC, Face, cosine, described_as
from gwainet.images import Uint8, upscale
from gwainet.lpips import LPIPS, Lpips
from gwainet.metrics import all_metrics
from gwainet.nets.model import SuperResolver
from gwainet.progress import Ticker, progress
from gwainet.workers import processes

# What an image's figures depend on besides weights and faces: figures of other code are not compared with them.
MEASURING = (
    "dataset.py",
    "evaluation/appearance.py",
    "evaluation/distances.py",
    "evaluation/kept.py",
    "evaluation/measure.py",
    "evaluation/systems.py",
    "identity.py",
    "bicubic.py",
    "enlarge.py",
    "compiled.py",
    "images.py",
    "lpips.py",
    "batch_metrics.py",
    "metrics.py",
    "nets",
    "psnr.py",
    "tensors.py",
)

PLAIN = "plain"  # the part that needs no model

Floats = npt.NDArray[np.float64]


def metric_code_digest() -> str:
    """SHA-256 over the code that `measure` finds an image's figures with."""
    return code_digest(Path(gwainet.__file__).parent, MEASURING)


@dataclass
class Clock:
    """Seconds that a model took for its batches."""

    batches: list[tuple[float, int]] = field(default_factory=list)

    def seconds_per_image(self) -> float:
        """Median over the batches, without the first, which also sets up kernels and memory, where there are others."""
        return median(seconds / images for seconds, images in self.batches[1:] or self.batches)


@dataclass(frozen=True)
class Measured:
    """What `measure` finds.

    Attributes:
        table: one row an image and system.
        pictures: those of the grid, by row of the manifest.
        clocks: one a model.
        faces_found: split -> images on which the detector found a face; 0 where faces were not compared.
        distances: split -> system -> distances of sets of faces; empty where faces were not compared.
    """

    table: pd.DataFrame
    pictures: dict[int, dict[str, Uint8]]
    clocks: dict[str, Clock]
    faces_found: dict[str, int]
    distances: dict[str, dict[str, Distances]] = field(default_factory=dict)


@dataclass
class Part:
    """What was found of a model with all its guides, or of what needs no model (`PLAIN`): arrays over all images.

    Attributes:
        figures: (metric, system) -> a value an image.
        pictures: (row, name) -> those of the grid.
        clock: of the model.
        descriptors: system -> (n, 128); empty where faces are not compared.
        looks: what slices go by, name -> a value an image; of `PLAIN` alone, as are the next ones.
        boxes: of the ground truth's faces (`identity.Face`), (n, 4).
        points: (n, 5, 2).
        truth: descriptors of the ground truth, (n, 128).
        found: whether the detector found a face, (n,).
    """

    figures: dict[tuple[str, str], Floats] = field(default_factory=dict)
    pictures: dict[tuple[int, str], Uint8] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    descriptors: dict[str, Floats] = field(default_factory=dict)
    looks: dict[str, Floats] = field(default_factory=dict)
    boxes: npt.NDArray[np.int64] | None = None
    points: npt.NDArray[np.int64] | None = None
    truth: Floats | None = None
    found: npt.NDArray[np.bool_] | None = None

    def to_arrays(self) -> Arrays:
        """As `Kept` writes it."""
        faces = {"boxes": self.boxes, "points": self.points, "truth": self.truth, "found": self.found}
        return {
            **{f"figure/{metric}/{system}": values for (metric, system), values in self.figures.items()},
            **{f"picture/{row}/{name}": picture for (row, name), picture in self.pictures.items()},
            **{f"descriptor/{system}": values for system, values in self.descriptors.items()},
            **{f"look/{name}": values for name, values in self.looks.items()},
            **{f"face/{name}": values for name, values in faces.items() if values is not None},
            "clock": np.array(self.clock.batches, np.float64).reshape(-1, 2),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """What `to_arrays` gave."""
        part = cls()
        for key, values in arrays.items():
            kind, _, name = key.partition("/")
            match kind:
                case "figure":
                    metric, _, system = name.partition("/")
                    part.figures[metric, system] = values
                case "picture":
                    row, _, shown = name.partition("/")
                    part.pictures[int(row), shown] = values
                case "descriptor":
                    part.descriptors[name] = values
                case "look":
                    part.looks[name] = values
                case "face":
                    setattr(part, name, values)
                case "clock":
                    part.clock.batches = [(float(seconds), int(images)) for seconds, images in values]
        return part


def parts_of(systems: Sequence[System]) -> dict[str, tuple[System, ...]]:
    """Part -> its systems: what needs no model first, then each model with all its guides."""
    names = [PLAIN, *dict.fromkeys(system.model for system in systems if system.model is not None)]
    return {name: tuple(system for system in systems if (system.model or PLAIN) == name) for name in names}


def measure(
    faces: Faces,
    rows: Mapping[Split, Rows],
    generators: Mapping[str, SuperResolver],
    shown: Rows,
    batch_size: int,
    device: torch.device,
    workers: int,
    measures_identity: bool,
    systems: Sequence[System] = SYSTEMS,
    lpips: Lpips | None = None,
    kept: Kept | None = None,
) -> Measured:
    """Let every system answer for every row, and measure each answer; `bicubic` is among them.

    Args:
        faces: prepared faces.
        rows: split -> those to measure.
        generators: model -> its network.
        shown: rows whose pictures are kept for the grid.
        batch_size: images that a model gets at a time.
        device: where the models answer, and what measures PSNR and SSIM: a GPU a batch at a time, else OpenCV.
        workers: threads of the metrics on a CPU, and processes that compare faces.
        measures_identity: whether faces are compared (M3).
        systems: those that answer.
        lpips: measures LPIPS; None: it is not measured.
        kept: what an earlier benchmark of the same has measured, and where this one keeps it; None: nothing is kept.
    """
    parts = parts_of(systems)
    total = sum(len(part) for part in parts.values()) * sum(len(chosen) for chosen in rows.values())
    found: dict[str, Part] = {}
    # dlib holds Python's lock while it computes: processes, where the other metrics take threads
    several: AbstractContextManager[Executor | None] = processes(workers) if measures_identity else nullcontext()
    # the metrics' time is spent in NumPy and OpenCV, which let other threads run: no processes to start
    with progress("benchmark", total, "images") as ticker, ThreadPoolExecutor(workers) as pool, several as describers:
        measuring = _Measuring(faces, rows, set(shown.tolist()), batch_size, device, pool, describers, lpips, ticker)
        for name, answering in parts.items():
            ticker.note(name)
            names = tuple(system.name for system in answering)
            arrays = None if kept is None else kept.load(name, names)
            if arrays is not None:
                found[name] = Part.from_arrays(arrays)
                ticker.advance(len(names) * sum(len(chosen) for chosen in rows.values()))
                continue
            model = {name: generators[name]} if name != PLAIN else {}
            found[name] = measuring.part(answering, model, found.get(PLAIN))
            if kept is not None:
                kept.save(name, names, found[name].to_arrays())
    return _together(faces, rows, systems, found)


@dataclass(frozen=True)
class _Measuring:
    """What all parts share while they are measured."""

    faces: Faces
    rows: Mapping[Split, Rows]
    shown: set[int]
    batch_size: int
    device: torch.device
    pool: ThreadPoolExecutor
    describers: Executor | None
    lpips: Lpips | None
    ticker: Ticker

    def part(self, systems: Sequence[System], generators: Mapping[str, SuperResolver], plain: Part | None) -> Part:
        """Measure one part; `plain` is the part without a model, None where this is it."""
        part = Part()
        figures: dict[tuple[str, str], list[float]] = {}
        described: dict[str, list[Floats]] = {}
        truths: list[Face] = []
        looks: list[dict[str, float]] = []
        clocks = dict.fromkeys(generators, part.clock)
        done = 0
        for _, batch in _batches(self.rows, self.batch_size):
            low, truth = np.asarray(self.faces.lr[batch]), np.asarray(self.faces.hr[batch])
            needed = {system.guide for system in systems} | ({"own"} if plain is None else set())
            guides: dict[Guide, Uint8] = {
                kind: np.asarray(self.faces.hr[of])
                for kind, of in guide_rows(self.faces, batch).items()
                if kind in needed and kind != "none"
            }
            answers = answer(generators, low, guides, clocks, systems)
            known = None if plain is None else _faces_of(plain, slice(done, done + len(batch)))
            compared = self._describe(answers, truth, known)  # meanwhile, the other metrics
            if plain is None:
                looks += self.pool.map(appearance, truth, guides["own"])
            for (name, metric), values in self._metrics(answers, low, truth).items():
                figures.setdefault((metric, name), []).extend(values)
            if self.lpips is not None:
                for name, made in answers.items():
                    figures.setdefault((LPIPS, name), []).extend(self.lpips.of_pictures(made, truth))
            for job in compared:
                face, of_answers = job.result()
                truths.append(face)
                for name, vector in of_answers.items():
                    described.setdefault(name, []).append(vector)
                    figures.setdefault((IDENTITY_METRIC, name), []).append(cosine(vector, face.descriptor))
            for place, row in enumerate(batch.tolist()):
                if row in self.shown:
                    part.pictures |= {(row, name): made[place] for name, made in answers.items()}
                    if plain is None:
                        beside = {"lr": low[place], "guide": guides["own"][place], "gt": truth[place]}
                        part.pictures |= {(row, name): picture for name, picture in beside.items()}
            done += len(batch)
        part.figures = {key: np.array(values) for key, values in figures.items()}
        # single precision, as dlib computes them: of 20,000 images of 30 systems, 300 MB
        part.descriptors = {name: np.array(vectors, np.float32) for name, vectors in described.items()}
        if plain is None:
            part.looks = {name: np.array([look[name] for look in looks]) for name in looks[0]}
            if truths:
                part.boxes, part.points = np.array([f.box for f in truths]), np.array([f.points for f in truths])
                part.truth = np.array([face.descriptor for face in truths])
                part.found = np.array([face.found for face in truths])
        return part

    def _metrics(self, answers: Mapping[str, Uint8], low: Uint8, truth: Uint8) -> dict[tuple[str, str], list[float]]:
        """(system, metric) -> a value an image."""
        if self.device.type == "cpu":  # where one by one is faster (docs/performance.md)
            return one_by_one(self.pool, answers, low, truth, self.ticker)
        return batch_at_once(self.device, answers, low, truth, self.ticker)

    def _describe(
        self, answers: Mapping[str, Uint8], truth: Uint8, known: Sequence[Face | None] | None
    ) -> list[Future[tuple[Face, dict[str, Floats]]]]:
        """A job for each image; none where identity is not measured."""
        if self.describers is None:
            return []
        known = known or [None] * len(truth)
        return [
            self.describers.submit(described_as, gt, {name: made[place] for name, made in answers.items()}, face)
            for place, (gt, face) in enumerate(zip(truth, known, strict=True))
        ]


def _faces_of(plain: Part, chosen: slice) -> list[Face] | None:
    """The ground truths' faces of some images; None where they were not looked for."""
    if plain.boxes is None or plain.points is None or plain.truth is None or plain.found is None:
        return None
    columns = (plain.boxes[chosen].tolist(), plain.points[chosen], plain.truth[chosen], plain.found[chosen].tolist())
    return [Face((left, top, right, bottom), *rest) for (left, top, right, bottom), *rest in zip(*columns, strict=True)]


def _together(
    faces: Faces, rows: Mapping[Split, Rows], systems: Sequence[System], found: Mapping[str, Part]
) -> Measured:
    """One table of all parts, split by split, system by system."""
    plain = found[PLAIN]
    metrics = [metric for metric, name in plain.figures if name == "bicubic"]
    tables: list[pd.DataFrame] = []
    sets: dict[str, dict[str, Distances]] = {}
    faces_found: dict[str, int] = {}
    start = 0
    for split, chosen in rows.items():
        images = slice(start, start + len(chosen))
        start = images.stop
        people, guides = faces.manifest.iloc[chosen], guide_rows(faces, chosen)
        faces_found[split] = 0 if plain.found is None else int(plain.found[images].sum())
        for system in systems:
            part = found[system.model or PLAIN]
            tables.append(
                pd.DataFrame(
                    {
                        "split": split,
                        "row": chosen,
                        "identity": people["identity"].to_numpy(object),
                        "source_file": people["source_file"].to_numpy(object),
                        "guide_row": guides[system.guide],
                        **{name: values[images] for name, values in plain.looks.items()},
                        "system": system.name,
                        **{metric: part.figures[metric, system.name][images] for metric in metrics},
                    }
                )
            )
            if plain.truth is not None and len(chosen) >= LEAST:
                made = part.descriptors[system.name][images]
                sets.setdefault(split, {})[system.name] = distances(made, plain.truth[images])
    pictures: dict[int, dict[str, Uint8]] = {}
    for part in found.values():
        for (row, name), picture in part.pictures.items():
            pictures.setdefault(row, {})[name] = picture
    clocks = {name: part.clock for name, part in found.items() if name != PLAIN}
    return Measured(pd.concat(tables, ignore_index=True), pictures, clocks, faces_found, sets)


def guide_rows(faces: Faces, rows: Rows) -> dict[Guide, Rows]:
    """The row of each image's guide, for each kind; -1 where there is none. Shapes: (n,) -> (n,) a kind."""
    return {
        "none": np.full(len(rows), -1),
        "own": faces.guide_row[rows],
        "other": faces.other_guide_row[rows],
        "target": rows,
    }


def look_again(generator: SuperResolver, faces: Faces, rows: Rows, batch_size: int) -> dict[int, dict[str, Uint8]]:
    """What a guided model makes of a few faces with their own guides: row -> LR, guide, warped guide, SR, GT."""
    pictures: dict[int, dict[str, Uint8]] = {}
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        low, guide, truth = (
            np.asarray(picked) for picked in (faces.lr[batch], faces.hr[faces.guide_row[batch]], faces.hr[batch])
        )
        sr, warped = generator.super_resolve(low, guide)
        assert warped is not None
        for place, row in enumerate(batch.tolist()):
            pictures[row] = {
                "lr": low[place],
                "guide": guide[place],
                "warped_guide": warped[place],
                "sr": sr[place],
                "gt": truth[place],
            }
    return pictures


def answer(
    generators: Mapping[str, SuperResolver],
    low: Uint8,
    guides: Mapping[Guide, Uint8],
    clocks: Mapping[str, Clock],
    systems: Sequence[System] = SYSTEMS,
) -> dict[str, Uint8]:
    """What each system makes of a batch.

    Args:
        generators: name of a model -> its network.
        low: I_LR, (B, h, w, 3).
        guides: the pictures for each kind of guide, (B, H, W, 3).
        clocks: one a model; the time from pictures to pictures is added.
        systems: those that answer.

    Returns:
        System -> (B, H, W, 3), in the order of `systems`.
    """
    wanted = {system.name for system in systems}
    made: dict[str, Uint8] = {}
    if "bicubic" in wanted:
        made["bicubic"] = np.stack([upscale(picture) for picture in low])
    for kind, guide in guides.items():
        made[f"guide_only{SUFFIXES[kind]}"] = guide
    for name, generator in generators.items():
        # without a guide there is one answer
        kinds: list[Guide] = [kind for kind in SUFFIXES if f"{name}{SUFFIXES[kind]}" in wanted]
        for kind in kinds:
            started = time.perf_counter()
            sr, warped = generator.super_resolve(low, guides[kind] if generator.guided else None)
            clocks[name].batches.append((time.perf_counter() - started, len(low)))
            made[f"{name}{SUFFIXES[kind]}"] = sr
            if name == "psnr_phase" and warped is not None:
                made[f"warped_guide{SUFFIXES[kind]}"] = warped
        if f"{name}{NO_GUIDE}" in wanted:
            made[f"{name}{NO_GUIDE}"] = generator.super_resolve(low).sr
    return {system.name: made[system.name] for system in systems}


def _batches(rows: Mapping[Split, Rows], size: int) -> Iterator[tuple[Split, Rows]]:
    for split, chosen in rows.items():
        for start in range(0, len(chosen), size):
            yield split, chosen[start : start + size]


def one_by_one(
    pool: ThreadPoolExecutor, answers: Mapping[str, Uint8], low: Uint8, truth: Uint8, ticker: Ticker
) -> dict[tuple[str, str], list[float]]:
    """(system, metric) -> a value an image, by threads of the CPU."""
    values: dict[tuple[str, str], list[float]] = {}
    jobs = [
        (name, made[place], truth[place], low[place]) for name, made in answers.items() for place in range(len(low))
    ]
    for (name, *_), measured in zip(jobs, pool.map(lambda job: all_metrics(*job[1:]), jobs), strict=True):
        for metric, value in measured.items():
            values.setdefault((name, metric), []).append(value)
        ticker.advance()
    return values


def batch_at_once(
    device: torch.device, answers: Mapping[str, Uint8], low: Uint8, truth: Uint8, ticker: Ticker
) -> dict[tuple[str, str], list[float]]:
    """(system, metric) -> a value an image, the whole batch on a device: the figures of `one_by_one` within 1e-9."""
    measured = batch_metrics(answers, truth, low, device)
    ticker.advance(len(answers) * len(low))
    return {(name, metric): values for name, of_system in measured.items() for metric, values in of_system.items()}
