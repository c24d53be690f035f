# The image for those who have a container engine; `make image` makes it
# without one, and adds the list of what the program is made of. Both hold the
# static program and root certificates.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=$(git describe --tags --always) -t shadowtap .

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY bpf bpf
COPY cmd cmd
COPY pkg pkg
ARG VERSION=dev
ARG TARGETOS=linux
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION" -o /shadowtap ./cmd/shadowtap

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /shadowtap /shadowtap
USER 0:0
ENTRYPOINT ["/shadowtap"]
