//! The prompt templates of a call: compiled once, rendered on every call.
//!
//! Templates are minijinja with strict undefined values. They reach nothing but the inputs and the
//! files that the release includes, and a render is bounded in work and size. What a template says
//! about its inputs beyond names is the input schema's business.

use std::{collections::BTreeSet, fmt, io};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior,
    value::{Kwargs, Serde, Value as Input},
};
use serde_json::Value;

use crate::{failure::Failure, release::Templates};

/// The name of the system template, as in mistakes and failures.
const SYSTEM: &str = "system.j2";
/// The name of the user template.
const USER: &str = "user.j2";
/// The largest rendered template, in bytes.
const MAX_RENDERED: usize = 16 * 1024 * 1024;
/// The work of one render; minijinja takes one unit an instruction or 64 bytes of data.
const FUEL: u64 = 2_000_000;
/// The work and size of a degraded message, which is short.
const MESSAGE_FUEL: u64 = 10_000;

/// A mistake in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateMistake {
    /// `system.j2`, `user.j2`, or the name of the included file.
    pub file: String,
    /// The line, from 1, where known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for TemplateMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl TemplateMistake {
    fn new(file: &str, error: &Error) -> Self {
        Self {
            file: error.name().unwrap_or(file).to_owned(),
            line: error.line(),
            message: describe(error),
        }
    }
}

/// The compiled templates of a call.
#[derive(Debug)]
pub struct Prompts {
    environment: Environment<'static>,
    system: bool,
    user: bool,
    variables: BTreeSet<String>,
}

/// The messages that a call's templates give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The system message, if there is a `system.j2`.
    pub system: Option<String>,
    /// The user message, if there is a `user.j2`.
    pub user: Option<String>,
}

impl Prompts {
    /// Compiles the templates of a call.
    ///
    /// # Errors
    /// Every mistake in every template: syntax, unknown filters or tests, files that are not there.
    pub fn compile(templates: &Templates) -> Result<Self, Vec<TemplateMistake>> {
        let mut environment = environment(FUEL);
        let own = [(SYSTEM, &templates.system), (USER, &templates.user)];
        let own = own.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        let included = templates.includes.iter().map(|(name, text)| (name.as_str(), text));
        let mut mistakes = Vec::new();
        for (name, text) in own.chain(included) {
            let added = environment.add_template_owned(name.to_owned(), text.clone());
            mistakes.extend(added.err().map(|error| TemplateMistake::new(name, &error)));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let globals: BTreeSet<_> = environment.globals().map(|(name, _)| name.to_owned()).collect();
        let named = environment.templates().flat_map(|(_, t)| t.undeclared_variables(false));
        let variables = named.filter(|name| !globals.contains(name)).collect();
        let (system, user) = (templates.system.is_some(), templates.user.is_some());
        Ok(Self { environment, system, user, variables })
    }

    /// The inputs that the templates name, included files too. Some may be optional
    /// (`{% if note is defined %}`).
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// Whether there is no template at all: the call sends the client's own messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.system && !self.user
    }

    /// Renders the templates with a JSON object of inputs (`null` counts as an empty one).
    ///
    /// # Errors
    /// `bad_request` with the parameter `backstay.inputs.NAME` if an input is missing, or
    /// `backstay.inputs` if the templates cannot be rendered with what was sent.
    pub fn render(&self, inputs: &Value) -> Result<Rendered, Failure> {
        if !matches!(inputs, Value::Object(_) | Value::Null) {
            return Err(Failure::bad_request(
                "backstay.inputs",
                "`backstay.inputs` must be a JSON object",
            ));
        }
        if self.is_empty() {
            return Ok(Rendered::default());
        }
        let context = match inputs {
            Value::Object(map) => Serde(map).into(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Input::from_pairs::<[(&str, &str); 0], _, _>([]),
        };
        let render = |wanted: bool, name| wanted.then(|| self.render_one(name, &context, inputs));
        Ok(Rendered {
            system: render(self.system, SYSTEM).transpose()?,
            user: render(self.user, USER).transpose()?,
        })
    }

    fn render_one(&self, name: &str, context: &Input, inputs: &Value) -> Result<String, Failure> {
        let mut out = Bounded(Vec::new());
        let rendered = self
            .environment
            .get_template(name)
            .and_then(|template| template.render_captured_to(context.clone(), &mut out).map(drop));
        match rendered {
            Ok(()) => Ok(String::from_utf8(out.0).unwrap_or_default()),
            Err(error) => Err(self.failure(name, &error, inputs)),
        }
    }

    fn failure(&self, name: &str, error: &Error, inputs: &Value) -> Failure {
        // The innermost error is the one in the included file.
        let mut inner = error;
        while let Some(source) = std::error::Error::source(inner).and_then(|e| e.downcast_ref()) {
            inner = source;
        }
        let mistake = TemplateMistake::new(name, inner);
        let place = match mistake.line {
            Some(line) => format!("{} line {line}", mistake.file),
            None => mistake.file.clone(),
        };
        if inner.kind() == ErrorKind::UndefinedError
            && let Some(input) = self.missing(inner, inputs)
        {
            let message =
                format!("the input `{input}` is missing, which {place} needs; send it in `inputs`");
            return Failure::bad_request(format!("backstay.inputs.{input}"), message);
        }
        let message = format!("{place} cannot be rendered with these inputs: {}", mistake.message);
        Failure::bad_request("backstay.inputs", message)
    }

    /// Which input was missing: the failed expression, if it is a plain name of an input
    /// (`invoice.total`), else the first input that the templates name and the client did not send.
    fn missing(&self, error: &Error, inputs: &Value) -> Option<String> {
        let source = error.template_source().zip(error.range());
        let expression = source.and_then(|(source, range)| source.get(range)).map(str::trim);
        let plain = |c: char| c == '_' || c == '.' || c.is_alphanumeric();
        let named = expression.filter(|text| {
            let root = text.split('.').next().unwrap_or_default();
            text.chars().all(plain) && self.variables.contains(root)
        });
        let absent = || self.variables.iter().find(|name| inputs.get(name.as_str()).is_none());
        // Of a path the first step that is not there is what is missing.
        named
            .map(|path| {
                let mut here = Some(inputs);
                let mut known = path.split('.').take_while(|step| {
                    let there = here.is_some();
                    here = here.and_then(|value| value.get(step));
                    there
                });
                let steps: Vec<_> = known.by_ref().collect();
                steps.join(".")
            })
            .or_else(|| absent().cloned())
    }
}

/// The text of a degraded answer: a template that knows `failure` and `call`.
#[derive(Debug)]
pub struct MessageTemplate {
    environment: Environment<'static>,
}

impl MessageTemplate {
    const NAME: &'static str = "message";

    /// Compiles the template.
    ///
    /// # Errors
    /// The mistake in it; other variables than `failure` and `call` are one.
    pub fn compile(text: &str) -> Result<Self, TemplateMistake> {
        let mut environment = environment(MESSAGE_FUEL);
        environment
            .add_template_owned(Self::NAME, text.to_owned())
            .map_err(|error| TemplateMistake::new(Self::NAME, &error))?;
        let this = Self { environment };
        let template = this.environment.get_template(Self::NAME);
        let unknown = template.ok().and_then(|template| {
            let known = |name: &String| {
                matches!(name.as_str(), "failure" | "call")
                    || this.environment.globals().any(|(global, _)| global == name)
            };
            template.undeclared_variables(false).into_iter().filter(|name| !known(name)).min()
        });
        match unknown {
            None => Ok(this),
            Some(name) => Err(TemplateMistake {
                file: Self::NAME.to_owned(),
                line: None,
                message: format!("`{name}` is not known here; use `failure` or `call`"),
            }),
        }
    }

    /// The message for a failure (its class in a word) of a call. Never empty: what the template
    /// cannot say, a plain sentence does.
    #[must_use]
    pub fn render(&self, failure: &str, call: &str) -> String {
        let context = Input::from_pairs([("failure", failure), ("call", call)]);
        let rendered = self
            .environment
            .get_template(Self::NAME)
            .and_then(|template| template.render(context))
            .unwrap_or_default();
        if rendered.trim().is_empty() {
            return format!("No answer could be given ({failure}).");
        }
        rendered
    }
}

fn environment(fuel: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(fuel));
    // Errors then know the expression that failed; good renders pay nothing for it.
    environment.set_debug(true);
    environment.add_filter("tojson", to_json);
    environment
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that minijinja calls")]
/// `{{ value | tojson }}` and `tojson(indent=2)`. Unlike minijinja's own, which is made for HTML, it
/// leaves `<`, `>`, `&` and `'` as they are: a model should read them.
fn to_json(state: &State<'_, '_>, value: &Input, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut out = Bounded(Vec::new());
    let written = match indent {
        None | Some(0) => serde_json::to_writer(&mut out, value),
        Some(width) => {
            let indent = vec![b' '; width.min(8)];
            let format = serde_json::ser::PrettyFormatter::with_indent(&indent);
            let mut json = serde_json::Serializer::with_formatter(&mut out, format);
            serde::Serialize::serialize(value, &mut json)
        }
    };
    written.map_err(|_| Error::new(ErrorKind::BadSerialization, "it cannot be written as JSON"))?;
    // Writing the JSON is work too, done before minijinja sees the size of the result.
    state.consume_fuel(u64::try_from(out.0.len() / 64).unwrap_or(u64::MAX))?;
    Ok(String::from_utf8(out.0).unwrap_or_default())
}

/// Output that refuses to grow past [`MAX_RENDERED`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.0.len() + piece.len() > MAX_RENDERED {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error in one sentence. Its detail names template constructs and types, never an input's value.
fn describe(error: &Error) -> String {
    let kind = error.kind();
    if kind == ErrorKind::OutOfFuel {
        return "it takes too much work; loop over less".to_owned();
    }
    if kind == ErrorKind::WriteFailure {
        return format!("the result is larger than {} MB", MAX_RENDERED / 1024 / 1024);
    }
    match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::failure::FailureClass;

    fn templates(system: Option<&str>, user: Option<&str>, includes: &[(&str, &str)]) -> Templates {
        Templates {
            system: system.map(str::to_owned),
            user: user.map(str::to_owned),
            includes: includes.iter().map(|&(n, t)| (n.to_owned(), t.to_owned())).collect(),
        }
    }

    fn user(text: &str) -> Prompts {
        Prompts::compile(&templates(None, Some(text), &[])).unwrap()
    }

    fn rendered(text: &str, inputs: &Value) -> String {
        user(text).render(inputs).unwrap().user.unwrap()
    }

    #[test]
    fn both_messages_and_includes_are_rendered() {
        let both = templates(
            Some("You read {{ kind }}s.\n"),
            Some("{% include 'rules.md' %}\n<{{ doc.text }}>"),
            &[("rules.md", "Be {{ tone }}.")],
        );
        let prompts = Prompts::compile(&both).unwrap();
        let names: Vec<_> = prompts.variables().iter().map(String::as_str).collect();
        assert_eq!(names, ["doc", "kind", "tone"]);
        let inputs = json!({"kind": "invoice", "tone": "brief", "doc": {"text": "a & 'b'"}});
        let expected = Rendered {
            system: Some("You read invoices.".to_owned()),
            user: Some("Be brief.\n<a & 'b'>".to_owned()),
        };
        assert_eq!(prompts.render(&inputs), Ok(expected));
        assert!(!prompts.is_empty());
    }

    #[test]
    fn without_templates_nothing_is_rendered() {
        let none = Prompts::compile(&Templates::default()).unwrap();
        assert!(none.is_empty() && none.variables().is_empty());
        assert_eq!(none.render(&Value::Null), Ok(Rendered::default()));
    }

    #[test]
    fn json_is_written_for_models_in_the_order_of_the_user() {
        let inputs = json!({"doc": {"z": "<it's & \"q\">", "a": [1, 2.5, null]}});
        let compact = rendered("{{ doc | tojson }}", &inputs);
        assert_eq!(compact, r#"{"z":"<it's & \"q\">","a":[1,2.5,null]}"#);
        let pretty = rendered("{{ doc | tojson(indent=2) }}", &inputs);
        assert!(pretty.starts_with("{\n  \"z\""), "{pretty}");
    }

    #[test]
    fn a_missing_input_is_named_with_its_place() {
        let cases = [
            ("a\n{{ document }}", json!({}), "document", "user.j2 line 2"),
            ("{{ doc.total }}", json!({}), "doc", "user.j2 line 1"),
            ("{{ doc.total }}", json!({"doc": {}}), "doc.total", "user.j2 line 1"),
            ("\n\n{% for x in items %}{{ x }}{% endfor %}", json!({}), "items", "line 3"),
            ("{{ name | upper }}", Value::Null, "name", "line 1"),
        ];
        for (text, inputs, name, place) in cases {
            let failure = user(text).render(&inputs).unwrap_err();
            assert_eq!(failure.class, FailureClass::BadRequest);
            assert_eq!(failure.param, Some(format!("backstay.inputs.{name}")), "{failure}");
            assert!(failure.message.contains(place), "{failure}");
        }
        let included = templates(None, Some("{% include 'c.md' %}"), &[("c.md", "x\n{{ tone }}")]);
        let failure = Prompts::compile(&included).unwrap().render(&json!({})).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("backstay.inputs.tone"));
        assert!(failure.message.contains("c.md line 2"), "{failure}");
        assert_eq!(rendered("{% if note is defined %}{{ note }}{% endif %}.", &json!({})), ".");
    }

    #[test]
    fn inputs_that_do_not_fit_are_the_clients_mistake() {
        for (text, inputs, said) in [
            ("{{ a }}", json!([1]), "JSON object"),
            ("{{ a + b }}", json!({"a": "secret-value", "b": 1}), "cannot be rendered"),
            ("{% for i in a %}{% endfor %}", json!({"a": 1}), "cannot be rendered"),
        ] {
            let failure = user(text).render(&inputs).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some("backstay.inputs"));
            assert!(failure.message.contains(said), "{failure}");
            assert!(!failure.message.contains("secret-value"), "{failure}");
        }
    }

    #[test]
    fn work_and_size_are_bounded() {
        let endless =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let failure = user(endless).render(&json!({})).unwrap_err();
        assert!(failure.message.contains("too much work"), "{failure}");
        let ten_mb = json!({"a": "x".repeat(10 << 20)});
        assert_eq!(rendered("{{ a }}", &ten_mb).len(), 10 << 20);
        let failure = user("{{ a }}{{ a }}").render(&ten_mb).unwrap_err();
        assert!(failure.message.contains("larger than 16 MB"), "{failure}");
        let around = templates(None, Some("{% include 'a' %}"), &[("a", "{% include 'a' %}")]);
        assert!(Prompts::compile(&around).unwrap().render(&json!({})).is_err());
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let wrong = templates(Some("a\n{% if %}"), Some("{{ a"), &[("c.md", "{{ b }}}\n{% x %}")]);
        let mistakes = Prompts::compile(&wrong).unwrap_err();
        let places: Vec<_> = mistakes.iter().map(|m| (m.file.as_str(), m.line)).collect();
        assert_eq!(places, [(SYSTEM, Some(2)), (USER, Some(1)), ("c.md", Some(2))]);
        assert!(
            mistakes[0].to_string().starts_with("system.j2:2: syntax error"),
            "{}",
            mistakes[0]
        );
    }

    #[test]
    fn a_message_always_says_something() {
        let message = |text| MessageTemplate::compile(text).unwrap().render("timeout", "read");
        assert_eq!(
            message("Sorry, {{ call }} failed: {{ failure }}."),
            "Sorry, read failed: timeout."
        );
        let endless = "{% for a in range(99999) %}{{ a }}{% endfor %}";
        for text in ["", " \n", "{{ call + 1 }}", "{{ failure.x.y }}", endless] {
            assert_eq!(message(text), "No answer could be given (timeout).", "{text}");
        }
        let unknown = MessageTemplate::compile("{{ user }}").unwrap_err();
        assert!(unknown.message.contains("`user`"), "{unknown}");
        assert_eq!(MessageTemplate::compile("\n{{ failure").unwrap_err().line, Some(2));
    }

    #[test]
    fn prompts_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Prompts>();
        shared::<MessageTemplate>();
    }

    proptest! {
        #[test]
        fn inputs_are_never_templates(text in ".*") {
            prop_assert_eq!(rendered("{{ a }}", &json!({"a": text.clone()})), text.clone());
            let call = MessageTemplate::compile("{{ call }}!").unwrap();
            prop_assert_eq!(call.render("x", &text), format!("{text}!"));
        }

        #[test]
        fn any_template_is_compiled_or_refused(text in "[{}%a-c |.'#\n()\\[\\]+-]{0,40}") {
            if let Ok(prompts) = Prompts::compile(&templates(None, Some(&text), &[])) {
                prompts.render(&json!({"a": 1, "b": "x"})).ok();
            }
        }
    }
}
