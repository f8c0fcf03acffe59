# A host with systemd instead of containers, for the test of the units: Debian, our programs, and what `make install-units`
# puts there.
ARG IMAGE=tarmac
FROM ${IMAGE} AS tarmac

FROM debian:bookworm-slim
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        systemd libzmq5 libczmq4 libprotobuf-c1 libsqlite3-0 libjansson4 libbsd0 libncursesw6 libmicrohttpd12 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=tarmac /usr/local/bin/ /usr/local/bin/
COPY . /
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
