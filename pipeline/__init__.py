"""The pipeline on Kubeflow: graph, cluster settings, and the commands that compile, run and submit it."""
