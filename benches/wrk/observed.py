"""What it costs to be seen: `make observe-bench`.

The same gateway on one core: unobserved but for its metrics, which are always counted; with an access log in
JSON; with traces of 1 % of its requests; with both. Load, backend and collector are on another core. Rounds are
interleaved. Then the metrics of 10,000 routes are scraped once a second while requests come, and the latencies of
those requests that a scrape was beside are held against those of all others.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import measure
import report
import run

GATEWAY = "target/release/tollgate"
ROUTES = 10_000
# Connections that send requests while metrics are scraped, and seconds between their requests, as between scrapes.
CONNECTIONS = 3
PAUSE = 200e-6
INTERVAL = 1
# Keys beside `server` and `services`.
CASES = {
    "metrics alone": "log: { access: off }",
    "and an access log (JSON)": "log: { access: { output: FOLDER/access.log } }",
    "and 1 % of traces": "log: { access: off }\ntracing: { otlp: COLLECTOR, sample: 1% }",
    "and both": "log: { access: { output: FOLDER/access.log } }\ntracing: { otlp: COLLECTOR, sample: 1% }",
}


class Collector(BaseHTTPRequestHandler):
    """Takes spans and forgets them."""

    protocol_version = "HTTP/1.1"
    received = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Collector.received += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def gateway(folder, name, text, admin="off"):
    port = measure.free_port()
    path = folder / f"{name}.yaml"
    path.write_text(f"server: {{ listen: 127.0.0.1:{port}, threads: 1 }}\nadmin: {admin}\n{text}\n")
    return measure.Running([GATEWAY, "run", "-c", str(path)], {}, port, run.SERVER_CORE)


def costs(folder, backend, collector, arguments):
    """Processor time of a request, by what is seen of it. Each round has processes of its own: where their memory
    happens to lie makes a difference of some percent."""
    results = {case: [] for case in CASES}
    for number in range(arguments.rounds):
        servers = {}
        try:
            for case, text in CASES.items():
                place = folder / f"{number}-{len(servers)}"
                place.mkdir()
                text = text.replace("FOLDER", str(place)).replace("COLLECTOR", collector)
                text += f"\nservices: {{ backend: {{ base_url: http://{backend}, routes: [/] }} }}"
                servers[case] = gateway(place, "gateway", text)
            for server in servers.values():
                measure.load(server, "/", {}, 1, 64, run.LOAD_CORE)
            cases = list(servers)
            shift = number % len(cases)
            for case in cases[shift:] + cases[:shift]:
                found = measure.load(servers[case], "/", {}, arguments.seconds, 64, run.LOAD_CORE)
                results[case].append(found)
                print(f"round {number + 1}  {case:26} {found['cpu_us']:6.2f} us", flush=True)
        finally:
            for server in servers.values():
                server.stop()
        for log in folder.glob("*/access.log"):
            log.unlink()
    return results


def scrape(port, until):
    """Scrapes as from another machine: it takes no time of the gateway's core. Returns from when to when."""
    part = bytearray(64 * 1024)
    scrapes = []
    while time.monotonic() < until:
        time.sleep(INTERVAL)
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), 30) as stream:
            stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            length = 0
            while count := stream.recv_into(part):
                length += count
        if length < 1_000_000:
            raise SystemExit(f"a page has {length} bytes")
        scrapes.append((begin, time.monotonic()))
    return scrapes


def send(port, until):
    """Sends requests one after the other. Returns from when to when."""
    requests = []
    with socket.create_connection(("127.0.0.1", port), 30) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (begin := time.monotonic()) < until:
            stream.sendall(b"GET /r0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not stream.recv(4096).startswith(b"HTTP/1.1 200"):
                raise SystemExit("a request failed")
            requests.append((begin, time.monotonic()))
            time.sleep(PAUSE)
    return requests


def scrapes(folder, backend, arguments):
    """Milliseconds that requests took with a scrape beside them, and without; and that scrapes took."""
    routes = "\n".join(f"      - /r{number}" for number in range(ROUTES))
    admin = measure.free_port()
    text = (
        f"log: {{ access: off }}\nmetrics: {{ max_routes: {ROUTES} }}\n"
        f"services:\n  backend:\n    base_url: http://{backend}\n    routes:\n{routes}"
    )
    server = gateway(folder, "scraped", text, f"{{ listen: 127.0.0.1:{admin} }}")
    to_load_core = (os.sched_setaffinity, (0, {run.LOAD_CORE}))
    try:
        with multiprocessing.Pool(CONNECTIONS + 1, *to_load_core) as processes:
            until = time.monotonic() + arguments.rounds * arguments.seconds
            scraper = processes.apply_async(scrape, (admin, until))
            senders = [processes.apply_async(send, (server.port, until)) for _ in range(CONNECTIONS)]
            scraped = scraper.get()
            sent = [request for sender in senders for request in sender.get()]
    finally:
        server.stop()
    beside, without = [], []
    for begin, end in sent:
        is_beside = any(begin < over and end > since for since, over in scraped)
        (beside if is_beside else without).append((end - begin) * 1e3)
    return beside, without, [(over - since) * 1e3 for since, over in scraped]


def median(found):
    return statistics.median(found)


def markdown(costs, scrapes, arguments):
    beside, without, scraped = scrapes
    base = costs["metrics alone"]
    out = [
        "# Results of `make observe-bench`", "",
        f"On {report.machine()}: one worker on one core; wrk, backend and collector on another. Medians of "
        f"{arguments.rounds} interleaved rounds of {arguments.seconds} s, each with new processes; ratios are taken inside a "
        "round. Counting alone is measured by `cargo bench --bench metrics`.", "",
        "| seen by | CPU µs a request | × metrics alone |", "|---|--:|--:|",
    ]
    for case, found in costs.items():
        times = median(a["cpu_us"] / b["cpu_us"] for a, b in zip(found, base))
        out.append(f"| {case} | {median(it['cpu_us'] for it in found):.2f} | {times:.3f} |")
    out += [
        "", f"With {ROUTES:,} routes, of which all metrics are scraped once a second:", "",
        "| requests | how many | p50 ms | p90 ms | p99 ms | p99.9 ms |", "|---|--:|--:|--:|--:|--:|",
    ]
    for name, found in [("with a scrape beside them", beside), ("without", without)]:
        found = sorted(found)
        parts = " | ".join(f"{found[int(len(found) * part)]:.3f}" for part in (0.5, 0.9, 0.99, 0.999))
        out.append(f"| {name} | {len(found):,} | {parts} |")
    out += ["", f"A scrape took {median(scraped):.0f} ms, the longest {max(scraped):.0f} ms."]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="of load in a round")
    parser.add_argument("--results", type=Path, help="file to write")
    arguments = parser.parse_args()
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        upstream, address = run.backend(folder)
        try:
            spent = costs(folder, address, f"http://127.0.0.1:{collector.server_port}", arguments)
            scraped = scrapes(folder, address, arguments)
        finally:
            upstream.stop()
    if not Collector.received:
        raise SystemExit("the collector got no spans")
    text = markdown(spent, scraped, arguments)
    print("\n" + text)
    if arguments.results:
        arguments.results.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
