"""Kubeflow: one component a stage, of the same name. Each only hands its arguments to `components.adapter`.

Imports nothing: a pod imports this package too, and needs the adapter alone.
"""
