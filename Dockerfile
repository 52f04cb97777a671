# Two images: `docker build --target operator .` (no torch) and `docker build --target runtime .`.
# Pin the base by digest: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

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
