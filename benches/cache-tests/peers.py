"""The caches that are compared: each in front of the suite's backend, as a shared cache that keeps what the
backend says and guesses nothing, and with everything else as it comes.

A function each, that writes a configuration and returns the command that runs the server by it.
"""

import os
import shutil
from pathlib import Path


def which(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def write(path, text):
    path.write_text(text)
    return str(path)


def tollgate(cache):
    """The gateway. It repeats no requests: the suite counts those that its backend gets."""

    def start(program, folder, port, origin):
        config = write(folder / "tollgate.yaml", f"""
server: {{ listen: 127.0.0.1:{port} }}
admin: off
log: {{ access: off }}
services:
  origin: {{ base_url: "http://127.0.0.1:{origin}", retry: off, cache: {cache}, routes: [{{ prefix: / }}] }}
""")
        return [program, "run", "-c", config]

    return start


def nginx(program, folder, port, origin):
    return [program, "-c", write(folder / "nginx.conf", f"""
user root;
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  proxy_cache_path {folder}/kept levels=1:2 keys_zone=kept:8m max_size=1g use_temp_path=off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache kept; proxy_cache_revalidate on;
    }}
  }}
}}""")]


def varnish(program, folder, port, origin):
    config = f'vcl 4.1;\nbackend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}\n'
    return [
        program, "-F", "-j", "none", "-n", str(folder / "varnish"), "-a", f"127.0.0.1:{port}", "-T", "none",
        "-f", write(folder / "default.vcl", config), "-s", "malloc,64m",
        "-p", "default_ttl=0", "-p", "default_grace=0", "-p", "default_keep=3600",
    ]


def apache(program, folder, port, origin):
    modules = Path("/usr/lib/apache2/modules")
    names = ["mpm_event", "authz_core", "proxy", "proxy_http", "cache", "cache_disk"]
    loads = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names)
    (folder / "kept").mkdir()
    shutil.chown(folder / "kept", "www-data")
    return [program, "-X", "-f", write(folder / "apache.conf", f"""
{loads}
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.log
User www-data
Group www-data
Listen 127.0.0.1:{port}
DefaultRuntimeDir {folder}
ProxyPass / http://127.0.0.1:{origin}/
CacheEnable disk /
CacheRoot {folder}/kept
CacheDefaultExpire 0
CacheIgnoreNoLastMod On
CacheStoreExpired On
""")]


def squid(program, folder, port, origin):
    shutil.chown(folder, "proxy")
    return [program, "-N", "-f", write(folder / "squid.conf", f"""
http_port 127.0.0.1:{port} accel defaultsite=localhost no-vhost
cache_peer 127.0.0.1 parent {origin} 0 no-query no-digest originserver default
http_access allow all
pid_filename {folder}/squid.pid
cache_log {folder}/squid.log
access_log none
cache_store_log none
coredump_dir {folder}
cache_mem 64 MB
pinger_enable off
shutdown_lifetime 1 second
""")]


def haproxy(program, folder, port, origin):
    return [program, "-db", "-f", write(folder / "haproxy.cfg", f"""
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
cache kept
  total-max-size 64
  max-object-size 100000
  max-age 3600
  process-vary on
  max-secondary-entries 12
frontend in
  bind 127.0.0.1:{port}
  filter cache kept
  http-request cache-use kept
  http-response cache-store kept
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin}
""")]


def trafficserver(program, folder, port, origin):
    config = folder / "etc"
    shutil.copytree("/etc/trafficserver", config)
    places = {"sysconfdir": config}
    for name in ("localstatedir", "runtimedir", "logdir", "cachedir"):
        places[name] = folder / name
        places[name].mkdir()
    places |= {"prefix": "/usr", "exec_prefix": "/usr", "bindir": "/usr/bin", "datadir": folder / "cachedir"}
    root = write(folder / "runroot.yaml", "".join(f"{name}: {place}\n" for name, place in places.items()))
    with (config / "records.config").open("a") as records:
        records.write(f"CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1\n")
    write(config / "remap.config", f"map / http://127.0.0.1:{origin}/\n")
    write(config / "storage.config", f"{folder}/cachedir 64M\n")
    for path in [folder, *folder.rglob("*")]:
        shutil.chown(path, "trafficserver", "trafficserver")
    return [program, "--run-root=" + root]


# Name, how it is started, its program, how it tells its version, and its file among the suite's own results.
PEERS = [
    ("NGINX", nginx, "nginx", ["-v"], "nginx"),
    ("Varnish", varnish, "varnishd", ["-V"], "varnish"),
    ("Apache Traffic Server", trafficserver, "traffic_server", ["--version"], "trafficserver"),
    ("Squid", squid, "squid", ["-v"], "squid"),
    ("Apache httpd", apache, "apache2", ["-v"], "apache"),
    ("HAProxy", haproxy, "haproxy", ["-v"], "haproxy"),
]
# Those that are only among the suite's own results.
RECORDED = [("Caddy, with its cache-handler", "caddy"), ("Fastly", "fastly")]
