//! All that can be asked for on the operators' address: where, how, and by whom.

use http::Method;

use super::access::Access;

/// What is done or shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Health,
    Startup,
    Readiness,
    Status,
    Metrics,
    Traffic,
    Events,
    Limits,
    ResetLimit,
    Services,
    Drain,
    Enable,
    Circuit,
    Errors,
    Slow,
    LogLevel,
    SetLogLevel,
    Diff,
    Reload,
    Purge,
}

/// Something that can be asked for.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) ask: Ask,
}

/// Why nothing is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Nothing is there. These paths are.
    Path(Vec<&'static str>),
    /// Only these methods are.
    Method(Vec<&'static str>),
}

const fn read(path: &'static str, access: Access, ask: Ask) -> Operation {
    operation(Method::GET, path, access, ask)
}

const fn change(method: Method, path: &'static str, ask: Ask) -> Operation {
    operation(method, path, Access::Changer, ask)
}

const fn operation(method: Method, path: &'static str, access: Access, ask: Ask) -> Operation {
    Operation {
        method,
        path,
        access,
        ask,
    }
}

/// All of them; those of one path stand together.
pub(super) static OPERATIONS: [Operation; 20] = [
    read("/healthz", Access::Anybody, Ask::Health),
    read("/startupz", Access::Anybody, Ask::Startup),
    read("/readyz", Access::Anybody, Ask::Readiness),
    read("/status", Access::Reader, Ask::Status),
    read("/metrics", Access::Reader, Ask::Metrics),
    read("/traffic", Access::Reader, Ask::Traffic),
    read("/events", Access::Reader, Ask::Events),
    read("/limits", Access::Reader, Ask::Limits),
    change(Method::DELETE, "/limits", Ask::ResetLimit),
    read("/services", Access::Reader, Ask::Services),
    change(Method::POST, "/drain", Ask::Drain),
    change(Method::POST, "/enable", Ask::Enable),
    change(Method::POST, "/circuit", Ask::Circuit),
    read("/errors", Access::Reader, Ask::Errors),
    read("/slow", Access::Reader, Ask::Slow),
    read("/log-level", Access::Reader, Ask::LogLevel),
    change(Method::PUT, "/log-level", Ask::SetLogLevel),
    read("/diff", Access::Reader, Ask::Diff),
    change(Method::POST, "/reload", Ask::Reload),
    change(Method::POST, "/purge", Ask::Purge),
];

/// What a request asks for. Whatever can be read has a `HEAD`.
///
/// # Errors
/// If there is no such thing.
pub(super) fn find(method: &Method, path: &str) -> Result<&'static Operation, Unknown> {
    let wanted = match method {
        &Method::HEAD => &Method::GET,
        other => other,
    };
    let here: Vec<_> = OPERATIONS.iter().filter(|it| it.path == path).collect();
    if let Some(found) = here.iter().find(|it| it.method == wanted) {
        return Ok(found);
    }
    if here.is_empty() {
        let mut paths: Vec<_> = OPERATIONS.iter().map(|it| it.path).collect();
        paths.dedup();
        return Err(Unknown::Path(paths));
    }
    let mut methods = Vec::new();
    for operation in here {
        match operation.method {
            Method::GET => methods.extend(["GET", "HEAD"]),
            Method::POST => methods.push("POST"),
            Method::PUT => methods.push("PUT"),
            _ => methods.push("DELETE"),
        }
    }
    Err(Unknown::Method(methods))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_by_method_and_path() {
        let ask = |method, path| find(&method, path).map(|it| it.ask);
        assert_eq!(ask(Method::GET, "/limits"), Ok(Ask::Limits));
        assert_eq!(ask(Method::HEAD, "/limits"), Ok(Ask::Limits));
        assert_eq!(ask(Method::DELETE, "/limits"), Ok(Ask::ResetLimit));
        let methods = vec!["GET", "HEAD", "DELETE"];
        assert_eq!(ask(Method::PUT, "/limits"), Err(Unknown::Method(methods)));
        assert!(matches!(
            ask(Method::GET, "/limits/"),
            Err(Unknown::Path(_))
        ));
    }

    #[test]
    fn nothing_is_changed_without_the_token() {
        for operation in &OPERATIONS {
            let is_read = operation.method == Method::GET;
            assert_eq!(
                operation.access == Access::Changer,
                !is_read,
                "{operation:?}"
            );
        }
    }

    #[test]
    fn paths_stand_together_and_operations_once() {
        let mut paths: Vec<_> = OPERATIONS.iter().map(|it| it.path).collect();
        paths.dedup();
        let each = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), each);
        for operation in &OPERATIONS {
            assert!(std::ptr::eq(
                find(&operation.method, operation.path).unwrap(),
                operation
            ));
        }
    }
}
