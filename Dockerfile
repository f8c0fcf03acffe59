# Two images from one build: `service` for ventilator and sink, `worker` with what its commands need
# (ImageMagick here; put your own tools in its place). The build's compilers stay in the first stage.
# Start with an init (`docker run --init`, or `init: true` as in docker-compose.yml).
FROM debian:bookworm-slim AS base
ENV LC_ALL=C.UTF-8
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libzmq5 libczmq4 libprotobuf-c1 libsqlite3-0 libjansson4 libbsd0 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb

FROM base AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gcc libc6-dev make pkg-config libzmq3-dev libczmq-dev libprotobuf-c-dev protobuf-c-compiler \
        libsqlite3-dev libjansson-dev uthash-dev libbsd-dev
COPY . /src
WORKDIR /src
RUN make -j"$(nproc)" programs && make install-programs DESTDIR=/out PREFIX=/usr/local

# What is kept lies in /data, which belongs to the user that everything runs as.
FROM base AS service
RUN useradd --system --uid 5555 --home-dir /data --shell /usr/sbin/nologin tarmac \
 && install -d -o tarmac -g tarmac -m 700 /data
COPY --from=build /out/usr/local/ /usr/local/
USER tarmac
WORKDIR /data
VOLUME /data
CMD ["ventilator", "serve"]

FROM service AS worker
USER root
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends imagemagick \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
USER tarmac
CMD ["worker"]
