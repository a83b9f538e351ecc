"""The servers that are compared, each configured for the same work on one worker.

Scenarios: `bare` forwards one path; `policies` adds a rate limit by address, a verified HS256 token
and an access log in JSON, where the peer can do that; `routes` forwards one path among 1,000; `full` is
`policies` among 1,000 routes. In all of them backends are told where a request came from
(`X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded`, `Via`, a request id), as Tollgate always does; only
the two empty proxies tell nothing.
"""

import base64
import json
import os
import shutil
from pathlib import Path

HERE = Path(__file__).parent
SECRET = "benchmark-secret-0123456789abcdef"
ROUTES = 1000
SCENARIOS = ["bare", "policies", "routes", "full"]


def target(scenario):
    """The path that is requested."""
    return "/r777/items/42" if has_routes(scenario) else "/r0/items/42"


def has_routes(scenario):
    return scenario in ("routes", "full")


def has_policies(scenario):
    return scenario in ("policies", "full")


def names(scenario):
    return [f"r{n}" for n in range(ROUTES if has_routes(scenario) else 1)]


class Peer:
    """A server: how it is started for a scenario, and what it can't do."""

    name = ""
    scenarios = SCENARIOS
    can_be_counted = True
    lacks = ""

    def __init__(self, folder, backend):
        self.folder = folder
        self.backend = backend

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def log(self):
        return str(self.folder / f"{self.name}.log")


class Empty(Peer):
    name = "empty Pingora proxy"
    lacks = "policies, routes and log: always the bare proxy"

    def command(self, scenario, port):
        return ["target/release/examples/empty", f"127.0.0.1:{port}", self.backend], {}


class Tuned(Peer):
    name = "the same, tuned as Tollgate"

    def command(self, scenario, port):
        return ["target/release/examples/tuned", f"127.0.0.1:{port}", self.backend], {}


class Tollgate(Peer):
    name = "Tollgate"

    def command(self, scenario, port):
        routes = "".join(f'      - "/{name}/items/{{id}}"\n' for name in names(scenario))
        policies = f"""
log: {{ access: {{ output: {self.log()} }} }}
rate_limit: {{ limit: 1000000, window: 1s }}
auth: main
auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: "${{SECRET}}" }} }} }} }}
"""
        text = f"""
server: {{ listen: 127.0.0.1:{port}, threads: 1 }}
admin: off
{policies if has_policies(scenario) else "log: { access: off }"}
services:
  backend:
    base_url: http://{self.backend}
    routes:
{routes}"""
        path = self.write(f"tollgate-{scenario}.yaml", text)
        return ["target/release/tollgate", "run", "-c", path], {"SECRET": SECRET}


NGINX_FIELDS = {
    "time": "time_iso8601", "id": "request_id", "client": "remote_addr", "method": "request_method",
    "host": "http_host", "path": "uri", "protocol": "server_protocol", "endpoint": "upstream_addr",
    "status": "status", "request_bytes": "request_length", "response_bytes": "body_bytes_sent",
    "total": "request_time", "connected": "upstream_connect_time", "first_byte": "upstream_header_time",
}


class Nginx(Peer):
    name = "NGINX"
    lacks = "JWT (a commercial feature)"

    def command(self, scenario, port):
        limit = "limit_req zone=address burst=1000000 nodelay;" if has_policies(scenario) else ""
        proxy = f"proxy_pass http://backend; {limit}"
        locations = "\n".join(f"location /{name}/items/ {{ {proxy} }}" for name in names(scenario))
        fields = ", ".join(f'"{name}":"${variable}"' for name, variable in NGINX_FIELDS.items())
        log = "access_log off;"
        if has_policies(scenario):
            log = f"log_format line escape=json '{{{fields}}}'; access_log {self.log()} line buffer=64k flush=1s;"
        text = f"""
daemon off; master_process off; worker_processes 1; pid {self.folder}/nginx-{port}.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  {log}
  keepalive_requests 1000000000;
  proxy_http_version 1.1;
  proxy_set_header Connection '';
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header Forwarded 'for=$remote_addr;host="$http_host";proto=$scheme';
  proxy_set_header Via '1.1 nginx';
  proxy_set_header X-Request-Id $request_id;
  add_header X-Request-Id $request_id;
  limit_req_zone $binary_remote_addr zone=address:10m rate=1000000r/s;
  client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p;
  fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
  upstream backend {{ server {self.backend}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; {locations} }}
}}"""
        path = self.write(f"nginx-{scenario}.conf", text)
        return [which("nginx"), "-c", path], {}


class Haproxy(Peer):
    name = "HAProxy"

    def command(self, scenario, port):
        map_file = self.write("haproxy.map", "".join(f"/{name}/items/ backend\n" for name in names(scenario)))
        rules = ""
        if has_policies(scenario):
            rules = f"""
  log stdout len 4096 format raw local0
  log-format '{{"time":"%t","id":"%ID","client":"%ci","method":"%HM","path":"%HPO","protocol":"%HV","service":"%b","endpoint":"%s","status":%ST,"request_bytes":%U,"response_bytes":%B,"total":%Ta,"connected":%Tc,"first_byte":%Tr,"attempts":%rc,"flags":"%tsc"}}'
  stick-table type ip size 100k expire 10s store http_req_rate(10s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 100000000 }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_payload_query('$.exp','int') -m int gt 1 }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify("HS256","{SECRET}") -m int 1 }}
"""
        backend = (
            f"use_backend %[path,map_beg({map_file})]" if has_routes(scenario) else "default_backend backend"
        )
        text = f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend clients
  bind 127.0.0.1:{port}
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Forwarded for=%[src];host="%[req.hdr(host)]";proto=http
  http-request add-header Via "1.1 haproxy"
  http-response set-header X-Request-Id %[unique-id]
  {rules}
  {backend}
backend backend
  http-reuse always
  server one {self.backend} pool-max-conn 256
"""
        path = self.write(f"haproxy-{scenario}.cfg", text)
        return [which("haproxy"), "-db", "-f", path], {"STDOUT": self.log()}


class Caddy(Peer):
    name = "Caddy"
    lacks = "rate limits and JWT (third-party modules)"
    can_be_counted = False

    def command(self, scenario, port):
        log = f"log {{\n output file {self.log()}\n }}" if has_policies(scenario) else ""
        handlers = "\n".join(
            f"handle /{name}/items/* {{\n import proxy\n }}" for name in names(scenario)
        )
        snippet = f"""(proxy) {{
 reverse_proxy {self.backend} {{
  header_up Forwarded "for={{remote_host}};host={{host}};proto=http"
  header_up Via "1.1 caddy"
  header_up X-Request-Id {{http.request.uuid}}
  header_down X-Request-Id {{http.request.uuid}}
 }}
}}
"""
        text = f"{{\n admin off\n auto_https off\n}}\n{snippet}http://127.0.0.1:{port} {{\n{log}\n{handlers}\n}}\n"
        path = self.write(f"caddy-{scenario}", text)
        environment = {"GOMAXPROCS": "1", "HOME": str(self.folder)}
        return [which("caddy"), "run", "--adapter", "caddyfile", "--config", path], environment


ENVOY_FIELDS = {
    "time": "%START_TIME%", "id": "%REQ(X-REQUEST-ID)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%", "path": "%REQ(:PATH)%", "protocol": "%PROTOCOL%",
    "route": "%ROUTE_NAME%", "service": "%UPSTREAM_CLUSTER%", "endpoint": "%UPSTREAM_HOST%",
    "status": "%RESPONSE_CODE%", "request_bytes": "%BYTES_RECEIVED%", "response_bytes": "%BYTES_SENT%",
    "total": "%DURATION%", "pipeline": "%REQUEST_DURATION%", "first_byte": "%RESPONSE_DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "flags": "%RESPONSE_FLAGS%",
}


class Envoy(Peer):
    name = "Envoy"
    can_be_counted = False

    def command(self, scenario, port):
        filters = []
        if has_policies(scenario):
            key = base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")
            jwks = json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": key}]})
            filters.append(typed("envoy.filters.http.local_ratelimit", "local_ratelimit.v3.LocalRateLimit", {
                "stat_prefix": "limit",
                "token_bucket": {"max_tokens": 1000000000, "tokens_per_fill": 1000000000, "fill_interval": "1s"},
                "filter_enabled": {"default_value": {"numerator": 100}},
                "filter_enforced": {"default_value": {"numerator": 100}},
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
                "descriptors": [{
                    "entries": [{"key": "remote_address"}],
                    "token_bucket": {"max_tokens": 1000000, "tokens_per_fill": 1000000, "fill_interval": "1s"},
                }],
            }))
            filters.append(typed("envoy.filters.http.jwt_authn", "jwt_authn.v3.JwtAuthentication", {
                "providers": {"main": {"issuer": "bench", "local_jwks": {"inline_string": jwks},
                                       "jwt_cache_config": {"jwt_cache_size": 1000}}},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "main"}}],
            }))
        filters.append(typed("envoy.filters.http.router", "router.v3.Router", {}))
        manager = {
            "stat_prefix": "clients",
            "http_filters": filters,
            "use_remote_address": True,
            "via": "1.1 envoy",
            "always_set_request_id_in_response": True,
            "route_config": {
                "request_headers_to_add": [{"header": {
                    "key": "Forwarded",
                    "value": "for=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%;host=\"%REQ(:AUTHORITY)%\";proto=http",
                }}],
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": f"/{name}/items/"},
                     "route": {"cluster": "backend", "append_x_forwarded_host": True, "auto_host_rewrite": False}}
                    for name in names(scenario)
                ]}],
            },
        }
        if has_policies(scenario):
            limits = [{"actions": [{"remote_address": {}}]}]
            manager["route_config"]["virtual_hosts"][0]["rate_limits"] = limits
        if has_policies(scenario):
            manager["access_log"] = [{"name": "file", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": self.log(),
                "log_format": {"json_format": ENVOY_FIELDS},
            }}]
        config = {
            "static_resources": {
                "listeners": [{
                    "address": address(f"127.0.0.1:{port}"),
                    "filter_chains": [{"filters": [{
                        "name": "http",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network."
                                     "http_connection_manager.v3.HttpConnectionManager",
                            **manager,
                        },
                    }]}],
                }],
                "clusters": [{
                    "name": "backend", "type": "STATIC", "connect_timeout": "5s",
                    "circuit_breakers": {"thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]},
                    "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": address(self.backend)}}]}]},
                }],
            },
        }
        path = self.write(f"envoy-{scenario}.json", json.dumps(config))
        return [os.environ["ENVOY"], "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "error"], {}


class Go(Peer):
    name = "Go gateway"
    can_be_counted = False

    def command(self, scenario, port):
        text = f"Listen: 127.0.0.1:{port}\nservices:\n  backend:\n    base_url: http://{self.backend}\n    routes:\n"
        text += "".join(f"      - /{name}/items/\n" for name in names(scenario))
        if has_policies(scenario):
            text += f"AccessLog: {self.log()}\nJWTSecret: {SECRET}\nRateLimitWindow: 1s\nRateLimitCount: 100000000\n"
        path = self.write(f"go-{scenario}.yaml", text)
        return [os.environ["GO_GATEWAY"], path], {"GOMAXPROCS": "1"}


def typed(name, kind, fields):
    kind = f"type.googleapis.com/envoy.extensions.filters.http.{kind}"
    return {"name": name, "typed_config": {"@type": kind, **fields}}


def address(text):
    host, port = text.split(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def which(name):
    return shutil.which(name) or f"/usr/sbin/{name}"


ALL = [Empty, Tuned, Tollgate, Nginx, Haproxy, Envoy, Caddy, Go]
