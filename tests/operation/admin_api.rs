//! What operators read on their address: the configuration, its routes, consumers and cache, what would become of
//! a request, and the document that describes all of that, driven from outside.

use crate::support::{Answer, Gateway, MessageSigner, Request, Upstream};
use hyper::Method;
use serde_json::{Value, json};

const TOKEN: &str = "0123456789abcdef";
const KEY: &str = "a-key-that-nobody-may-see-1234567890";
const ACME: MessageSigner = MessageSigner {
    key: "acme",
    secret: KEY,
};
/// The SHA-256 digest of nothing that anybody has.
const DIGEST: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A gateway of which an operator sees much, and whose secrets are these: `KEY`, `DIGEST`, `TOKEN`, and what is
/// in the variable `PASSWORD`.
async fn start(upstream: &Upstream) -> Gateway {
    let config = format!(
        "server: {{ listen: $LISTEN, threads: 2, watch_files: false }}
admin: {{ listen: $ADMIN, token: \"{TOKEN}\" }}
headers: {{ request: {{ set: {{ X-From: gateway, Authorization: \"Bearer {KEY}\" }} }} }}
auth_providers:
  partners: {{ signature: {{ keys: {{ acme: \"{KEY}\" }}, components: [\"@path\"], body: off }} }}
  keys: {{ api_key: {{ keys: {{ anna: \"{DIGEST}\" }} }} }}
consumers:
  acme: {{ credentials: {{ partners: acme, keys: [anna, otto] }}, groups: [gold] }}
consumer_groups:
  gold: {{ rate_limit: {{ limit: 100, window: 1m }} }}
services:
  shop:
    base_url: http://{}
    routes:
    - {{ path: \"/orders/{{id}}\", methods: [GET], rate_limit: {{ limit: 9, window: 1m }} }}
    - {{ prefix: /signed, auth: partners }}
    - {{ path: /kept, cache: {{ ttl: 1m, shared: true }} }}
    - {{ path: /old, redirect: {{ to: /new }} }}
    - path: /secret
      headers:
        request:
          set: {{ Authorization: \"Basic ${{PASSWORD:-}}\", X-Api-Key: {KEY} }}
",
        upstream.address
    );
    let directory = tempfile::tempdir().unwrap();
    Gateway::start_in(directory, &config, &[("PASSWORD", "hunter2")]).await
}

async fn json(gateway: &Gateway, path: &str) -> Value {
    gateway.admin(path).await.assert_status(200).json()
}

async fn explain(gateway: &Gateway, query: &str) -> Value {
    json(gateway, &format!("/explain?{query}")).await
}

#[tokio::test]
async fn the_configuration_is_shown_with_defaults_and_places() {
    let upstream = Upstream::echo().await;
    let gateway = start(&upstream).await;
    let report = json(&gateway, "/config").await;
    assert_eq!(
        (&report["file"], &report["generation"]),
        (&json!("gateway.yaml"), &json!(1))
    );
    let (config, origins) = (&report["config"], &report["origins"]);
    assert_eq!(config["server"]["threads"], 2);
    assert_eq!(config["server"]["timeouts"]["keepalive"], "1m15s");
    assert_eq!(
        config["services"]["shop"]["routes"][0]["path"],
        "/orders/{id}"
    );
    assert_eq!(
        origins["/services/shop/routes/0/path"],
        "gateway.yaml:15:15"
    );
    assert_eq!(origins["/server/timeouts/keepalive"], Value::Null);

    gateway.edit("limit: 9,", "limit: 8,");
    let reload = Request::new(gateway.admin, Method::POST, "/reload");
    let reload = reload.header("authorization", &format!("Bearer {TOKEN}"));
    reload.send().await.assert_status(200);
    let report = json(&gateway, "/config").await;
    let limit = &report["config"]["services"]["shop"]["routes"][0]["rate_limit"][0]["limit"];
    assert_eq!((limit, &report["generation"]), (&json!(8), &json!(2)));
}

#[tokio::test]
async fn nothing_secret_is_told_to_anybody() {
    let upstream = Upstream::echo().await;
    let gateway = start(&upstream).await;
    // What is changed is told, too, but for the value itself.
    gateway.edit(&format!("X-Api-Key: {KEY}"), &format!("X-Api-Key: {KEY}9"));
    let changes = json(&gateway, "/diff").await["changes"]["changed"].clone();
    assert_eq!(changes[0]["changes"][0]["key"], "headers", "{changes}");
    assert!(!changes.to_string().contains(KEY), "{changes}");
    // Its findings quote the file, in which secrets are written plainly.
    let report = json(&gateway, "/diff").await["report"].to_string();
    assert!(
        report.contains("token: *") && report.contains("acme: *"),
        "{report}"
    );
    assert!(!report.contains(TOKEN) && !report.contains(KEY), "{report}");
    for path in [
        "/config",
        "/routes",
        "/consumers",
        "/explain?url=/secret",
        "/explain?url=/kept",
        "/status",
    ] {
        let text = gateway.admin(path).await.assert_status(200).text();
        for secret in [KEY, TOKEN, DIGEST, "hunter2"] {
            assert!(!text.contains(secret), "{path}: {text}");
        }
    }
    let (_, printed, _) = gateway.command(&["explain", "/secret"]).await;
    assert!(
        printed.contains("X-Api-Key: ***") && !printed.contains(KEY),
        "{printed}"
    );
    let config = json(&gateway, "/config").await["config"].clone();
    assert_eq!(config["admin"]["token"], "***");
    let set = &config["services"]["shop"]["routes"][4]["headers"]["request"]["set"];
    assert_eq!(*set, json!({"Authorization": "***", "X-Api-Key": "***"}));
    assert_eq!(config["headers"]["request"]["set"]["X-From"], "gateway");
}

#[tokio::test]
async fn routes_are_listed_as_they_are_and_counted() {
    let upstream = Upstream::echo().await;
    let gateway = start(&upstream).await;
    gateway.get("/orders/7").send().await.assert_status(200);
    gateway.log(1).await;
    let routes = json(&gateway, "/routes").await;
    assert_eq!(routes.as_array().unwrap().len(), 5);
    let first = &routes[0];
    for (field, value) in [
        ("name", json!("/orders/{id}")),
        ("service", json!("shop")),
        ("place", json!("gateway.yaml:15:7")),
        ("methods", json!(["GET"])),
        ("hosts", json!([])),
        ("kind", json!("template")),
        ("action", json!("forward")),
        ("services", json!([{"service": "shop", "weight": 1}])),
        ("requests", json!(1)),
        ("errors", json!(0)),
    ] {
        assert_eq!(first[field], value, "{first}");
    }
    assert_eq!(first["policies"][0]["name"], "rate_limit");
    assert_eq!(first["policies"][0]["level"], "route");
    assert_eq!(
        (&routes[1]["kind"], &routes[3]["action"]),
        (&json!("prefix"), &json!("redirect"))
    );

    let (code, table, _) = gateway.command(&["routes"]).await;
    assert_eq!(code, 0);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("route "), "{table}");
    let cells: Vec<&str> = lines[1].split_whitespace().collect();
    let row = [
        "/orders/{id}",
        "template",
        "GET",
        "any",
        "shop",
        "rate_limit,headers",
        "1",
        "0",
    ];
    assert_eq!(cells, row, "{table}");
    let (_, printed, _) = gateway.command(&["routes", "--json"]).await;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, routes);
}

#[tokio::test]
async fn a_request_is_explained_as_the_command_explains_it() {
    let upstream = Upstream::echo().await;
    let gateway = start(&upstream).await;
    let explained = explain(&gateway, "url=/orders/7").await;
    assert_eq!(explained["decision"], "route");
    assert_eq!(
        (&explained["route"], &explained["service"]),
        (&json!("/orders/{id}"), &json!("shop"))
    );
    assert_eq!(
        explained["urls"],
        json!([format!("http://{}/orders/7", upstream.address)])
    );
    let wrong = explain(&gateway, "url=/orders/7&method=POST").await;
    assert_eq!(
        (&wrong["decision"], &wrong["allow"]),
        (&json!("method_not_allowed"), &json!(["GET", "HEAD"]))
    );
    assert_eq!(wrong["not_taken"][0]["place"], "gateway.yaml:15:7");
    assert_eq!(
        explain(&gateway, "url=/none").await["decision"],
        "not_found"
    );
    let kept = explain(&gateway, "url=http%3A%2F%2Fh%2Fkept%3Fa%3D1").await;
    assert_eq!(kept["cache"]["location"], "h/kept?a=1");
    for query in [
        "",
        "url=",
        "url=/a&method=%20",
        "url=/a&header=x",
        "url=/a&what=x",
        "url=/%00",
    ] {
        gateway
            .admin(&format!("/explain?{query}"))
            .await
            .assert_status(400);
    }

    // What the command prints is made of the same.
    for path in ["/orders/7", "/kept", "/old", "/signed"] {
        let explained = explain(&gateway, &format!("url={path}")).await;
        let (_, printed, _) = gateway.command(&["explain", path]).await;
        let policies = explained["policies"].as_array().unwrap().iter();
        let texts = policies.flat_map(|it| [&it["text"], &it["place"]]);
        for text in texts.chain([&explained["place"], &explained["credentials"]["reason"]]) {
            assert!(
                printed.contains(text.as_str().unwrap_or_default()),
                "{text}: {printed}"
            );
        }
    }
}

#[tokio::test]
async fn a_signature_that_is_explained_can_still_be_used() {
    let upstream = Upstream::echo().await;
    let gateway = start(&upstream).await;
    let none = explain(&gateway, "url=/signed/a").await["credentials"].clone();
    assert_eq!(
        (&none["outcome"], &none["provider"]),
        (&json!("refused"), &Value::Null)
    );

    let signature = ACME.sign(&[("@path", "/signed/a")]);
    let fields = [
        ("signature-input", &signature.input),
        ("signature", &signature.value),
    ];
    let query: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("header={}", encoded(&format!("{name}: {value}"))))
        .collect();
    let query = format!("url=/signed/a&{}", query.join("&"));
    for _ in 0..2 {
        let shown = explain(&gateway, &query).await["credentials"].clone();
        assert_eq!(shown["outcome"], "accepted", "{shown}");
        assert_eq!(
            (&shown["subject"], &shown["consumer"]),
            (&json!("acme"), &json!("acme"))
        );
    }
    let send = async || gateway.get("/signed/a").signature(&signature).send().await;
    send().await.assert_status(200);
    send().await.assert_status(401);
    let shown = explain(&gateway, &query).await["credentials"].clone();
    assert_eq!(shown["outcome"], "refused", "{shown}");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn consumers_cache_and_certificates_are_told_of() {
    let upstream = Upstream::answering(|_| {
        let answer = hyper::Response::builder().header("cache-control", "max-age=60");
        answer.body("kept".into()).unwrap()
    })
    .await;
    let gateway = start(&upstream).await;
    let consumers = json(&gateway, "/consumers").await;
    let acme = &consumers[0];
    assert_eq!(
        (&acme["name"], &acme["groups"]),
        (&json!("acme"), &json!(["gold"]))
    );
    let counts = json!([
        {"provider": "partners", "kind": "signature", "count": 1},
        {"provider": "keys", "kind": "api_key", "count": 2},
    ]);
    assert_eq!(acme["credentials"], counts);
    assert_eq!(
        (&acme["limits"][0]["quota"], &acme["limits"][0]["window"]),
        (&json!(100), &json!("1m"))
    );

    for _ in 0..3 {
        gateway.get("/kept").send().await.assert_status(200);
    }
    gateway.log(3).await;
    let cache = json(&gateway, "/cache").await;
    assert_eq!(
        (&cache["objects"], &cache["max_bytes"]),
        (&json!(1), &json!(256 << 20))
    );
    assert_eq!(
        (&cache["results"]["miss"], &cache["results"]["hit"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(json(&gateway, "/certificates").await, json!([]));
}

/// Everything that the document speaks of is asked for, and what comes is as it says.
#[tokio::test]
async fn every_operation_answers_as_the_document_says() {
    let upstream = Upstream::echo().await;
    let gateway = start(&upstream).await;
    gateway.get("/orders/7").send().await.assert_status(200);
    let text = gateway
        .admin("/openapi.json")
        .await
        .assert_status(200)
        .text();
    let read = oas3::from_json(text.as_str()).unwrap();
    assert!(read.operations().count() >= 16);
    let document: Value = serde_json::from_str(&text).unwrap();
    let endpoint = format!("http://{}", upstream.address);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let answer = ask(&gateway, &endpoint, path, method, operation).await;
            check(&document, operation, &answer, &format!("{method} {path}"));
        }
    }
}

/// Asks for an operation with what it needs, and no more.
async fn ask(
    gateway: &Gateway,
    endpoint: &str,
    path: &str,
    method: &str,
    operation: &Value,
) -> Answer {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let required = parameters.filter(|it| it["required"] == true);
    let query: Vec<String> = required
        .map(|it| {
            let name = it["name"].as_str().unwrap();
            let value = match name {
                "url" => "/orders/7".to_owned(),
                "limit" => "/orders/%7Bid%7D&key=127.0.0.1".to_owned(),
                "service" => "shop".to_owned(),
                "endpoint" => endpoint.to_owned(),
                "state" => "automatic".to_owned(),
                "level" => "debug".to_owned(),
                other => panic!("no value for `{other}`"),
            };
            format!("{name}={value}")
        })
        .collect();
    let target = format!("{path}?{}", query.join("&"));
    let request = Request::new(gateway.admin, method_of(method, operation), &target);
    let request = request.header("authorization", &format!("Bearer {TOKEN}"));
    let request = match path {
        "/purge" => request.body(r#"{ "target": { "url": "h/kept" } }"#),
        _ => request,
    };
    request.send().await
}

/// How an operation is asked for; of events that never end, only the header.
fn method_of(method: &str, operation: &Value) -> Method {
    match operation["responses"]["200"]["content"].get("text/event-stream") {
        Some(_) => Method::HEAD,
        None => Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap(),
    }
}

fn check(document: &Value, operation: &Value, answer: &Answer, name: &str) {
    let status = answer.status.as_u16();
    assert_eq!(status, 200, "{name}: {}", answer.text());
    let contents = operation["responses"][status.to_string()]["content"].as_object();
    let contents = contents.unwrap_or_else(|| panic!("{name}: {status} is not described"));
    let kind = answer.header("content-type").unwrap();
    let kind = kind.split(';').next().unwrap();
    let content = contents
        .get(kind)
        .unwrap_or_else(|| panic!("{name}: {kind} is not described"));
    if kind == "application/json" {
        let schema = json!({ "allOf": [content["schema"]], "components": document["components"] });
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(&answer.json())
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}\n{}", answer.text());
    }
}

#[tokio::test]
async fn what_may_be_read_without_the_token_is_read_on_this_machine_only() {
    let upstream = Upstream::echo().await;
    let gateway = start(&upstream).await;
    let document = json(&gateway, "/openapi.json").await;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = format!("{method} {path}");
            let method = method_of(method, operation);
            let request = || Request::new(gateway.admin, method.clone(), path);
            let is_lured = request().header("host", "evil.example").send().await;
            match operation["security"].as_array().unwrap()[..] {
                // Anybody.
                [] => {
                    is_lured.assert_status(200);
                }
                // A reader.
                [_, _] => {
                    is_lured.assert_status(403);
                    let status = request().send().await.status.as_u16();
                    assert!(![401, 403].contains(&status), "{name}: {status}");
                }
                // Who changes something, whatever the page it comes from.
                _ => {
                    is_lured.assert_status(401);
                    request().send().await.assert_status(401);
                    let wrong = request().header("authorization", "Bearer wrong");
                    wrong.send().await.assert_status(401);
                    let origin = request().header("origin", "http://evil.example");
                    origin.send().await.assert_status(401);
                }
            }
        }
    }
}
