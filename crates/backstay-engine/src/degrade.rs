//! What is answered when the budget is spent. Pure but for the cache that it is handed.

use backstay_core::{failure::FailureClass, record::Degraded, release::DegradeStep};

use crate::plan::ReleasePlan;

/// The first step of the ladder that has an answer: its text and what it is. `None`: the error itself
/// has to be answered.
pub(crate) fn degrade(
    plan: &ReleasePlan,
    class: FailureClass,
    stale: impl Fn() -> Option<String>,
) -> Option<(Degraded, String)> {
    if !class.row().degrades {
        return None;
    }
    let ladder = plan.spec.degrade.order.iter().take_while(|step| **step != DegradeStep::Error);
    for step in ladder {
        let found = match step {
            DegradeStep::Stale => stale().map(|text| (Degraded::Stale, text)),
            DegradeStep::Static => static_text(plan).map(|text| (Degraded::Static, text)),
            DegradeStep::Message => {
                let text = plan.message.render(class.name(), &plan.spec.call);
                Some((Degraded::Message, text))
            }
            DegradeStep::Error => None,
        };
        // An empty text is no answer, whichever step it comes from.
        if let Some((kind, text)) = found.filter(|(_, text)| !text.trim().is_empty()) {
            return Some((kind, text));
        }
    }
    None
}

/// A release with an output schema answers JSON; without one, a JSON string stands for its text.
fn static_text(plan: &ReleasePlan) -> Option<String> {
    let answer = plan.spec.degrade.static_answer.as_ref()?;
    match answer.as_str() {
        Some(text) if plan.output.is_none() => Some(text.to_owned()),
        Some(_) | None => Some(answer.to_string()),
    }
}
