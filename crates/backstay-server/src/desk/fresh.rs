//! Answers that are good for a moment: a hundred open dashboards cost one question to the store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::error::ApiError;

/// How long an answer is good at least,
const GOOD_FOR: Duration = Duration::from_secs(1);
/// and at most.
const LONGEST: Duration = Duration::from_secs(30);
/// In between it is good for so many times as long as it took to make: questions about long stretches
/// of time take no more than a twentieth of a core, and what they tell changes slowly.
const WORTH: u32 = 20;
/// The most answers that are kept.
const MOST: usize = 64;

/// What came of making an answer last. Whoever makes it holds the lock; the others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Made>>>;

#[derive(Debug)]
enum Made {
    /// An answer, and until when it is good.
    Good(Instant, Bytes),
    /// It failed at that time: whoever waited for it then gets the same.
    Failed(Instant, ApiError),
}

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
        let asked = Instant::now();
        let slot = self.slot(key, asked);
        let mut kept = slot.lock().await;
        let began = Instant::now();
        match kept.as_ref() {
            Some(Made::Good(until, answer)) if began < *until => return Ok(answer.clone()),
            Some(Made::Failed(at, error)) if asked < *at => return Err(error.clone()),
            Some(Made::Good(..) | Made::Failed(..)) | None => {}
        }
        let made = make.await;
        *kept = Some(match &made {
            Ok(answer) => {
                let good_for = (began.elapsed() * WORTH).clamp(GOOD_FOR, LONGEST);
                Made::Good(began + good_for, answer.clone())
            }
            Err(error) => Made::Failed(Instant::now(), error.clone()),
        });
        made
    }

    /// The place of a question. While all places hold what is good or being made, further questions
    /// are answered without one.
    fn slot(&self, key: String, now: Instant) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST && !slots.contains_key(&key) {
            slots.retain(|_, slot| {
                let is_good = |made: &Made| matches!(made, Made::Good(until, _) if now < *until);
                let good =
                    || slot.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(is_good));
                Arc::strong_count(slot) > 1 || good()
            });
            if slots.len() >= MOST {
                return Slot::default();
            }
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Asks for `key`; the answer takes `millis` and is the number of answers that were made before.
    async fn ask(fresh: &Fresh, asked: &AtomicUsize, key: &str, millis: u64) -> Bytes {
        let make = async {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(Bytes::from(asked.fetch_add(1, Ordering::Relaxed).to_string()))
        };
        fresh.answer(key.to_owned(), make).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_serves_all_who_ask_within_a_second() {
        let (fresh, asked) = (Fresh::default(), AtomicUsize::new(0));
        let board = || ask(&fresh, &asked, "board", 20);
        let (a, b, c) = tokio::join!(board(), board(), board());
        assert_eq!([a, b, c], [const { Bytes::from_static(b"0") }; 3]);
        assert_eq!(ask(&fresh, &asked, "other", 20).await, "1");
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!(board().await, "2");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_good_for_longer_but_not_for_ever() {
        let (fresh, asked) = (Fresh::default(), AtomicUsize::new(0));
        for (millis, good_for) in [(500, 10), (60_000, 30)] {
            let made = ask(&fresh, &asked, "week", millis).await;
            let began = Instant::now() - Duration::from_millis(millis);
            let almost = began + Duration::from_secs(good_for) - Duration::from_millis(1);
            if almost > Instant::now() {
                tokio::time::advance(almost - Instant::now()).await;
                assert_eq!(ask(&fresh, &asked, "week", millis).await, made, "{millis} ms");
            }
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_ne!(ask(&fresh, &asked, "week", 1).await, made, "{millis} ms");
            tokio::time::advance(LONGEST).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_other_questions_do_not_push_out_what_is_good() {
        let (fresh, asked) = (Fresh::default(), AtomicUsize::new(0));
        let board = ask(&fresh, &asked, "board", 500).await;
        for n in 0..3 * MOST {
            ask(&fresh, &asked, &n.to_string(), 0).await;
        }
        assert_eq!(ask(&fresh, &asked, "board", 500).await, board);
        assert!(fresh.slots.lock().unwrap().len() <= MOST);
        tokio::time::advance(LONGEST).await;
        let other = ask(&fresh, &asked, "other", 500).await;
        assert_eq!(ask(&fresh, &asked, "other", 500).await, other, "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_waited_for_a_failure_do_not_try_one_after_another() {
        let (fresh, asked) = (Fresh::default(), AtomicUsize::new(0));
        let fail = || {
            fresh.answer("week".to_owned(), async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                asked.fetch_add(1, Ordering::Relaxed);
                Err(ApiError::defect())
            })
        };
        let (a, b, c) = tokio::join!(fail(), fail(), fail());
        assert!(a.is_err() && b.is_err() && c.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(fail().await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2, "who comes later tries anew");
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
