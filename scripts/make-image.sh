#!/bin/sh
# Makes the container image without a container engine: builds the static binary, unless one is
# given, and packs it as an archive that `docker load`, `podman load`, `ctr images import`,
# `kind load image-archive` and `skopeo copy oci-archive:` read. The same binary gives the same
# bytes. (deploy/Dockerfile makes the same image with an engine.)
#
#   --tag NAME:TAG    what it is called: quorate:dev
#   --output FILE     target/image/quorate.tar
#   --binary FILE     a static Linux binary to pack, instead of building one
set -eu
cd "$(dirname "$0")/.."
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
LC_ALL=C
export PATH LC_ALL

die() {
    echo "image: error: $*" >&2
    exit 1
}

tag=quorate:dev
output=${CARGO_TARGET_DIR:-target}/image/quorate.tar
binary=
while [ $# -gt 0 ]; do
    case $1 in
    --tag | --output | --binary) [ $# -ge 2 ] || die "$1 needs a value" ;;
    *) die "unknown argument $1; there are --tag, --output and --binary" ;;
    esac
    case $1 in
    --tag) tag=$2 ;;
    --output) output=$2 ;;
    --binary) binary=$2 ;;
    esac
    shift 2
done
case $tag in *[!A-Za-z0-9._:/-]* | *: | :*) die "$tag is no name of an image" ;; esac
case ${tag##*/} in *:*) ;; *) tag=$tag:latest ;; esac
case $(uname -m) in
x86_64) architecture=amd64 triple=x86_64-unknown-linux-musl ;;
aarch64 | arm64) architecture=arm64 triple=aarch64-unknown-linux-musl ;;
*) die "no image is made for $(uname -m)" ;;
esac

if [ -z "$binary" ]; then
    sh scripts/prepare.sh image
    # Symbols would double its size; a backtrace without them still has its addresses.
    CARGO_PROFILE_RELEASE_STRIP=symbols \
        cargo build --release --locked --bin quorate --target "$triple" >&2
    binary=${CARGO_TARGET_DIR:-target}/$triple/release/quorate
fi
[ -f "$binary" ] || die "$binary is not there"
# A dynamic one would start here and nowhere else: the image has no loader.
if LC_ALL=C grep -q -a -e '/ld-linux-' -e '/ld-musl-' "$binary"; then
    die "$binary is linked dynamically; the image holds nothing but it"
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/rootfs" "$work/image/blobs/sha256" "$(dirname "$output")"

sum() { sha256sum "$1" | cut -d' ' -f1; }
size() { wc -c <"$1" | tr -d ' '; }
# The same bytes for the same files, whoever packs them and when: pack FILE DIRECTORY ENTRY...
pack() {
    into=$1
    from=$2
    shift 2
    tar --create --file="$into" --directory="$from" --format=ustar --sort=name --mtime=@0 \
        --owner=0 --group=0 --numeric-owner "$@"
}
# Moves a file to where its digest says, and prints the digest.
blob() {
    digest=$(sum "$1")
    mv "$1" "$work/image/blobs/sha256/$digest"
    echo "$digest"
}

install -m 755 "$binary" "$work/rootfs/quorate"
pack "$work/layer.tar" "$work/rootfs" quorate
unpacked=$(sum "$work/layer.tar")
gzip -9 -n "$work/layer.tar"
layer_size=$(size "$work/layer.tar.gz")
layer=$(blob "$work/layer.tar.gz")

cat >"$work/config" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["/quorate"],"User":"65532:65532","WorkingDir":"/","Env":["PATH=/usr/local/bin:/usr/bin:/bin:/"],"Labels":{"org.opencontainers.image.title":"quorate","org.opencontainers.image.version":"$version","org.opencontainers.image.licenses":"Apache-2.0","org.opencontainers.image.source":"https://github.com/quorate/quorate"}},"rootfs":{"type":"layers","diff_ids":["sha256:$unpacked"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"scripts/make-image.sh"}]}
JSON
config_size=$(size "$work/config")
config=$(blob "$work/config")

cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
manifest_size=$(size "$work/manifest")
manifest=$(blob "$work/manifest")

# containerd wants the name in full.
case ${tag%%/*} in
"$tag") full=docker.io/library/$tag ;;
*.* | *:* | localhost) full=$tag ;;
*) full=docker.io/$tag ;;
esac
cat >"$work/image/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"platform":{"architecture":"$architecture","os":"linux"},"annotations":{"io.containerd.image.name":"$full","org.opencontainers.image.ref.name":"${tag##*:}"}}]}
JSON
printf '{"imageLayoutVersion":"1.0.0"}\n' >"$work/image/oci-layout"
# For docker before 25, which reads no OCI layout.
cat >"$work/image/manifest.json" <<JSON
[{"Config":"blobs/sha256/$config","RepoTags":["$tag"],"Layers":["blobs/sha256/$layer"]}]
JSON
chmod 644 "$work/image/blobs/sha256"/* "$work/image"/*.json "$work/image/oci-layout"
chmod 755 "$work/image" "$work/image/blobs" "$work/image/blobs/sha256"
pack "$work/archive.tar" "$work/image" blobs index.json manifest.json oci-layout
mv "$work/archive.tar" "$output.part"
mv "$output.part" "$output"

mebibytes() { awk -v n="$1" 'BEGIN { printf "%.1f MiB", n / 1048576 }'; }
echo "image: $output: $tag ($architecture), $(mebibytes "$(size "$output")"), binary $(mebibytes "$(size "$binary")")"
echo "image: manifest sha256:$manifest"
