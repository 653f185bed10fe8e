//! Every command as people type it: what it prints, where, and how it ends.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    golden::{neutral, same, session},
    http,
    world::{Project, Server, command, ran, run},
};

const SIM: &str = "[providers.sim]\nkind = \"sim\"\n";
const COMMANDS: [&str; 12] = [
    "demo",
    "init",
    "check",
    "serve",
    "call",
    "sim",
    "log",
    "show",
    "prices",
    "alerts",
    "keys",
    "completions",
];

/// Runs the commands one after the other in `project` and writes down all that they say.
fn sessions(project: &Project, commands: &[&[&str]]) -> String {
    commands.iter().map(|args| session(args, &project.run(args))).collect()
}

/// A project whose three calls have been answered, mended by a fallback, and failed.
fn with_log() -> Project {
    let project = Project::new(SIM)
        .with_call("fine", "route = [\"sim/ok\"]")
        .with_call("lame", "route = [\"sim/empty-content\", \"sim/ok\"]")
        .with_call("dead", "route = [\"sim/400\"]\n[degrade]\norder = [\"error\"]");
    let gateway = project.serve(&[]);
    let made = ["fine", "lame", "dead"].map(|call| {
        let body = json!({"inputs": {"name": "Ada"}, "unit": "user-17"});
        http::post(gateway.address, &format!("/v1/calls/{call}"), &[], &body)
    });
    let id = |answer: http::Answer| answer.header("x-backstay-call-id").unwrap().to_owned();
    let [fine, lame, _] = made.map(id);
    for (call_id, ok) in [(fine, false), (lame.clone(), true), (lame, false)] {
        let verdict = json!({"call_id": call_id, "ok": ok, "reason": "wrong name"});
        http::post(gateway.address, "/v1/outcomes", &[], &verdict);
    }
    gateway.stop();
    project
}

#[test]
fn help() {
    let scratch = tempfile::tempdir().unwrap();
    let mut text = session(&["--help"], &run(scratch.path(), &["--help"]));
    for name in COMMANDS {
        let args = [name, "--help"];
        text.push_str(&session(&args, &run(scratch.path(), &args)));
    }
    for name in ["test", "silence", "unsilence", "silences"] {
        let args = ["alerts", name, "--help"];
        text.push_str(&session(&args, &run(scratch.path(), &args)));
    }
    for name in ["create", "list", "revoke"] {
        let args = ["keys", name, "--help"];
        text.push_str(&session(&args, &run(scratch.path(), &args)));
    }
    same("help", &text);
}

#[test]
fn usage() {
    let scratch = tempfile::tempdir().unwrap();
    let wrong: [&[&str]; 8] = [
        &[],
        &["chekc"],
        &["call"],
        &["serve", "--listen", "here"],
        &["log", "--since", "yesterday"],
        &["log", "--verdict", "bad"],
        &["log", "--verdict", "useless", "--follow"],
        &["call", "hello", "--input", "a=b", "--inputs", "f.json"],
    ];
    let mut text = String::new();
    for args in wrong {
        let ran = run(scratch.path(), args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}");
        text.push_str(&session(args, &ran));
    }
    same("usage", &text);
}

#[test]
fn init_writes_a_sound_project_and_overwrites_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |args: &[&str]| session(args, &run(scratch.path(), args));
    let mut text = at(&["init", "new"]);
    text += &at(&["check", "new"]);
    let mine = scratch.path().join("new/calls/hello/user.j2");
    fs::write(&mine, "mine").unwrap();
    fs::remove_file(scratch.path().join("new/backstay.toml")).unwrap();
    text += &at(&["init", "new"]);
    text += &at(&["init", "--json", "other"]);
    assert_eq!(fs::read_to_string(mine).unwrap(), "mine");
    assert!(!scratch.path().join("new/backstay.toml").exists());
    same("init", &text);
}

#[test]
fn check_finds_every_mistake_at_once() {
    let project =
        Project::new("[server]\nlisten = 4700\n[providers.sim]\nkind = \"sim\"\nseeed = 3\n")
            .with_call("bad", "route = [\"smi/ok\"]\n[budget]\ndeadline = \"soon\"\n")
            .with_call("worse", "[degrade]\norder = [\"static\"]\n");
    project.write("calls/worse/user.j2", "Hello {{ name\n");
    let mut text = sessions(&project, &[&["check"], &["check", "--json"], &["check", "nowhere"]]);
    text += &sessions(&project, &[&["serve"], &["log", "--unit", "user-1"]]);
    same("check", &text);
}

#[test]
fn check_looks_for_secrets_only_when_asked() {
    let project = Project::new("[providers.openai]\napi_key = \"env:NO_SUCH_VARIABLE\"\n")
        .with_call("hello", "route = [\"openai/gpt-5-mini\"]");
    let commands: [&[&str]; 3] =
        [&["check"], &["check", "--secrets"], &["check", "--secrets", "--json"]];
    same("secrets", &sessions(&project, &commands));
    let set = &mut command(project.dir(), &["check", "--secrets"]);
    assert_eq!(ran(set.env("NO_SUCH_VARIABLE", "sk-x")).code, 0);
}

/// Targets of every state: in the table, by the project's word, simulated, and known to nobody.
fn with_prices() -> Project {
    let providers = "[providers.openai]\n[providers.anthropic]\n\
        [providers.deepseek]\nkind = \"openai\"\nbase_url = \"https://api.deepseek.com/v1\"\n\
        [providers.google]\nkind = \"openai\"\n\
        base_url = \"https://generativelanguage.googleapis.com/v1beta/openai\"\n\
        [providers.local]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:8000/v1\"\n\
        [prices.\"local/mine-*\"]\nfree = true\n\
        [prices.\"openai/my-tune\"]\ninput = 0.6\noutput = 2.4\ncache_read = 0.15\n";
    Project::new(&format!("{SIM}{providers}"))
        .with_call("fine", "route = [\"openai/gpt-5-mini\", \"anthropic/claude-haiku-4-5\"]")
        .with_call("odd", "route = [\"deepseek/deepseek-v3.2\", \"google/gemini-2.5-pro\"]")
        .with_call("mine", "route = [\"openai/my-tune\", \"local/mine-8b\", \"sim/ok\"]")
}

#[test]
fn prices_are_shown_and_what_is_missing_is_told() {
    let known = with_prices();
    let mut text = sessions(&known, &[&["prices"], &["prices", "--check"]]);
    let unknown = with_prices().with_call(
        "dear",
        "route = [\"openai/gpt-nobody\", \"local/llama\"]\n[budget]\nmax_cost_usd = 0.05",
    );
    let commands: [&[&str]; 6] = [
        &["prices", "--check"],
        &["prices", "--check", "--json"],
        &["prices", "openai/gpt-5-mini", "local/mine-1b", "anthropic/nothing"],
        &["prices", "no-such-model"],
        &["check"],
        &["check", "--json"],
    ];
    text += &sessions(&unknown, &commands);
    text += &sessions(&Project::new(SIM), &[&["prices", "--check"]]);
    same("prices", &text);
    // A model that many serve, without any project.
    let scratch = tempfile::tempdir().unwrap();
    let many = run(scratch.path(), &["prices", "gpt-5-mini", "--json"]);
    let targets = many.lines()[0]["targets"].as_array().unwrap().clone();
    assert!(targets.len() > 1 && targets.iter().any(|t| t["target"] == "openai/gpt-5-mini"));
}

#[test]
fn sim_lists_its_faults() {
    let scratch = tempfile::tempdir().unwrap();
    let list = run(scratch.path(), &["sim", "--list"]);
    let json = run(scratch.path(), &["sim", "--list", "--json"]);
    let wrong = ["sim", "--fault", "429", "--listen", "127.0.0.1:0"];
    let unknown = ["sim", "--fault", "gremlins=2%", "--listen", "127.0.0.1:0"];
    let mut text = session(&["sim", "--list"], &list);
    text += &session(&wrong, &run(scratch.path(), &wrong));
    text += &session(&unknown, &run(scratch.path(), &unknown));
    same("sim", &text);
    assert_eq!(json.lines().len(), list.stdout.lines().count());
    assert!(json.lines().iter().all(|line| line["fault"].is_string() && line["what"].is_string()));
}

#[test]
fn an_empty_log() {
    let project = Project::new(SIM);
    let text = sessions(
        &project,
        &[&["log"], &["log", "--json"], &["show", "01234567"], &["log", "--outcome", "bad"]],
    );
    same("log-empty", &text);
}

#[test]
fn a_directory_without_a_project_has_no_log_and_no_keys() {
    let scratch = tempfile::tempdir().unwrap();
    for args in [&["log"][..], &["show", "01234567"], &["keys", "create", "ci"]] {
        let ran = run(scratch.path(), args);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains("there is no project in ."), "{ran:?}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing was made");
}

/// A mistake that somebody makes in the night must not hide what happened before it.
#[test]
fn mistakes_in_a_project_do_not_hide_its_log() {
    let project = with_log();
    let id = project.run(&["log", "--json"]).lines()[0]["id"].as_str().unwrap().to_owned();
    project.write("calls/fine/call.toml", "[budget]\n[budget]\n");
    project.write("backstay.toml", &format!("{SIM}[lgo]\nbodies = \"1d\"\n"));
    assert_eq!(project.run(&["check"]).code, 1);
    let commands: [&[&str]; 5] = [
        &["log"],
        &["show", &id],
        &["alerts"],
        &["alerts", "silence", "--call", "fine", "--for", "2h", "--reason", "known"],
        &["keys", "list"],
    ];
    for args in commands {
        let ran = project.run(args);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(!ran.stderr.contains("mistake"), "{ran:?}");
    }
    project.write("backstay.toml", "[store]\npaht = \"elsewhere\"\n");
    let ran = project.run(&["log"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("backstay.toml:2:1: store.paht"), "{ran:?}");
}

#[test]
fn a_filled_log() {
    let project = with_log();
    let lines = project.run(&["log", "--json"]).lines();
    let named: Vec<_> = lines.iter().map(|line| line["call"].as_str().unwrap()).collect();
    assert_eq!(named, ["dead", "lame", "fine"]);
    let wanted = ["id", "call", "release", "outcome", "outcome_code", "degraded", "at_ms"];
    for line in &lines {
        assert!(wanted.iter().all(|key| !line[key].is_null()), "{line}");
    }
    let id = |n: usize| lines[n]["id"].as_str().unwrap();
    let mut text = String::new();
    let commands: [&[&str]; 13] = [
        &["log"],
        &["log", "--json", "--limit", "1"],
        &["log", "--call", "lame"],
        &["log", "--failed"],
        &["log", "--outcome", "bad_request"],
        &["log", "--release", "fine@1"],
        &["log", "--target", "sim/empty-content"],
        &["log", "--degraded"],
        &["log", "--verdict", "useless", "--call", "lame"],
        &["log", "--verdict", "unheard"],
        &["log", "--verdict", "useful"],
        &["log", "--verdict", "useless", "--limit", "1", "--json"],
        &["log", "--since", "1h", "--limit", "2"],
    ];
    text += &sessions(&project, &commands);
    for n in [0, 1, 2] {
        text += &sessions(&project, &[&["show", id(n)]]);
    }
    let start = project.run(&["show", &id(1)[..35]]);
    assert!(start.code == 0 && start.stdout.starts_with("lame@1"), "{start:?}");
    text += &sessions(&project, &[&["show", id(1), "--json"]]);
    same("log", &text);
}

#[test]
fn costs_are_shown_and_so_is_that_they_are_not_known() {
    let scratch = tempfile::tempdir().unwrap();
    let remote = Server::start(&mut command(scratch.path(), &["sim", "--listen", "127.0.0.1:0"]));
    let prices = "[prices.\"sim/*\"]\ninput = 100\noutput = 400\ncache_read = 10\n";
    let address = format!("{}/v1", remote.url());
    let provider = format!("[providers.remote]\nkind = \"openai\"\nbase_url = \"{address}\"\n");
    let project = Project::new(&format!("{SIM}{provider}{prices}"))
        .with_call("dear", "route = [\"sim/empty-content\", \"sim/ok\"]")
        .with_call("dark", "route = [\"remote/ok\"]")
        .with_call("guess", "route = [\"sim/missing-usage\"]");
    let gateway = project.serve(&[]);
    let url = gateway.url();
    let mut text = String::new();
    for call in ["dear", "dark", "guess"] {
        let args = ["call", call, "--input", "name=Ada", "--server", &url];
        text += &session(&args, &project.run(&args));
    }
    let native = ["call", "dear", "--input", "name=Ada", "--server", &url, "--json"];
    let answer = project.run(&native).lines().remove(0);
    // 8 tokens in, 4 of them cached, and 14 out.
    assert_eq!(answer["cost_usd"], 0.006_04, "{answer}");
    gateway.stop();
    text += &sessions(&project, &[&["log"]]);
    let lines = project.run(&["log", "--json"]).lines();
    let states: Vec<_> = lines.iter().map(|line| line["cost"]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["priced", "priced", "unknown", "priced"]);
    for line in lines.iter().skip(1) {
        text += &sessions(&project, &[&["show", line["id"].as_str().unwrap()]]);
    }
    same("costs", &text);
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let project = Project::new(SIM);
    let commands: [&[&str]; 10] = [
        &["keys", "list"],
        &["keys", "create", "ci"],
        &["keys", "create", "ci"],
        &["keys", "create", ""],
        &["keys", "create", "laptop", "--json"],
        &["keys", "list"],
        &["keys", "revoke", "ci"],
        &["keys", "revoke", "ci"],
        &["keys", "revoke", "laptop", "--json"],
        &["keys", "list", "--json"],
    ];
    same("keys", &sessions(&project, &commands));
}

#[test]
fn call_says_the_answer_and_ends_as_the_call_did() {
    let project = Project::new(SIM)
        .with_call("fine", "route = [\"sim/ok\"]")
        .with_call(
            "dead",
            "route = [\"sim/500\"]\n[budget]\nattempts = 1\n[degrade]\norder = [\"error\"]",
        )
        .with_call(
            "soft",
            "route = [\"sim/500\"]\n[budget]\nattempts = 1\n[degrade]\norder = [\"message\"]\n",
        );
    project.write("inputs.json", "{\"name\": \"Ada\"}");
    let gateway = project.serve(&[]);
    let url = gateway.url();
    let mut text = String::new();
    let mut take = |args: &[&str]| {
        let args = [args, &["--server", &url]].concat();
        text += &session(&args, &project.run(&args));
    };
    take(&["call", "fine", "--input", "name=Ada"]);
    take(&["call", "fine", "--inputs", "inputs.json", "--json"]);
    take(&["call", "fine", "--input", "name=Ada", "--release", "1"]);
    take(&["call", "fine", "--input", "name=Ada", "--release", "9"]);
    take(&["call", "fine"]);
    take(&["call", "fine", "--input", "name"]);
    take(&["call", "fine", "--inputs", "nowhere.json"]);
    take(&["call", "soft", "--input", "name=Ada"]);
    take(&["call", "dead", "--input", "name=Ada"]);
    take(&["call", "dead", "--input", "name=Ada", "--json"]);
    take(&["call", "unknown"]);
    take(&["call", "Not A Name"]);
    gateway.stop();
    let away = ["call", "fine", "--server", "http://127.0.0.1:1"];
    text += &session(&away, &project.run(&away));
    let wrong = ["call", "fine", "--server", "localhost"];
    text += &session(&wrong, &project.run(&wrong));
    same("call", &text);
}

#[test]
fn inputs_come_from_standard_input_too() {
    let project = Project::init();
    let gateway = project.serve(&[]);
    let args = ["call", "hello", "--inputs", "-", "--server", &gateway.url()];
    let mut call = command(project.dir(), &args);
    let mut child =
        call.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"name\": \"Ada\"}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.len() > 10, "{output:?}");
    gateway.stop();
}

#[test]
fn completions_are_scripts() {
    let scratch = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(scratch.path(), &["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (0, ""));
        assert!(COMMANDS.iter().all(|name| script.stdout.contains(name)), "{shell}");
        if shell == "bash" {
            let path = scratch.path().join("backstay.bash");
            fs::write(&path, &script.stdout).unwrap();
            assert!(Command::new("bash").arg("-n").arg(&path).status().unwrap().success());
        }
    }
}

#[test]
fn the_demo_answers_every_scene() {
    let scratch = tempfile::tempdir().unwrap();
    let demo = run(scratch.path(), &["demo", "--once", "--json", "--listen", "127.0.0.1:0"]);
    assert_eq!(demo.code, 0, "{demo:?}");
    let lines = demo.lines();
    let scenes: Vec<&Value> = lines.iter().filter(|line| line["call"].is_string()).collect();
    let mut names: Vec<_> = scenes.iter().map(|line| line["call"].as_str().unwrap()).collect();
    names.dedup();
    let wanted =
        ["healthy", "hangs", "empty", "fenced", "drifted", "limited", "cut", "down", "named"];
    assert_eq!(names, wanted);
    for scene in &scenes {
        if scene["call"] == "cut" {
            // A stream that broke off says so: an error event, and never `[DONE]` after it.
            assert_eq!(scene["error"]["type"], "truncated", "{scene}");
            assert_eq!(scene["done"], false);
        } else {
            let text = scene["answer"]["text"].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{scene}");
        }
    }
    let log = &lines.last().unwrap()["log"];
    assert_eq!(log["calls"], scenes.len(), "{log}");
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    let project = with_log();
    let id = project.run(&["log", "--json"]).lines()[0]["id"].as_str().unwrap().to_owned();
    let commands: [&[&str]; 8] = [
        &["sim", "--list"],
        &["sim", "--list", "--json"],
        &["log"],
        &["log", "--follow"],
        &["show", &id],
        &["check"],
        &["completions", "bash"],
        &["keys", "list"],
    ];
    for args in commands {
        let mut command = command(project.dir(), args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if args.contains(&"--follow") {
            // It has shown what there is, and finds its reader gone at the next call.
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let gateway = project.serve(&[]);
            http::post(gateway.address, "/v1/calls/fine", &[], &json!({"inputs": {"name": "x"}}));
            gateway.stop();
        } else {
            drop(child.stdout.take());
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn nothing_but_text_where_there_is_no_terminal() {
    let project = with_log();
    project.run(&["keys", "create", "ci"]);
    let commands: [&[&str]; 5] =
        [&["log"], &["check"], &["keys", "list"], &["show", "x"], &["check", "nowhere"]];
    for args in commands {
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "xterm-256color")] {
            let ran = ran(command(project.dir(), args).env(name, value));
            assert!(!format!("{}{}", ran.stdout, ran.stderr).contains('\u{1b}'), "{ran:?}");
        }
    }
}

#[test]
fn what_is_taken_out_of_golden_files() {
    assert_eq!(neutral("took 12.5 ms at 14:05:09.123"), "took <duration> at <time>      ");
}

#[test]
fn files_for_prometheus_and_grafana() {
    let project = Project::init();
    let dir = project.dir();
    let commands = [
        &["export", "prometheus", "--out", "out"][..],
        &["export", "grafana", "--out", "out", "--json"],
        &["export", "grafana", "--file", "provisioning/dashboards/backstay.yml"],
        &["export", "grafana", "--file", "no-such.yml"],
        &["export", "prometheus", "--file", "backstay-prometheus.yml", "--json"],
    ];
    let text: String = commands.iter().map(|args| session(args, &run(dir, args))).collect();
    same("export", &text);
    let rules = fs::read_to_string(dir.join("out/backstay-rules.yml")).unwrap();
    let shown = run(dir, &["export", "prometheus"]).stdout;
    assert!(shown.contains("==> backstay-rules.yml <==") && shown.contains(&rules), "{shown}");
    let bare = run(dir, &["export", "prometheus", "--file", "backstay-rules.yml"]).stdout;
    assert_eq!(bare, rules);
    project.write("calls/hello/call.toml", "rout = 1\n");
    let broken = run(dir, &["export", "prometheus", "--out", "out"]);
    assert_eq!(broken.code, 1);
    assert!(broken.stderr.contains("calls/hello/call.toml"), "{}", broken.stderr);
    let kept = fs::read_to_string(dir.join("out/backstay-rules.yml")).unwrap();
    assert_eq!(kept, rules, "mistakes leave what was written before");
}
