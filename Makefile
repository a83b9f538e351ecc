# `make run` and `make test` do everything on a fresh Debian machine with Rust and a C compiler.
.PHONY: run test screenshots soak stampede test-systemd build install uninstall deb lint policy bench micro-bench \
	flood-bench shared-bench observe-bench cache-bench cache-conformance tls-bench tls-backends fleet fuzz fuzz-build tools clean

# What the build needs beyond Rust and a C compiler: cmake (zlib-ng), pkg-config and OpenSSL.
tools:
	@scripts/need cmake:cmake pkg-config:pkg-config /usr/include/openssl/ssl.h:libssl-dev

# The gateway with conf/quickstart.yaml and two example backends, until Ctrl-C.
run: tools
	cargo build
	@scripts/quickstart target/debug/tollgate

test: tools
	@scripts/need curl:curl wrk:wrk openssl:openssl redis-server:redis-server pebble:pebble h2load:nghttp2-client \
		slowhttptest:slowhttptest testssl:testssl.sh \
		/usr/bin/python3:python3 /usr/lib/python3/dist-packages/grpc:python3-grpcio \
		/usr/lib/python3/dist-packages/h2:python3-h2 /usr/lib/python3/dist-packages/websockets:python3-websockets
	@scripts/promtool target/promtool
	@scripts/browser target/dashboard
	@# Most of them wait, for clocks and for each other.
	RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --all-targets

# Two minutes under load while everything changes; see tests/soak.
SOAK_SECONDS = 120
soak: tools
	@scripts/need wrk:wrk
	SOAK_SECONDS=$(SOAK_SECONDS) SOAK_STRICT=1 cargo test --release --test soak -- --nocapture

# Five times a backend's capacity, with and without a bound that finds itself; see tests/stampede.rs.
stampede: tools
	cargo test --release --test stampede -- --ignored --nocapture

# The pictures of the dashboard in docs/images, after five minutes of traffic.
screenshots: tools
	@scripts/browser target/dashboard
	cargo test --test dashboard -- --ignored

# The service on a small machine of its own, booted in a container; needs root. Without, it says so.
test-systemd: tools
	@command -v cargo-deb >/dev/null || cargo install cargo-deb --locked --profile dev
	@# Not `cargo build`: without what tests need of them, half of the dependencies would be built once more.
	cargo test --no-run --test systemd
	scripts/package target/debug/tollgate target/package
	cargo deb --no-build --no-strip --fast --output target/tollgate-test.deb
	@if scripts/machine $(CURDIR)/target/machine; then \
		export TOLLGATE_MACHINE=$(CURDIR)/target/machine TOLLGATE_PACKAGE=$(CURDIR)/target/tollgate-test.deb; fi; \
		cargo test --test systemd -- --nocapture

# The optimised program (several minutes), and its place in the system.
build: tools
	cargo build --release

# Program, unit, manual page, completions, and a configuration to start from. A gateway that runs under
# systemd is upgraded in place, without dropping a request.
PREFIX = /usr/local
install: build
	scripts/package target/release/tollgate target/package
	install -D -m 755 target/release/tollgate $(DESTDIR)$(PREFIX)/bin/tollgate
	install -D -m 644 target/package/tollgate.1 $(DESTDIR)$(PREFIX)/share/man/man1/tollgate.1
	install -D -m 644 target/package/tollgate.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/tollgate
	install -D -m 644 target/package/_tollgate $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tollgate
	install -D -m 644 target/package/tollgate.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tollgate.fish
	install -D -m 644 systemd/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/tollgate.conf
	install -D -m 644 systemd/logrotate.conf $(DESTDIR)/etc/logrotate.d/tollgate
	install -D -m 600 target/package/secrets/README $(DESTDIR)/etc/tollgate/secrets/README
	install -d $(DESTDIR)/etc/systemd/system
	sed 's#/usr/bin/#$(PREFIX)/bin/#' systemd/tollgate.service > $(DESTDIR)/etc/systemd/system/tollgate.service
	test -e $(DESTDIR)/etc/tollgate/tollgate.yaml || \
		install -D -m 640 conf/starter.yaml $(DESTDIR)/etc/tollgate/tollgate.yaml
	@[ -n "$(DESTDIR)" ] || scripts/installed $(PREFIX)/bin/tollgate

# Takes all of it away again but /etc/tollgate and the user.
uninstall:
	@[ -n "$(DESTDIR)" ] || ! [ -d /run/systemd/system ] || systemctl disable --now tollgate || true
	rm -f $(DESTDIR)$(PREFIX)/bin/tollgate $(DESTDIR)$(PREFIX)/share/man/man1/tollgate.1 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/tollgate \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_tollgate \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/tollgate.fish \
		$(DESTDIR)/usr/lib/sysusers.d/tollgate.conf $(DESTDIR)/etc/systemd/system/tollgate.service \
		$(DESTDIR)/etc/logrotate.d/tollgate
	@[ -n "$(DESTDIR)" ] || ! [ -d /run/systemd/system ] || systemctl daemon-reload

# A Debian package in target/debian.
deb: build
	@command -v cargo-deb >/dev/null || cargo install cargo-deb --locked --profile dev
	scripts/package target/release/tollgate target/package
	cargo deb --no-build

lint: tools
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# The dependency policy, as far as no network is needed.
policy: tools
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked --profile dev
	cargo deny --offline check --hide-inclusion-graph bans licenses sources

# Each fuzz target for so many seconds.
FUZZ_SECONDS = 20
fuzz: fuzz-build
	@for target in config_text path authorization signature key_set client_certificate client_address trace_context; do \
		cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 || exit 1; \
	done

fuzz-build: tools
	@scripts/need g++:g++
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --profile dev
	cargo fuzz build --sanitizer none

# The hot parts by themselves.
micro-bench: tools
	@scripts/need redis-server:redis-server
	cargo bench --bench access --bench access_log --bench routing --bench policies --bench credentials --bench metrics

# What a flood of forged tokens costs the gateway and its sender; writes benches/FLOOD.md; needs root.
flood-bench: build
	@scripts/need wrk:wrk perf:linux-perf ip:iproute2 openssl:openssl taskset:util-linux python3:python3
	python3 benches/wrk/flood.py --results benches

# A thousand gateways that share a limit, simulated; writes benches/fleet/RESULTS.md.
fleet: tools
	cargo bench --bench fleet > target/fleet.md
	mv target/fleet.md benches/fleet/RESULTS.md

# The whole program against its peers; writes benches/RESULTS.md and the plot.
bench: tools
	@benches/wrk/run

# What metrics, access log and traces cost, and scrapes; writes benches/OBSERVED.md.
observe-bench: build
	@scripts/need wrk:wrk nginx:nginx taskset:util-linux python3:python3
	python3 benches/wrk/observed.py --results benches/OBSERVED.md

# What encryption, HTTP/2 and gRPC cost beside the peers; writes benches/TLS.md.
tls-bench: tools
	@PROGRAM=encrypted benches/wrk/run

# What Pingora's own TLS backends can do and what a handshake costs with each; writes benches/TLS-BACKENDS.md.
tls-backends: build
	@scripts/need openssl:openssl taskset:util-linux python3:python3 git:git g++:g++ perl:perl \
		/usr/share/doc/libclang-dev:libclang-dev
	python3 benches/wrk/backends.py --results benches/TLS-BACKENDS.md

# What it costs to give a kept answer, beside NGINX and Varnish; writes benches/CACHE.md.
cache-bench: build
	cargo build --release --example tuned
	@scripts/need wrk:wrk nginx:nginx varnishd:varnish taskset:util-linux python3:python3
	python3 benches/wrk/cached.py --results benches/CACHE.md

# The public suite of tests for caches, with the gateway and with those of its peers that are installed; writes
# benches/CONFORMANCE.md. CACHE_TESTS may name a clone of the suite where there is no network.
cache-conformance: build
	@scripts/need node:nodejs npm:npm git:git python3:python3
	python3 benches/cache-tests/run.py --results benches/CONFORMANCE.md

# What a limit costs that is kept together with other gateways; writes benches/SHARED.md.
shared-bench: build
	@scripts/need wrk:wrk nginx:nginx redis-server:redis-server redis-benchmark:redis-tools taskset:util-linux
	python3 benches/wrk/shared.py --results benches/SHARED.md

clean:
	cargo clean
