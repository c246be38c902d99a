# SPDX-License-Identifier: GPL-3.0-or-later
# The Debian package, without PyTorch and without windows, in an image: docker build -t gr-deeprx .
# docker run --rm gr-deeprx loopback --receiver deeprx-pusch --receiver sure-lmmse

FROM debian:12 AS build
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends build-essential
WORKDIR /src/gr-deeprx
COPY debian/control debian/control
RUN apt-get build-dep -y --no-install-recommends ./
COPY . .
RUN dpkg-buildpackage -b -us -uc

FROM debian:12-slim
RUN --mount=type=bind,from=build,source=/src,target=/src \
    apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /src/gr-deeprx_*.deb && \
    sh /src/gr-deeprx/debian/headless.sh this-root
RUN useradd --create-home radio
USER radio
WORKDIR /home/radio
ENTRYPOINT ["deeprx"]
