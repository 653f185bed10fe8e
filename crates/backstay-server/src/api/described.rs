//! The OpenAPI description and the manual's table of operations, as they have to be committed. In tests
//! only; two of them compare.

use std::{fmt::Write, path::Path};

use utoipa::{
    Modify, OpenApi,
    openapi::{
        RefOr, Schema,
        path::{Operation, PathItem},
        schema::AllOf,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::types::{AlertItem, Tick};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Backstay control API",
        description = "What the dashboard of Backstay uses, and nothing else. Times are milliseconds \
                       since the epoch, latencies milliseconds, shares 0 to 1, money US dollars. What \
                       is not known is null, never 0.",
        version = "1",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(AlertItem, Tick)),
    tags(
        (name = "read", description = "How the calls and Backstay itself fare"),
        (name = "alerts", description = "Rules, alerts and silences"),
        (name = "session", description = "Sign-in of the dashboard")
    ),
    security(("bearer" = []), ("key" = []), ("session" = [])),
    modifiers(&Keys)
)]
struct Document;

struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let key = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        components.add_security_scheme("key", SecurityScheme::ApiKey(key));
        let session = ApiKey::Cookie(ApiKeyValue::with_description(
            "backstay_session",
            "requests that change something need the header `x-backstay-csrf: 1` with it",
        ));
        components.add_security_scheme("session", SecurityScheme::ApiKey(session));
    }
}

fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let (_, paths) = super::open().merge(super::guarded()).split_for_parts();
    // The paths' own head says nothing; what the document's says stays.
    let (security, info) = (document.security.take(), document.info.clone());
    document.merge(paths);
    (document.security, document.info) = (security, info);
    for (name, schema) in document.components.iter_mut().flat_map(|c| &mut c.schemas) {
        let said_by_clients = ["NewSilence", "SignIn"].contains(&name.as_str());
        if !said_by_clients && let RefOr::T(schema) = schema {
            require_all(schema);
        }
    }
    document
}

/// Answers always have all their fields; what is not known is null.
fn require_all(schema: &mut Schema) {
    if let Schema::Object(object) = schema {
        let optional = ["ids"];
        let names = object.properties.keys().filter(|name| !optional.contains(&name.as_str()));
        object.required = names.cloned().collect();
    } else if let Schema::AllOf(AllOf { items, .. }) = schema {
        for item in items {
            if let RefOr::T(schema) = item {
                require_all(schema);
            }
        }
    }
}

#[track_caller]
fn same(path: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    assert!(
        found == std::fs::read_to_string(&file).unwrap_or_default(),
        "{path} is old; `UPDATE_GOLDEN=1 cargo test -p backstay-server` writes it anew"
    );
}

#[test]
fn the_committed_description_is_what_the_handlers_say() {
    let text = document().to_pretty_json().unwrap();
    same("schemas/openapi.json", &format!("{text}\n"));
}

const HEAD: &str = include_str!("described.md");

#[test]
fn the_manual_lists_every_operation() {
    let document = document();
    let mut text = HEAD.to_owned();
    for (path, item) in &document.paths.paths {
        for (method, operation) in operations(item) {
            describe(&mut text, &format!("{method} {path}"), operation);
        }
    }
    same("docs/manual/control-api.md", &text);
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let all = [("GET", &item.get), ("POST", &item.post), ("DELETE", &item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn describe(text: &mut String, name: &str, operation: &Operation) {
    let said = [&operation.summary, &operation.description];
    let said: Vec<&str> = said.into_iter().flatten().map(String::as_str).collect();
    write!(text, "\n### `{name}`\n\n{}\n", said.join("\n\n")).unwrap();
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    if !parameters.is_empty() {
        text.push_str("\n| parameter | |\n|---|---|\n");
    }
    for parameter in parameters {
        let RefOr::T(parameter) = parameter else { panic!("a parameter elsewhere: {name}") };
        let said = parameter.description.as_deref().unwrap_or_default();
        writeln!(text, "| `{}` | {} |", parameter.name, said.replace('\n', " ")).unwrap();
    }
}
