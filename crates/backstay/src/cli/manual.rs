//! The page of the manual on the command line: what `--help` says, command by command. In tests only;
//! one of them compares it with `docs/manual/cli.md`.

use std::{fmt::Write, path::Path};

use clap::{Command, CommandFactory};

use super::Cli;

const HEAD: &str = "\
<!-- Generated from the command line's own help. `UPDATE_GOLDEN=1 cargo test -p backstay` writes it anew. -->

# Command line

`backstay` is one program. Data goes to stdout; Backstay's own log, hints and errors go to stderr. Where
a command has `--json`, it prints JSON, one object a line. Colours appear on a terminal only, and never
where `NO_COLOR` is set.

| exit code | meaning |
|---|---|
| 0 | it did what it was asked; for `call`, the answer may be a degraded one |
| 1 | a fault, mistakes in the project, or a call that was answered with an error |
| 2 | wrong usage |
| 3 | the gateway cannot be reached |

| variable | meaning |
|---|---|
| `BACKSTAY_SERVER` | the gateway that `backstay call` asks, as `--server` |
| `BACKSTAY_KEY` | its key, as `--key`; a variable is not seen in the list of processes |
| `BACKSTAY_LOG` | as `--verbosity`: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `backstay_engine=debug` |
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut root = Cli::command().term_width(96);
    root.build();
    section(root, &mut page);
    page
}

/// One command and those below it. What a variable of the environment holds is of one machine.
fn section(command: Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut command = command.mut_args(|argument| argument.hide_env_values(true));
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    below.cloned().for_each(|below| section(below, page));
}

#[test]
fn the_manual_says_what_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/manual/cli.md");
    let wanted = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is stale: run UPDATE_GOLDEN=1 cargo test", path.display());
}
