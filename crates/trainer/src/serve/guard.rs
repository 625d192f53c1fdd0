//! Who is let in.
//!
//! A server at 127.0.0.1 is reached by whatever its user's browser shows. A page from elsewhere may ask for this address, or for a name
//! of its own that it has made to stand for this address (DNS rebinding): the browser then takes the answers for the page's. So a
//! request has to be meant for a name of this server, must not be sent by another site's page, and brings a key where one is wanted.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use subtle::ConstantTimeEq;

use super::problem::{Problem, called};

/// What is asked of each request.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Whether the server is at a loopback address, where only this machine comes from.
    pub local: bool,
    /// Names that it is called by, besides those that every machine has.
    pub names: Vec<String>,
    /// The key that requests have to bring.
    pub key: Option<String>,
}

impl Guard {
    /// Refuses a request that is not meant for this server, not its user's, or without the key.
    pub fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        // Browsers always say which host they mean; who does not is none.
        for host in headers.get_all(HOST) {
            self.check_host(host)?;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            check_site(headers)?;
        }
        match &self.key {
            Some(key) if !matches!(request.uri().path(), "/" | "/healthz") => check_key(headers, key),
            _ => Ok(()),
        }
    }

    fn check_host(&self, host: &HeaderValue) -> Result<(), Problem> {
        let text = String::from_utf8_lossy(host.as_bytes());
        if text.parse().is_ok_and(|authority: Authority| self.is_called(authority.host())) {
            return Ok(());
        }
        let right = if self.local { "localhost or 127.0.0.1" } else { "the machine's IP address" };
        let message = format!(
            "the server does not answer for the host `{}`: ask for {right}, or start it with `--allow-host`",
            called(&text)
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, message).coded("unknown_host"))
    }

    /// Whether a name stands for this server and nothing else: one that only its user can have given it, or an address, which no
    /// name server has a say in.
    fn is_called(&self, name: &str) -> bool {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        match bare.parse::<IpAddr>() {
            Ok(address) => !self.local || address.to_canonical().is_loopback(),
            Err(_) => {
                name.eq_ignore_ascii_case("localhost")
                    || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
            }
        }
    }
}

/// Refuses what a page of another site has sent. Newer browsers say so themselves where the connection lets them; else they name the
/// page's origin, which is this server's own where it is the host that is asked for.
fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
    let origin = headers.get(ORIGIN);
    let own = match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin" || site == "none",
        None => origin.is_none_or(|origin| {
            let origin = origin.as_bytes();
            let host = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
            host.is_some() && host == headers.get(HOST).map(HeaderValue::as_bytes)
        }),
    };
    if own {
        return Ok(());
    }
    let origin = origin.map_or("null".into(), |origin| String::from_utf8_lossy(origin.as_bytes()));
    let message =
        format!("a page of another site (`{}`) may not use the server: its own page may", called(&origin));
    Err(Problem::new(StatusCode::FORBIDDEN, message).coded("cross_site"))
}

fn check_key(headers: &HeaderMap, key: &str) -> Result<(), Problem> {
    let refused = |message| Problem::new(StatusCode::UNAUTHORIZED, message).coded("invalid_api_key");
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Err(refused("the server wants its key: send the header `Authorization: Bearer KEY`"));
    };
    let header = header.as_bytes();
    let (scheme, given) =
        header.split_at(header.iter().position(|byte| *byte == b' ').unwrap_or(header.len()));
    // How long the comparison takes tells nothing of the key but its length.
    if scheme.eq_ignore_ascii_case(b"bearer") && given.trim_ascii().ct_eq(key.as_bytes()).into() {
        return Ok(());
    }
    Err(refused("the key in the header `Authorization: Bearer KEY` is not the server's"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn status(guard: &Guard, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard
            .check(&request.body(Body::empty()).unwrap())
            .map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts_are_those_of_this_server() {
        let names = vec!["gpu-box".to_owned()];
        let local = Guard { local: true, ..Guard::default() };
        let open = Guard { names: names.clone(), ..Guard::default() };
        let proxied = Guard { local: true, names, key: None };
        let of = |guard: &Guard, host: &str| status(guard, "GET", "/", &[("host", host)]);
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:8080",
            "127.8.9.1",
            "[::1]",
            "[::1]:1",
            "[::ffff:127.0.0.1]",
        ] {
            for guard in [&local, &open, &proxied] {
                assert_eq!(of(guard, host), 200, "{host}");
            }
        }
        for host in ["192.168.1.7:8080", "[fe80::1]:8080", "8.8.8.8"] {
            assert_eq!((of(&local, host), of(&open, host)), (421, 200), "{host}");
        }
        assert_eq!((of(&local, "GPU-box:80"), of(&open, "GPU-box:80")), (421, 200));
        assert_eq!(of(&proxied, "gpu-box"), 200);
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "",
            ":",
            "a b",
            "[::1",
            "gpu-box.example",
            "localhost.",
            "2130706433",
            "localhost/x",
        ] {
            for guard in [&local, &open, &proxied] {
                assert_eq!(of(guard, host), 421, "{host}");
            }
        }
        // Of two the second counts too; none is no browser.
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(&local, "GET", "/", &two), 421);
        assert_eq!(status(&local, "GET", "/", &[]), 200);
    }

    #[test]
    fn pages_of_other_sites_send_nothing() {
        let guard = Guard::default();
        let with = |method: &str, more: &[(&str, &str)]| {
            status(&guard, method, "/v1/completions", &[&[("host", "127.0.0.1:8080")], more].concat())
        };
        let post = |more: &[(&str, &str)]| with("POST", more);
        // No browser, and this server's own page in newer and older ones.
        assert_eq!(post(&[]), 200);
        assert_eq!(post(&[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8080")]), 200);
        assert_eq!(post(&[("origin", "http://127.0.0.1:8080")]), 200);
        // Behind a proxy that has another name.
        assert_eq!(post(&[("sec-fetch-site", "same-origin"), ("origin", "https://gpu.example")]), 200);
        for site in ["cross-site", "same-site", "", "?"] {
            assert_eq!(post(&[("sec-fetch-site", site), ("origin", "http://127.0.0.1:8080")]), 403, "{site}");
        }
        for origin in [
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
            "https://evil.example",
            "null",
            "",
            "127.0.0.1:8080",
        ] {
            assert_eq!(post(&[("origin", origin)]), 403, "{origin}");
        }
        for method in ["OPTIONS", "DELETE", "PUT"] {
            assert_eq!(with(method, &[("sec-fetch-site", "cross-site")]), 403);
        }
        // A link on another page leads here.
        assert_eq!(with("GET", &[("sec-fetch-site", "cross-site")]), 200);
        assert_eq!(status(&guard, "POST", "/", &[("origin", "http://x")]), 403);
    }

    #[test]
    fn keys_are_wanted_where_anything_is_told() {
        let guard = Guard { key: Some("sk-e1".into()), ..Guard::default() };
        let status = |path: &str, header: Option<&str>| {
            let header = header.map(|value| ("authorization", value));
            status(&guard, "POST", path, header.as_slice())
        };
        for path in [
            "/v1/completions",
            "/v1/models",
            "/v1/models/x",
            "/v1/nothing",
            "/classify",
            "/nothing",
            "//",
            "/healthz/",
        ] {
            assert_eq!(status(path, None), 401, "{path}");
            assert_eq!(status(path, Some("Bearer sk-e1")), 200, "{path}");
        }
        for path in ["/", "/healthz", "/?a=b"] {
            assert_eq!(status(path, None), 200, "{path}");
        }
        for right in ["bearer sk-e1", "BEARER   sk-e1 "] {
            assert_eq!(status("/classify", Some(right)), 200, "{right}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "sk-e1",
            "Basic sk-e1",
            "Bearer sk-e",
            "Bearer sk-e12",
            "Bearer Sk-é1",
            "Bearersk-e1",
            "Bearer sk-e1 x",
        ] {
            assert_eq!(status("/classify", Some(wrong)), 401, "{wrong}");
        }
    }
}
