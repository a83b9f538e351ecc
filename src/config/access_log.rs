//! The access log as written: how its lines look, where they go, of which requests there are any, and what of
//! them nobody is told.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::diagnostic::nearest;
use super::shape::{FromMap, Toggle, text_or_map};
use super::source::Spanned;
use super::units::{Period, Ratio};

/// `access`, or `off`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AccessLogSlot(pub Toggle<AccessLog>);

/// The access log: one line a request.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// How a line is written: `json` (the default), `logfmt`, `combined`, or `{ template: TEXT }` with the
    /// names of fields in braces.
    pub format: AccessLogFormat,
    /// Where lines go: `stdout` (the default), `stderr`, `syslog`, `journald`, or the path of a file that is
    /// appended to.
    pub output: Spanned<LogOutput>,
    /// Of which requests there is a line: a share such as `1%`, or more. Default: of all.
    pub sample: LogSample,
    /// Request headers to log, by name. Default: none.
    pub headers: Vec<Spanned<String>>,
    /// Whether queries are logged. Default `false`: they may hold what `redact_query` does not name.
    pub query: bool,
    /// Headers whose value is replaced by `[redacted]` when logged. Default `authorization`,
    /// `proxy-authorization` and `cookie`.
    pub redact: Vec<Spanned<String>>,
    /// Parameters of queries whose value is replaced by `[redacted]` when logged, also in a logged `Referer`.
    /// Default: names that credentials usually have, such as `access_token`, `code` and `password`.
    pub redact_query: Vec<Spanned<String>>,
    /// How much of a client's address is logged: `full` (the default), or `truncated` to its /24 (IPv4) or
    /// /48 (IPv6).
    pub client: LoggedClient,
}

/// How an access-log line is written.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// `name=value` pairs.
    Logfmt,
    /// As Apache's and NGINX's format of that name.
    Combined,
    /// A text with the names of fields in braces.
    Template(Spanned<String>),
}

/// The format in its long form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FormatFields {
    /// A text with the names of fields in braces, such as `{client} {status}`; `{{` stands for a brace.
    template: Spanned<String>,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogOutput {
    /// To standard output.
    #[default]
    Stdout,
    /// To standard error.
    Stderr,
    /// To a syslog server.
    Syslog(Syslog),
    /// To systemd's journal.
    Journald(Journald),
    /// To the end of a file.
    #[serde(untagged)]
    File(PathBuf),
}

/// A syslog server (RFC 5424).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Syslog {
    /// Where it listens: `unix:/dev/log` (the default), `udp://HOST:514`, or `tcp://HOST:601`.
    pub address: Spanned<String>,
    /// The facility of the lines. Default `local0`.
    pub facility: Facility,
    /// What the gateway is called in them, `APP-NAME`: up to 48 visible ASCII characters. Default `tollgate`.
    pub app_name: Spanned<String>,
}

/// What kind of program a line comes from (RFC 5424 §6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Facility {
    User,
    Daemon,
    Auth,
    Authpriv,
    #[default]
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

/// systemd's journal.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Journald {
    /// Its socket. Default `/run/systemd/journal/socket`; a journal namespace has its own.
    pub socket: PathBuf,
}

/// The output in its long form: one of these.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutputFields {
    /// A syslog server.
    syslog: Option<Syslog>,
    /// systemd's journal.
    journald: Option<Journald>,
}

/// Of which requests there is a line.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct LogSample(pub LogSampleFields);

/// Of which requests there is a line, in full.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSampleFields {
    /// The share of the requests. Default `100%`.
    pub ratio: Spanned<Ratio>,
    /// Whether requests that failed have a line in any case: those answered with 5xx, and those whose answer
    /// broke off. Default `true`.
    pub errors: bool,
    /// Requests that take this long have a line in any case. Default: however long they take.
    pub slower_than: Option<Spanned<Period>>,
}

/// How much of a client's address is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoggedClient {
    /// All of it.
    #[default]
    Full,
    /// Its network, in which many others are.
    Truncated,
}

impl Default for AccessLogSlot {
    fn default() -> Self {
        Self(Toggle::On(AccessLog::default()))
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned().into()).collect();
        Self {
            format: AccessLogFormat::default(),
            output: Spanned::default(),
            sample: LogSample::default(),
            headers: Vec::new(),
            query: false,
            redact: names(&["authorization", "proxy-authorization", "cookie"]),
            redact_query: names(&[
                "access_token",
                "api_key",
                "apikey",
                "assertion",
                "client_secret",
                "code",
                "id_token",
                "key",
                "password",
                "refresh_token",
                "secret",
                "sig",
                "signature",
                "token",
                "x-amz-credential",
                "x-amz-security-token",
                "x-amz-signature",
            ]),
            client: LoggedClient::default(),
        }
    }
}

impl Default for Syslog {
    fn default() -> Self {
        Self {
            address: "unix:/dev/log".to_owned().into(),
            facility: Facility::default(),
            app_name: "tollgate".to_owned().into(),
        }
    }
}

impl Default for Journald {
    fn default() -> Self {
        Self {
            socket: "/run/systemd/journal/socket".into(),
        }
    }
}

impl Default for LogSampleFields {
    fn default() -> Self {
        Self {
            ratio: Ratio::percent(100).into(),
            errors: true,
            slower_than: None,
        }
    }
}

impl AccessLogFormat {
    const WORDS: [&str; 3] = ["json", "logfmt", "combined"];
}

impl From<FormatFields> for AccessLogFormat {
    fn from(fields: FormatFields) -> Self {
        Self::Template(fields.template)
    }
}

impl FromMap<'_> for AccessLogFormat {
    type Fields = FormatFields;
}

impl<'de> Deserialize<'de> for AccessLogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "`json`, `logfmt`, `combined`, or a map with `template`";
        text_or_map(deserializer, expecting, |text| match text {
            "json" => Ok(Self::Json),
            "logfmt" => Ok(Self::Logfmt),
            "combined" => Ok(Self::Combined),
            _ => Err(match nearest(text, Self::WORDS) {
                Some(near) => format!("unknown format `{text}`: did you mean `{near}`?"),
                None => format!(
                    "unknown format `{text}`: expected `json`, `logfmt`, `combined` or `{{ template: … }}`"
                ),
            }),
        })
    }
}

impl LogOutput {
    const WORDS: [&str; 4] = ["stdout", "stderr", "syslog", "journald"];

    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "syslog" => Self::Syslog(Syslog::default()),
            "journald" => Self::Journald(Journald::default()),
            "" => return Err("an output without a name".to_owned()),
            // A word without a point or a folder is hardly the name of a log.
            _ => match nearest(text, Self::WORDS) {
                Some(near) if !text.contains(['/', '.']) => {
                    return Err(format!(
                        "unknown output `{text}`: did you mean `{near}`? (a file of that name is `./{text}`)"
                    ));
                }
                _ => Self::File(text.into()),
            },
        })
    }
}

impl<'de> Deserialize<'de> for LogOutput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;
        impl<'de> Visitor<'de> for TextOrMap {
            type Value = LogOutput;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`stdout`, `stderr`, `syslog`, `journald`, a path, or a map with `syslog` or `journald`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LogOutput, E> {
                LogOutput::parse(text).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LogOutput, A::Error> {
                let fields = OutputFields::deserialize(MapAccessDeserializer::new(map))?;
                match (fields.syslog, fields.journald) {
                    (Some(syslog), None) => Ok(LogOutput::Syslog(syslog)),
                    (None, Some(journald)) => Ok(LogOutput::Journald(journald)),
                    _ => Err(de::Error::custom(
                        "an output is one of `syslog` and `journald`",
                    )),
                }
            }
        }
        deserializer.deserialize_any(TextOrMap)
    }
}

impl From<LogSampleFields> for LogSample {
    fn from(fields: LogSampleFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for LogSample {
    type Fields = LogSampleFields;
}

impl<'de> Deserialize<'de> for LogSample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(deserializer, "a share such as `1%`, or a map", |text| {
            Ok(Self(LogSampleFields {
                ratio: Ratio::parse(text)?.into(),
                ..LogSampleFields::default()
            }))
        })
    }
}

impl JsonSchema for AccessLogFormat {
    fn schema_name() -> Cow<'static, str> {
        "FormatOrTemplate".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let fields = generator.subschema_for::<FormatFields>();
        json_schema!({ "anyOf": [{ "enum": Self::WORDS }, fields] })
    }
}

impl JsonSchema for LogOutput {
    fn schema_name() -> Cow<'static, str> {
        "LogOutput".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let fields = generator.subschema_for::<OutputFields>();
        json_schema!({ "anyOf": [{ "type": "string" }, fields] })
    }
}

impl JsonSchema for LogSample {
    fn schema_name() -> Cow<'static, str> {
        "RatioOrLogSample".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ratio = generator.subschema_for::<Ratio>();
        let fields = generator.subschema_for::<LogSampleFields>();
        json_schema!({ "anyOf": [ratio, fields] })
    }
}
