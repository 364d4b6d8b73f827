"""`python -m gwainet super-resolve`: files in, files out."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from gwainet.__main__ import app
from gwainet.images import Uint8, downscale
from gwainet.nets.model import Metadata, SuperResolved, build_generator, load_generator, save_weights
from gwainet.params import Networks
from gwainet.tensors import Means
from tests.photos import pixels
from tests.test_main import plain

NETWORKS = Networks(width=4, blocks_per_group=1, warp_blocks=1)
MEANS = Means(lr=(0.5, 0.4, 0.3), hr=(0.6, 0.5, 0.4))
HEIGHT, WIDTH = 24, 16

Call = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights with and without a guide, and by the released sampler; pictures that fit or do not."""
    for name, guided, sampler in (("guided", True, "paper"), ("released", True, "released"), ("banet", False, "paper")):
        networks = NETWORKS.model_copy(update={"sampler": sampler})
        metadata = Metadata("generator", networks, MEANS, HEIGHT, WIDTH, guided)
        save_weights(tmp_path / f"{name}.safetensors", build_generator(networks, MEANS, guided, seed=0), metadata)
    for seed, (name, height, width) in enumerate(
        (("photo", HEIGHT, WIDTH), ("guide", HEIGHT, WIDTH), ("odd", HEIGHT + 1, WIDTH))
    ):
        Image.fromarray(pixels(seed, height, width)).save(tmp_path / f"{name}.png")
    Image.fromarray(downscale(read(tmp_path / "photo.png"))).save(tmp_path / "low.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes((tmp_path / "guide.png").read_bytes()[:200])
    return tmp_path


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Run the command in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    threads = torch.get_num_threads()
    yield lambda *arguments: CliRunner().invoke(app, ["super-resolve", "--device", "cpu", *arguments])
    torch.set_num_threads(threads)


def read(path: Path) -> Uint8:
    return np.asarray(Image.open(path))


def expected(folder: Path, weights: str) -> SuperResolved:
    generator = load_generator(folder / f"{weights}.safetensors", torch.device("cpu"))
    guide = read(folder / "guide.png")[None] if generator.guided else None
    return generator.super_resolve(read(folder / "low.png")[None], guide)


def near(path: Path, picture: Uint8) -> bool:
    # with other threads, sums in another order: a level at most
    return bool(np.abs(read(path).astype(int) - picture).max() <= 1)


@pytest.mark.parametrize("weights", ["guided", "released", "banet"])
def test_the_picture_is_the_models_own_by_the_files_means_and_sampler(folder: Path, call: Call, weights: str) -> None:
    guide = [] if weights == "banet" else ["guide.png"]
    done = call("low.png", *guide, "--weights", f"{weights}.safetensors", "--out", "sr.png")
    assert done.exit_code == 0, done.output
    assert "sr.png: 24 x 16 (height x width)" in done.stderr
    assert near(folder / "sr.png", expected(folder, weights).sr[0])


def test_the_sampler_of_the_file_shows_in_the_warped_guide(folder: Path, call: Call) -> None:
    for weights in ("guided", "released"):
        files = ["--weights", f"{weights}.safetensors", "--out", "sr.png", "--warped-out", f"{weights}.png"]
        assert call("low.png", "guide.png", *files).exit_code == 0
        warped = expected(folder, weights).warped
        assert warped is not None
        assert near(folder / f"{weights}.png", warped[0])
    assert not np.array_equal(read(folder / "guided.png"), read(folder / "released.png"))


@pytest.mark.parametrize("weights", ["guided", "banet"])
def test_a_full_size_photo_is_made_smaller_as_the_training_pictures_were(
    folder: Path, call: Call, weights: str
) -> None:
    guide = ["guide.png"] if weights == "guided" else []
    done = call("photo.png", *guide, "--downscale", "--weights", f"{weights}.safetensors", "--out", "sr.png")
    assert done.exit_code == 0, done.output
    assert near(folder / "sr.png", expected(folder, weights).sr[0])


def test_a_low_resolution_face_of_any_size_and_any_mode_is_taken(folder: Path, call: Call) -> None:
    Image.fromarray(pixels(0, 5, 7)).convert("L").save(folder / "grey.webp")
    Image.fromarray(pixels(1, 40, 56)).convert("CMYK").save(folder / "cmyk.jpg")
    done = call("grey.webp", "cmyk.jpg", "--weights", "guided.safetensors", "--out", "sr.bmp")
    assert done.exit_code == 0, done.output
    assert read(folder / "sr.bmp").shape == (40, 56, 3)


def test_a_photo_lying_on_its_side_is_turned_upright(folder: Path, call: Call) -> None:
    lying = Image.fromarray(np.rot90(read(folder / "guide.png")))
    exif = lying.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying.save(folder / "lying.png", exif=exif)
    done = call("low.png", "lying.png", "--weights", "guided.safetensors", "--out", "sr.png")
    assert done.exit_code == 0, done.output
    assert near(folder / "sr.png", expected(folder, "guided").sr[0])


@pytest.mark.parametrize(
    ("pictures", "weights", "code", "message"),
    [
        (["low.png"], "guided", 1, "guided.safetensors needs a guide"),
        (["low.png", "guide.png"], "banet", 1, "takes no guide"),
        (["low.png", "--warped-out", "warped.png"], "banet", 1, "takes no guide"),
        (["low.png", "odd.png"], "guided", 1, "odd.png is 25 x 16 .* face of 3 x 2 is 24 x 16"),
        (["photo.png", "guide.png"], "guided", 1, "face of 24 x 16 is 192 x 128.*--downscale"),
        (["odd.png", "guide.png", "--downscale"], "guided", 1, "odd.png is 25 x 16 .* 8 does not divide.*24 x 16"),
        (["text.png", "guide.png"], "guided", 1, "text.png is no readable picture"),
        (["low.png", "half.png"], "guided", 1, "half.png is no readable picture"),
        (["low.png", "absent.png"], "guided", 2, "'absent.png' does not exist"),
        (["absent.png", "guide.png"], "guided", 2, "'absent.png' does not exist"),
        (["low.png", "guide.png"], "absent", 1, "absent.safetensors does not exist"),
        (["low.png", "guide.png"], "text", 1, "text.safetensors is not a complete safetensors file"),
        (["low.png", "guide.png", "--out", "absent/sr.png"], "guided", 2, "the folder absent does not exist"),
        (["low.png", "guide.png", "--out", "sr"], "guided", 2, "sr names no format of pictures"),
        (["low.png", "guide.png", "--warped-out", "w.xyz"], "guided", 2, "w.xyz names no format of pictures"),
        (["low.png", "guide.png", "--device", "tpu"], "guided", 2, "tpu"),
    ],
)
def test_what_does_not_fit_is_said_in_one_message_and_nothing_is_written(
    folder: Path, call: Call, pictures: list[str], weights: str, code: int, message: str
) -> None:
    (folder / "text.safetensors").write_text("no weights")
    before = sorted(folder.iterdir())
    done = call("--out", "sr.png", "--weights", f"{weights}.safetensors", *pictures)
    assert done.exit_code == code, done.output
    assert re.search(message, plain(done.stderr))
    assert "Traceback" not in done.output
    assert sorted(folder.iterdir()) == before


def test_weights_whose_guide_may_be_left_out_answer_without_it(folder: Path, call: Call) -> None:
    metadata = Metadata("generator", NETWORKS, MEANS, HEIGHT, WIDTH, guide_optional=True)
    generator = build_generator(NETWORKS, MEANS, True, seed=0, guide_optional=True)
    save_weights(folder / "optional.safetensors", generator, metadata)
    files = ["--weights", "optional.safetensors", "--out", "sr.png"]
    assert call("low.png", *files).exit_code == 0
    assert near(folder / "sr.png", generator.eval().super_resolve(read(folder / "low.png")[None]).sr[0])
    refused = call("low.png", *files, "--warped-out", "warped.png")
    assert refused.exit_code == 1
    assert "without a guide there is no warped one" in plain(refused.stderr)
    assert not (folder / "warped.png").exists()
