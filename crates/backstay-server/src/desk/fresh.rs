//! Answers that are good for a moment: a hundred open dashboards cost one question to the store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::error::ApiError;

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// The most answers that are kept.
const MOST: usize = 64;

/// An answer and when it was made. Whoever makes it holds the lock; the others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Bytes)>>>;

/// The last answers.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    slots: Mutex<HashMap<String, Slot>>,
}

impl Fresh {
    /// The answer to the question `key`, made anew if there is none that is still good.
    pub(crate) async fn answer(
        &self,
        key: String,
        make: impl Future<Output = Result<Bytes, ApiError>>,
    ) -> Result<Bytes, ApiError> {
        let slot = self.slot(key);
        let mut kept = slot.lock().await;
        if let Some((made, answer)) = kept.as_ref()
            && made.elapsed() < GOOD_FOR
        {
            return Ok(answer.clone());
        }
        let began = Instant::now();
        let answer = make.await?;
        *kept = Some((began, answer.clone()));
        Ok(answer)
    }

    fn slot(&self, key: String) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST && !slots.contains_key(&key) {
            // Those that are being made are still held by their makers.
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_question_serves_all_who_ask_within_a_second() {
        let (fresh, asked) = (Fresh::default(), AtomicUsize::new(0));
        let ask = async |key: &str| {
            let make = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Ok(Bytes::from(asked.fetch_add(1, Ordering::Relaxed).to_string()))
            };
            fresh.answer(key.to_owned(), make).await.unwrap()
        };
        let (a, b, c) = tokio::join!(ask("board"), ask("board"), ask("board"));
        assert_eq!([a, b, c], [const { Bytes::from_static(b"0") }; 3]);
        assert_eq!(ask("other").await, "1");
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!(ask("board").await, "2");
    }

    #[tokio::test]
    async fn a_failure_is_not_kept_and_the_number_of_answers_is_bounded() {
        let fresh = Fresh::default();
        let failed = fresh.answer("a".into(), async { Err(ApiError::defect()) }).await;
        assert!(failed.is_err());
        assert_eq!(fresh.answer("a".into(), async { Ok("good".into()) }).await.unwrap(), "good");
        for n in 0..10 * MOST {
            fresh.answer(n.to_string(), async { Ok(Bytes::new()) }).await.unwrap();
        }
        assert!(fresh.slots.lock().unwrap().len() <= MOST);
    }
}
