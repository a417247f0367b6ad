# `make demo` and `make test` are all the set-up there is.
.PHONY: all build demo test soak lint instructions-test corpus-test object-test boot-test machine-test libvirt-test service-test bench compare fuzz clean

# libvirt's adapter is built where libvirt's headers are; looked for when it is needed, because setup may install them.
FEATURES = $$(pkg-config --exists libvirt 2>/dev/null && echo --features vml-cli/libvirt)

# Incremental data doubles what the tests leave on the disk and serves nobody who runs them as a whole.
test: export CARGO_INCREMENTAL = 0

all: build

build:
	@scripts/setup.sh build
	cargo build --release -p vml-cli $(FEATURES)

demo: build
	@cargo run --release --quiet -p vml-cli $(FEATURES) -- demo

test:
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory lint
	cargo test --workspace $(FEATURES)
	@$(MAKE) --no-print-directory instructions-test
	@$(MAKE) --no-print-directory corpus-test
	@$(MAKE) --no-print-directory object-test
	@$(MAKE) --no-print-directory boot-test
	@$(MAKE) --no-print-directory machine-test
	@$(MAKE) --no-print-directory libvirt-test
	@$(MAKE) --no-print-directory service-test

# The long part of the tests: millions of crash states, every fault, and kills for ten minutes. docs/testing.md says what it tries.
soak:
	@scripts/soak.sh

# rustfmt and clippy are parts of a toolchain that not every package of Rust has.
lint:
	@if cargo fmt --version >/dev/null 2>&1; then set -x; cargo fmt --all --check; else echo "skipped: cargo fmt is not installed"; fi
	@if cargo clippy --version >/dev/null 2>&1; then set -x; cargo clippy --workspace --all-targets $(FEATURES) -- -D warnings; else echo "skipped: cargo clippy is not installed"; fi
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

# How many instructions the hot parts take, against the committed counts.
instructions-test:
	@scripts/test-instructions.sh

corpus-test:
	@scripts/test-corpus.sh

object-test:
	@scripts/test-objects.sh

boot-test:
	@scripts/test-boot.sh

machine-test:
	@scripts/test-machines.sh

libvirt-test:
	@scripts/test-libvirt.sh

service-test:
	@scripts/test-service.sh

bench:
	cargo bench -p benches

# CORPUS=DIR with trees/{base,w1,w2,w3,v1}; testdata/make-corpus makes one.
compare:
	cargo run --release -p benches --bin compare -- --corpus $(CORPUS)

# TARGET=recipe_node SECONDS=60
fuzz:
	fuzz/run.sh $(TARGET) $(or $(SECONDS),60)

clean:
	cargo clean
