//! Requests go where the project says, and nowhere else: not where a name leads inside, and not
//! where a client says.

use std::{fs, io::ErrorKind, net::TcpListener};

use serde_json::json;

use crate::{http, world::Project};

/// Somebody inside who is not to be reached.
fn victim() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

#[track_caller]
fn assert_left_alone(victim: &TcpListener) {
    assert_eq!(victim.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody called");
}

/// Names, other than `localhost`, that this machine knows for itself.
fn inner_names() -> Vec<String> {
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let loopback = hosts.lines().filter_map(|line| line.trim().strip_prefix("127.0.0.1"));
    let names = loopback.flat_map(str::split_whitespace).filter(|name| *name != "localhost");
    // The resolver of the system takes this for an address, as it does with names from DNS.
    names.map(str::to_owned).chain(["127.1".to_owned()]).collect()
}

#[test]
fn a_name_that_leads_inside_is_refused() {
    for name in inner_names() {
        let (inside, port) = victim();
        let provider =
            format!("[providers.out]\nkind = \"openai\"\nbase_url = \"http://{name}:{port}/v1\"\n");
        let project = Project::new(&provider)
            .with_call("hello", "route = [\"out/m\"]\n[budget]\nattempts = 1\n");
        let gateway = project.serve(&[]);
        let body = json!({"inputs": {"name": "Ada"}});
        let answer = http::post(gateway.address, "/v1/calls/hello", &[], &body);
        assert_eq!(answer.status, 502, "{name}: {answer:?}");
        assert!(answer.body.contains("allow_private_network"), "{name}: {answer:?}");
        assert_left_alone(&inside);
        gateway.stop();
    }
}

#[test]
fn clients_do_not_choose_where_requests_go() {
    let (inside, port) = victim();
    let url = format!("http://127.0.0.1:{port}/v1");
    let project = Project::new("[providers.sim]\nkind = \"sim\"\n")
        .with_call("hello", "route = [\"sim/ok\"]");
    let gateway = project.serve(&[]);
    let messages = json!([{"role": "user", "content": "hi"}]);
    for model in ["hello", "sim/ok"] {
        for field in ["base_url", "api_base", "api_url", "endpoint", "provider"] {
            let mut body = json!({"model": model, "messages": messages, "max_tokens": 9});
            if model == "hello" {
                body["backstay"] = json!({"inputs": {"name": "Ada"}});
            }
            body[field] = json!(url);
            for path in ["/v1/chat/completions", "/v1/messages"] {
                let answer = http::post(gateway.address, path, &[], &body);
                assert_eq!(answer.status, 200, "{field}: {answer:?}");
            }
            let native = json!({"inputs": {"name": "Ada"}, field: url});
            let answer = http::post(gateway.address, "/v1/calls/hello", &[], &native);
            assert_eq!(answer.status, 400, "{field}: {answer:?}");
            assert!(answer.body.contains(field), "{answer:?}");
        }
    }
    for model in [url.as_str(), "http://x/y", "//127.0.0.1/m"] {
        let body = json!({"model": model, "messages": messages});
        let headers = [("x-forwarded-host", "evil.example")];
        let answer = http::post(gateway.address, "/v1/chat/completions", &headers, &body);
        assert!((400..500).contains(&answer.status), "{model}: {answer:?}");
    }
    assert_left_alone(&inside);
    gateway.stop();
}
