"""Every system's answer to every face, and every metric of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

import gwainet
from gwainet.dataset import Faces, Rows, Split
from gwainet.evaluation.appearance import appearance
from gwainet.evaluation.systems import NO_GUIDE, SUFFIXES, SYSTEMS, Guide, System
from gwainet.files import code_digest
from gwainet.identity import IDENTITY_METRIC, Similarities, similarities
from gwainet.images import Uint8, upscale
from gwainet.metrics import all_metrics
from gwainet.nets.model import SuperResolver
from gwainet.progress import Ticker, progress
from gwainet.workers import processes

# What an image's figures depend on besides weights and faces: figures of other code are not compared with them.
MEASURING = (
    "dataset.py",
    "evaluation/appearance.py",
    "evaluation/measure.py",
    "evaluation/systems.py",
    "identity.py",
    "bicubic.py",
    "images.py",
    "metrics.py",
    "nets",
    "psnr.py",
    "tensors.py",
)


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
    """What `measure` finds: per-image table, the grid's pictures by row, each model's clock, faces found by split."""

    table: pd.DataFrame
    pictures: dict[int, dict[str, Uint8]]
    clocks: dict[str, Clock]
    faces_found: dict[str, int]


def measure(
    faces: Faces,
    rows: Mapping[Split, Rows],
    generators: Mapping[str, SuperResolver],
    shown: Rows,
    batch_size: int,
    workers: int,
    measures_identity: bool,
    systems: Sequence[System] = SYSTEMS,
) -> Measured:
    """Let every system answer for every row, and measure each answer; `bicubic` is among them."""
    clocks = {name: Clock() for name in generators}
    keep = set(shown.tolist())
    pictures: dict[int, dict[str, Uint8]] = {}
    parts: list[pd.DataFrame] = []
    found: dict[str, int] = dict.fromkeys(rows, 0)
    # dlib holds Python's lock while it computes: processes, where the other metrics take threads
    several: AbstractContextManager[Executor | None] = processes(workers) if measures_identity else nullcontext()
    total = len(systems) * sum(len(chosen) for chosen in rows.values())
    # the metrics' time is spent in NumPy and SciPy, which let other threads run: no processes to start
    with progress("benchmark", total, "images") as ticker, ThreadPoolExecutor(workers) as pool, several as describers:
        for split, batch in _batches(rows, batch_size):
            ticker.note(split)
            low, truth = np.asarray(faces.lr[batch]), np.asarray(faces.hr[batch])
            guide_rows: dict[Guide, Rows] = {
                "none": np.full(len(batch), -1),
                "own": faces.guide_row[batch],
                "other": faces.other_guide_row[batch],
                "target": batch,
            }
            guides: dict[Guide, Uint8] = {
                kind: np.asarray(faces.hr[of]) for kind, of in guide_rows.items() if kind != "none"
            }
            answers = answer(generators, low, guides, clocks, systems)
            compared = _compare_faces(describers, answers, truth)  # meanwhile, the other metrics
            looks = pd.DataFrame(list(pool.map(appearance, truth, guides["own"])))
            values = _metrics(pool, answers, low, truth, ticker)
            for job in compared:
                face = job.result()
                found[split] += face.found
                for name, value in face.cosines.items():
                    values[name].setdefault(IDENTITY_METRIC, []).append(value)
            people = faces.manifest.iloc[batch]
            # one frame a batch: CelebA's tens of thousands of frames, one a system and batch, would fill the memory
            parts.append(
                pd.DataFrame(
                    {
                        "split": split,
                        "row": np.tile(batch, len(systems)),
                        "identity": np.tile(people["identity"].to_numpy(object), len(systems)),
                        "source_file": np.tile(people["source_file"].to_numpy(object), len(systems)),
                        "guide_row": np.concatenate([guide_rows[system.guide] for system in systems]),
                        **{name: np.tile(looks[name].to_numpy(), len(systems)) for name in looks.columns},
                        "system": np.repeat(np.array([system.name for system in systems], object), len(batch)),
                        **{
                            metric: np.concatenate([values[s.name][metric] for s in systems])
                            for metric in values["bicubic"]
                        },
                    }
                )
            )
            for place, row in enumerate(batch.tolist()):
                if row in keep:
                    pictures[row] = {name: made[place] for name, made in answers.items()}
                    pictures[row] |= {"lr": low[place], "guide": guides["own"][place], "gt": truth[place]}
    return Measured(pd.concat(parts, ignore_index=True), pictures, clocks, found)


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
    made: dict[str, Uint8] = {"bicubic": np.stack([upscale(picture) for picture in low])}
    for kind, guide in guides.items():
        made[f"guide_only{SUFFIXES[kind]}"] = guide
    for name, generator in generators.items():
        # without a guide there is one answer
        kinds: list[Guide] = [kind for kind in guides if f"{name}{SUFFIXES[kind]}" in wanted]
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


def _metrics(
    pool: ThreadPoolExecutor, answers: Mapping[str, Uint8], low: Uint8, truth: Uint8, ticker: Ticker
) -> dict[str, dict[str, list[float]]]:
    """System -> metric -> a value an image."""
    images = len(low)
    values: dict[str, dict[str, list[float]]] = {name: {} for name in answers}
    jobs = [(name, made[place], truth[place], low[place]) for name, made in answers.items() for place in range(images)]
    for (name, *_), measured in zip(jobs, pool.map(lambda job: all_metrics(*job[1:]), jobs), strict=True):
        for metric, value in measured.items():
            values[name].setdefault(metric, []).append(value)
        ticker.advance()
    return values


def _compare_faces(
    describers: Executor | None, answers: Mapping[str, Uint8], truth: Uint8
) -> list[Future[Similarities]]:
    """A job for each image; none where identity is not measured."""
    if describers is None:
        return []
    return [
        describers.submit(similarities, gt, {name: made[place] for name, made in answers.items()})
        for place, gt in enumerate(truth)
    ]
