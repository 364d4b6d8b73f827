"""The benchmark of the metrics compares equal figures, and says so where they are not."""

import pytest
import torch

from benchmarks import quality
from benchmarks.quality import Quality, all_of_batch, all_of_ours, by_scikit_image, check, faces, forms, of_batch, ours


def test_ours_are_scikit_images_figures_face_by_face_in_every_form(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quality, "FACES", 4)
    monkeypatch.setattr(quality, "BATCH", 3)
    truth, answers, low = faces()
    batches = [of(answers, truth, low, torch.device("cpu")) for of in (of_batch, all_of_batch)]
    for place, pictures in enumerate(zip(answers, truth, low, strict=True)):
        expected = pytest.approx(by_scikit_image(*pictures), abs=1e-9)
        assert ours(*pictures) == expected
        assert all_of_ours(*pictures) == expected
        assert [batch[place] for batch in batches] == [expected, expected]
    values = []
    for make in forms().values():
        compare = make(1)()
        assert callable(compare)
        value = compare()
        assert isinstance(value, float)
        values.append(value)
    assert len(values) >= 5
    assert values == pytest.approx([values[0]] * len(values), abs=1e-9)
    assert 15 < values[0] < 40


@pytest.mark.parametrize("off", [Quality(2e-6, 0.0), Quality(0.0, 2e-6)])
def test_figures_that_are_not_scikit_images_are_refused(monkeypatch: pytest.MonkeyPatch, off: Quality):
    monkeypatch.setattr(quality, "FACES", 2)
    truth, answers, low = faces()
    found = [ours(*pictures) for pictures in zip(answers, truth, low, strict=True)]
    check(found, truth, answers, low)
    found[1] = Quality(found[1].psnr + off.psnr, found[1].ssim + off.ssim)
    with pytest.raises(RuntimeError, match="from scikit-image's"):
        check(found, truth, answers, low)
