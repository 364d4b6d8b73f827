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
    baselines_srcnn: Input[Model],
    baselines_vdsr: Input[Model],
    baselines_edsr: Input[Model],
    baselines_srresnet: Input[Model],
    baselines_srgan: Input[Model],
    baselines_waveletsrnet: Input[Model],
    baselines_cascade: Input[Model],
    baselines_tdae_style: Input[Model],
    baselines_gfrnet: Input[Model],
    baselines_gfrnet_landmarks: Input[Model],
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
        baselines_srcnn=baselines_srcnn,
        baselines_vdsr=baselines_vdsr,
        baselines_edsr=baselines_edsr,
        baselines_srresnet=baselines_srresnet,
        baselines_srgan=baselines_srgan,
        baselines_waveletsrnet=baselines_waveletsrnet,
        baselines_cascade=baselines_cascade,
        baselines_tdae_style=baselines_tdae_style,
        baselines_gfrnet=baselines_gfrnet,
        baselines_gfrnet_landmarks=baselines_gfrnet_landmarks,
    )
