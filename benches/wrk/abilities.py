"""What a TLS server can do, tried out from outside: versions, sessions, certificates that change, those of clients.

A server is started by a function of the certificate's name and of what is asked beyond one certificate: nothing,
`("clients", CA)`, `("other", CERT, KEY)` for `other.localhost`, or `("tls1.3",)`.
"""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import warnings

import encrypted
import measure
import run

OTHER = "other.localhost"
RESUMES = "a session is taken up, TLS 1.3"
RESUMES_AGAIN = "… a second time"
VERSION = ssl.TLSVersion


def program(path, folder):
    def start(name, extra=(), port=None):
        port = port or measure.free_port()
        command = [path, f"127.0.0.1:{port}", str(folder / f"{name}.crt"), str(folder / f"{name}.key"), *extra]
        return measure.Running(command, {}, port, run.SERVER_CORE)

    return start


def gateway(folder):
    """The gateway, with the command that puts a new process in its place."""

    def start(name, extra=(), port=None):
        port, admin = port or measure.free_port(), measure.free_port()
        pairs, more = [(folder / f"{name}.crt", folder / f"{name}.key")], ""
        match extra:
            case ("clients", ca):
                more = f", client_certificates: {{ ca: {ca} }}"
            case ("other", cert, key):
                pairs.append((cert, key))
            case ("tls1.3",):
                more = ", min_version: 1.3"
        certificates = ", ".join(f"{{ cert: {cert}, key: {key} }}" for cert, key in pairs)
        config = folder / f"gateway-{port}.yaml"
        config.write_text(f"""
server:
  threads: 1
  listen: {{ address: "127.0.0.1:{port}", tls: {{ certificates: [{certificates}]{more} }} }}
admin: {{ listen: "127.0.0.1:{admin}" }}
log: {{ access: off }}
services:
  nobody: {{ base_url: "http://127.0.0.1:1", routes: [/] }}
""")
        command = [encrypted.program(), "run", "-c", str(config)]
        server = measure.Running(command, {}, port, run.SERVER_CORE)
        server.upgrade = [encrypted.program(), "upgrade", "-c", str(config)]
        return server

    return start


def tried(starters, folder):
    """By server what was seen, by what was tried."""
    clients(folder)
    return {name: {ability: attempt(start, folder) for ability, attempt in ABILITIES.items()}
            for name, start in starters.items()}


def certificate(folder, name, host, issuer=None):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    command += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
    if issuer:
        command += ["-CA", folder / f"{issuer}.crt", "-CAkey", folder / f"{issuer}.key"]
        command += ["-addext", "basicConstraints=CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)


def clients(folder):
    """An authority with a client, another with a stranger, and two certificates for the other name."""
    for authority, client in (("clients", "client"), ("strangers", "stranger")):
        certificate(folder, authority, authority)
        certificate(folder, client, client, authority)
    for name in ("first", "second"):
        certificate(folder, name, OTHER)


def context(folder, name="ec", version=None, client=None):
    it = ssl.create_default_context(cafile=folder / f"{name}.crt")
    if version:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            it.minimum_version = it.maximum_version = version
        it.set_ciphers("DEFAULT:@SECLEVEL=0")
    if client:
        it.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return it


def ask(port, its, session=None, host="localhost"):
    """Whether the session was taken up, the one that came, and the certificate; None if there is no answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as stream:
            with its.wrap_socket(stream, server_hostname=host, session=session) as encrypted_stream:
                encrypted_stream.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if not encrypted_stream.recv(65536).startswith(b"HTTP/1.1 "):
                    return None
                reused, found = encrypted_stream.session_reused, encrypted_stream.session
                return reused, found, encrypted_stream.getpeercert(True)
    except (ssl.SSLError, ConnectionError, TimeoutError):
        return None


def with_server(start, use, extra=()):
    server = start("ec", extra)
    try:
        return use(server)
    finally:
        server.stop()


def versions(start, folder):
    def use(server):
        names = {"1.1": VERSION.TLSv1_1, "1.2": VERSION.TLSv1_2, "1.3": VERSION.TLSv1_3}
        return ", ".join(name for name, version in names.items() if ask(server.port, context(folder, version=version)))

    return with_server(start, use)


def only_tls13(start, folder):
    def use(server):
        old, new = (ask(server.port, context(folder, version=it)) for it in (VERSION.TLSv1_2, VERSION.TLSv1_3))
        return yes(new and not old)

    try:
        return with_server(start, use, ("tls1.3",))
    except SystemExit:
        return "no"


def is_taken_up(server, its, others=0):
    _, session, _ = ask(server.port, its)
    for _ in range(others):
        ask(server.port, its)
    return ask(server.port, its, session)[0]


def sessions(version):
    def attempt(start, folder):
        its = context(folder, version=version)
        return with_server(start, lambda server: yes(is_taken_up(server, its)))

    return attempt


def sessions_again(start, folder):
    def use(server):
        its = context(folder, version=VERSION.TLSv1_3)
        _, session, _ = ask(server.port, its)
        return yes(ask(server.port, its, session)[0] and ask(server.port, its, session)[0])

    return with_server(start, use)


def sessions_after_others(start, folder):
    return with_server(start, lambda server: yes(is_taken_up(server, context(folder), others=300)))


def sessions_after_restart(start, folder):
    """Whether the next process on the same address takes up a session of this one."""
    its, server = context(folder), start("ec")
    try:
        _, session, _ = ask(server.port, its)
        server.stop()
        server = start("ec", port=server.port)
        answer = yes(ask(server.port, its, session)[0])
        if not hasattr(server, "upgrade"):
            return answer
        _, session, _ = ask(server.port, its)
        said = subprocess.run(server.upgrade, check=True, capture_output=True, text=True).stdout
        answer += f"; after an upgrade {yes(ask(server.port, its, session)[0])}"
        os.kill(int(re.search(r"→ (\d+)", said)[1]), signal.SIGTERM)
        return answer
    finally:
        server.stop()


def changed_certificate(start, folder):
    """Whether a name has a certificate of its own, and a new one in its place without a new process."""
    paths = folder / "other.crt", folder / "other.key"

    def put(name):
        for path in paths:
            shutil.copy(folder / f"{name}{path.suffix}", path)

    def use(server):
        if not ask(server.port, context(folder, "first"), host=OTHER) or not ask(server.port, context(folder)):
            return "no"
        put("second")
        # A moment for those who look at their files now and then.
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if ask(server.port, context(folder, "second"), host=OTHER):
                return "yes"
            time.sleep(0.1)
        return "by name only"

    put("first")
    try:
        return with_server(start, use, ("other", *map(str, paths)))
    except SystemExit:
        return "no"


def client_certificates(start, folder):
    def use(server):
        good, stranger, nobody = (
            ask(server.port, context(folder, client=client)) for client in ("client", "stranger", None))
        return yes(good and not stranger and not nobody)

    try:
        return with_server(start, use, ("clients", str(folder / "clients.crt")))
    except SystemExit:
        return "no"


def yes(is_so):
    return "yes" if is_so else "no"


ABILITIES = {
    "versions spoken as it comes": versions,
    "TLS 1.3 only, if told so": only_tls13,
    RESUMES: sessions(VERSION.TLSv1_3),
    RESUMES_AGAIN: sessions_again,
    "a session is taken up, TLS 1.2": sessions(VERSION.TLSv1_2),
    "… after 300 other clients": sessions_after_others,
    "… by the next process": sessions_after_restart,
    "a certificate by name, replaced while it runs": changed_certificate,
    "clients' certificates: asked for, a stranger's refused": client_certificates,
}
