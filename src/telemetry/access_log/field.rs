//! The fields of a line: their names, and what a request has for them.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Version;

use super::privacy::{Privacy, Url};
use super::sampler::Weight;
use crate::telemetry::flags::Flags;
use crate::telemetry::record::Record;
use crate::telemetry::tracing::{SpanId, TraceId};

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    Id,
    TraceId,
    SpanId,
    Client,
    Method,
    Host,
    Path,
    Query,
    Protocol,
    Route,
    Service,
    Endpoint,
    Consumer,
    ClientCertificate,
    Limit,
    Cache,
    CacheReason,
    Status,
    GrpcStatus,
    RequestBytes,
    ResponseBytes,
    Total,
    Queued,
    Pipeline,
    Connected,
    FirstByte,
    Attempts,
    Flags,
    SampleRatio,
    TimeCombined,
    Target,
}

/// Hands all fields with their names to a macro, in the order of a line. Names are part of what users rely on.
macro_rules! each_field {
    ($with:ident) => {
        $with! {
            Time "time",
            Id "id",
            TraceId "trace_id",
            SpanId "span_id",
            Client "client",
            Method "method",
            Host "host",
            Path "path",
            Query "query",
            Protocol "protocol",
            Route "route",
            Service "service",
            Endpoint "endpoint",
            Consumer "consumer",
            ClientCertificate "client_certificate",
            Limit "limit",
            Cache "cache",
            CacheReason "cache_reason",
            Status "status",
            GrpcStatus "grpc_status",
            RequestBytes "request_bytes",
            ResponseBytes "response_bytes",
            Total "total_us",
            Queued "queued_us",
            Pipeline "pipeline_us",
            Connected "connected_us",
            FirstByte "first_byte_us",
            Attempts "attempts",
            Flags "flags",
            SampleRatio "sample_ratio",
            TimeCombined "time_combined",
            Target "target",
        }
    };
}
pub(super) use each_field;

macro_rules! listed {
    ($($field:ident $name:literal,)*) => {
        [$((Field::$field, $name)),*]
    };
}

impl Field {
    /// All of them with their names.
    pub(super) const ALL: [(Self, &'static str); 32] = each_field!(listed);

    /// Whether only templates have it, since it says again what others say.
    pub(super) fn is_of_templates(self) -> bool {
        matches!(self, Self::TimeCombined | Self::Target)
    }

    /// Whether JSON has it in any case, as `null` where there is nothing.
    pub(super) fn is_always_there(self) -> bool {
        matches!(
            self,
            Self::Client | Self::Host | Self::Route | Self::Service | Self::Endpoint
        )
    }
}

/// What a request has for a field.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    /// Probably a text.
    Bytes(&'a [u8]),
    Url(Url<'a>),
    Address(IpAddr),
    Number(u64),
    /// Millionths.
    Ratio(u32),
    Time(SystemTime),
    TimeCombined(SystemTime),
    Trace(TraceId),
    Span(SpanId),
    Flags(Flags),
}

/// A request and all that decides what its line says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) record: &'a Record<'a>,
    pub(super) weight: Weight,
    pub(super) privacy: &'a Privacy,
}

impl<'a> Line<'a> {
    /// What the request has for a field, if anything.
    #[inline(always)] // Where the field is known, little is left of it.
    pub(super) fn value(&self, field: Field) -> Option<Value<'a>> {
        let record = self.record;
        let micros = |duration: Duration| {
            Value::Number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
        };
        Some(match field {
            Field::Time => Value::Time(record.time),
            Field::TimeCombined => Value::TimeCombined(record.time),
            Field::Id => Value::Text(record.id),
            Field::TraceId => Value::Trace(record.trace?.0),
            Field::SpanId => Value::Span(record.trace?.1),
            Field::Client => self.privacy.client(record.client?),
            Field::Method => Value::Text(record.method.as_str()),
            Field::Host => Value::Bytes(record.host?),
            Field::Path => Value::Text(record.path),
            Field::Query => Value::Url(self.privacy.query(record.query?)),
            Field::Target => Value::Url(self.privacy.target(record.path, record.query)),
            Field::Protocol => Value::Text(match record.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            }),
            Field::Route => Value::Text(record.route?),
            Field::Service => Value::Text(record.service?),
            Field::Endpoint => Value::Text(record.endpoint?),
            Field::Consumer => Value::Text(record.consumer?),
            Field::ClientCertificate => Value::Text(record.client_certificate?),
            Field::Limit => Value::Text(record.limit?),
            Field::Cache => Value::Text(record.cache?.0),
            Field::CacheReason => Value::Text(record.cache?.1?),
            Field::Status => Value::Number(record.status.into()),
            Field::GrpcStatus => Value::Text(record.grpc_status?.name()),
            Field::RequestBytes => Value::Number(record.request_bytes),
            Field::ResponseBytes => Value::Number(record.response_bytes),
            Field::Total => micros(record.total),
            Field::Queued => micros(record.queued?),
            Field::Pipeline => micros(record.pipeline?),
            Field::Connected => micros(record.connected?),
            Field::FirstByte => micros(record.first_byte?),
            Field::Attempts => Value::Number(record.attempts.into()),
            Field::Flags => Value::Flags(record.flags),
            Field::SampleRatio => Value::Ratio(self.weight.ratio()?),
        })
    }

    /// The value of a header that is logged, if the request has it.
    pub(super) fn header(&self, header: &super::privacy::Header) -> Option<Value<'a>> {
        let value = self.record.headers.get(&header.name)?;
        Some(self.privacy.header(header, value.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_the_log_explains_every_field_and_no_other() {
        let page = include_str!("../../../docs/access-log.md");
        let (_, table) = page.split_once("| field | meaning |").unwrap();
        let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
        let first_columns: String = rows.map(|row| row.split('|').nth(1).unwrap()).collect();
        let explained: Vec<&str> = first_columns.split('`').skip(1).step_by(2).collect();
        let mut names: Vec<&str> = Field::ALL.map(|(_, name)| name).to_vec();
        names.extend(["headers", "request.headers.NAME"]);
        for name in &names {
            assert!(explained.contains(name), "`{name}` is not explained");
        }
        for name in explained {
            assert!(names.contains(&name), "there is no field `{name}`");
        }
    }
}
