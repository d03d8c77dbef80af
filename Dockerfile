# The service as an image: one static binary that runs as uid 65532, without a shell, on a root file system that may be
# read-only. `docker compose build` makes it; by hand:
#
#   docker build --build-arg VERSION=1.2.3 -t rollcall:1.2.3 .

FROM --platform=$BUILDPLATFORM golang:1.26-trixie AS build
WORKDIR /src

# How Go reaches its modules is the caller's affair. What is not given keeps Go's own default.
ARG GOPROXY
ARG GOSUMDB
ARG GONOSUMDB
ARG GOPRIVATE
ARG GOFLAGS

COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

COPY . .
ARG VERSION=dev
ARG TARGETOS
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /rollcall ./cmd/rollcall

FROM gcr.io/distroless/static-debian13:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Rollcall" \
      org.opencontainers.image.description="Keeps an application's accounts and access in step with its customers' identity directories" \
      org.opencontainers.image.source="https://github.com/rollcallhq/rollcall" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /rollcall /rollcall
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/rollcall"]
CMD ["serve"]
