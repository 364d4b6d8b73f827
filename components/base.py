"""What all components have in common. The only kfp besides `pipeline/` and the components themselves."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

# a name that stands for cluster.yaml's `image`, which the compiler puts in its place
IMAGE = "gwainet-python"


def component(function: Callable[..., None]) -> Any:  # noqa: ANN401  kfp has no types
    """Make a component whose image holds all that it imports: nothing is installed when a pod starts."""
    return dsl.component(base_image=IMAGE, install_kfp_package=False)(function)
