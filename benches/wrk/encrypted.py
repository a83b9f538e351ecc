"""What encryption and HTTP/2 cost beside the peers: `make tls-bench`.

Each server has one worker on one core; load and backend are on another. Rounds are interleaved, and ratios are
taken inside a round. A handshake's cost is the processor time of the server for one, whoever is faster at
asking for it; nothing else happens on its connection.
"""

import argparse
import json
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import peers
import report
import run

LARGE = 1 << 20
# What is measured, and in what it is counted.
CASES = {
    "full handshake, ECDSA P-256": "µs a handshake",
    "full handshake, RSA 2048": "µs a handshake",
    "resumed handshake": "µs a handshake",
    "HTTP/2 requests": "µs a request",
    "gRPC calls (HTTP/2 on both sides)": "µs a request",
    "1 MiB bodies (HTTP/1.1, in clear)": "µs a MiB",
}
HANDSHAKES = 600
REQUESTS = 20_000


def authority(folder):
    """Certificates by themselves for `localhost`, with their keys behind them: one of each kind."""
    for name, kind in (("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("rsa", ["rsa:2048"])):
        command = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
        command += ["-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(command, check=True, capture_output=True)
        both = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(both)


def backend(folder):
    """NGINX with a small answer, a large one, and both for HTTP/2 beforehand known."""
    (folder / "large").write_bytes(os.urandom(LARGE))
    (folder / "small").write_text("x" * 128)
    one, two = measure.free_port(), measure.free_port()
    text = f"""
daemon off; master_process off; worker_processes 1; pid {folder}/backend.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/octet-stream; sendfile on;
  http2_max_requests 1000000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; root {folder};
  server {{ listen 127.0.0.1:{one} backlog=4096; }}
  server {{ listen 127.0.0.1:{two} http2 backlog=4096;
    location / {{ add_header grpc-status 0; default_type application/grpc; return 200 '{"x" * 128}'; }} }}
}}"""
    path = folder / "backend.conf"
    path.write_text(text)
    server = measure.Running([peers.which("nginx"), "-c", str(path)], {}, one, run.LOAD_CORE)
    return server, f"127.0.0.1:{one}", f"127.0.0.1:{two}"


class Ports:
    """Where a server listens: by certificate, in clear, and for gRPC."""

    def __init__(self):
        self.ec, self.rsa, self.clear, self.grpc = (measure.free_port() for _ in range(4))


def program():
    """Of the gateway: the one that is built here, or another."""
    return os.environ.get("TOLLGATE", "target/release/tollgate")


def tollgate(folder, ports, one, two):
    tls = lambda name: f"tls: {{ certificates: {{ cert: {folder}/{name}.crt, key: {folder}/{name}.key }} }}"
    path = folder / "tollgate.yaml"
    path.write_text(f"""
server:
  threads: 1
  listen:
    - 127.0.0.1:{ports.clear}
    - {{ address: "127.0.0.1:{ports.ec}", {tls("ec")} }}
    - {{ address: "127.0.0.1:{ports.rsa}", {tls("rsa")} }}
    - {{ address: "127.0.0.1:{ports.grpc}", {tls("ec")} }}
admin: off
log: {{ access: off }}
services:
  calls: {{ base_url: "http://{two}", protocol: http2, routes: [{{ prefix: /call }}] }}
  files: {{ base_url: "http://{one}", routes: [{{ prefix: / }}] }}
""")
    return [program(), "run", "-c", str(path)]


def nginx(folder, ports, one, two):
    tls = lambda name: f"ssl_certificate {folder}/{name}.crt; ssl_certificate_key {folder}/{name}.key;"
    path = folder / "nginx.conf"
    path.write_text(f"""
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; http2_max_requests 1000000000;
  proxy_http_version 1.1; proxy_set_header Connection '';
  client_body_temp_path {folder}/nb; proxy_temp_path {folder}/np; fastcgi_temp_path {folder}/nf;
  uwsgi_temp_path {folder}/nu; scgi_temp_path {folder}/ns;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;
  upstream files {{ server {one}; keepalive 256; keepalive_requests 1000000000; }}
  upstream calls {{ server {two}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{ports.clear}; location / {{ proxy_pass http://files; }} }}
  server {{ listen 127.0.0.1:{ports.ec} ssl http2; {tls("ec")} location / {{ proxy_pass http://files; }} }}
  server {{ listen 127.0.0.1:{ports.rsa} ssl http2; {tls("rsa")} location / {{ proxy_pass http://files; }} }}
  server {{ listen 127.0.0.1:{ports.grpc} ssl http2; {tls("ec")} location / {{ grpc_pass grpc://calls; }} }}
}}""")
    return [peers.which("nginx"), "-c", str(path)]


def haproxy(folder, ports, one, two):
    path = folder / "haproxy.cfg"
    path.write_text(f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend clear
  bind 127.0.0.1:{ports.clear}
  bind 127.0.0.1:{ports.ec} ssl crt {folder}/ec.pem alpn h2,http/1.1
  bind 127.0.0.1:{ports.rsa} ssl crt {folder}/rsa.pem alpn h2,http/1.1
  default_backend files
frontend grpc
  bind 127.0.0.1:{ports.grpc} ssl crt {folder}/ec.pem alpn h2,http/1.1
  default_backend calls
backend files
  http-reuse always
  server one {one} pool-max-conn 256
backend calls
  http-reuse always
  server two {two} proto h2 pool-max-conn 256
""")
    return [peers.which("haproxy"), "-db", "-f", str(path)]


def envoy(folder, ports, one, two):
    kind = "type.googleapis.com/envoy.extensions"
    protocols = f"{kind}.upstreams.http.v3.HttpProtocolOptions"

    def listener(port, name, cluster):
        chain = {"filters": [{"name": "http", "typed_config": {
            "@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "clients", "codec_type": "AUTO",
            "http_filters": [peers.typed("envoy.filters.http.router", "router.v3.Router", {})],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]},
        }}]}
        if name:
            chain["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": f"{kind}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [{"certificate_chain": {"filename": f"{folder}/{name}.crt"},
                                          "private_key": {"filename": f"{folder}/{name}.key"}}],
                }}}
        return {"address": peers.address(f"127.0.0.1:{port}"), "filter_chains": [chain]}

    def cluster(name, backend, options):
        return {"name": name, "type": "STATIC", "connect_timeout": "5s", **options,
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": peers.address(backend)}}]}]}}

    http2 = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": protocols, "explicit_http_config": {"http2_protocol_options": {}}}}}
    path = folder / "envoy.json"
    path.write_text(json.dumps({"static_resources": {
        "listeners": [listener(ports.clear, None, "files"), listener(ports.ec, "ec", "files"),
                      listener(ports.rsa, "rsa", "files"), listener(ports.grpc, "ec", "calls")],
        "clusters": [cluster("files", one, {}), cluster("calls", two, http2)],
    }}))
    return [os.environ["ENVOY"], "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


SERVERS = {"Tollgate": tollgate, "NGINX": nginx, "HAProxy": haproxy, "Envoy": envoy}


def shake_hands(port, context, session=None):
    with socket.create_connection(("127.0.0.1", port)) as stream:
        with context.wrap_socket(stream, server_hostname="localhost", session=session) as encrypted:
            if session and not encrypted.session_reused:
                raise SystemExit(f"port {port} does not resume sessions")


def session(port, context):
    """A session that can be taken up: its ticket comes with the first answer."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        with context.wrap_socket(stream, server_hostname="localhost") as encrypted:
            encrypted.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while encrypted.recv(65536):
                pass
            return encrypted.session


def handshakes(server, port, folder, name, is_resumed, count=HANDSHAKES):
    context = ssl.create_default_context(cafile=folder / f"{name}.crt")
    known = session(port, context) if is_resumed else None
    before = server.cpu_seconds()
    for _ in range(count):
        shake_hands(port, context, known)
    return (server.cpu_seconds() - before) / count * 1e6


def http2(server, port, path, arguments=()):
    command = ["h2load", "-n", str(REQUESTS), "-c", "8", "-m", "8", *arguments, f"https://localhost:{port}{path}"]
    before = server.cpu_seconds()
    said = subprocess.run(measure.pinned(run.LOAD_CORE, command), check=True, capture_output=True, text=True).stdout
    spent = server.cpu_seconds() - before
    answered = int(re.search(r"(\d+) 2xx", said)[1])
    # A peer may fail some when its connections are new.
    if answered < REQUESTS * 0.99:
        raise SystemExit(f"requests failed at {path}:\n{said}")
    return spent / REQUESTS * 1e6


def measured(case, server, ports, folder, arguments):
    match case:
        case "full handshake, ECDSA P-256":
            return handshakes(server, ports.ec, folder, "ec", False)
        case "full handshake, RSA 2048":
            return handshakes(server, ports.rsa, folder, "rsa", False)
        case "resumed handshake":
            return handshakes(server, ports.ec, folder, "ec", True)
        case "HTTP/2 requests":
            return http2(server, ports.ec, "/small")
        case "gRPC calls (HTTP/2 on both sides)":
            body = folder / "call"
            body.write_bytes(bytes(5) + b"x" * 64)
            fields = ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
            return http2(server, ports.grpc, "/call", fields)
        case _:
            return measure.load(server, "/large", {}, arguments.seconds, 16, run.LOAD_CORE)["cpu_us"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of large bodies in a round")
    parser.add_argument("--results", type=Path, help="folder for TLS.md")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {run.LOAD_CORE})
    running, results = {}, {case: {name: [] for name in SERVERS} for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        authority(folder)
        upstream, one, two = backend(folder)
        try:
            for name, command in SERVERS.items():
                ports = Ports()
                command = command(folder, ports, one, two)
                running[name] = measure.Running(command, {}, ports.clear, run.SERVER_CORE), ports
            for number in range(-1, arguments.rounds):
                names = list(SERVERS)
                shift = number % len(names)
                for case in CASES:
                    for name in names[shift:] + names[:shift]:
                        found = measured(case, *running[name], folder, arguments)
                        if number >= 0:
                            results[case][name].append(found)
                            print(f"round {number + 1}  {case:36} {name:10} {found:8.1f} us", flush=True)
        finally:
            for server, _ in running.values():
                server.stop()
            upstream.stop()
    text = markdown(results, arguments)
    print("\n" + text)
    if arguments.results:
        (arguments.results / "TLS.md").write_text(text)


def markdown(results, arguments):
    out = [
        "# Results of `make tls-bench`", "",
        f"On {report.machine()}: one worker on one core; load and backend (NGINX) on another. Processor time of the "
        f"server, medians of {arguments.rounds} interleaved rounds; in brackets how many times that of Tollgate in the "
        "same round. TLS 1.3, AES-256-GCM or what a server prefers, with the hybrid key exchange where it has one.", "",
        "| | " + " | ".join(SERVERS) + " |", "|---|" + "--:|" * len(SERVERS),
    ]
    for case, found in results.items():
        cells = []
        for times in found.values():
            ratio = statistics.median(a / b for a, b in zip(times, found["Tollgate"]))
            cells.append(f"{statistics.median(times):.0f} ({ratio:.2f})")
        out.append(f"| {case}, {CASES[case]} | " + " | ".join(cells) + " |")
    out += ["", "What one core does in a second at that price:", "",
            "| | " + " | ".join(SERVERS) + " |", "|---|" + "--:|" * len(SERVERS)]
    for case, found in results.items():
        cells = [rate(CASES[case], round(statistics.median(times))) for times in found.values()]
        out.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def rate(unit, microseconds):
    if unit.endswith("MiB"):
        return f"{2**20 / microseconds / 1000:.2f} GB"
    return f"{float(f'{1e6 / microseconds:.2g}'):,.0f}"


if __name__ == "__main__":
    sys.exit(main())
