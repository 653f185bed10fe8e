//! `backstay check`: every mistake at once.

use backstay_control::{
    compile::resolve_secret,
    project::{check_secrets, load},
};

use backstay_core::{config::Project, price::Price};

use crate::{cli::CheckArgs, exit::Exit, render};

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let dir = &args.project.dir;
    let loaded = load(dir).and_then(|project| {
        if !args.secrets {
            return Ok(project);
        }
        let missing = check_secrets(dir, &|secret| resolve_secret(dir, secret))?;
        if missing.is_empty() { Ok(project) } else { Err(missing) }
    });
    match loaded {
        Ok(project) => {
            let warnings = unpriced(&project);
            render::sound(&project, &warnings, args.project.json)?;
            if !args.project.json {
                render::warnings(&warnings);
            }
            Ok(Exit::Ok)
        }
        Err(mistakes) if args.project.json => {
            render::mistakes_json(&mistakes)?;
            Ok(Exit::Fault)
        }
        Err(mistakes) => {
            render::mistakes(&mistakes);
            Ok(Exit::Fault)
        }
    }
}

/// A warning for each target whose cost will not be known.
fn unpriced(project: &Project) -> Vec<String> {
    let quotes = project.quotes();
    let unknown = quotes.iter().filter(|(_, quote)| quote.price == Price::Unknown);
    let warnings = unknown.map(|(target, quote)| {
        let limited = project.calls.values().filter(|call| call.route.contains(target));
        let limited = limited.filter(|call| call.budget.max_cost_usd.is_some());
        let calls: Vec<&str> = limited.map(|call| call.call.as_str()).collect();
        let limit = if calls.is_empty() {
            String::new()
        } else {
            format!(", and budget.max_cost_usd cannot be kept for it by {}", calls.join(", "))
        };
        let why = quote.source.told();
        format!("nobody knows what {target} costs ({why}){limit}; `backstay prices` has the remedy")
    });
    warnings.collect()
}
