"""Component `benchmark`: see `gwainet/stages/benchmark.py`."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.base import component


@component
def benchmark(
    params: str,
    root: str,
    faces: Input[Dataset],
    passed: Input[Artifact],
    psnr_guided: Input[Model],
    psnr_banet: Input[Model],
    adversarial_gwainet: Input[Model],
    adversarial_gwanet: Input[Model],
    adversarial_banet: Input[Model],
    out: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> None:
    """Measure every system on held-out people."""
    from components.adapter import run

    run(
        "benchmark",
        params,
        root,
        out,
        metrics,
        page,
        faces=faces,
        passed=passed,
        psnr_guided=psnr_guided,
        psnr_banet=psnr_banet,
        adversarial_gwainet=adversarial_gwainet,
        adversarial_gwanet=adversarial_gwanet,
        adversarial_banet=adversarial_banet,
    )
