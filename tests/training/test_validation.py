"""What is measured while training, on which faces."""

import numpy as np
import pytest

from gwainet.dataset import Faces
from gwainet.nets.model import build_generator
from gwainet.params import Networks, TrainPsnr
from gwainet.psnr import psnr
from gwainet.training.validation import mean_psnr, validation_rows
from tests.faces import write_faces

SMALL = Networks(width=4, blocks_per_group=1, warp_blocks=1, critic_width=2, inet_width=4, inet_features=8)


@pytest.fixture(scope="module", name="faces")
def _faces(tmp_path_factory):
    return Faces(write_faces(tmp_path_factory.mktemp("faces") / "faces", identities=10, images=3))


def test_mean_psnr_is_the_mean_of_the_images_values(faces):
    generator = build_generator(SMALL, faces.means, guided=False, seed=0)
    rows = faces.targets("validation")
    made = generator.super_resolve(faces.lr[rows]).sr
    expected = np.mean([psnr(a, b) for a, b in zip(made, faces.hr[rows], strict=True)])
    assert mean_psnr(generator, faces, rows) == pytest.approx(expected)


def test_validation_faces_are_spread_over_the_identities(faces):
    rows = validation_rows(faces, TrainPsnr(validation_faces=2))
    assert len(rows) == 2
    assert len(set(faces.identity[rows])) == 2
    assert len(validation_rows(faces, TrainPsnr(validation_faces=1000))) == len(faces.targets("validation"))
