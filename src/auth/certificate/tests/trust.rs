//! Who vouches for a certificate, and until when.

use super::*;

#[test]
fn a_certificate_is_valid_from_its_first_to_its_last_second() {
    let authority = authority("authority");
    let shown = shown(&authority, |_| {});
    let (first, last) = (NOW - DAY, NOW + 9 * DAY);
    for certificates in [certificates("{}"), vouched_for_by(&[&authority])] {
        let headers = headers(&[&shown], &[]);
        let refusal = |now| {
            certificates
                .authenticate(credentials(&headers, now))
                .settle()
                .err()
        };
        assert_eq!(refusal(first - 1), Some(Refusal::NotYetValid));
        assert_eq!(refusal(first), None);
        assert_eq!(refusal(last), None);
        assert_eq!(refusal(last + 1), Some(Refusal::Expired));
        // A clock that is set back revives nothing.
        assert_eq!(refusal(last), Some(Refusal::Expired));
    }
}

#[test]
fn somebody_who_is_trusted_must_vouch_for_it() {
    let (ours, theirs) = (authority("authority"), authority("authority"));
    let certificates = vouched_for_by(&[&ours]);
    assert!(ask(&certificates, &shown(&ours, |_| {}), &[]).is_ok());
    let forged = shown(&theirs, |_| {});
    let untrusted = Err(Refusal::UntrustedCertificate);
    let ask = |certificate: &str, chain: &[&str]| {
        ask(&certificates, certificate, chain).map(|it| it.subject().map(str::to_owned))
    };
    assert_eq!(ask(&forged, &[]), untrusted);
    // Who vouches for itself is nobody.
    assert_eq!(ask(&forged, &[&item(theirs.der())]), untrusted);
    assert_eq!(ask(&item(theirs.der()), &[]), untrusted);
    let for_servers = shown(&ours, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(ask(&for_servers, &[]), untrusted);
    let for_clients = shown(&ours, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert!(ask(&for_clients, &[]).is_ok());
}

#[test]
fn others_may_vouch_for_it_in_between_while_they_are_valid() {
    let root = authority("root");
    let certificates = vouched_for_by(&[&root]);
    let middle = below(&root, "middle", |_| {});
    let lower = below(&middle, "lower", |_| {});
    let certificate = shown(&lower, |_| {});
    let (middle, lower) = (item(middle.der()), item(lower.der()));
    assert!(
        ask(
            &certificates,
            &certificate,
            &[&format!("{lower}, {middle}")]
        )
        .is_ok()
    );
    assert!(ask(&certificates, &certificate, &[&lower, &middle]).is_ok());
    assert!(ask(&certificates, &certificate, &[&middle, &lower]).is_ok());
    for chain in [&[][..], &[&*lower], &[&*middle]] {
        let refusal = ask(&certificates, &certificate, chain).unwrap_err();
        assert_eq!(refusal, Refusal::UntrustedCertificate);
    }
    let late = below(&root, "late", |params| {
        params.not_after = date_time_ymd(2025, 1, 2);
        params.not_before = date_time_ymd(2025, 1, 1);
    });
    let certificate = shown(&late, |_| {});
    let headers = headers(&[&certificate], &[&item(late.der())]);
    let refusal = |now| {
        certificates
            .authenticate(credentials(&headers, now))
            .settle()
            .err()
    };
    assert_eq!(refusal(NOW), None);
    assert_eq!(refusal(NOW + 1), Some(Refusal::Expired));
    // One below the root may be trusted in its place.
    let trusting = vouched_for_by(&[&late]);
    assert!(ask(&trusting, &certificate, &[]).is_ok());
    assert!(!trusting.has_same_authorities(&certificates));
}
