"""Pingora's own TLS backends beside the gateway's: `make tls-backends`.

Each backend is a program of its own (benches/tls-backends) with one thread on one core; the client is on another.
Rounds are interleaved, and ratios are taken inside a round. A handshake's cost is the processor time of the server.
What the backends can do is tried out before.
"""

import argparse
import os
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import abilities
import encrypted
import measure
import report
import run

CRATE = Path("benches/tls-backends")
# Feature of the program, and what its build is told beside it.
BACKENDS = {
    "Pingora, OpenSSL of Debian": ("openssl", {"OPENSSL_NO_VENDOR": "1"}),
    "Pingora, OpenSSL built along": ("openssl", {"OPENSSL_NO_VENDOR": "0"}),
    "Pingora, BoringSSL": ("boringssl", {}),
    "Pingora, rustls": ("rustls", {}),
    "Pingora, s2n": ("s2n", {}),
}
OURS = "Tollgate"
CASES = ["full handshake, ECDSA P-256", "full handshake, RSA 2048", "resumed handshake"]
# What a build needs beside Rust, gcc, make and cmake, which the framework's zlib needs with each: tried by building
# without (`benches/tls-backends/fresh`).
NEEDS = {
    "Pingora, OpenSSL of Debian": "libssl-dev, pkg-config",
    "Pingora, OpenSSL built along": "perl with its modules",
    "Pingora, BoringSSL": "git, g++, libclang",
    "Pingora, rustls": "nothing",
    "Pingora, s2n": "nothing",
    OURS: "nothing; libssl-dev and pkg-config for connections to backends",
}


def build():
    """The programs by backend, each in a folder of its own: they share hardly anything."""
    programs = {}
    for name, (feature, environment) in BACKENDS.items():
        folder = CRATE / "target" / (feature + ("-own" if environment.get("OPENSSL_NO_VENDOR") == "0" else ""))
        command = ["cargo", "build", "--release", "--locked", "--features", feature]
        command += ["--manifest-path", CRATE / "Cargo.toml", "--target-dir", folder]
        subprocess.run(command, check=True, env={**os.environ, **environment})
        programs[name] = str(folder / "release" / "tls-backend")
    return programs


def resumed(server, port, folder, count):
    """Each takes up the session of the one before, for servers that let it be taken up once."""
    context = ssl.create_default_context(cafile=folder / "ec.crt")
    session = encrypted.session(port, context)
    before = server.cpu_seconds()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as stream:
            with context.wrap_socket(stream, server_hostname="localhost", session=session) as encrypted_stream:
                if not encrypted_stream.session_reused:
                    raise SystemExit(f"port {port} does not resume sessions")
                session = next_session(encrypted_stream)
    return (server.cpu_seconds() - before) / count * 1e6


def next_session(stream):
    """What the server sends behind the handshake: nothing but tickets, as it was asked nothing."""
    if not select.select([stream], [], [], 5)[0]:
        raise SystemExit("no ticket came")
    stream.setblocking(False)
    try:
        stream.recv(1)
    except ssl.SSLWantReadError:
        pass
    return stream.session


def cost(case, servers, is_for_once, folder, count):
    match case:
        case "full handshake, ECDSA P-256":
            return encrypted.handshakes(servers["ec"], servers["ec"].port, folder, "ec", False, count)
        case "full handshake, RSA 2048":
            return encrypted.handshakes(servers["rsa"], servers["rsa"].port, folder, "rsa", False, count)
        case _:
            if is_for_once:
                return resumed(servers["ec"], servers["ec"].port, folder, count)
            return encrypted.handshakes(servers["ec"], servers["ec"].port, folder, "ec", True, count)


def measured(starters, found, folder, arguments):
    running, results = {}, {case: {name: [] for name in starters} for case in CASES}
    try:
        for name, start in starters.items():
            running[name] = {kind: start(kind) for kind in ("ec", "rsa")}
        # The first round is for warming up.
        for number in range(-1, arguments.rounds):
            names = list(starters)
            shift = number % len(names)
            for case in CASES:
                for name in names[shift:] + names[:shift]:
                    if case == "resumed handshake" and found[name][abilities.RESUMES] == "no":
                        continue
                    is_for_once = found[name][abilities.RESUMES_AGAIN] == "no"
                    spent = cost(case, running[name], is_for_once, folder, arguments.handshakes)
                    if number >= 0:
                        results[case][name].append(spent)
                        print(f"round {number + 1}  {case:28} {name:30} {spent:8.1f} us", flush=True)
    finally:
        for servers in running.values():
            for server in servers.values():
                server.stop()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--handshakes", type=int, default=2000, help="of each kind in a round")
    parser.add_argument("--results", type=Path, help="file to write")
    arguments = parser.parse_args()
    programs = build()
    os.sched_setaffinity(0, {run.LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        encrypted.authority(folder)
        starters = {OURS: abilities.gateway(folder), **{
            name: abilities.program(program, folder) for name, program in programs.items()}}
        found = abilities.tried(starters, folder)
        results = measured(starters, found, folder, arguments)
    text = markdown(results, found, arguments)
    print("\n" + text)
    if arguments.results:
        arguments.results.write_text(text)


def markdown(results, found, arguments):
    out = [
        "# Results of `make tls-backends`", "",
        f"On {report.machine()}: one worker on one core, the client ({ssl.OPENSSL_VERSION}) on another. Processor "
        f"time of the server for a handshake of TLS 1.3, in µs: medians of {arguments.rounds} interleaved rounds of "
        f"{arguments.handshakes:,}, from the least to the most of a round; then how many times that of {OURS} in the "
        f"same round, and what one core does in a second. The machine's load was {os.getloadavg()[0]:.0f}, of which one is "
        "the measurement's own.", "",
        "| | " + " | ".join(CASES) + " |", "|---|" + "---|" * len(CASES),
    ]
    for name in results[CASES[0]]:
        cells = []
        for case in CASES:
            times = results[case][name]
            if not times:
                cells.append("–")
                continue
            middle = statistics.median(times)
            ratio = statistics.median(a / b for a, b in zip(times, results[case][OURS]))
            cells.append(f"{middle:.0f} ({min(times):.0f}–{max(times):.0f}), × {ratio:.2f}, "
                         f"{encrypted.rate('', middle)}/s")
        out.append(f"| {name} | " + " | ".join(cells) + " |")
    out += ["", "Tried out, each with a server that was started for it:", "",
            "| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for ability in next(iter(found.values())):
        out.append(f"| {ability} | " + " | ".join(it[ability] for it in found.values()) + " |")
    out += ["", "What a build needs on a Debian with Rust, gcc, make and cmake (by `benches/tls-backends/fresh`):", "",
            "| | packages |", "|---|---|"]
    out += [f"| {name} | {needs} |" for name, needs in NEEDS.items()]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    sys.exit(main())
