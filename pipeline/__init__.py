"""The pipeline on Kubeflow: graph, cluster settings, and the commands that compile, run and submit it."""

PIPELINE_NAME = "gwainet"  # on the cluster; here, so that naming it imports no kfp
