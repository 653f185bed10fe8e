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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::tests::release;

    #[tokio::test]
    async fn the_first_step_that_has_an_answer_gives_it() {
        use DegradeStep as Step;
        let answer = |order: &[Step], class, stale: Option<&str>| {
            let plan = release(1, |spec| {
                spec.degrade.order = order.to_vec();
                spec.degrade.static_answer = Some(json!("closed"));
                spec.degrade.message = "{{ call }}: {{ failure }}".to_owned();
            });
            degrade(&plan, class, || stale.map(str::to_owned))
        };
        let (all, down) = ([Step::Stale, Step::Static, Step::Message], FailureClass::Connection);
        let kept = Some((Degraded::Stale, "kept".to_owned()));
        assert_eq!(answer(&all, down, Some("kept")), kept);
        let fixed = Some((Degraded::Static, "closed".to_owned()));
        assert_eq!(answer(&all, down, None), fixed);
        assert_eq!(answer(&all, down, Some(" ")), fixed, "an empty text is no answer");
        let told = Some((Degraded::Message, "greet: connection".to_owned()));
        assert_eq!(answer(&[Step::Message], down, None), told);
        assert_eq!(answer(&[Step::Error, Step::Static], down, None), None, "the error comes first");
        assert_eq!(answer(&all, FailureClass::BadRequest, Some("kept")), None, "its own mistake");
    }
}
