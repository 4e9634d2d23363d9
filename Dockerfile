# underlay as an image, from the wheels that `script/image` puts beside this file.
# docs/install.md has the `docker run` line, and what each of its rights is for.
ARG BASE=debian:trixie-slim

FROM $BASE AS programs
# A base that has them already needs no network.
RUN command -v python3 && command -v nft && command -v iptables || { \
    apt-get -qq update && \
    apt-get -qq install --no-install-recommends python3 nftables iptables && \
    rm -rf /var/lib/apt/lists/*; }

FROM programs AS environment
COPY wheels /wheels
RUN python3 -m venv --without-pip /opt/underlay && \
    set -- /wheels/pip-*.whl && \
    /opt/underlay/bin/python "$1/pip" --quiet --no-cache-dir \
    install --no-index --find-links /wheels underlay

FROM programs
COPY --from=environment /opt/underlay /opt/underlay
ENV PATH=/opt/underlay/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LC_ALL=C.UTF-8
# Root, because /run/docker/plugins is: of root's rights, only those of the docker run line.
ENTRYPOINT ["/opt/underlay/bin/underlay"]
CMD ["serve"]
