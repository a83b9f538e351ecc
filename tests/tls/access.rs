//! Handshakes: which certificate clients get, who is let in, and who is not.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Authority, Client, Upstream, dial, rsa_key, write_pair};
use super::{gateway, s_client, subject, until};

#[tokio::test]
async fn clients_get_the_certificate_for_the_name_they_ask_for() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    for (arguments, expected) in [
        (&["-servername", "a.example"][..], "a.example"),
        (&["-servername", "A.Example"], "a.example"),
        (&["-servername", "x.b.example"], "*.b.example"),
        (&["-servername", "b.example"], "a.example"),
        (&["-servername", "nobody.example"], "a.example"),
        (&["-noservername"], "a.example"),
    ] {
        let said = s_client(gateway.address, arguments, "").await;
        assert_eq!(subject(&said), Some(expected), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn keys_of_both_kinds_serve_the_clients_that_understand_them() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let pair = authority.sign_with(&["a.example"], &rsa_key(), |_| {});
    write_pair(gateway.directory.path(), "rsa", &pair);
    gateway.edit(
        "key: b.key }]",
        "key: b.key }, { cert: rsa.pem, key: rsa.key }]",
    );
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    for (version, signatures, expected) in [
        ("-tls1_3", "ECDSA+SHA256", "ECDSA"),
        ("-tls1_3", "RSA-PSS+SHA256", "RSA-PSS"),
        ("-tls1_2", "ECDSA+SHA256", "ECDSA"),
        ("-tls1_2", "RSA-PSS+SHA256", "RSA-PSS"),
        ("-tls1_2", "ECDSA+SHA256:RSA-PSS+SHA256", "ECDSA"),
    ] {
        let arguments = [version, "-sigalgs", signatures, "-servername", "a.example"];
        let said = s_client(gateway.address, &arguments, "").await;
        let expected = format!("Peer signature type: {expected}");
        assert!(said.contains(&expected), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn old_versions_are_refused() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let usual = gateway(&authority, &upstream, "").await;
    let strict = gateway(&authority, &upstream, "min_version: 1.3").await;
    for (gateway, version, expected) in [
        (&usual, "-tls1_1", None),
        (&usual, "-tls1_2", Some("a.example")),
        (&usual, "-tls1_3", Some("a.example")),
        (&strict, "-tls1_2", None),
        (&strict, "-tls1_3", Some("a.example")),
    ] {
        let arguments = [version, "-cipher", "DEFAULT:@SECLEVEL=0"];
        let said = s_client(gateway.address, &arguments, "").await;
        assert_eq!(subject(&said), expected, "{version}: {said}");
        let is_told = said.contains("SSL alert number");
        assert_eq!(is_told, expected.is_none(), "{version}: {said}");
    }
}

#[tokio::test]
async fn strict_listeners_refuse_unknown_names_and_none() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "strict_sni: true").await;
    for (arguments, expected) in [
        (&["-servername", "x.b.example"][..], Some("*.b.example")),
        (&["-servername", "nobody.example"], None),
        (&["-noservername"], None),
    ] {
        let said = s_client(gateway.address, arguments, "").await;
        assert_eq!(subject(&said), expected, "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn requests_come_through_and_backends_are_told_how() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let config = Arc::new(authority.client(&["http/1.1"]));
    let stream = dial(gateway.address, "a.example", &config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut client = Client::over(stream, "a.example").await;
    for _ in 0..3 {
        client.get("/x").await.assert_status(200);
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        seen[0].header("forwarded"),
        Some("for=127.0.0.1;host=\"a.example\";proto=https")
    );
    upstream.assert_connections(1, &gateway);
}

#[tokio::test]
async fn what_does_not_encrypt_is_told_so() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let answer = gateway
        .exchange(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.ends_with("this port speaks TLS: ask with https://...\n"),
        "{answer}"
    );
    for garbage in [
        &b"\0\0\0\0"[..],
        b"\x16\x03\x01\x00\x05hello",
        b"\x16GET / HTTP/1.1\r\n\r\n",
    ] {
        let answer = gateway.exchange(garbage).await;
        assert!(!answer.contains("HTTP/1.1"), "{answer}");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_client_that_does_not_end_its_handshake_is_closed() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "handshake_timeout: 300ms").await;
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
        let _ = end.await.expect("it is closed");
        assert_eq!(rest, b"", "{begun:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_content() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let resolve = format!("a.example:{}:127.0.0.1", gateway.address.port());
    let url = format!("https://a.example:{}/x", gateway.address.port());
    for (version, expected) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let output = std::process::Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--cacert",
                "ca.pem",
                "--resolve",
                &resolve,
            ])
            .args([
                version,
                "--write-out",
                " %{http_version} %{ssl_verify_result}",
                &url,
            ])
            .current_dir(gateway.directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, format!("hello {expected} 0"));
    }
}

#[tokio::test]
async fn only_the_ciphers_that_are_written_are_spoken_and_the_first_is_preferred() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let suites = "cipher_suites: [TLS_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256, \
                  TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]";
    let gateway = gateway(&authority, &upstream, suites).await;
    for (arguments, expected) in [
        (&["-tls1_3"][..], "TLS_CHACHA20_POLY1305_SHA256"),
        (
            &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
            "TLS_AES_128_GCM_SHA256",
        ),
        (
            &["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
            "(NONE)",
        ),
        (&["-tls1_2"], "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"],
            "(NONE)",
        ),
    ] {
        let said = s_client(gateway.address, arguments, "").await;
        assert!(
            said.contains(&format!("Cipher is {expected}\n")),
            "{arguments:?}: {said}"
        );
    }
}

#[tokio::test]
async fn the_cipher_is_the_gateways_choice_but_for_clients_that_would_rather_have_chacha20() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let (strong, weak) = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256");
    let chacha = "TLS_CHACHA20_POLY1305_SHA256";
    for (offered, expected) in [
        ([weak, strong, chacha], strong),
        ([weak, chacha, strong], strong),
        ([chacha, weak, strong], chacha),
    ] {
        let offered = offered.join(":");
        let arguments = ["-tls1_3", "-ciphersuites", &offered];
        let said = s_client(gateway.address, &arguments, "").await;
        let expected = format!("Cipher is {expected}\n");
        assert!(said.contains(&expected), "{offered}: {said}");
    }
    let (strong, weak) = (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    );
    let (chacha, unknown) = ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-SHA");
    for (offered, expected) in [
        ([weak, strong, chacha], strong),
        ([unknown, weak, chacha], weak),
        ([unknown, chacha, strong], chacha),
        ([chacha, weak, strong], chacha),
    ] {
        let offered = offered.join(":");
        let arguments = ["-tls1_2", "-cipher", &offered];
        let said = s_client(gateway.address, &arguments, "").await;
        let expected = format!("Cipher is {expected}\n");
        assert!(said.contains(&expected), "{offered}: {said}");
    }
}

#[tokio::test]
async fn what_the_authority_says_of_a_certificate_is_shown_with_it() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let folder = gateway.directory.path();
    authority.write_own(folder);
    let chain = std::fs::read_to_string(folder.join("a.pem")).unwrap() + authority.pem();
    std::fs::write(folder.join("chain.pem"), chain).unwrap();
    // The authority's book, and a response by it that is good for a day.
    let respond = "serial=$(openssl x509 -in a.pem -noout -serial | cut -d= -f2)
        printf 'V\\t491231235959Z\\t\\t%s\\tunknown\\t/CN=a.example\\n' $serial > index.txt
        openssl ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert a.pem \
            -respout a.ocsp -ndays 1 >/dev/null 2>&1";
    let done = std::process::Command::new("sh")
        .args(["-c", respond])
        .current_dir(folder)
        .status();
    assert!(done.unwrap().success());
    gateway.edit(
        "cert: a.pem, key: a.key",
        "cert: chain.pem, key: a.key, ocsp: a.ocsp",
    );
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    let status =
        async |name| s_client(gateway.address, &["-status", "-servername", name], "").await;
    let said = status("a.example").await;
    assert!(said.contains("OCSP Response Status: successful"), "{said}");
    assert!(said.contains("Cert Status: good"), "{said}");
    let said = status("x.b.example").await;
    assert!(said.contains("OCSP response: no response sent"), "{said}");
    gateway.edit(
        "cert: b.pem, key: b.key",
        "cert: b.pem, key: b.key, ocsp: a.ocsp",
    );
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_ne!(code, 0);
    assert!(
        said.contains("`a.ocsp` can't be told to be about this certificate"),
        "{said}"
    );
}

#[tokio::test]
async fn handshakes_are_counted_by_what_came_of_them() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "handshake_timeout: 1s").await;
    for arguments in [&["-tls1_3"][..], &["-tls1_2"], &["-tls1_2"]] {
        s_client(gateway.address, arguments, "").await;
    }
    s_client(gateway.address, &["-tls1_3", "-groups", "ffdhe2048"], "").await;
    gateway.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
    let silent = TcpStream::connect(gateway.address).await.unwrap();
    let counts = [
        ("handshakes_total{version=\"1.3\",session=\"new\"}", 1),
        ("handshakes_total{version=\"1.2\",session=\"new\"}", 2),
        ("handshakes_total{version=\"1.2\",session=\"resumed\"}", 0),
        ("handshake_failures_total{reason=\"failed\"}", 1),
        ("handshake_failures_total{reason=\"not_tls\"}", 1),
        ("handshake_failures_total{reason=\"timeout\"}", 1),
    ];
    let counts = counts.map(|(name, count)| format!("tollgate_tls_{name} {count}\n"));
    until(
        async || {
            let metrics = gateway.admin("/metrics").await.text();
            counts.iter().all(|line| metrics.contains(line))
        },
        "they are not counted",
    )
    .await;
    drop(silent);
}
