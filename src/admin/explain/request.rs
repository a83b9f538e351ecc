//! A request that somebody asks about.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::admin::query::{pairs, unknown};

/// A request that somebody asks about.
#[derive(Debug)]
pub struct Asked {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
}

impl Asked {
    /// A request for a URL, or only its path, with header fields as `Name: value`.
    ///
    /// # Errors
    /// A sentence about the first field that is none.
    pub fn new(method: Method, url: Uri, fields: &[impl AsRef<str>]) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        if let Some(authority) = url.authority() {
            let host = HeaderValue::from_str(authority.as_str());
            headers.insert(header::HOST, host.map_err(|error| error.to_string())?);
        }
        for field in fields {
            let field = field.as_ref();
            let parsed = field.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            let Some((name, value)) = parsed else {
                return Err(format!(
                    "`{field}` is not a header field: write `Name: value`"
                ));
            };
            if name == header::HOST {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
        Ok(Self {
            method,
            url,
            headers,
        })
    }

    /// The request that the query of `GET /explain` is about.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let (mut method, mut url, mut fields) = (Method::GET, None, Vec::new());
        for (name, value) in pairs(query)? {
            match name {
                "method" => {
                    let parsed = Method::from_bytes(value.as_bytes());
                    method = parsed.map_err(|_| format!("`{value}` is not a method"))?;
                }
                "url" => {
                    let parsed = value.parse::<Uri>();
                    url = Some(parsed.map_err(|_| format!("`{value}` is not a URL"))?);
                }
                "header" => fields.push(value),
                _ => return Err(unknown(name, &["method", "url", "header"])),
            }
        }
        match url {
            Some(url) => Self::new(method, url, &fields),
            None => Err("say which `url`, such as `/explain?url=/orders`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_meant() {
        let asked = Asked::read(
            "method=POST&url=http%3A%2F%2Fshop%2Fa%3Fx%3D1&header=A:%20b&header=a:c&header=Host:%20h",
        );
        let asked = asked.unwrap();
        assert_eq!(
            (asked.method, asked.url.query()),
            (Method::POST, Some("x=1"))
        );
        assert_eq!(asked.headers[header::HOST], "h");
        let values: Vec<_> = asked.headers.get_all("a").iter().collect();
        assert_eq!(values, ["b", "c"]);
        for wrong in [
            "",
            "url=",
            "url=/a&method=%20",
            "url=/a&header=x",
            "url=/a&body=x",
        ] {
            assert!(Asked::read(wrong).is_err(), "{wrong}");
        }
    }
}
