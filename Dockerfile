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
COPY requirements.lock ./

# The names alone, and no time: other edits of pyproject.toml install nothing anew.
FROM ${PYTHON_IMAGE} AS names
COPY pyproject.toml /
RUN python3 -c 'import tomllib; of = tomllib.load(open("/pyproject.toml", "rb"))["project"]; \
    need = of["dependencies"]; more = of["optional-dependencies"]["runtime"]; \
    open("/operator.txt", "w").write("\n".join(need)); open("/runtime.txt", "w").write("\n".join(need + more))' \
    && touch --date=@0 /operator.txt /runtime.txt

# The project's own code, for both images: a layer of its own, so that a changed line is a small pull.
FROM build AS code
COPY . .
RUN uv pip install --compile-bytecode --no-deps --prefix /code .

FROM build AS packages-operator
# The operator connects by the client library and reads and writes plain objects. Its classes of the API are 70 MB that
# it would import on first use: they go, and the import below shows that nothing misses them.
COPY --from=names /operator.txt ./
RUN uv pip install --constraint requirements.lock --requirement operator.txt \
    && find "${VIRTUAL_ENV}" -regex '.*/kubernetes/\(aio/\)?client/\(api\|models\)/[^_][^/]*' -delete \
    && "${VIRTUAL_ENV}/bin/python" -m compileall -q "${VIRTUAL_ENV}/lib"

FROM packages-operator AS code-operator
COPY --from=code /code/ /code/
RUN cp -a /code/. "${VIRTUAL_ENV}" \
    && "${VIRTUAL_ENV}/bin/python" -c "import slipway.controller.operator, slipway.cluster.connection"

FROM build AS packages-runtime
COPY --from=names /runtime.txt ./
RUN uv pip install --compile-bytecode --constraint requirements.lock --requirement runtime.txt \
    && "${VIRTUAL_ENV}/bin/python" -c "import torch, onnxruntime, sklearn"

FROM ${PYTHON_IMAGE} AS base
# The root filesystem is read-only in the pods: nothing is written beside the code, and HOME is an emptyDir.
ENV PATH=/opt/slipway/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY --from=build /accounts/ /etc/
WORKDIR /tmp
# By number, so that runAsNonRoot can be checked.
USER 65532:65532

FROM base AS runtime
COPY --from=packages-runtime /opt/slipway/venv /opt/slipway/venv
COPY --from=code /code/ /opt/slipway/venv/
CMD ["python", "-m", "slipway.runtime"]

FROM base AS operator
COPY --from=packages-operator /opt/slipway/venv /opt/slipway/venv
COPY --from=code-operator /code/ /opt/slipway/venv/
CMD ["slipway", "operator"]

FROM ${TRITON_IMAGE} AS serving
# As in requirements.lock; Triton's python stub answers nothing with numpy 2.
ARG NUMPY_VERSION=1.26.4
ARG ONNXRUNTIME_VERSION=1.32.0
# The image's Python is the distribution's, which pip leaves alone otherwise.
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir "numpy==${NUMPY_VERSION}" "onnxruntime==${ONNXRUNTIME_VERSION}"
