"""The benchmark of the metrics compares equal figures, and says so where they are not."""

import pytest

from benchmarks import quality
from benchmarks.quality import Quality, by_scikit_image, check, faces, forms, ours


def test_ours_are_scikit_images_figures_face_by_face(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quality, "FACES", 4)
    truth, answers = faces()
    for sr, gt in zip(answers, truth, strict=True):
        assert ours(sr, gt) == pytest.approx(by_scikit_image(sr, gt), abs=1e-9)
    values = []
    for make in forms().values():
        compare = make(1)()
        assert callable(compare)
        value = compare()
        assert isinstance(value, float)
        values.append(value)
    assert values == pytest.approx([values[0]] * 3, abs=1e-9)
    assert 15 < values[0] < 40


@pytest.mark.parametrize("off", [Quality(2e-6, 0.0), Quality(0.0, 2e-6)])
def test_figures_that_are_not_scikit_images_are_refused(monkeypatch: pytest.MonkeyPatch, off: Quality):
    monkeypatch.setattr(quality, "FACES", 2)
    truth, answers = faces()
    found = [ours(sr, gt) for sr, gt in zip(answers, truth, strict=True)]
    check(found, truth, answers)
    found[1] = Quality(found[1].psnr + off.psnr, found[1].ssim + off.ssim)
    with pytest.raises(RuntimeError, match="from scikit-image's"):
        check(found, truth, answers)
