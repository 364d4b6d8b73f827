"""Kubeflow Pipelines: the graph of the components, `python -m pipeline`."""
