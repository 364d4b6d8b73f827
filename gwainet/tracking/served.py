"""The generator as MLflow serves it. MLflow copies this file into a registered model and runs it there.

So it must not import `gwainet.tracking`, and finds the rest of the package in the model's own `code` folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from gwainet.nets.model import load_generator


class ServedGenerator(PythonModel):
    """Low-resolution faces and guides in, super-resolved faces out; all uint8 RGB, channels last."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights, onto a GPU if there is one."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._generator = load_generator(Path(context.artifacts["weights"]), device)

    def predict(
        self,
        context: PythonModelContext,
        model_input: Mapping[str, Any],
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


set_model(ServedGenerator())
