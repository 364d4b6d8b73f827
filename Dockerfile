# The image of every Kubeflow component: the package, all that it imports, and kfp.
#   make image                CUDA: torch's wheels bring it, the node brings the driver
#   make image VARIANT=cpu    without CUDA, several GB smaller
# Any base image with Python 3.11 to 3.13, its venv module and `sh` will do. Behind a package mirror: docs/kubeflow.md.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What is to be installed, so that no other line of these files makes the large layers anew.
FROM ${BASE_IMAGE} AS requirements
WORKDIR /requirements
COPY pyproject.toml constraints.txt ./
# Not dvc: no code imports it, and it brings fifty packages. The names: torch and what it needs, but for those parts of
# CUDA whose versions torch itself pins.
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = project["optional-dependencies"]; wanted = project["dependencies"] + extras["kubeflow"] + extras["identity"]; \
print(*(line for line in wanted if not line.startswith("dvc")), sep="\n")' > project.txt \
    && grep -E -e '^(filelock|fsspec|jinja2|markupsafe|mpmath|networkx|setuptools|sympy|torch|typing-extensions)==' \
        -e '^(cuda-bindings|cuda-pathfinder|nvidia-nvjitlink)==' constraints.txt > torch.txt

# /opt/torch holds torch and CUDA, /opt/venv all else: a new version of anything else leaves the largest layer as it is.
FROM ${BASE_IMAGE} AS dependencies
ARG VARIANT=cuda
# where the wheels without CUDA are
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# read by pip itself, for who builds behind a mirror
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# pip has a place of its own, which stays behind
RUN case "$VARIANT" in cuda | cpu) ;; *) echo "VARIANT must be cuda or cpu, not $VARIANT" >&2; exit 1 ;; esac \
    && python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv \
    && packages=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && printf '/opt/torch\n/opt/gwainet\n' > "$packages/gwainet.pth"
COPY --from=requirements /requirements/torch.txt /requirements/
RUN if [ "$VARIANT" = cpu ]; then set -- --extra-index-url "$TORCH_INDEX"; fi \
    && /opt/pip/bin/pip --python /opt/venv install "$@" --target /opt/torch -c /requirements/torch.txt torch
COPY --from=requirements /requirements/project.txt /requirements/constraints.txt /requirements/
# The 68-point predictor is not for commercial use, is as large as all of pandas, and is never opened.
RUN /opt/pip/bin/pip --python /opt/venv install -c /requirements/constraints.txt -r /requirements/project.txt \
    && find /opt/venv -name shape_predictor_68_face_landmarks.dat -delete \
    && /opt/venv/bin/python -c 'import sys, torch; got = "cuda" if torch.version.cuda else "cpu"; \
sys.exit(got != sys.argv[1] and f"torch {torch.__version__} is not of the variant {sys.argv[1]}")' "$VARIANT"

FROM dependencies AS code
WORKDIR /code
COPY pyproject.toml README.md LICENSE ./
COPY gwainet gwainet
COPY components components
COPY pipeline pipeline
RUN /opt/pip/bin/pip --python /opt/venv install --no-deps --no-build-isolation --target /opt/gwainet .

FROM ${BASE_IMAGE}
# Volumes are mounted below /gwainet. Group 0 may write there: OpenShift gives a pod any user, but that group.
RUN echo 'gwainet:x:1000:0::/gwainet:/usr/sbin/nologin' >> /etc/passwd \
    && mkdir /gwainet && chown 1000:0 /gwainet && chmod 0775 /gwainet
COPY --from=dependencies /opt/torch /opt/torch
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=code /opt/gwainet /opt/gwainet
# USER: a user without a name has none to look up. HOME: the one place that every user can write.
ENV PATH=/opt/venv/bin:/opt/torch/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 USER=gwainet HOME=/tmp
WORKDIR /gwainet
# a number, so that Kubernetes can see that it is not root
USER 1000:0
CMD ["python", "-m", "gwainet", "--help"]

ARG VERSION=unknown
ARG COMMIT=unknown
# no repository in here: MLflow is told the commit by this
ENV GWAINET_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="gwainet" \
      org.opencontainers.image.description="Exemplar-guided face super-resolution: the stages as Kubeflow components" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
