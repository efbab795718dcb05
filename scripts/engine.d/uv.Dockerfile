# The uv image: nothing but uv and uvx. The musl wheel holds static binaries, as the published image does.
FROM --platform=$BUILDPLATFORM python:3.11-slim-bookworm AS wheel
ARG UV_VERSION
ARG TARGETARCH
RUN --mount=type=secret,id=ca --mount=type=secret,id=index \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    if [ -s /run/secrets/index ]; then PIP_INDEX_URL=$(cat /run/secrets/index); export PIP_INDEX_URL; fi; \
    case $TARGETARCH in arm64) machine=aarch64 ;; *) machine=x86_64 ;; esac; \
    get() { pip download --quiet --no-cache-dir --no-deps --only-binary :all: --platform "musllinux_1_1_$machine" --dest /wheel "$1"; }; \
    { get "uv==$UV_VERSION" || get uv; } \
    && python -m zipfile -e /wheel/uv-*.whl /wheel/out && mkdir /image \
    && mv /wheel/out/uv-*.data/scripts/uv /wheel/out/uv-*.data/scripts/uvx /image/ && chmod 755 /image/*

FROM scratch
COPY --from=wheel /image/ /
ENTRYPOINT ["/uv"]
