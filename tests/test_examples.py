import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from gwainet.images import Uint8, downscale
from gwainet.nets.model import Metadata, build_generator, load_generator, save_weights
from gwainet.params import Networks
from gwainet.tensors import Means

SCRIPT = Path(__file__).parents[1] / "examples" / "super_resolve.py"
NETWORKS = Networks(width=4, blocks_per_group=1, warp_blocks=1)
MEANS = Means(lr=(0.5, 0.4, 0.3), hr=(0.5, 0.4, 0.3))
HEIGHT, WIDTH = 24, 16
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Random weights with and without a guide, and pictures that fit them or do not."""
    for name, guided in (("guided", True), ("banet", False)):
        generator = build_generator(NETWORKS, MEANS, guided, seed=0)
        metadata = Metadata("generator", NETWORKS, MEANS, HEIGHT, WIDTH, guided)
        save_weights(tmp_path / f"{name}.safetensors", generator, metadata)
    random = np.random.default_rng(0)
    for name, height, width in (("photo", HEIGHT, WIDTH), ("guide", HEIGHT, WIDTH), ("odd", HEIGHT + 1, WIDTH)):
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    Image.fromarray(downscale(read(tmp_path / "photo.png"))).save(tmp_path / "low.png")
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("super_resolve", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> Uint8:
    return np.asarray(Image.open(path))


def expected(folder: Path, weights: str) -> Uint8:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = load_generator(folder / f"{weights}.safetensors", device)
    guide = read(folder / "guide.png")[None] if generator.guided else None
    picture: Uint8 = generator.super_resolve(read(folder / "low.png")[None], guide).sr[0]
    return picture


def test_the_script_writes_the_models_own_picture(folder: Path) -> None:
    command = [sys.executable, str(SCRIPT), "guided.safetensors", "low.png", "--guide", "guide.png"]
    done = subprocess.run(command, cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sr.png: 16x24 from 2x3" in done.stdout
    # threads of another process may add in another order: a level at most
    assert np.abs(read(folder / "sr.png").astype(int) - expected(folder, "guided")).max() <= 1


def test_a_mistake_is_one_line_and_no_traceback(folder: Path) -> None:
    command = [sys.executable, str(SCRIPT), "absent.safetensors", "low.png"]
    done = subprocess.run(command, cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "absent.safetensors does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("weights", ["guided", "banet"])
def test_a_full_size_photo_is_made_smaller_as_the_training_pictures_were(
    folder: Path, script: ModuleType, weights: str
) -> None:
    out = folder / "new" / "sr.png"
    guide = ["--guide", str(folder / "guide.png")] if weights == "guided" else []
    weights_file, photo = str(folder / f"{weights}.safetensors"), str(folder / "photo.png")
    script.main([weights_file, photo, *guide, "--downscale", "--output", str(out)])
    assert np.abs(read(out).astype(int) - expected(folder, weights)).max() <= 1


def test_the_box_is_cut_out_of_full_size_photos(folder: Path, script: ModuleType) -> None:
    for name in ("photo", "guide"):
        framed = np.pad(read(folder / f"{name}.png"), ((5, 2), (3, 1), (0, 0)))
        Image.fromarray(framed).save(folder / f"{name}-framed.png")
    out = folder / "sr.png"
    photo, guide = str(folder / "photo-framed.png"), str(folder / "guide-framed.png")
    box = ["--crop", "5", "3", str(HEIGHT), str(WIDTH)]
    script.main(
        [str(folder / "guided.safetensors"), photo, "--guide", guide, "--downscale", *box, "--output", str(out)]
    )
    assert np.abs(read(out).astype(int) - expected(folder, "guided")).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["guided", "low.png"], "need --guide"),
        (["guided", "low.png", "--guide", "odd.png"], "odd.png is 16x25 .* must be 8 times .* 16x24"),
        (["guided", "photo.png", "--guide", "guide.png"], "guide.png is 16x24 .* 128x192"),
        (["guided", "odd.png", "--guide", "guide.png", "--downscale"], "odd.png is 16x25 .* 8 does not divide.*16x24"),
        (["guided", "text.png", "--guide", "guide.png"], "cannot identify image file .*text.png"),
        (["guided", "absent.png", "--guide", "guide.png"], "absent.png"),
        (["banet", "photo.png", "--downscale", "--crop", "0", "0", "32", "16"], "reaches outside"),
        (["banet", "photo.png", "--output", "sr.unknown"], "unknown file extension"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(
    folder: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    weights, *rest = arguments
    with pytest.raises(SystemExit, match=message) as stopped:
        script.main([f"{weights}.safetensors", *rest])
    assert isinstance(stopped.value.code, str)
    assert sorted(path.name for path in folder.iterdir()) == before
