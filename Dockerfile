# Three images: `docker build --target operator .` (no torch), `--target runtime`, and `--target serving`.
# Pin the bases by digest: --build-arg PYTHON_IMAGE=python@sha256:... --build-arg TRITON_IMAGE=...
# Without a registry: dev/images/build, on a base of Debian's packages.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
# One whose Python is 3.12: its python backend runs the models, by onnxruntime.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:25.08-py3

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.9.*
# The image's certificates hold for uv as for pip: a build may mount those of a proxy.
ENV UV_NATIVE_TLS=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/slipway/venv
# In an environment of its own: Debian's Python takes no packages beside its own.
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet "uv==${UV_VERSION}" \
    && /opt/uv/bin/uv venv --python "$(command -v python3)" "${VIRTUAL_ENV}"
ENV PATH=/opt/uv/bin:$PATH
# The user's name, for whoever asks; copied, so that the images themselves run nothing: not every base has useradd.
RUN mkdir /accounts && cp /etc/passwd /etc/group /accounts \
    && echo 'slipway:x:65532:65532::/tmp:/usr/sbin/nologin' >> /accounts/passwd \
    && echo 'slipway:x:65532:' >> /accounts/group
WORKDIR /src
# What others made comes first: a change of the code installs the code alone.
COPY pyproject.toml requirements.lock ./

FROM build AS build-operator
RUN uv pip install --constraint requirements.lock --requirement pyproject.toml
COPY . .
# The operator connects by the client library and reads and writes plain objects. Its classes of the API are 70 MB that
# it would import on first use: they go, and the import shows that nothing misses them.
RUN uv pip install --no-deps . \
    && find "${VIRTUAL_ENV}" -regex '.*/kubernetes/\(aio/\)?client/\(api\|models\)/[^_][^/]*' -delete \
    && "${VIRTUAL_ENV}/bin/python" -m compileall -q "${VIRTUAL_ENV}/lib" \
    && "${VIRTUAL_ENV}/bin/python" -c "import slipway.controller.operator, slipway.cluster.connection"

FROM build AS build-runtime
RUN uv pip install --compile-bytecode --constraint requirements.lock --requirement pyproject.toml --extra runtime
COPY . .
RUN uv pip install --compile-bytecode --no-deps .

FROM ${PYTHON_IMAGE} AS base
# The root filesystem is read-only in the pods: nothing is written beside the code, and HOME is an emptyDir.
ENV PATH=/opt/slipway/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY --from=build /accounts/ /etc/
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
