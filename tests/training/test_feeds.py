"""All ways to bring a batch to the device bring the same batch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gwainet.dataset import Faces
from gwainet.training import feeds
from gwainet.training.feeds import AheadFeed, DeviceArrays, DeviceFeed, Feed, HostFeed
from gwainet.training.sampling import BatchSampler, MarkedSampler, PairSampler
from tests.faces import write_faces

CPU = torch.device("cpu")
STEPS = (0, 1, 2, 63, 64, 65, 67, 68, 66, 200, 3)  # on end, across blocks of draws, leaping, and back


@pytest.fixture(scope="module", name="faces")
def _faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return Faces(write_faces(tmp_path_factory.mktemp("faces") / "faces", identities=10, images=3, landmarks=True))


def sampler(faces: Faces) -> BatchSampler:
    """Everything that can be drawn is."""
    return BatchSampler(faces, 4, 3, "critic", horizontal_flip=True, guide_dropout=0.2, other_guides=0.2)


def static(kind: str, of: Any, updates: int = 1) -> Feed[Any]:
    if kind == "ahead":
        return AheadFeed(of, CPU, updates)
    return DeviceFeed(of, CPU, DeviceArrays.copied(of.faces, CPU), updates)


def assert_same(made: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> None:
    for one, other in zip(made, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("updates", [1, 5])
@pytest.mark.parametrize("kind", ["device", "ahead"])
def test_every_batch_is_the_plain_ones_to_the_bit(faces: Faces, kind: str, updates: int):
    plain, feed = HostFeed(sampler(faces), CPU, updates), static(kind, sampler(faces), updates)
    for step in STEPS:
        plain.ready(step)
        feed.ready(step)
        for number in range(updates):
            assert_same(feed.batch(number), plain.batch(number))
            assert torch.equal(feed.epsilon(number), plain.epsilon(number))
        assert_same(feed.joint(), plain.joint())


@pytest.mark.parametrize("kind", ["device", "ahead"])
def test_pairs_are_the_plain_ones_to_the_bit(faces: Faces, kind: str):
    plain, feed = HostFeed(PairSampler(faces, 4, 3), CPU), static(kind, PairSampler(faces, 4, 3))
    for step in STEPS:
        plain.ready(step)
        feed.ready(step)
        assert_same(feed.batch(), plain.batch())


@pytest.mark.parametrize("kind", ["device", "ahead"])
def test_landmarks_are_those_of_a_steps_rows_and_guides_wherever_they_lie(faces: Faces, kind: str):
    of = BatchSampler(faces, 4, 3, "generator")
    plain, feed = HostFeed(MarkedSampler(of), CPU), static(kind, MarkedSampler(BatchSampler(faces, 4, 3, "generator")))
    assert faces.landmarks is not None
    for step in STEPS:
        plain.ready(step)
        feed.ready(step)
        drawn = of.drawn(step)
        expected = [torch.from_numpy(faces.landmarks[drawn[name].numpy()]) for name in ("rows", "guides")]
        for made in (plain.batch(), feed.batch()):
            assert_same(made.batch, of.batch(step, CPU))
            assert_same((made.target, made.guide), expected)


def test_landmarks_of_mirrored_pictures_are_refused(faces: Faces):
    with pytest.raises(ValueError, match="mirrored"):
        MarkedSampler(sampler(faces))


@pytest.mark.parametrize("kind", ["device", "ahead"])
def test_fixed_guides_are_the_manifests_wherever_they_are_drawn(tmp_path: Path, kind: str):
    fixed = Faces(write_faces(tmp_path / "faces", identities=10, images=4, guides="fixed"))
    of = BatchSampler(fixed, 4, 0, "generator")
    feed = static(kind, of)
    feed.ready(2)
    rows = of.rows(2)
    assert_same(feed.batch(), fixed.batch(rows, fixed.guide_row[rows], CPU))


@pytest.mark.parametrize("kind", ["device", "ahead"])
def test_a_batch_of_another_size_is_read_anew(faces: Faces, kind: str):
    of = sampler(faces)
    feed = static(kind, of)
    feed.ready(0)
    of.batch_size = 2  # as the search for a batch that fits memory does
    smaller = sampler(faces)
    smaller.batch_size = 2
    plain = HostFeed(smaller, CPU)
    for step in (0, 1):
        feed.ready(step)
        plain.ready(step)
        assert_same(feed.batch(), plain.batch())


def test_arrays_are_copied_whole_in_pieces(faces: Faces, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeds, "_CHUNK", 4 * faces.hr[0].nbytes + 1)  # 30 pictures: the last piece is smaller
    arrays = DeviceArrays.copied(faces, CPU)
    assert np.array_equal(arrays.hr.numpy(), faces.hr)
    assert np.array_equal(arrays.lr.numpy(), faces.lr)
    assert feeds.bytes_of(faces) == arrays.hr.nbytes + arrays.lr.nbytes


def test_what_goes_wrong_while_reading_ahead_stops_the_training(faces: Faces, monkeypatch: pytest.MonkeyPatch):
    feed = AheadFeed(sampler(faces), CPU)
    feed.ready(0)

    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(feed.sampler, "draw", broken)

    def steps() -> None:  # those that were being read may be whole
        for step in range(1, 6):
            feed.ready(step)

    with pytest.raises(OSError, match="the disk is gone"):
        steps()
