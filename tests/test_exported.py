"""ONNX files: the same pictures as the weights', run by ONNX Runtime alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gwainet.__main__ import app
from gwainet.errors import CheckpointError
from gwainet.exported import OnnxGenerator, export_onnx
from gwainet.files import file_digest
from gwainet.images import downscale
from gwainet.nets.model import Metadata, build_generator, load_generator, save_weights
from gwainet.params import Networks
from gwainet.tensors import Means

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")

MEANS = Means(lr=(0.5, 0.4, 0.3), hr=(0.6, 0.5, 0.4))
HEIGHT, WIDTH = 40, 32
CPU = torch.device("cpu")


def save(folder: Path, name: str, guided: bool = True, **changes: object) -> Path:
    """Weights whose flow is large, so that the sampler's rule outside the picture counts."""
    networks = Networks.model_validate({"width": 4, "blocks_per_group": 1, "warp_blocks": 1, **changes})
    generator = build_generator(networks, MEANS, guided, seed=1)
    if generator.wnet is not None:
        generator.wnet.conv_flow.weight.data.mul_(20)
    path = folder / f"{name}.safetensors"
    save_weights(path, generator, Metadata("generator", networks, MEANS, HEIGHT, WIDTH, guided))
    return path


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for name, guided, changes in (
        ("paper", True, {}),
        ("released", True, {"sampler": "released"}),
        ("border", True, {"sampler": "border", "image_skip": True}),
        ("banet", False, {}),
    ):
        weights = save(folder, name, guided, **changes)
        export_onnx(weights, folder / f"{name}.onnx")
    return folder


def pictures(batch: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(batch + 100)
    # smooth pictures, as faces are
    small = random.integers(0, 256, (batch, 4, 4, 3), np.uint8)
    large = np.stack(
        [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in small]
    )
    return np.stack([downscale(one) for one in large]), large[::-1].copy()


@pytest.mark.parametrize("name", ["paper", "released", "border", "banet"])
@pytest.mark.parametrize("batch", [1, 5])
def test_the_file_answers_as_the_weights_do_for_every_sampler_and_batch(folder: Path, name: str, batch: int):
    low, guide = pictures(batch)
    guides = () if name == "banet" else (guide,)
    expected = load_generator(folder / f"{name}.safetensors", CPU, folded=False).super_resolve(low, *guides)
    made = OnnxGenerator(folder / f"{name}.onnx").super_resolve(low, *guides)
    off = np.abs(expected.sr.astype(int) - made.sr)
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3
    if expected.warped is None:
        assert made.warped is None
    else:
        assert made.warped is not None
        # where a coordinate lies on the rim, rounding decides between a pixel and none
        assert (np.abs(expected.warped.astype(int) - made.warped) > 1).mean() < 1e-3
        assert not np.array_equal(made.warped, guide)


def test_the_file_names_the_weights_that_it_was_made_of(folder: Path):
    session = OnnxGenerator(folder / "paper.onnx")._session
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["gwainet.weights_digest"] == file_digest(folder / "paper.safetensors")
    assert [entry.name for entry in session.get_inputs()] == ["lr", "lru", "guide"]
    assert [entry.name for entry in session.get_outputs()] == ["sr", "warped"]


def test_another_size_is_refused_with_how_to_get_it_and_can_be_exported(folder: Path, tmp_path: Path):
    low, guide = pictures(1, 48, 24)
    with pytest.raises(ValueError, match=r"takes low-resolution pictures of 5 x 4 .* not 6 x 3: export one"):
        OnnxGenerator(folder / "paper.onnx").super_resolve(low, guide)
    export_onnx(folder / "paper.safetensors", tmp_path / "other.onnx", 48, 24)
    expected = load_generator(folder / "paper.safetensors", CPU, folded=False).super_resolve(low, guide)
    made = OnnxGenerator(tmp_path / "other.onnx").super_resolve(low, guide)
    assert np.abs(expected.sr.astype(int) - made.sr).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(41, 32), (40, 30), (16, 32)])
def test_sides_that_cannot_be_are_refused_and_nothing_is_written(folder: Path, tmp_path: Path, height, width):
    with pytest.raises(CheckpointError, match="multiples of 8"):
        export_onnx(folder / "paper.safetensors", tmp_path / "x.onnx", height, width)
    assert not list(tmp_path.iterdir())


def test_an_export_that_answers_otherwise_is_not_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gwainet.exported.column", lambda values, _device: torch.zeros(1, 3, 1, 1))  # other means
    with pytest.raises(CheckpointError, match="differs from that of the weights by up to"):
        export_onnx(folder / "paper.safetensors", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_line_exports_and_super_resolves_with_the_file(folder: Path, tmp_path: Path):
    low, guide = pictures(1)
    Image.fromarray(low[0]).save(tmp_path / "low.png")
    Image.fromarray(guide[0]).save(tmp_path / "guide.png")
    onnx = tmp_path / "model.onnx"
    done = CliRunner().invoke(app, ["export", str(folder / "paper.safetensors"), "--out", str(onnx)])
    assert done.exit_code == 0, done.output
    assert "pictures of 5 x 4 to 40 x 32" in done.stderr
    inputs = [str(tmp_path / "low.png"), str(tmp_path / "guide.png")]
    done = CliRunner().invoke(
        app, ["super-resolve", *inputs, "--weights", str(onnx), "--out", str(tmp_path / "sr.png")]
    )
    assert done.exit_code == 0, done.output
    made = np.asarray(Image.open(tmp_path / "sr.png"))
    assert np.array_equal(made, OnnxGenerator(onnx).super_resolve(low, guide).sr[0])
    low, guide = pictures(1, 48, 24)
    Image.fromarray(low[0]).save(tmp_path / "low.png")
    Image.fromarray(guide[0]).save(tmp_path / "guide.png")
    files = ["--weights", str(onnx), "--out", str(tmp_path / "no.png")]
    refused = CliRunner().invoke(app, ["super-resolve", *inputs, *files])
    assert refused.exit_code == 1
    assert "not 6 x 3: export one for that size" in refused.stderr.replace("\n", " ")
    assert not (tmp_path / "no.png").exists()


@pytest.mark.parametrize("damage", ["missing", "text", "foreign"])
def test_what_is_no_file_of_ours_is_said(folder: Path, tmp_path: Path, damage: str):
    path = tmp_path / "x.onnx"
    if damage == "text":
        path.write_text("no model")
    if damage == "foreign":
        import onnx

        model = onnx.load(folder / "paper.onnx")
        del model.metadata_props[:]
        onnx.save(model, path)
    message = {"missing": "does not exist", "text": "no ONNX file", "foreign": "was not written by"}[damage]
    with pytest.raises(CheckpointError, match=message):
        OnnxGenerator(path)


WITHOUT_TORCH = """
import sys
import numpy as np
import onnxruntime
from PIL import Image

low, guide, model, out = sys.argv[1:]
low, guide = (np.asarray(Image.open(path))[None] for path in (low, guide))
lru = np.asarray(Image.fromarray(low[0]).resize(guide.shape[2:0:-1], Image.Resampling.BICUBIC))[None]
sr = onnxruntime.InferenceSession(model).run(["sr"], {"lr": low, "lru": lru, "guide": guide})[0]
assert "torch" not in sys.modules
Image.fromarray(sr[0]).save(out)
"""


def test_the_file_needs_nothing_of_this_package_nor_torch(folder: Path, tmp_path: Path):
    low, guide = pictures(1)
    Image.fromarray(low[0]).save(tmp_path / "low.png")
    Image.fromarray(guide[0]).save(tmp_path / "guide.png")
    paths = [tmp_path / "low.png", tmp_path / "guide.png", folder / "paper.onnx", tmp_path / "sr.png"]
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *map(str, paths)], check=True, timeout=120)
    made = np.asarray(Image.open(tmp_path / "sr.png"))
    assert np.array_equal(made, OnnxGenerator(folder / "paper.onnx").super_resolve(low, guide).sr[0])
