//! API keys, driven from outside.

use crate::support::{Answer, Gateway, Upstream};

/// A new key and its digest, as `tollgate hash-key` prints them.
fn new_key() -> (String, String) {
    let output = crate::support::run(&["hash-key"], std::path::Path::new("."));
    let printed = String::from_utf8(output.stdout).unwrap();
    let word = |line: usize| printed.lines().nth(line)?.split_whitespace().nth(1);
    (word(0).unwrap().to_owned(), word(1).unwrap().to_owned())
}

/// A gateway whose keys are in a file, and the keys of `acme`, which has two, and of `globex`.
async fn gateway(upstream: &Upstream) -> (Gateway, [String; 3]) {
    let [
        (first, first_digest),
        (second, second_digest),
        (third, third_digest),
    ] = [new_key(), new_key(), new_key()];
    let folder = tempfile::tempdir().unwrap();
    let keys = format!(
        "acme: [\"{first_digest}\", \"{second_digest}\"]\n# since May\nglobex: {third_digest}\n"
    );
    std::fs::write(folder.path().join("keys.yaml"), keys).unwrap();
    let config = format!(
        r#"
server: {{ listen: $LISTEN, threads: 2, watch_files: false }}
admin: {{ listen: $ADMIN }}
auth_providers:
  partners:
    api_key:
      from: ["header:X-Api-Key", bearer, "cookie:key", "query:key"]
      keys: {{ file: keys.yaml }}
      forward_name: X-Partner
  hidden:
    api_key: {{ from: ["header:X-Api-Key", bearer], keys: {{ acme: "{first_digest}" }}, hide_credentials: true }}
consumers:
  acme_inc: {{ credentials: {{ partners: acme }}, groups: [gold, eu] }}
services:
  a:
    base_url: http://{}
    routes:
      - {{ path: /a, auth: partners }}
      - {{ path: /gold, auth: {{ provider: partners, require: {{ groups: gold }} }} }}
      - {{ path: /hidden, auth: hidden }}
      - {{ path: /any, auth: {{ any_of: [hidden, partners], anonymous: true }} }}
      - /open
"#,
        upstream.address
    );
    let gateway = Gateway::start_in(folder, &config, &[]).await;
    (gateway, [first, second, third])
}

async fn present(gateway: &Gateway, path: &str, key: &str) -> Answer {
    gateway.get(path).header("x-api-key", key).send().await
}

#[tokio::test]
async fn a_key_opens_in_each_of_its_places_and_in_one_only() {
    let upstream = Upstream::echo().await;
    let (gateway, [key, other, _]) = gateway(&upstream).await;
    let in_query = format!("/a?x=1&key={key}");
    let bearer = format!("Bearer {key}");
    let cookie = format!("a=b; key={key}");
    let in_header = ("x-api-key", &*key);
    for (path, fields) in [
        ("/a", vec![in_header]),
        ("/a", vec![("authorization", &*bearer)]),
        ("/a", vec![("cookie", &*cookie)]),
        (&in_query, vec![]),
    ] {
        let send = async |more: &[(&str, &str)]| {
            let request = gateway.get(path);
            let fields = fields.iter().chain(more);
            let request = fields.fold(request, |request, (name, value)| {
                request.header(name, value)
            });
            request.send().await
        };
        send(&[]).await.assert_status(200);
        // Even if both are good.
        if !fields.contains(&in_header) {
            send(&[in_header]).await.assert_status(401);
        }
        send(&[("x-api-key", &other), ("x-api-key", &key)])
            .await
            .assert_status(401);
    }
    let both = format!("/a?key={key}&key={other}");
    gateway.get(&both).send().await.assert_status(401);
    assert_eq!(upstream.seen().len(), 4);
}

#[tokio::test]
async fn every_bad_key_is_401() {
    let upstream = Upstream::echo().await;
    let (gateway, [key, ..]) = gateway(&upstream).await;
    let digest = std::fs::read_to_string(gateway.directory.path().join("keys.yaml")).unwrap();
    let digest = digest.split('"').nth(1).unwrap();
    for bad in [
        "",
        "tg_",
        &key[..key.len() - 1],
        &format!("{key}A"),
        &format!("{key} {key}"),
        &format!("{key},"),
        &key.to_uppercase(),
        digest,
        digest.trim_start_matches("sha256:"),
        &"a".repeat(2000),
        "\u{e9}",
    ] {
        let answer = present(&gateway, "/a", bad).await;
        assert_eq!(answer.status, 401, "{bad}: {answer:?}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("ApiKey realm=\"tollgate\"")
        );
        assert!(
            bad.len() < 4 || !answer.text().contains(bad),
            "{bad} is shown"
        );
    }
    gateway.get("/a").send().await.assert_status(401);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn the_backend_is_told_whose_key_it_is_and_by_nobody_else() {
    let upstream = Upstream::echo().await;
    let (gateway, [first, second, third]) = gateway(&upstream).await;
    for (key, partner, consumer) in [
        (&first, "acme", Some("acme_inc")),
        (&second, "acme", Some("acme_inc")),
        (&third, "globex", None),
    ] {
        let request = gateway.get("/a").header("x-api-key", key);
        let request = request
            .header("X-Partner", "mallory")
            .header("x_partner", "mallory")
            .header("X-Consumer", "mallory")
            .header("x-consumer_groups", "gold");
        request.send().await.assert_status(200);
        let seen = upstream.last();
        assert_eq!(seen.headers("x-partner"), [partner]);
        assert_eq!(seen.header("x-consumer"), consumer);
        assert_eq!(
            seen.header("x-consumer-groups"),
            consumer.map(|_| "gold,eu")
        );
        assert_eq!(seen.header("x_partner"), None);
        assert_eq!(seen.header("x-consumer_groups"), None);
        assert_eq!(seen.header("x-api-key"), Some(&**key));
    }
    let request = gateway.get("/open").header("x-partner", "mallory");
    request.send().await.assert_status(200);
    assert_eq!(upstream.last().header("x-partner"), None);
    present(&gateway, "/gold", &first).await.assert_status(200);
    present(&gateway, "/gold", &third).await.assert_status(403);
}

#[tokio::test]
async fn a_key_that_is_hidden_does_not_reach_the_backend() {
    let upstream = Upstream::echo().await;
    let (gateway, [key, ..]) = gateway(&upstream).await;
    let bearer = format!("Bearer {key}");
    for (name, value) in [("x-api-key", &key), ("authorization", &bearer)] {
        let request = gateway.get("/hidden").header(name, value);
        request
            .header("x-other", "1")
            .send()
            .await
            .assert_status(200);
        let seen = upstream.last();
        assert_eq!(seen.header(name), None);
        assert_eq!(seen.header("x-other"), Some("1"));
    }
}

#[tokio::test]
async fn a_key_is_replaced_by_another_without_a_gap() {
    let upstream = Upstream::echo().await;
    let (gateway, [first, second, third]) = gateway(&upstream).await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for key in [&first, &second, &third] {
            statuses.push(present(&gateway, "/a", key).await.status.as_u16());
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200, 200]);
    let file = gateway.directory.path().join("keys.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (digest, _) = text.split_once(", ").unwrap();
    let digest = digest.trim_start_matches("acme: [");
    std::fs::write(&file, text.replace(&format!("{digest}, "), "")).unwrap();
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    assert_eq!(statuses().await, [401, 200, 200]);
    // What can't be read changes nothing, and is not shown: it may be a key.
    std::fs::write(&file, format!("acme: {first}\n")).unwrap();
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("this is no digest of a key of `acme`"),
        "{said}"
    );
    assert!(!said.contains(&first), "{said}");
    assert_eq!(statuses().await, [401, 200, 200]);
}

#[tokio::test]
async fn a_bad_key_is_not_as_good_as_none() {
    let upstream = Upstream::echo().await;
    let (gateway, [first, second, _]) = gateway(&upstream).await;
    gateway.get("/any").send().await.assert_status(200);
    assert_eq!(upstream.last().header("x-partner"), None);
    // The first provider knows the one, and the next one the other.
    present(&gateway, "/any", &first).await.assert_status(200);
    assert_eq!(upstream.last().header("x-partner"), None);
    present(&gateway, "/any", &second).await.assert_status(200);
    assert_eq!(upstream.last().header("x-partner"), Some("acme"));
    for bad in ["unknown", "not a key"] {
        present(&gateway, "/any", bad).await.assert_status(401);
    }
    let twice = format!("/any?key={first}");
    let request = gateway.get(&twice).header("x-api-key", &second);
    request.send().await.assert_status(401);
}
