"""The generator as MLflow serves it. MLflow copies this file into a registered model and runs it there.

So it must not import `gwainet.tracking`, and finds the rest of the package in the model's own `code` folder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from gwainet.nets.model import load_generator


class _Predict:
    """What `ServedGenerator` does.

    Apart from it, and `model_input` without a type, because MLflow reads a PythonModel's own type hints as a schema: it
    knows none for tensors by name, and warns about both, a hint and no hint, whenever the model is loaded.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights, onto a GPU if there is one."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._generator = load_generator(Path(context.artifacts["weights"]), device)

    def predict(  # type: ignore[no-untyped-def]
        self,
        context: PythonModelContext,
        model_input,  # noqa: ANN001
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Super-resolve a batch.

        Shapes: `lr` (B, h, w, 3), `guide` (B, 8h, 8w, 3) -> `sr` (B, 8h, 8w, 3).

        Raises:
            MlflowException: shapes do not fit (HTTP 400).
        """
        low, guide = np.asarray(model_input["lr"]), model_input.get("guide")
        try:
            made = self._generator.super_resolve(low, None if guide is None else np.asarray(guide))
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return {"sr": made.sr}


class ServedGenerator(_Predict, PythonModel):  # type: ignore[misc]
    """Low-resolution faces and guides in, super-resolved faces out; all uint8 RGB, channels last."""


set_model(ServedGenerator())
