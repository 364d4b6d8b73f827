# The image of every Kubeflow component: the package, all that it imports, and kfp.
#   make image                CUDA: torch's wheels bring it, the node brings the driver
#   make image VARIANT=cpu    without CUDA, several GB smaller
# Any base image with Python 3.11 to 3.13 and its venv module will do.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /opt/gwainet

# All dependencies, in a layer that only a change of versions makes anew: the packages are still empty.
ARG VARIANT=cuda
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN case "$VARIANT" in \
        cuda) index= ;; \
        cpu) index="--extra-index-url https://download.pytorch.org/whl/cpu" ;; \
        *) echo "VARIANT must be cuda or cpu, not $VARIANT" >&2; exit 1 ;; \
    esac \
    && mkdir gwainet components pipeline && touch gwainet/__init__.py components/__init__.py pipeline/__init__.py \
    && python3 -m venv /opt/venv \
    && pip install $index -c constraints.txt '.[kubeflow]' \
    && pip uninstall --yes gwainet

COPY gwainet gwainet
COPY components components
COPY pipeline pipeline
RUN pip install --no-deps . && rm -rf build *.egg-info

# Volumes are mounted below /gwainet. A number, so that Kubernetes can see that it is not root.
RUN mkdir -p /gwainet /home/gwainet && chown 1000:1000 /gwainet /home/gwainet
ENV HOME=/home/gwainet
USER 1000:1000
WORKDIR /gwainet

# no repository in here: MLflow is told the commit by this
ARG COMMIT=unknown
ENV GWAINET_COMMIT=${COMMIT}
CMD ["python", "-m", "gwainet", "--help"]
