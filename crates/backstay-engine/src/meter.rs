//! What an attempt used: as its provider says, or estimated where it does not. Judges nothing and
//! prices nothing.

use backstay_core::{record::Usage, tokens};
use backstay_providers::wire::{Choice, Prompt, Reply};

/// A text of at least so many bytes that has nothing but the letters of base64 is a picture or sound.
const SHORTEST_CODED: usize = 1024;

/// The tokens of a whole reply.
pub(crate) fn of_whole(reply: &Reply, prompt: &Prompt) -> Usage {
    reply.usage.map_or_else(|| estimate(reply, prompt), |told| mended(told, reply, prompt))
}

/// What a provider says, where it can be true. Some say 0 and mean that they do not count: a prompt has
/// tokens, and so has an answer with a text.
fn mended(told: Usage, reply: &Reply, prompt: &Prompt) -> Usage {
    let guess = estimate(reply, prompt);
    let (unread, unwritten) = (told.input == 0, told.output == 0 && guess.output > 0);
    if !unread && !unwritten {
        return told;
    }
    let input = if unread { guess.input } else { told.input };
    let output = if unwritten { guess.output } else { told.output };
    Usage { input, output, estimated: true, ..told }
}

/// The tokens of a reply that broke off: what came was made, whatever the provider had told of it until
/// then. `None` if nothing came and nothing was told: then nobody knows whether anything was used.
pub(crate) fn of_part(reply: &Reply, prompt: &Prompt) -> Option<Usage> {
    let written = written(reply);
    let Some(told) = reply.usage else {
        return (written > 0).then(|| estimate(reply, prompt));
    };
    let told = mended(told, reply, prompt);
    if told.output >= written {
        return Some(told);
    }
    Some(Usage { output: written, estimated: true, ..told })
}

fn estimate(reply: &Reply, prompt: &Prompt) -> Usage {
    let texts = prompt.texts();
    let input = texts.into_iter().filter(|text| !is_coded(text)).map(tokens::about).sum();
    Usage { input, output: written(reply), estimated: true, ..Usage::default() }
}

/// A guess of the tokens that the model wrote.
fn written(reply: &Reply) -> u64 {
    reply.choices.iter().map(written_choice).sum()
}

fn written_choice(choice: &Choice) -> u64 {
    let refusal = choice.refusal.as_deref().unwrap_or_default();
    let texts = [choice.text.as_str(), choice.reasoning.as_str(), refusal];
    let tools = choice.tool_calls.iter().flat_map(|call| [call.name.as_str(), &call.arguments]);
    texts.into_iter().chain(tools).map(tokens::about).sum()
}

/// Whether a text of a prompt is data in base64, which is not counted by its letters.
fn is_coded(text: &str) -> bool {
    let text = text.rsplit_once(";base64,").map_or(text, |(_, data)| data);
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-\r\n".contains(byte);
    text.len() >= SHORTEST_CODED && text.as_bytes().iter().take(SHORTEST_CODED).all(letter)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backstay_providers::wire::{Protocol, Role, Turn};
    use bytes::Bytes;
    use serde_json::{Map, json};

    use super::*;

    fn prompt(content: &str) -> Prompt {
        let body = json!({"messages": [{"role": "user", "content": content}]});
        Prompt {
            protocol: Protocol::OpenAi,
            body: Arc::new(body.as_object().unwrap().clone()),
            before: vec![Turn { role: Role::System, text: "Be brief, please.".to_owned() }],
            after: Vec::new(),
            params: Arc::new(Map::new()),
            schema: None,
            stream: false,
        }
    }

    fn reply(text: &str, usage: Option<Usage>) -> Reply {
        Reply {
            protocol: Protocol::OpenAi,
            raw: Bytes::new(),
            id: None,
            model: None,
            choices: vec![Choice { text: text.to_owned(), ..Choice::default() }],
            usage,
            fingerprint: None,
            changed: false,
        }
    }

    #[test]
    fn what_the_provider_says_holds() {
        let told = Some(Usage { input: 7, output: 9, ..Usage::default() });
        assert_eq!(Some(of_whole(&reply("a", told), &prompt("b"))), told);
        assert_eq!(of_part(&reply("a", told), &prompt("b")), told);
    }

    #[test]
    fn what_it_does_not_say_is_estimated_and_says_so() {
        let found = of_whole(&reply("The answer.", None), &prompt("What is the answer?"));
        // Roles are counted with the texts: they are tokens too.
        assert_eq!((found.input, found.output, found.estimated), (11, 3, true));
        let part = of_part(&reply("The answer.", None), &prompt("What is the answer?"));
        assert_eq!(part, Some(found));
        let told = Usage { input: 20, cache_read: 8, output: 1, ..Usage::default() };
        let part = of_part(&reply("The answer.", Some(told)), &prompt("?"));
        assert_eq!(part, Some(Usage { output: 3, estimated: true, ..told }));
        assert_eq!(of_part(&reply("", None), &prompt("?")), None, "nobody knows");
    }

    #[test]
    fn nothing_is_not_what_an_answer_used() {
        let told = |input, output| Some(Usage { input, output, ..Usage::default() });
        let question = prompt("What is the answer?");
        for (usage, text, input, output, estimated) in [
            (told(0, 0), "The answer.", 11, 3, true),
            (told(0, 9), "The answer.", 11, 9, true),
            (told(7, 0), "The answer.", 7, 3, true),
            // The model said nothing, and the provider says so.
            (told(7, 0), "", 7, 0, false),
        ] {
            let whole = of_whole(&reply(text, usage), &question);
            assert_eq!((whole.input, whole.output, whole.estimated), (input, output, estimated));
            assert_eq!(of_part(&reply(text, usage), &question), Some(whole));
        }
    }

    #[test]
    fn pictures_are_not_counted_by_their_letters() {
        let picture = format!("data:image/png;base64,{}", "iVBORw0KGgo".repeat(10_000));
        for coded in [picture.as_str(), &"SUQzBAAAAAAA".repeat(1000)] {
            assert!(of_whole(&reply("A ship.", None), &prompt(coded)).input < 20);
        }
        let long = "Not a picture. ".repeat(1000);
        assert!(of_whole(&reply("A text.", None), &prompt(&long)).input > 3_000);
    }
}
