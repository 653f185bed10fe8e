//! Folds the deltas of a stream into a complete [`Reply`], within a bound. Judges nothing.

use std::collections::BTreeMap;

use backstay_core::{
    failure::{Failure, FailureClass},
    record::Usage,
};
use bytes::Bytes;

use crate::wire::{Choice, Delta, Protocol, Reply, ToolCall};

/// What an answer or a tool call costs of the bound on its own, so that empty ones are bounded too.
const OPENING: usize = 64;

/// A reply in the making.
#[derive(Debug)]
pub struct Accumulator {
    protocol: Protocol,
    left: usize,
    max_bytes: usize,
    id: Option<String>,
    model: Option<String>,
    fingerprint: Option<String>,
    /// By number; a provider may leave numbers out.
    choices: BTreeMap<usize, Partial>,
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
struct Partial {
    choice: Choice,
    tools: BTreeMap<usize, ToolCall>,
}

impl Accumulator {
    /// An empty reply of a provider that speaks `protocol`, with at most `max_bytes` of text.
    #[must_use]
    pub fn new(protocol: Protocol, max_bytes: usize) -> Self {
        Self {
            protocol,
            left: max_bytes,
            max_bytes,
            id: None,
            model: None,
            fingerprint: None,
            choices: BTreeMap::new(),
            usage: None,
        }
    }

    /// Takes the next step of the stream.
    ///
    /// # Errors
    /// `upstream_error` if the texts together exceed the bound.
    pub fn push(&mut self, delta: &Delta) -> Result<(), Failure> {
        match delta {
            Delta::Start { id, model, fingerprint } => {
                // Said again with every event by most; only the last one is kept.
                if id.is_some() && self.id != *id {
                    self.id.clone_from(id);
                }
                if model.is_some() && self.model != *model {
                    self.model.clone_from(model);
                }
                if fingerprint.is_some() && self.fingerprint != *fingerprint {
                    self.fingerprint.clone_from(fingerprint);
                }
            }
            Delta::Text { choice, text } => self.choice(*choice, text.len())?.text.push_str(text),
            Delta::Reasoning { choice, text } => {
                self.choice(*choice, text.len())?.reasoning.push_str(text);
            }
            Delta::Refusal { choice, text } => {
                let refusal = &mut self.choice(*choice, text.len())?.refusal;
                refusal.get_or_insert_default().push_str(text);
            }
            Delta::Tool { choice, index, id, name, arguments } => {
                let id = id.as_deref().unwrap_or_default();
                let name = name.as_deref().unwrap_or_default();
                let tool = self.tool((*choice, *index), id.len() + name.len() + arguments.len())?;
                // Some servers repeat id and name in every piece, some send them empty.
                if tool.id.is_empty() {
                    id.clone_into(&mut tool.id);
                }
                if tool.name.is_empty() {
                    name.clone_into(&mut tool.name);
                }
                tool.arguments.push_str(arguments);
            }
            Delta::Finish { choice, finish } => {
                self.choice(*choice, 0)?.finish = Some(finish.clone());
            }
            Delta::Usage(usage) => absorb(self.usage.get_or_insert_default(), usage),
            Delta::End => {}
        }
        Ok(())
    }

    /// Whether each answer that was begun has said why it stopped.
    #[must_use]
    pub fn finished(&self) -> bool {
        let mut choices = self.choices.values().peekable();
        choices.peek().is_some() && choices.all(|partial| partial.choice.finish.is_some())
    }

    /// The reply as far as it came; `raw` is empty.
    #[must_use]
    pub fn finish(self) -> Reply {
        let anthropic = self.protocol == Protocol::Anthropic;
        let choices = self.choices.into_values().map(|partial| {
            let mut choice = partial.choice;
            choice.tool_calls = partial.tools.into_values().collect();
            for tool in &mut choice.tool_calls {
                // Anthropic streams nothing at all for a call without arguments.
                if anthropic && tool.arguments.is_empty() {
                    "{}".clone_into(&mut tool.arguments);
                }
            }
            choice
        });
        Reply {
            protocol: self.protocol,
            raw: Bytes::new(),
            choices: choices.collect(),
            id: self.id,
            model: self.model,
            usage: self.usage,
            fingerprint: self.fingerprint,
            changed: false,
        }
    }

    fn choice(&mut self, index: usize, bytes: usize) -> Result<&mut Choice, Failure> {
        Ok(&mut self.partial(index, bytes)?.choice)
    }

    fn partial(&mut self, index: usize, bytes: usize) -> Result<&mut Partial, Failure> {
        let opening = if self.choices.contains_key(&index) { 0 } else { OPENING };
        self.spend(bytes.saturating_add(opening))?;
        Ok(self.choices.entry(index).or_default())
    }

    fn tool(
        &mut self,
        (choice, index): (usize, usize),
        bytes: usize,
    ) -> Result<&mut ToolCall, Failure> {
        let known = self.choices.get(&choice).is_some_and(|c| c.tools.contains_key(&index));
        let opening = if known { 0 } else { OPENING };
        let partial = self.partial(choice, bytes.saturating_add(opening))?;
        Ok(partial.tools.entry(index).or_default())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Failure> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let max = self.max_bytes;
            let message = format!("the streamed answer is larger than {max} bytes");
            Failure::new(FailureClass::UpstreamError, message)
        })?;
        Ok(())
    }
}

/// Takes over what is larger in `later`: providers report totals, some of them in parts.
pub(crate) fn absorb(usage: &mut Usage, later: &Usage) {
    for (figure, later) in [
        (&mut usage.input, later.input),
        (&mut usage.output, later.output),
        (&mut usage.cache_read, later.cache_read),
        (&mut usage.cache_write, later.cache_write),
        (&mut usage.cache_write_1h, later.cache_write_1h),
        (&mut usage.input_media, later.input_media),
        (&mut usage.reasoning, later.reasoning),
        (&mut usage.output_media, later.output_media),
    ] {
        *figure = later.max(*figure);
    }
}
