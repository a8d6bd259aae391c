# CoreDNS with every stock plugin and balance, as an image that takes the place of CoreDNS' own:
#
#   docker build -t coredns-balance --build-arg VERSION="$(git describe --tags --always)" .
#
# "make image" makes the same files without Docker and without a base image; docs/image.md has more.
ARG GO_IMAGE=golang:1.26.8

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETARCH
ARG VERSION=devel
ARG SOURCE_DATE_EPOCH=0
WORKDIR /src
COPY go.mod go.sum ./
COPY release/go.mod release/go.sum release/
RUN go mod download && go -C release mod download
COPY . .
# As root, which can set the capability to open port 53.
RUN go run -C release . -tree .. -version "$VERSION" -epoch "$SOURCE_DATE_EPOCH" rootfs "$TARGETARCH" /rootfs

FROM scratch
COPY --from=build /rootfs/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Numbers, so that Kubernetes can tell that runAsNonRoot holds.
USER 65532:65532
WORKDIR /
EXPOSE 53 53/udp
ENTRYPOINT ["/coredns"]
