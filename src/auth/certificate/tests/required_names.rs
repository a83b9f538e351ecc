//! The names that are asked for, and those that only look like them.

use openssl::x509::X509Name;

use super::*;
use crate::auth::certificate::distinguished_name::DistinguishedName;

#[test]
fn each_list_must_have_one_of_the_names() {
    let authority = authority("authority");
    let certificate = shown(&authority, |params| {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        alternatives(
            params,
            &[
                "a.Example.com",
                "spiffe://example.com/shop/a",
                "me@example.com",
            ],
        );
    });
    let der = STANDARD.decode(certificate.trim_matches(':')).unwrap();
    let digest = names::hexadecimal(&openssl::sha::sha256(&der));
    let upper = digest.to_uppercase();
    let pairs = upper.as_bytes().chunks(2);
    let pairs: Vec<_> = pairs.map(|it| std::str::from_utf8(it).unwrap()).collect();
    let with_colons = pairs.join(":");
    for (section, is_let_in) in [
        (json!({"subjects": "O=Example,CN=device-7"}), true),
        (
            json!({"subjects": ["CN=other", "O=Example,CN=device-7"]}),
            true,
        ),
        (json!({"subjects": "CN=device-7,O=Example"}), false),
        (json!({"subjects": "CN=device-7"}), false),
        (json!({"common_names": "device-7"}), true),
        (json!({"common_names": "device"}), false),
        (json!({"sans": "A.example.COM"}), true),
        (json!({"sans": "*.example.com"}), true),
        (json!({"sans": "*.com"}), false),
        (json!({"sans": "example.com"}), false),
        (json!({"sans": "xample.com"}), false),
        (json!({"sans": "me@example.com"}), true),
        (json!({"sans": "Me@example.com"}), false),
        (json!({"sans": "spiffe://example.com/shop/a"}), true),
        (json!({"sans": "spiffe://example.com/shop/*"}), true),
        (json!({"sans": "spiffe://example.com/*"}), true),
        (json!({"sans": "spiffe://example.com/shop"}), false),
        (json!({"sans": "spiffe://example.com/sho/*"}), false),
        (json!({"fingerprints": digest}), true),
        (json!({"fingerprints": with_colons}), true),
        (json!({"fingerprints": "00".repeat(32)}), false),
        (
            json!({"common_names": "device-7", "sans": "*.example.com"}),
            true,
        ),
        (
            json!({"common_names": "device-7", "sans": "b.example.com"}),
            false,
        ),
    ] {
        let certificates = certificates(&section.to_string());
        let found = ask(&certificates, &certificate, &[]).map(|_| ()).err();
        let expected = (!is_let_in).then_some(Refusal::WrongCertificate);
        assert_eq!(found, expected, "{section}");
    }
}

#[test]
fn no_name_leads_out_of_a_wildcard() {
    let authority = authority("authority");
    let certificates = certificates(
        "{ sans: [\"*.example.com\", \"spiffe://example.com/shop/*\"], subject_is: common_name }",
    );
    for (name, is_let_in) in [
        ("a.example.com", true),
        ("a.b.example.com", false),
        ("*.example.com", false),
        (".example.com", false),
        ("example.com", false),
        ("aexample.com", false),
        ("spiffe://example.com/shop/a/b", true),
        ("spiffe://example.com/shop/", false),
        ("spiffe://example.com/shop/../bank", false),
        ("spiffe://example.com/shop/./a", false),
        ("spiffe://example.com/shop//a", false),
        ("spiffe://example.com/shop/%2e%2e/bank", false),
        ("spiffe://example.com/shop/a?b", false),
        ("spiffe://example.com/shopping/a", false),
        ("spiffe://example.com.evil/shop/a", false),
    ] {
        let certificate = shown(&authority, |params| alternatives(params, &[name]));
        let found = ask(&certificates, &certificate, &[]).is_ok();
        assert_eq!(found, is_let_in, "{name}");
    }
}

#[test]
fn distinguished_names_are_told_from_each_other() {
    let authority = authority("authority");
    let subject = |change: &dyn Fn(&mut rcgen::DistinguishedName)| {
        let certificate = shown(&authority, |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            change(&mut params.distinguished_name);
        });
        ask(&certificates("{}"), &certificate, &[]).map(|it| it.subject().unwrap().to_owned())
    };
    let common_name = |text: &'static str| subject(&|name| name.push(DnType::CommonName, text));
    for (text, expected) in [
        ("a,O=b", "CN=a\\,O\\=b"),
        ("a+b;c<d>e\"f\\g", "CN=a\\+b\\;c\\<d\\>e\\\"f\\\\g"),
        ("#a#", "CN=\\#a#"),
        (" a b ", "CN=\\ a b\\ "),
        (" ", "CN=\\ "),
        ("Ärger", "CN=Ärger"),
        ("a\nb", "CN=a\\0Ab"),
        ("admin\0x", "CN=admin\\00x"),
    ] {
        let expected = expected.replace("\\=", "=");
        assert_eq!(common_name(text), Ok(expected), "{text}");
    }
    let custom = DnType::CustomDnType(vec![1, 2, 3, 4]);
    assert_eq!(
        subject(&|name| {
            name.push(custom.clone(), "a");
            let wide = rcgen::string::BmpString::try_from("a").unwrap();
            name.push(DnType::CommonName, DnValue::BmpString(wide));
        }),
        Ok("CN=#1E020061,1.2.3.4=a".to_owned())
    );
}

#[test]
fn attributes_of_one_part_are_no_parts_of_their_own() {
    let attribute = |kind: u8, text: &[u8]| {
        let value = [&[0x0c, text.len() as u8], text].concat();
        let object = [0x06, 3, 0x55, 4, kind];
        tagged(0x30, &[&object[..], &value].concat())
    };
    let (name, unit) = (attribute(3, b"a"), attribute(11, b"b"));
    let joined = tagged(0x30, &tagged(0x31, &[&name[..], &unit].concat()));
    let apart = [tagged(0x31, &name), tagged(0x31, &unit)].concat();
    let apart = tagged(0x30, &apart);
    let text = |der: &[u8]| {
        let name = X509Name::from_der(der).unwrap();
        let name = DistinguishedName::of(&name).unwrap();
        (name.text, name.common_name)
    };
    let common_name = Some("a".to_owned());
    assert_eq!(text(&joined), ("CN=a+OU=b".to_owned(), common_name.clone()));
    assert_eq!(text(&apart), ("OU=b,CN=a".to_owned(), common_name));
}

fn tagged(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, content.len() as u8], content].concat()
}
