# Three images: `docker build --target operator .` (no torch), `--target runtime`, and `--target serving`.
# Pin the bases by digest: --build-arg PYTHON_IMAGE=python@sha256:... --build-arg TRITON_IMAGE=...
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
# One whose Python is 3.12: its python backend runs the models, by onnxruntime.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:25.08-py3

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.9.*
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/slipway/venv
RUN pip install --no-cache-dir "uv==${UV_VERSION}" && uv venv "${VIRTUAL_ENV}"
WORKDIR /src
COPY . .

FROM build AS build-operator
RUN uv pip install --constraint requirements.lock .

FROM build AS build-runtime
RUN uv pip install --constraint requirements.lock ".[runtime]"

FROM ${PYTHON_IMAGE} AS base
# The root filesystem is read-only in the pods: nothing is written beside the code, and HOME is an emptyDir.
ENV PATH=/opt/slipway/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
RUN groupadd --gid 65532 slipway && useradd --uid 65532 --gid 65532 --home-dir /tmp --no-create-home slipway
WORKDIR /tmp
# By number, so that runAsNonRoot can be checked.
USER 65532:65532

FROM base AS runtime
COPY --from=build-runtime /opt/slipway/venv /opt/slipway/venv
CMD ["python", "-m", "slipway.runtime"]

FROM base AS operator
COPY --from=build-operator /opt/slipway/venv /opt/slipway/venv
CMD ["slipway", "operator"]

FROM ${TRITON_IMAGE} AS serving
# As in requirements.lock; Triton's python stub answers nothing with numpy 2.
ARG NUMPY_VERSION=1.26.4
ARG ONNXRUNTIME_VERSION=1.32.0
RUN python3 -m pip install --no-cache-dir "numpy==${NUMPY_VERSION}" "onnxruntime==${ONNXRUNTIME_VERSION}"
