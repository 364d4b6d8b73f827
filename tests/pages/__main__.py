"""The pictures of docs/promotion.md, anew from a store: `python -m tests.pages --root CLONE`.

The store is one of drawn people with three versions, made as docs/promotion.md tells. Never one of real photos.
"""

import argparse
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from gwainet.params import load_params
from tests.pages.browser import Album, find_chromium, open_browser
from tests.pages.conftest import REPOSITORY, mlflow_pages
from tests.pages.tour import Tour

LARGEST = 150_000  # bytes of a picture
QUALITY, WIDEST = 85, 1050  # of WebP; pixels

# of each screenshot what docs/promotion.md shows: left, top, right, bottom, in pixels
CROPS = {
    "2-runs": (198, 180, 1022, 702),
    "5-series": (1018, 612, 1420, 978),
    "6-picture": (200, 141, 1240, 1263),
    "7-benchmark": (516, 200, 1420, 760),
    "8-model": (198, 300, 1420, 1580),
}


def main() -> None:
    """Walk along the pages of the store and keep what is cut out of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="project whose mlflow.db is shown")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "pages", help="folder of the pictures")
    arguments = parser.parse_args()
    name = load_params(arguments.root / "params.yaml", None, []).register_model.name
    executable = find_chromium()
    if executable is None:
        parser.error("there is no Chromium on this machine: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        mlflow_pages(arguments.root.resolve()) as address,
        open_browser(executable) as browser,
    ):
        client = MlflowClient(address)
        aliases = {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}
        champion = client.get_model_version(name, aliases["champion"])
        parent = client.get_run(client.get_run(champion.run_id).data.tags["mlflow.parentRunId"])
        found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        stages: dict[str, Run] = {run.info.run_name: run for run in found}
        training = stages["train_psnr@guided"]
        history = client.get_metric_history(training.info.run_id, "validation.psnr")
        with Tour.begin(browser, address, Album(Path(folder))) as tour:
            tour.runs(parent.info.run_name, list(stages))
            tour.curves(training, ["content", "validation.psnr"])
            tour.series("samples", [metric.step for metric in history])
            tour.benchmark(stages["benchmark"], ["is better than bicubic upscaling"])
            tour.model(name, aliases, ["over bicubic"])
        keep(Path(folder), arguments.out)


def keep(folder: Path, out: Path) -> None:
    """Cut the pictures out, and write them small."""
    out.mkdir(parents=True, exist_ok=True)
    for name, box in CROPS.items():
        path = out / f"{name.partition('-')[2]}.webp"
        with Image.open(folder / f"{name}.png") as shot:
            picture = shot.convert("RGB").crop(box)
            picture.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
            picture.save(path, quality=QUALITY, method=6)
        if path.stat().st_size > LARGEST:
            raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST:,}")
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
