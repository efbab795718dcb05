# Flyte's released base image, from the same steps as flyte's own definition of it
# (Image._get_default_image_for) run through flyte's own Dockerfile template.
# No cache mounts: they would warm the caches that benchmarks measure.
ARG PYTHON=3.11
ARG UV_IMAGE
FROM ${UV_IMAGE} AS uv
FROM python:${PYTHON}-slim-bookworm
ARG PYTHON FLYTE_VERSION IMAGE
COPY --from=uv /uv /usr/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy VIRTUALENV=/opt/venv UV_PYTHON=/opt/venv/bin/python
RUN uv venv /opt/venv --python="$PYTHON" && uv run --python="$UV_PYTHON" python -m compileall -q /opt/venv
ENV PATH=/opt/venv/bin:$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin LD_LIBRARY_PATH=/usr/local/nvidia/lib64
LABEL org.opencontainers.image.authors='Union.AI <info@union.ai>' \
      org.opencontainers.image.source=https://github.com/flyteorg/flyte
RUN useradd --create-home --shell /bin/bash flyte && chown -R flyte:flyte /home/flyte /root
WORKDIR /home/flyte
ENV VIRTUAL_ENV=/opt/venv PYTHONPATH=/root
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends build-essential ca-certificates >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
RUN --mount=type=secret,id=ca --mount=type=secret,id=index \
    if [ -s /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    if [ -s /run/secrets/index ]; then UV_DEFAULT_INDEX=$(cat /run/secrets/index); export UV_DEFAULT_INDEX; fi; \
    uv pip install --quiet --no-cache --python "$UV_PYTHON" "flyte==$FLYTE_VERSION"
ENV _F_IMG_ID=${IMAGE}
SHELL ["/bin/bash", "-c"]
USER flyte
