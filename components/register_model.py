"""Component `register_model`: see `gwainet/stages/register_model.py`."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.base import component


@component
def register_model(
    params: str,
    root: str,
    faces: Input[Dataset],
    passed: Input[Artifact],
    adversarial_gwainet: Input[Model],
    adversarial_gwanet: Input[Model],
    adversarial_banet: Input[Model],
    report: Input[Artifact],
    out: Output[Artifact],
    metrics: Output[Metrics],
    page: Output[HTML],
) -> None:
    """Register the model in MLflow with its benchmark."""
    from components.adapter import run

    run(
        "register_model",
        params,
        root,
        out,
        metrics,
        page,
        faces=faces,
        passed=passed,
        adversarial_gwainet=adversarial_gwainet,
        adversarial_gwanet=adversarial_gwanet,
        adversarial_banet=adversarial_banet,
        report=report,
    )
