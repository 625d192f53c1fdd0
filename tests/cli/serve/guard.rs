//! Who is let in.

use std::process::Output;

use serde_json::json;

use super::client::{Answer, Server, request};
use crate::common::{assert_fails, path, run, text, train_tiny, wikigpt};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn a_page_that_calls_itself_another_name_is_not_let_in() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 1 --eval-every 0 --sample-every 0");
    let server = Server::start(&model, "");
    let port = server.port();
    let as_host = |host: &str, path: &str| server.send("GET", path, &[("Host", host)], b"");
    for host in ["localhost".into(), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(as_host(&host, "/").status, 200, "{host}");
    }
    // Every address there is and is not, and every method: nothing is told.
    for path in ["/", "/v1/models", "/healthz", "/nothing"] {
        let message = as_host("evil.example", path).error(421);
        assert!(message.contains("`evil.example`") && message.contains("ask for localhost"), "{message}");
        assert_eq!(as_host(&format!("192.168.0.9:{port}"), path).status, 421);
    }
    let evil = [JSON, ("Host", "evil.example")];
    server.send("POST", "/v1/completions", &evil, b"{}").error(421);
    server.send("DELETE", "/healthz", &evil, b"").error(421);
    // A browser always says which host it means.
    let old = server.raw(b"GET /healthz HTTP/1.0\r\n\r\n", false);
    assert!(old.starts_with(b"HTTP/1.0 200"), "{}", text(&old));

    let named = Server::start(&model, "--allow-host gpu-box --allow-host lab.example");
    for (host, status) in
        [("gpu-box:80", 200), ("LAB.example", 200), ("localhost", 200), ("x.lab.example", 421)]
    {
        assert_eq!(named.send("GET", "/", &[("Host", host)], b"").status, status, "{host}");
    }
    // At an address that others reach, addresses are let in, and names that it was told.
    let open = Server::start(&model, "--host 0.0.0.0 --allow-host gpu-box");
    for (host, status) in
        [("192.168.0.9:80", 200), ("gpu-box", 200), ("localhost", 200), ("evil.example", 421)]
    {
        assert_eq!(open.send("GET", "/v1/models", &[("Host", host)], b"").status, status, "{host}");
    }
    let warning = |server: &Server| server.log.lock().unwrap().contains("warning: whoever reaches 0.0.0.0:");
    assert!(warning(&open) && !warning(&server));
    assert!(!warning(&Server::start(&model, "--host 0.0.0.0 --api-key secret")));
    for wrong in ["http://gpu-box", "gpu-box:80", "", "a b"] {
        let output = run(["serve", path(&model), "--port", "0", "--allow-host", wrong]);
        assert_fails(&output, 2, &["--allow-host"], wrong);
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 1 --eval-every 0 --sample-every 0");
    let server = Server::start(&model, "");
    let post = |headers: &[(&str, &str)]| {
        server.send("POST", "/v1/completions", &[&[JSON], headers].concat(), b"{\"max_tokens\": 1}")
    };
    assert_eq!(post(&[("Sec-Fetch-Site", "same-origin")]).status, 200);
    assert_eq!(post(&[("Origin", "http://localhost")]).status, 200);
    let message = post(&[("Origin", "https://evil.example")]).error(403);
    assert!(message.contains("`https://evil.example`"), "{message}");
    post(&[("Origin", "null")]).error(403);
    post(&[("Sec-Fetch-Site", "cross-site")]).error(403);
    // What a form sends without asking, and what asks for leave: nothing that is answered gives it.
    let form = [("Content-Type", "text/plain"), ("Origin", "https://evil.example")];
    server.send("POST", "/v1/completions", &form, b"{}").error(403);
    let preflight = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    server.send("OPTIONS", "/v1/completions", &preflight, b"").error(403);
    for answer in [server.get("/"), server.get("/v1/models"), post(&[])] {
        assert!(!answer.head.contains("access-control-"), "{}", answer.head);
    }
    assert!(server.get("/").head.contains("frame-ancestors 'none'"));
}

#[test]
fn whoever_has_the_key_is_let_in() {
    let top = tempfile::tempdir().unwrap();
    let model = top.path().join("tiny");
    train_tiny(&model, "--steps 1 --eval-every 0 --sample-every 0");
    let mut by_environment = wikigpt("serve");
    by_environment.env("WIKIGPT_API_KEY", "sk-secret");
    for server in [Server::start(&model, "--api-key sk-secret"), Server::launch(by_environment, &model, "")] {
        let ask = |method: &str, path: &str, key: Option<&str>| -> Answer {
            let mut headers = vec![JSON];
            headers.extend(key.map(|key| ("Authorization", key)));
            server.send(method, path, &headers, b"{\"max_tokens\": 1}")
        };
        for (method, path) in
            [("POST", "/v1/completions"), ("GET", "/v1/models"), ("POST", "/classify"), ("GET", "/v1/x")]
        {
            for wrong in [None, Some("Bearer sk-secre"), Some("Basic sk-secret"), Some("Bearer ")] {
                let answer = ask(method, path, wrong);
                assert!(answer.error(401).contains("Authorization: Bearer"), "{}", answer.body);
                assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
                assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
                assert!(!answer.body.contains("sk-"), "{}", answer.body);
            }
            assert_ne!(ask(method, path, Some("Bearer sk-secret")).status, 401);
        }
        assert_eq!(ask("POST", "/v1/completions", Some("Bearer sk-secret")).status, 200);
        // The page, which asks for the key, and the news that it works.
        assert!(server.get("/").body.contains("id=\"unlock\""));
        assert_eq!(server.get("/healthz").json()["busy"], 0);
        // Nobody without it has any of the server's time.
        let huge = request(
            "POST",
            "/v1/completions",
            &[JSON],
            json!({"prompt": "a".repeat(1000)}).to_string().as_bytes(),
        );
        assert!(server.raw(&huge, false).starts_with(b"HTTP/1.1 401"));
        assert!(!server.log.lock().unwrap().contains("sk-secret"));
    }
    let refused =
        |output: &Output| assert_fails(output, 2, &["--api-key (or WIKIGPT_API_KEY)", "visible"], "a key");
    for wrong in ["", "two words", "schlüssel"] {
        refused(&run(["serve", path(&model), "--port", "0", "--api-key", wrong]));
        let mut command = wikigpt("serve --port 0");
        refused(&command.arg(&model).env("WIKIGPT_API_KEY", wrong).output().unwrap());
    }
    assert!(!text(&run(["serve", "--help"]).stdout).contains("sk-secret"));
}
