#!/bin/sh
# Installs what building and testing Quorate needs and this machine lacks: a C compiler and
# linker, certificates, the Rust toolchain that rust-toolchain.toml pins, and, for the tests, etcd
# and etcdctl from Debian, and, for root, what partitions a network. With `build` as its argument, only what building needs; with `image`, what
# building a static binary needs; with `fuzz`, what the fuzz targets need: a C++ compiler and a
# nightly Rust. Says what it does, a line each; says nothing when nothing is
# missing.
set -eu
cd "$(dirname "$0")/.."
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
export PATH
# The checks below only look; a rustup proxy that is asked must not start a download.
export RUSTUP_AUTO_INSTALL=0

log=$(mktemp)
script=$(mktemp)
trap 'rm -f "$log" "$script"' EXIT

say() { echo "prepare: $*"; }
die() {
    echo "prepare: error: $1" >&2
    shift
    for line; do echo "prepare:   $line" >&2; done
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command whose output matters only if it fails.
quietly() { "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; return 1; }; }

# Runs scripts/install-debian.sh for the packages given, as root.
install() {
    have apt-get || die "missing on this machine: $*" \
        "These are Debian's names, and there is no apt-get here. Install the same by hand:" \
        "a C compiler with its C library's headers, curl, CA certificates; etcd and etcdctl for the tests."
    if [ "$(id -u)" = 0 ]; then
        sh scripts/install-debian.sh "$@"
    elif have sudo; then
        say "not root, so sudo runs apt-get"
        # Without a terminal there is nobody to type a password.
        if [ -t 0 ]; then quiet=; else quiet=-n; fi
        # shellcheck disable=SC2086 # no flag, no argument
        sudo $quiet sh scripts/install-debian.sh "$@" ||
            die "sudo could not install: $*" "As root: sh scripts/install-debian.sh $*"
    else
        die "missing on this machine: $*" "Not root, and there is no sudo. As root: sh scripts/install-debian.sh $*"
    fi
}

# What Debian has.
packages=
want() { packages="$packages $*"; }
have cc || want gcc libc6-dev
if have cc && [ "$(cc -print-file-name=crt1.o)" = crt1.o ]; then want libc6-dev; fi
[ -s "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] || want ca-certificates
have curl || have cargo || want curl
if [ "${1:-all}" = image ]; then have musl-gcc || want musl-tools; fi
if [ "${1:-all}" = fuzz ]; then have c++ || want g++; fi
if [ "${1:-all}" = all ]; then
    have etcd || want etcd-server
    have etcdctl || want etcd-client
    # Nobody else may use them; the tests say what they skip then.
    if [ "$(id -u)" = 0 ]; then
        have iptables || want iptables
        have tc || want iproute2
    fi
fi
# shellcheck disable=SC2086 # a list of names
[ -z "$packages" ] || install $packages

# Rust. A cargo that rustup does not manage will do when it is new enough.
channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
oldest=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
pinned() {
    for tool in cargo rustc rustfmt cargo-fmt cargo-clippy; do
        rustup which --toolchain "$channel" "$tool" >/dev/null 2>&1 || return 1
    done
}
unmanaged() {
    have cargo-fmt && have cargo-clippy && version=$(cargo --version 2>/dev/null) || return 1
    version=${version#cargo }
    at_least "${version%% *}" "$oldest"
}

no_rust() {
    # Debian's own Rust, where it is new enough; dashes aside, its version is Rust's.
    debian=$(LC_ALL=C apt-cache policy rustc 2>/dev/null | sed -n 's/^ *Candidate: //p')
    if at_least "${debian:-0}" "$oldest"; then
        say "rustup cannot be had from here, so Debian's Rust $debian it is"
        install cargo rustc rustfmt rust-clippy
        return
    fi
    die "Rust $channel is missing, and $1" \
        "Debian's own Rust is ${debian:-not offered}; $oldest is the oldest that will do." \
        "Put Rust $channel with rustfmt and clippy on PATH (https://rustup.rs), or name a mirror" \
        "in RUSTUP_UPDATE_ROOT and RUSTUP_DIST_SERVER, and run this again."
}

if ! have rustup && ! unmanaged; then
    have cargo && say "$(cargo --version 2>/dev/null || echo cargo) will not do: $oldest or later, with rustfmt and clippy, is needed"
    say "installing rustup into ${CARGO_HOME:-$HOME/.cargo} (add its bin/ to your PATH to use cargo outside make)"
    root=${RUSTUP_UPDATE_ROOT:-https://static.rust-lang.org/rustup}
    if curl --proto '=https' --tlsv1.2 -sSfL "$root/rustup-init.sh" -o "$script"; then
        export RUSTUP_INIT_SKIP_PATH_CHECK=yes
        quietly sh "$script" -y --no-modify-path --profile minimal --default-toolchain none ||
            no_rust "rustup's installer failed."
    else
        no_rust "$root cannot be reached."
    fi
fi
if have rustup && ! pinned; then
    say "installing Rust $channel with rustfmt and clippy (rustup)"
    quietly rustup toolchain install "$channel" --profile minimal --component rustfmt,clippy ||
        no_rust "rustup could not install it."
fi
if [ "${1:-all}" = image ]; then
    triple=$(uname -m | sed 's/^arm64$/aarch64/')-unknown-linux-musl
    [ -d "$(rustc --print sysroot)/lib/rustlib/$triple" ] || {
        have rustup || die "Rust's $triple is missing, and there is no rustup to add it." \
            "Install Rust through https://rustup.rs, or that target of your Rust by hand."
        say "adding Rust's $triple (rustup)"
        quietly rustup target add "$triple" || die "rustup could not add $triple"
    }
fi
if [ "${1:-all}" = fuzz ]; then
    nightly=${FUZZ_TOOLCHAIN:-nightly}
    have rustup || die "Rust's $nightly is missing, and there is no rustup to install it." \
        "Install Rust through https://rustup.rs."
    rustup which --toolchain "$nightly" cargo >/dev/null 2>&1 || {
        say "installing Rust $nightly (rustup)"
        quietly rustup toolchain install "$nightly" --profile minimal || die "rustup could not install it."
    }
fi
