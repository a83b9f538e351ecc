# `make run` and `make test` do everything on a fresh Debian machine with Rust and a C compiler.
.PHONY: run test build install lint policy bench micro-bench fuzz tools clean

# What the build needs beyond Rust and a C compiler: cmake (zlib-ng), pkg-config and OpenSSL.
tools:
	@scripts/need cmake:cmake pkg-config:pkg-config /usr/include/openssl/ssl.h:libssl-dev

# The gateway with conf/quickstart.yaml and two example backends, until Ctrl-C.
run: tools
	cargo build
	@scripts/quickstart target/debug/tollgate

test: tools
	@scripts/need curl:curl
	cargo test --all-targets

# The optimised program (several minutes), and its place in the system.
build: tools
	cargo build --release

install: build
	install -D -m 755 target/release/tollgate $(DESTDIR)/usr/local/bin/tollgate
	install -D -m 644 systemd/tollgate.service $(DESTDIR)/etc/systemd/system/tollgate.service
	test -e $(DESTDIR)/etc/tollgate/tollgate.yaml || \
		install -D -m 640 conf/starter.yaml $(DESTDIR)/etc/tollgate/tollgate.yaml

lint: tools
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# The dependency policy, as far as no network is needed.
policy: tools
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked --profile dev
	cargo deny --offline check --hide-inclusion-graph bans licenses sources

# Each fuzz target for so many seconds.
FUZZ_SECONDS = 20
fuzz: tools
	@scripts/need g++:g++
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --profile dev
	@for target in config_text path authorization client_address; do \
		cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 || exit 1; \
	done

# The hot parts by themselves.
micro-bench: tools
	cargo bench

# The whole program against its peers; writes benches/RESULTS.md and the plot.
bench: tools
	@benches/wrk/run

clean:
	cargo clean
