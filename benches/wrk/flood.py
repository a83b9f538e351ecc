"""What a flood of forged tokens costs the gateway, and what it costs its sender: `make flood-bench`.

One address sends RS256 tokens with signatures that are not the key's, no two the same, as fast as one core
can, and connects again where its connection is closed. Gateway and sender are on a core and in a network of
their own each, joined by a virtual cable, and the kernel does the work of receiving on the receiver's core:
over the loopback device it would be the sender's, that of a handshake almost alone. `perf` looks 4,000 times a
second what both cores do, and what it sees of either side, kernel and all, is counted. Rounds are interleaved.
"""

import argparse
import base64
import json
import re
import secrets
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import measure
import report

HERE = Path(__file__).parent
GATEWAY_CORE, SENDER_CORE = 0, 1
GATEWAY = "target/release/tollgate"
# Networks, devices and addresses of the two.
NETWORKS = [("flooded", "flood0", "192.0.2.1", GATEWAY_CORE), ("flooding", "flood1", "192.0.2.2", SENDER_CORE)]
PORT = 8080
# How bad tokens are answered by what `auth_failures` says.
BOUNDS = {
    "each is verified": "off",
    "the address is throttled": "{ window: 1h, refuse_connections_after: off }",
    "its connections are refused": "{ window: 1h }",
}
# Requests that are sent without waiting for an answer.
AT_ONCE = [1, 16]
SAMPLES_A_SECOND = 4000
# Base64 digits of an RSA signature of 2,048 bits, and of them those that tell tokens of a run apart.
SIGNATURE, COUNTER = 342, 5


def text_of(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def halves():
    """A token but for the digits that tell it from the others of a run, of which no two are the same."""
    claims = {"sub": "alice", "exp": int(time.time()) + 86400}
    # A signature that is greater than the key's modulus would be refused without being computed.
    begin = "A" + secrets.token_urlsafe(15)
    before = f"{text_of({'alg': 'RS256', 'typ': 'JWT'})}.{text_of(claims)}.{begin}"
    return before, "A" * (SIGNATURE - len(begin) - COUNTER)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def within(network, core, command):
    return ["ip", "netns", "exec", network, *measure.pinned(core, command)]


def connect():
    """The two networks and the cable between them."""
    (here, here_device, *_), (there, there_device, *_) = NETWORKS
    for network, *_ in NETWORKS:
        run("ip", "netns", "add", network)
    ends = ["netns", here, "type", "veth", "peer", "name", there_device, "netns", there]
    run("ip", "link", "add", here_device, *ends)
    for network, device, address, core in NETWORKS:
        run("ip", "-n", network, "addr", "add", f"{address}/24", "dev", device)
        run("ip", "-n", network, "link", "set", device, "up")
        steering = f"echo {1 << core} > /sys/class/net/{device}/queues/rx-0/rps_cpus"
        ports = "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range"
        run("ip", "netns", "exec", network, "sh", "-c", f"{steering}; {ports}")


def disconnect():
    for network, *_ in NETWORKS:
        subprocess.run(["ip", "netns", "delete", network], capture_output=True)


class Flooded:
    """A gateway with one worker on one core, as it is but for that."""

    def __init__(self, folder, bound):
        network, _, address, core = NETWORKS[0]
        path = folder / "tollgate.yaml"
        path.write_text(f"""
server: {{ listen: {address}:{PORT}, threads: 1 }}
admin: off
log: {{ access: {{ output: {folder}/access.log }} }}
auth_failures: {bound}
auth_providers: {{ main: {{ jwt: {{ algorithms: [RS256], keys: {{ public_key: {{ file: public.pem }} }} }} }} }}
services: {{ backend: {{ base_url: "http://127.0.0.1:9", auth: main, routes: [/] }} }}
""")
        command = within(network, core, [GATEWAY, "run", "-c", str(path)])
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "serving: " in line:
                return
        raise SystemExit("the gateway does not start")

    def stop(self):
        self.process.terminate()
        self.process.communicate()


def flood(gateway, folder, at_once, seconds, connections):
    """Microseconds of processor time that a guess costs the gateway and the sender."""
    script = ["-s", str(HERE / "flood.lua"), f"http://{NETWORKS[0][2]}:{PORT}/", "--", *halves(), str(at_once)]
    sender = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *script]
    recording = folder / "recording"
    options = ["-q", "-a", "-g", "-e", "cpu-clock", "-F", str(SAMPLES_A_SECOND), "-o", str(recording)]
    out = run("perf", "record", *options, "--", *within(NETWORKS[1][0], SENDER_CORE, sender))
    answered = int(re.search(r"(\d+) requests in", out)[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if answered != int(refused[1] if refused else 0):
        raise SystemExit(f"not every request was refused:\n{out}")
    # A connection that is closed without an answer: the guess came to nothing all the same.
    broken = re.search(r"connect \d+, read (\d+), write (\d+)", out)
    guesses = answered + sum(map(int, broken.groups()) if broken else [])
    spent = {"gateway": 0, "sender": 0}
    for side in sides(recording, gateway.process.pid):
        spent[side] += 1e6 / SAMPLES_A_SECOND / guesses
    return {"guesses": guesses / seconds, **spent, "ratio": spent["gateway"] / spent["sender"]}


def sides(recording, gateway):
    """Whose work each sample is, of those that are either's."""
    text = run("perf", "script", "-i", str(recording), "-F", "comm,pid,cpu,ip,sym")
    for sample in text.split("\n\n"):
        head, _, stack = sample.strip("\n").partition("\n")
        found = re.match(r"\s*(.+?)\s+(\d+)\s+\[(\d+)\]", head)
        if not found:
            continue
        name, process, core = found[1], int(found[2]), int(found[3])
        # Packets are received on top of whatever runs.
        if "net_rx_action" in stack:
            yield "gateway" if core == GATEWAY_CORE else "sender"
        elif process == gateway:
            yield "gateway"
        elif name == "wrk":
            yield "sender"


def compare(folder, arguments):
    private, public = folder / "private.pem", folder / "public.pem"
    run("openssl", "genrsa", "-out", str(private), "2048")
    run("openssl", "rsa", "-in", str(private), "-pubout", "-out", str(public))
    results = {(bound, at_once): [] for bound in BOUNDS for at_once in AT_ONCE}
    for number in range(arguments.rounds):
        for bound, text in BOUNDS.items():
            gateway = Flooded(folder, text)
            try:
                # Until the address is known for what it is.
                flood(gateway, folder, 1, 1, arguments.connections)
                for at_once in AT_ONCE:
                    found = flood(gateway, folder, at_once, arguments.seconds, arguments.connections)
                    results[bound, at_once].append(found)
                    print(
                        f"round {number + 1}  {bound:27}  {at_once:2} at once  gateway {found['gateway']:6.2f} us  "
                        f"sender {found['sender']:6.2f} us  ratio {found['ratio']:.2f}",
                        flush=True,
                    )
            finally:
                gateway.stop()
    return {case: median(rounds) for case, rounds in results.items()}


def median(rounds):
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def markdown(results, arguments):
    out = [
        "# Results of `make flood-bench`",
        "",
        f"On {report.machine()}. {arguments.connections} connections, medians of {arguments.rounds} rounds of "
        f"{arguments.seconds} s. What is measured how is said in [flood.py](wrk/flood.py).",
        "",
        "| every token is bad | sent at once | gateway, CPU µs | sender, CPU µs | ratio | guesses/s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for (bound, at_once), row in results.items():
        out.append(
            f"| {bound} | {at_once} | {row['gateway']:.1f} | {row['sender']:.1f} | {row['ratio']:.2f} | "
            f"{row['guesses']:,.0f} |"
        )
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load in a round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--results", type=Path, help="folder for FLOOD.md")
    arguments = parser.parse_args()
    disconnect()
    connect()
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = compare(Path(folder), arguments)
    finally:
        disconnect()
    text = markdown(results, arguments)
    print("\n" + text)
    if arguments.results:
        (arguments.results / "FLOOD.md").write_text(text)


if __name__ == "__main__":
    main()
