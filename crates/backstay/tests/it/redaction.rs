//! No secret stays behind: not of users, not of providers, not of Backstay's own; in no file, no
//! line of log, and no error.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    http::{self, Answer},
    world::{Project, Server, command},
};

pub(crate) const PROVIDER_KEY: &str = "pk-Zq81Wm44Lr0vXy72Tt";
const USERS_KEY: &str = "sk-proj-A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6";
const EMAIL: &str = "ada.lovelace@analytical.example.org";
const CARD: &str = "4111 1111 1111 1111";

/// A provider that repeats everything it got, its key included: as an answer, or in an error of
/// the status that the model's name says.
pub(crate) fn parrot() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            // A client that goes away is no matter.
            std::thread::spawn(move || drop(repeat(socket)));
        }
    });
    address
}

fn repeat(mut socket: TcpStream) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        let read = socket.read(&mut piece)?;
        seen.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.and_then(|length| length.trim().parse().ok()) == Some(body.len()) || read == 0 {
            break (text[..text.len() - body.len()].to_owned(), body.to_owned());
        }
    };
    assert!(head.contains(PROVIDER_KEY), "the key does arrive at the provider");
    let request: Value = serde_json::from_str(&body).unwrap();
    let everything = format!("{head} {body}");
    let model = request["model"].as_str().unwrap();
    let (status, answer) = match model.parse::<u16>() {
        Ok(status) => {
            let error = json!({"message": everything, "type": everything, "code": everything,
                "param": everything});
            (status, json!({ "error": error }))
        }
        Err(_) => {
            let content = request["messages"][0]["content"].clone();
            let message = json!({"role": "assistant", "content": content});
            let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
            (
                200,
                json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [choice]}),
            )
        }
    };
    let body = answer.to_string();
    write!(
        socket,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nx-leak: {PROVIDER_KEY}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn project(provider: SocketAddr) -> Project {
    let providers = format!(
        "[providers.parrot]\nkind = \"openai\"\nbase_url = \"http://{provider}/v1\"\n\
         api_key = \"env:PROVIDER_KEY\"\n[defaults]\n\
         budget = {{ attempts = 1 }}\ndegrade = {{ order = [\"error\"] }}\n"
    );
    let mut project = Project::new(&providers);
    for model in ["echo", "400", "401", "403", "404", "422", "429", "500", "503"] {
        let route = format!("route = [\"parrot/{model}\"]");
        project = project.with_call(&format!("parrot-{model}"), &route);
    }
    project
}

fn serve(project: &Project) -> Server {
    let args = ["serve", "--listen", "127.0.0.1:0", "--verbosity", "trace"];
    Server::start(command(project.dir(), &args).env("PROVIDER_KEY", PROVIDER_KEY))
}

fn said() -> String {
    format!("my key is {USERS_KEY}, my address {EMAIL}, my card {CARD}")
}

fn all_calls(gateway: &Server, headers: &[(&str, &str)]) -> Vec<(String, Answer)> {
    let models = ["echo", "400", "401", "403", "404", "422", "429", "500", "503"];
    let mut answers = Vec::new();
    for model in models {
        let call = format!("parrot-{model}");
        let native = json!({"inputs": {"name": said()}});
        let path = format!("/v1/calls/{call}");
        answers.push((call.clone(), http::post(gateway.address, &path, headers, &native)));
        // The user's own messages, behind those of the release; and who the user is.
        let openai = json!({"model": call, "backstay": {"inputs": {"name": "x"}},
            "messages": [{"role": "user", "content": said()}], "user": EMAIL,
            "metadata": {"key": USERS_KEY}});
        let path = "/v1/chat/completions";
        answers.push((call.clone(), http::post(gateway.address, path, headers, &openai)));
        let anthropic = json!({"model": format!("parrot/{model}"), "max_tokens": 99,
            "messages": [{"role": "user", "content": said()}]});
        answers.push((call, http::post(gateway.address, "/v1/messages", headers, &anthropic)));
    }
    answers
}

/// Every file below `dir`, with its bytes.
fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
}

fn contains(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret.as_bytes()))
}

#[track_caller]
pub(crate) fn assert_clean(name: &str, bytes: &[u8], secrets: &[&str]) {
    for secret in secrets {
        let digits: String = secret.split(' ').collect();
        assert!(!contains(bytes, secret) && !contains(bytes, &digits), "{secret} is in {name}");
    }
}

#[track_caller]
pub(crate) fn assert_clean_files(store: &Path, secrets: &[&str]) {
    let mut all = Vec::new();
    files(store, &mut all);
    assert!(all.iter().any(|(name, bytes)| name.contains("calls-") && bytes.len() > 1000));
    for (name, bytes) in &all {
        assert_clean(name, bytes, secrets);
    }
}

#[test]
fn secrets_stay_nowhere() {
    let project = project(parrot());
    let made = project.run(&["keys", "create", "ci", "--json"]).lines();
    let own_key = made[0]["key"].as_str().unwrap();
    let secrets = [PROVIDER_KEY, USERS_KEY, EMAIL, CARD, own_key];
    let gateway = serve(&project);
    let bearer = format!("Bearer {own_key}");
    let answers = all_calls(&gateway, &[("authorization", &bearer)]);
    let asked = u64::try_from(answers.len()).unwrap();
    for (call, answer) in &answers {
        let wanted =
            if call == "parrot-echo" { answer.status == 200 } else { answer.status >= 400 };
        assert!(wanted, "{call}: {answer:?}");
        if answer.status >= 400 {
            // Not the provider's words, whatever they are.
            assert_clean(&format!("{call}: {answer:?}"), answer.body.as_bytes(), &secrets);
        }
        assert!(!format!("{answer:?}").contains(PROVIDER_KEY), "{call}: {answer:?}");
    }
    // The answer itself is the user's: it is not touched on its way.
    assert!(answers[0].1.body.contains(USERS_KEY), "{:?}", answers[0]);
    assert_clean_files(&project.store(), &secrets);
    gateway.stored(asked);
    assert_clean_files(&project.store(), &secrets);
    let stderr = gateway.stop();
    assert_clean("stderr", stderr.as_bytes(), &secrets);
    assert_clean_files(&project.store(), &secrets);
    let calls = project.run(&["log", "--json"]).lines();
    assert_eq!(calls.len(), answers.len());
    for call in calls {
        for more in [&[][..], &["--json"]] {
            let shown = project.run(&[&["show", call["id"].as_str().unwrap()], more].concat());
            assert_eq!(shown.code, 0, "{shown:?}");
            assert_clean(&format!("{shown:?}"), shown.stdout.as_bytes(), &secrets);
        }
    }
}

#[test]
fn a_killed_gateway_leaves_no_secrets_behind() {
    let project = project(parrot());
    let gateway = serve(&project);
    all_calls(&gateway, &[]);
    gateway.kill();
    assert_clean_files(&project.store(), &[PROVIDER_KEY, USERS_KEY, EMAIL, CARD]);
}
