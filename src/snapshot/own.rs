//! The gateway's own settings in words, and which of them only a new process takes over.

use crate::config::Config;

/// What of a configuration only a new process can take over.
pub(super) fn needs_upgrade(started: &Config, new: &Config) -> Vec<String> {
    let fixed = [
        "server.listen",
        "server.threads",
        "server.user",
        "server.upstream_pool",
        "server.limits.rate_limit_keys",
        "server.cache.disk.path",
        "admin.listen",
        "log.level",
    ];
    std::iter::zip(settings(started), settings(new))
        .filter(|((key, before), (_, after))| fixed.contains(key) && before != after)
        // A disk is taken into use at any time.
        .filter(|((key, before), _)| *key != "server.cache.disk.path" || before != "-")
        .map(|((key, _), _)| key.to_owned())
        .collect()
}

/// The gateway's own settings, each as a text.
pub(super) fn settings(config: &Config) -> [(&'static str, String); 23] {
    let server = &config.server;
    let limits = &server.limits;
    let admin = config.admin.0.on();
    let addresses: Vec<_> = server.listen.iter().map(|it| &it.address).collect();
    let encrypted: Vec<_> = server
        .listen
        .iter()
        .map(|it| {
            (
                &it.tls,
                &it.http2,
                &it.redirect_https,
                &it.mode,
                &it.proxy_protocol,
            )
        })
        .collect();
    [
        ("server.listen", format!("{addresses:?}")),
        ("server.listen.tls", format!("{encrypted:?}")),
        ("server.threads", format!("{:?}", server.threads)),
        (
            "server.user",
            server
                .user
                .as_ref()
                .map_or("-", |user| user.as_str())
                .to_owned(),
        ),
        ("server.upstream_pool", server.upstream_pool.to_string()),
        (
            "server.limits.rate_limit_keys",
            limits.rate_limit_keys.to_string(),
        ),
        (
            "server.limits",
            format!(
                "header_size: {}, headers: {}, uri: {}, body: {}, connections: {}, requests: {:?}",
                limits.header_size.value,
                limits.headers,
                limits.uri.value,
                limits.body.value,
                limits.connections,
                limits.requests
            ),
        ),
        (
            "server.trusted_proxies",
            format!("{:?}", server.trusted_proxies),
        ),
        ("server.nameservers", format!("{:?}", server.nameservers)),
        ("server.cache", format!("{:?}", server.cache)),
        (
            "server.cache.disk.path",
            server
                .cache
                .disk
                .as_ref()
                .map_or("-", |disk| disk.path.as_str())
                .to_owned(),
        ),
        ("server.overload", format!("{:?}", server.overload)),
        ("server.timeouts", format!("{:?}", server.timeouts)),
        ("server.shutdown", format!("{:?}", server.shutdown)),
        ("server.watch_files", server.watch_files.to_string()),
        (
            "server.upgrade_timeout",
            server.upgrade_timeout.value.to_string(),
        ),
        (
            "geoip.database",
            config
                .geoip
                .as_ref()
                .map_or("-", |geoip| geoip.database.as_str())
                .to_owned(),
        ),
        (
            "admin.listen",
            admin.map_or("off", |it| it.listen.as_str()).to_owned(),
        ),
        (
            "admin.ready_when",
            format!("{:?}", admin.map(|it| &it.ready_when)),
        ),
        ("log.level", format!("{:?}", config.log.level)),
        ("log.access", format!("{:?}", config.log.access.0)),
        ("metrics", format!("{:?}", config.metrics)),
        ("auth_failures", format!("{:?}", config.auth_failures.0)),
    ]
}
