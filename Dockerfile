# Two images from one build: `service` for ventilator, sink and clients, `worker` with what its commands need (ImageMagick
# here; put your own tools in its place). The compilers stay in the first stage.
# Made to run with a read-only root file system, no capabilities and an init (`init: true`, as in docker-compose.yml).
FROM debian:bookworm-slim AS base
ENV LC_ALL=C.UTF-8
# As the slim images of Debian have it: nobody reads manuals in a container, and apt's caches are larger than the programs.
RUN printf 'path-exclude=/usr/share/%s/*\n' doc man locale info lintian >/etc/dpkg/dpkg.cfg.d/tarmac \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libzmq5 libczmq4 libprotobuf-c1 libsqlite3-0 libjansson4 libmicrohttpd12 libbsd0 libncursesw6 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/log/*.log /var/log/apt

FROM base AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gcc libc6-dev make pkg-config libzmq3-dev libczmq-dev libprotobuf-c-dev protobuf-c-compiler \
        libsqlite3-dev libjansson-dev libmicrohttpd-dev uthash-dev libbsd-dev libncurses-dev
COPY . /src
WORKDIR /src
RUN make -j"$(nproc)" OPTIMISE=-O2 programs && make OPTIMISE=-O2 install-programs DESTDIR=/out PREFIX=/usr/local \
 && strip /out/usr/local/bin/* && rm -r /out/usr/local/share

# What is kept lies in /data, keys in /keys; both belong to the user that everything runs as. A volume that is mounted there
# for the first time takes the folder's owner.
FROM base AS service
RUN useradd --system --uid 5555 --home-dir /data --shell /usr/sbin/nologin tarmac \
 && install -d -o tarmac -g tarmac -m 700 /data /keys /keys/ventilator /keys/sink /keys/worker /keys/client
COPY --from=build /out/usr/local/ /usr/local/
USER tarmac
WORKDIR /data
CMD ["ventilator", "serve"]

FROM service AS worker
USER root
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends imagemagick \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/log/*.log /var/log/apt
USER tarmac
CMD ["worker"]
