# docker build .                     the service (the last stage)
# docker build --target training .   the offline jobs
#
# Every dependency is a wheel checked against the locks' hashes; nothing is compiled, and pip stays behind in the builders.
ARG BASE=python:3.11-slim

FROM ${BASE} AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /venv
COPY requirements/serve.txt /requirements/
RUN python -m pip --python /venv/bin/python install --quiet --only-binary=:all: --require-hashes -r /requirements/serve.txt

FROM builder AS serve-builder
# docker build --build-arg TRACES=1 adds what CIFAR10_TRACES=otlp needs.
ARG TRACES=
COPY requirements/traces.txt /requirements/
RUN if [ -n "$TRACES" ]; then \
    python -m pip --python /venv/bin/python install --quiet --only-binary=:all: --require-hashes -r /requirements/traces.txt; fi
# Other devices' plugins and readers of other formats are a fifth of the image, and the service uses none. The wheel for
# ARM64 lacks cache.json and the plugins for Intel's GPU and NPU, hence -f.
RUN cd /venv/lib/python3*/site-packages/openvino/libs && \
    rm -f cache.json libopenvino_intel_[gn]pu_plugin.so libopenvino_auto*_plugin.so libopenvino_hetero_plugin.so libopenvino_*_frontend.so.*

FROM builder AS training-builder
COPY requirements/training.txt /requirements/
RUN python -m pip --python /venv/bin/python install --quiet --only-binary=:all: --require-hashes -r /requirements/training.txt

# What lists an environment's packages and licences; an image gets the lists but not the tools.
FROM builder AS sbom
RUN python -m venv --without-pip /tools
COPY requirements/sbom.txt /requirements/
RUN python -m pip --python /tools/bin/python install --quiet --only-binary=:all: --require-hashes -r /requirements/sbom.txt

FROM serve-builder AS serve-sbom
COPY --from=sbom /tools /tools
COPY pyproject.toml /
RUN mkdir /sbom && \
    /tools/bin/cyclonedx-py environment --output-reproducible --pyproject /pyproject.toml -o /sbom/sbom.cdx.json /venv && \
    /tools/bin/pip-licenses --python /venv/bin/python --with-urls --output-file /sbom/licences.txt

FROM training-builder AS training-sbom
COPY --from=sbom /tools /tools
COPY pyproject.toml /
RUN mkdir /sbom && \
    /tools/bin/cyclonedx-py environment --output-reproducible --pyproject /pyproject.toml -o /sbom/sbom.cdx.json /venv && \
    /tools/bin/pip-licenses --python /venv/bin/python --with-urls --output-file /sbom/licences.txt

# The package with the store as it ships, which has the highest version of every model.
FROM ${BASE} AS store
COPY model_store /model_store
RUN for model in /model_store/models/*/; do ls "$model" | grep -x '[0-9]*' | sort -n | head -n -1 | sed "s|^|$model|" | xargs -r rm -r; done

# What both images have: an environment in which nothing is written beside the code, and a store that a fresh volume
# mounted at /models begins as a copy of, whichever of the two is started first. An older volume hides /models, so the
# package has what ships as well (17 MB): the service compares the two.
FROM ${BASE} AS runtime
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    CIFAR10_STORE=/models
COPY --from=store --chown=10001:10001 /model_store/models /models
VOLUME ["/models"]
WORKDIR /srv

FROM runtime AS training
COPY --from=training-builder /venv /venv
COPY --from=training-sbom /sbom ./
COPY LICENSE ./
COPY --from=store /model_store model_store
COPY training training
RUN python -m compileall -q model_store training && install -d -o 10001 -g 10001 /data /runs
ENV CIFAR10_DATA=/data
USER 10001:10001
VOLUME ["/data", "/runs"]
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]

FROM runtime AS serve
COPY --from=serve-builder /venv /venv
COPY --from=serve-sbom /sbom ./
COPY LICENSE ./
COPY --from=store /model_store model_store
COPY app app
RUN python -m compileall -q app model_store
USER 10001:10001
# In a container, who may reach the port is the publisher's choice (docker run --publish), so that must be said here:
# CIFAR10_ACCESS=keys and CIFAR10_KEYS_FILE let in clients with a key only (docs/access.md).
ENV CIFAR10_BIND_HOST=0.0.0.0 CIFAR10_ACCESS=open
EXPOSE 8000
# Asks the port that the service chooses, and never through a proxy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; port = os.environ.get('CIFAR10_BIND_PORT') or os.environ.get('PORT') or 8000; u.build_opener(u.ProxyHandler({})).open(f'http://127.0.0.1:{port}/health/ready', timeout=2)"]
CMD ["python", "-m", "app", "serve"]
