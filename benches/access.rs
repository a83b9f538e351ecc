//! What a request pays for its address: the same for ten networks and for ten thousand; and for the
//! country of an address that no network holds.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::config::{self, Country, Diagnostics, Network, Spanned};
use tollgate::traffic::{Access, GeoIp};

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests in tests/ use other parts of it"
)]
#[path = "../tests/support/geoip.rs"]
mod database;

/// The networks of a list, in turn of each length that lists have, and in turn of both versions.
fn networks(count: u32) -> Vec<(IpAddr, u8)> {
    (0..count)
        .map(|number| {
            // A stride that visits every network of this length once, as far apart as they go.
            let bits = number.wrapping_mul(0x9E37_79B1);
            if number % 2 == 0 {
                let length = [16, 20, 24, 32][number as usize / 2 % 4];
                let address = bits & (u32::MAX << (32 - length));
                (IpAddr::from(address.to_be_bytes()), length as u8)
            } else {
                let length = [32, 40, 48, 64][number as usize / 2 % 4];
                let address = 0x2001 << 112 | u128::from(bits) << 64;
                let address = address & (u128::MAX << (128 - length));
                (Ipv6Addr::from_bits(address).into(), length as u8)
            }
        })
        .collect()
}

/// Addresses in the networks and beside them.
fn addresses() -> Vec<IpAddr> {
    networks(20_000)
        .into_iter()
        .map(|(address, _)| address)
        .collect()
}

fn by_network(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("address");
    let addresses = addresses();
    for (name, count) in [("10 networks", 10), ("10,000 networks", 10_000)] {
        let deny = networks(count)
            .into_iter()
            .map(|(address, length)| {
                Network(ipnet::IpNet::new(address, length).unwrap().trunc()).into()
            })
            .collect();
        let section = config::Access {
            deny,
            ..config::Access::default()
        };
        let access = Access::compile(&section, None, &mut Diagnostics::default());
        let mut next = addresses.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(access.admit(*next.next().unwrap()).is_ok()));
        });
    }
    group.finish();
}

fn by_country(criterion: &mut Criterion) {
    let countries = ["DE", "FR", "US", "KP"];
    let networks: Vec<(String, &str)> = networks(10_000)
        .into_iter()
        .zip(countries.into_iter().cycle())
        .map(|((address, length), country)| (format!("{address}/{length}"), country))
        .collect();
    let mut sorted: Vec<(&str, &str)> = networks.iter().map(|(it, c)| (&**it, *c)).collect();
    sorted.sort_by_key(|(network, _)| network.split('/').nth(1).unwrap().parse::<u8>().unwrap());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("countries.mmdb"),
        database::Database::of(&sorted),
    )
    .unwrap();
    let section = config::GeoIp {
        database: "countries.mmdb".to_owned().into(),
    };
    let mut diagnostics = Diagnostics::default();
    let geoip = GeoIp::compile(&section, folder.path(), None, &mut diagnostics).unwrap();
    let country = |code| Spanned::from(Country::from_code(code).unwrap());
    let section = config::Access {
        allow_countries: vec![country("DE"), country("FR")],
        ..config::Access::default()
    };
    let access = Access::compile(&section, Some(&geoip), &mut diagnostics);
    let addresses = addresses();
    let mut next = addresses.iter().cycle();
    criterion.bench_function("country", |bencher| {
        bencher.iter(|| black_box(access.admit(*next.next().unwrap()).is_ok()));
    });
}

criterion_group!(benches, by_network, by_country);
criterion_main!(benches);
