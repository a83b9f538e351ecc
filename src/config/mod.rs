//! The configuration language: exactly what the operator wrote, with the place of every value.
//!
//! Nothing is resolved here and nothing is started: what a config means is decided by
//! [`crate::snapshot`]. No I/O but reading the files that the configuration names.

mod access_log;
mod acme;
mod address;
mod admin;
mod auth;
mod bandwidth_limit;
mod cache;
mod client_verification;
mod concurrency_limit;
mod consumer;
mod country;
mod de;
mod diagnostic;
mod effective;
mod fallback;
mod health;
mod interpolate;
mod listener;
mod load;
mod mask;
mod metrics;
mod node;
mod policy;
mod proxy_protocol;
mod quota;
mod rate_limit;
mod redis;
mod render;
mod resilience;
mod root;
mod route;
mod schema;
mod secret;
mod security;
mod service;
mod shape;
mod source;
mod split;
mod template;
mod text;
mod tracing;
mod units;
mod word;
mod yaml;

pub use access_log::{
    AccessLog, AccessLogFormat, AccessLogSlot, Facility, Journald, LogOutput, LogSample,
    LogSampleFields, LoggedClient, Syslog,
};
pub use acme::{Acme, AcmeChallenge, ExternalAccount};
pub use address::{Address, socket_path};
pub use admin::{Admin, AdminSlot, ReadyWhen};
pub use auth::{
    ApiKey, ApiKeyDigests, ApiKeys, AuthFailures, AuthFailuresSlot, AuthProvider, AuthRule,
    AuthRuleFields, AuthWay, AuthWayFields, Basic, CertificateName, ClientCertificate, ForwardAuth,
    Jwt, JwtAlgorithm, JwtKeys, OnFailure, Replay, Requirement, Signature, SignedBody, TokenPlace,
};
pub use bandwidth_limit::{BandwidthKey, BandwidthLimit};
pub use cache::{Cache, CacheDisk, CacheKey, CacheStore, RequestDirectives, SetCookie};
pub use client_verification::{ClientVerification, VerificationMode};
pub use concurrency_limit::ConcurrencyLimit;
pub use consumer::{Consumer, ConsumerGroup};
pub use country::{Country, GeoIp};
pub use diagnostic::{Diagnostic, Diagnostics, Severity, nearest};
pub use effective::{Effective, effective};
pub use fallback::{Fallback, FallbackOn};
pub use health::{HealthCheck, HealthProtocol};
pub use interpolate::Environment;
pub use listener::{
    CertificateFiles, CipherSuite, Listener, ListenerFields, ListenerTls, RedirectHttps, TlsVersion,
};
pub use load::{LoadError, Loaded, base_of, load, parse};
pub use metrics::Metrics;
pub use policy::{Access, Cors, HeaderEdit, HeaderEdits, Timeouts};
pub use proxy_protocol::{FileMode, ProxyProtocol, ProxyProtocolVersion};
pub use quota::{LimitAmount, LimitCost, LimitWindow};
pub use rate_limit::{
    LimitAlgorithm, LimitKey, LimitMode, LimitQueue, LimitRefusal, LimitStore, OnStoreFailure,
    RateLimit,
};
pub use redis::{Redis, RedisSentinel, RedisTls};
pub use render::render;
pub use resilience::{Adaptive, CircuitBreaker, HedgeAfter, OutlierDetection, Retry, RetryOn};
pub use root::{
    Config, Log, LogLevel, NameServer, Network, Overload, Priority, Server, ServerLimits,
    ServerTimeouts, Shutdown, Threads,
};
pub use route::{Redirect, Respond, Route, RouteFields};
pub use schema::schema;
pub use secret::{FileText, Secret};
pub use security::{
    FrameOptions, Hsts, OpenerPolicy, ReferrerPolicy, ResourcePolicy, SecurityHeaderFields,
    SecurityHeaders, SecurityPreset,
};
pub use service::{
    HashKey, HostHeader, LoadBalancing, Protocol, Service, Target, TargetFields, UpstreamTls,
};
pub use shape::{Dictionary, OneOrMany, Policy, Toggle};
pub use source::{LineIndex, Source, Span, Spanned};
pub use split::{Mirror, SplitPart};
pub use template::{Piece, pieces};
pub use tracing::{
    Otlp, OtlpFields, OtlpProtocol, ParentRule, Propagation, Sample, SampleFields, Tracing,
};
pub use units::{ByteRate, ByteSize, Period, Ratio, Share};
