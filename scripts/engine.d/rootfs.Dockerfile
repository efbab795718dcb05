# A bootstrapped Debian as an image. --target python has what the python images of Docker Hub set.
FROM scratch AS debian
ARG TARGETARCH
ADD ${TARGETARCH}.tar /
CMD ["bash"]

FROM debian AS python
ARG PYTHON_VERSION
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHON_VERSION=${PYTHON_VERSION}
CMD ["python3"]
