# One image for CPU and GPU: the CUDA libraries come with the wheels, the driver with the machine.
#
#   docker build -t synapse-bench .
#   docker run --gpus all -v $PWD/data:/data synapse-bench finetune -P structure=mito
#
# For a build that never changes, give the base image by digest:
#   docker build --build-arg PYTHON_IMAGE=python@sha256:... .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# The environment is made here; uv and git stay behind.
FROM ${PYTHON_IMAGE} AS packages
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/venv
WORKDIR /build
COPY requirements-uv.txt requirements.txt ./
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements-uv.txt \
    && /opt/uv/bin/uv venv --quiet --python /usr/local/bin/python /opt/venv \
    && /opt/uv/bin/uv pip install --quiet --require-hashes --compile-bytecode -r requirements.txt
# synapse_net is on no package index: true needs git and the network, and fails without them.
ARG WITH_SYNAPSE_NET=false
COPY pyproject.toml docker/add_synapse_net.sh ./
RUN bash add_synapse_net.sh "${WITH_SYNAPSE_NET}"

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="synapse-bench" \
      org.opencontainers.image.description="Which segmentation strategy works on your electron microscopy, how sure, and the model" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# Any user may run it (--user): what libraries keep in a home goes to /cache, and nobody asks the
# system for the user's name.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    NUMBA_CACHE_DIR=/cache/numba \
    LOGNAME=bench \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY LICENSE MLproject conda.yaml requirements.txt pyproject.toml ./
COPY docker docker
COPY references references
COPY entrypoints entrypoints
COPY src src
# The folders are links, so that `output=data/prepared` means the same here and on a workstation.
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /cache bench \
    && mkdir --mode 1777 /data /mlruns /results /cache \
    && ln -s /data /mlruns /results . \
    && ln -s mlruns/mlflow.db mlflow.db \
    && ln -s /app/docker/synapse_bench.py /usr/local/bin/synapse-bench \
    && python -m compileall -q docker entrypoints src
VOLUME ["/data", "/mlruns", "/results", "/cache"]
USER 1000:1000
HEALTHCHECK --interval=60s --timeout=10s CMD ["synapse-bench", "--health"]
ENTRYPOINT ["synapse-bench"]
CMD ["--help"]

# docker build --target tests: the same, with what the tests need.
FROM runtime AS tests
USER 0
COPY --from=packages /opt/uv /opt/uv
COPY requirements-dev.txt ./
RUN VIRTUAL_ENV=/opt/venv /opt/uv/bin/uv pip install --quiet --no-cache --require-hashes --compile-bytecode \
    -r requirements-dev.txt
COPY . .
USER 1000:1000

FROM runtime
