# The two commands of the README are `make up` and `make verify`; `make help` lists the rest.
# Each target that builds first runs `make prepare`, so a fresh machine needs nothing else.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help prepare prepare-build up verify lint test simulate scenarios smoke e2e e2e-testbed image fix generate bench torture mutants fuzz

# A toolchain that `prepare` has just installed is not yet on the caller's PATH.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# Where cargo puts the binary.
OUT = $(or $(CARGO_TARGET_DIR),target)

# Scenarios run real clusters against the clock, so few at a time and apart from the rest.
every     := $(wildcard tests/*.rs) $(patsubst %/,%,$(dir $(wildcard tests/*/main.rs)))
SCENARIOS := $(strip $(foreach t,$(sort $(notdir $(basename $(every)))),$(if $(filter scenarios%,$t),--test $t)))
# `durability` runs clusters at full load, so one at a time; its long rounds are in `make torture`,
# and so are those of `torture`, which breaks a cluster under `up`.
# `e2e` needs a Kubernetes.
# The tests of `node_start` and `checkpoint` wait for each other and for the disk most of the
# time, so more of these than there are cores.
WAITING   := node_start checkpoint
OTHERS    := $(strip $(foreach t,$(sort $(notdir $(basename $(every)))),$(if $(filter scenarios% plan_model plan_stories durability torture e2e simulation $(WAITING),$t),,--test $t)))
# The node on a simulated ground (src/node/ground/), and the planner's walk, which is long: both
# optimised, and built as one. tokio wakes in an order that it draws; only so can that be seeded.
OPTIMISED := --profile simulation --locked --no-default-features --features simulation
simulated   = RUSTFLAGS="--cfg tokio_unstable"
walk        = $(simulated) cargo test $(OPTIMISED) --test plan_model --test plan_stories
SCENARIO_THREADS ?= 4
ROUNDS ?= 25
REPEATS ?= 5
SECONDS ?= 600

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

prepare: ## Install what this machine lacks: compiler, Rust, etcd and etcdctl
	@sh scripts/prepare.sh

prepare-build: ## The part of that which building needs
	@sh scripts/prepare.sh build

up: prepare-build ## Build, then run a cluster in the foreground: make up ARGS="-f FILE"
	cargo build --release --locked --bin quorate
	@exec $(OUT)/release/quorate up $(ARGS)

verify: prepare ## All that CI runs; changes no tracked file
	@sh scripts/unchanged.sh $(MAKE) lint test simulate scenarios smoke

lint: prepare ## Formatting, lints, docs, the pure modules on their own, and whether generated files are stale
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
	cargo check --locked --no-default-features
	cargo clippy --locked --features simulation --test simulation -- -D warnings
	@sh scripts/generated.sh --check
	@sh scripts/check-agree.sh

test: prepare ## Every test but the scenarios
	cargo test --locked --lib --bins $(OTHERS)
	cargo test --locked $(WAITING:%=--test %) -- --test-threads=$(SCENARIO_THREADS)
	cargo test --locked --test durability --test torture -- --test-threads=1
	$(walk) -- --nocapture
	cargo test --locked --doc

simulate: prepare ## Clusters in one thread, with every fault and one seed: SEEDS=n of them, or SEED=n alone
	$(simulated) cargo test $(OPTIMISED) --test simulation -- --nocapture --test-threads=1 $(ARGS)

scenarios: prepare ## Real clusters on this machine that get broken, on our engine and on an upstream etcd
	cargo test --locked $(SCENARIOS) -- --test-threads=$(SCENARIO_THREADS) $(ARGS)
	QUORATE_TEST_ENGINE=etcd cargo test --locked $(SCENARIOS) -- --test-threads=$(SCENARIO_THREADS) $(ARGS)

smoke: prepare ## The operator on a real Kubernetes in short, where there is a testbed: TESTBED=its directory
	@sh scripts/e2e-testbed.sh --if-there smoke

e2e: prepare-build ## The operator in a kind cluster of its own; KIND_IMAGE chooses its node image
	@sh scripts/with-kind.sh sh scripts/e2e.sh $(ARGS)

e2e-testbed: prepare-build ## The operator on several real kubelets of one machine: TESTBED=its directory
	@sh scripts/e2e-testbed.sh $(ARGS)

image: prepare-build ## The container image, as an archive: target/image/quorate.tar
	@sh scripts/make-image.sh $(ARGS)

fix: prepare ## Format, and apply what the lints suggest
	cargo fmt
	cargo clippy --locked --all-targets --fix --allow-dirty --allow-staged

generate: prepare ## Write crds/ anew from the Rust types, and what is made from it (needs helm for deploy/operator.yaml)
	cargo build --locked --bin quorate
	@$(OUT)/debug/quorate crd > crds/.new && mv crds/.new crds/etcdclusters.quorate.dev.yaml
	@sh scripts/generated.sh

bench: prepare ## The benchmarks
	cargo bench --locked $(ARGS)

torture: prepare ## ROUNDS=25 rounds of faults under `up`, nodes without power, the deep walk, scenarios
	QUORATE_WALK=deep $(walk) -- --nocapture
	cargo test --locked --test log -- --ignored --nocapture torture
	cargo test --locked --test durability -- --include-ignored --nocapture --test-threads=1
	QUORATE_ROUNDS=$(ROUNDS) cargo test --locked --test torture -- --include-ignored --nocapture --test-threads=1
	@for n in $$(seq $(REPEATS)); do echo "scenarios $$n of $(REPEATS)"; $(MAKE) scenarios || exit 1; done

fuzz: ## The fuzz targets: SECONDS=600 each, TARGETS="..." for some of them
	@sh scripts/prepare.sh fuzz
	@sh scripts/fuzz.sh $(SECONDS) $(TARGETS)

mutants: prepare ## Seed faults into the planner; each must fail a test
	@sh scripts/mutants.sh
