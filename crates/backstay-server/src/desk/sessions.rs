//! Sessions of the dashboard: a key is shown once, and a cookie stands for it for twelve hours.
//!
//! The cookie is 32 random bytes; only their hash is kept, in memory. It is as good as the key that it
//! was made for, and as long: with the key it is revoked. A process that starts anew knows none.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::auth::{self, Keys, Visitor};

/// How many random bytes a cookie has; its text has two digits for each.
pub(crate) const TOKEN_BYTES: usize = 32;
/// How long a session lasts.
pub(crate) const LASTS_MS: u64 = 12 * 3_600_000;
/// The most sessions at once; past them the oldest one makes room.
const MOST_SESSIONS: usize = 1000;
/// Failed attempts that a machine has at once,
const ATTEMPTS: u64 = 10;
/// and how long it takes to get one back.
const ATTEMPT_MS: u64 = 6_000;
/// The most machines whose failures are counted one by one.
const MOST_MACHINES: usize = 1000;

/// The sessions in force, by the hashes of their cookies, and who failed to begin one.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<[u8; 32], Begun>>,
    /// When each machine will have all its attempts back, in milliseconds since the epoch.
    failures: Mutex<HashMap<IpAddr, u64>>,
}

/// Which session a request came with. It shows nothing of the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket([u8; 32]);

impl Ticket {
    /// The ticket of the session with this cookie.
    pub(crate) fn of(token: &str) -> Self {
        Self(auth::hash(token))
    }
}

#[derive(Debug)]
struct Begun {
    visitor: Visitor,
    until_ms: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change below is one insertion or removal.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// Begins a session for `visitor`; the text of its cookie.
    pub(crate) fn begin(&self, visitor: Visitor, random: [u8; TOKEN_BYTES], now_ms: u64) -> String {
        let token = random.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let mut open = lock(&self.open);
        if open.len() >= MOST_SESSIONS {
            open.retain(|_, begun| begun.until_ms > now_ms);
        }
        if open.len() >= MOST_SESSIONS {
            let oldest = open.iter().min_by_key(|(_, begun)| begun.until_ms).map(|(hash, _)| *hash);
            oldest.map(|hash| open.remove(&hash));
        }
        open.insert(auth::hash(&token), Begun { visitor, until_ms: now_ms + LASTS_MS });
        token
    }

    /// Whose session this is, if it and its key are in force.
    pub(crate) fn visitor(&self, token: &str, now_ms: u64, keys: &Keys) -> Option<Visitor> {
        // Looked up by its hash: how long that takes tells nothing of the tokens that are known.
        let hash = auth::hash(token);
        let mut open = lock(&self.open);
        let begun = open.get(&hash)?;
        if begun.until_ms > now_ms && keys.still_admits(&begun.visitor) {
            return Some(begun.visitor.clone());
        }
        open.remove(&hash);
        None
    }

    /// Whether a session is neither over nor ended. Its key is looked at elsewhere.
    pub(crate) fn is_open(&self, ticket: Ticket, now_ms: u64) -> bool {
        lock(&self.open).get(&ticket.0).is_some_and(|begun| begun.until_ms > now_ms)
    }

    /// Ends a session.
    pub(crate) fn end(&self, token: &str) {
        lock(&self.open).remove(&auth::hash(token));
    }

    /// Whether a machine may try a key.
    ///
    /// # Errors
    /// In how many seconds it may.
    pub(crate) fn may_try(&self, peer: IpAddr, now_ms: u64) -> Result<(), u64> {
        let machine = machine(peer);
        let back_ms = lock(&self.failures).get(&machine).copied().unwrap_or(0);
        let left = (ATTEMPTS * ATTEMPT_MS).saturating_sub(back_ms.saturating_sub(now_ms));
        if left >= ATTEMPT_MS { Ok(()) } else { Err((ATTEMPT_MS - left).div_ceil(1000)) }
    }

    /// Counts a wrong key.
    pub(crate) fn failed(&self, peer: IpAddr, now_ms: u64) {
        let machine = machine(peer);
        let mut failures = lock(&self.failures);
        if failures.len() >= MOST_MACHINES {
            failures.retain(|_, back_ms| *back_ms > now_ms);
        }
        if failures.len() >= MOST_MACHINES && !failures.contains_key(&machine) {
            // An attack from very many places; those that came first are let go.
            failures.clear();
        }
        let back_ms = failures.entry(machine).or_default();
        *back_ms = (*back_ms).max(now_ms) + ATTEMPT_MS;
    }
}

/// An attacker has a whole network of IPv6 addresses; it counts as one machine.
fn machine(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use backstay_store::KeyRow;

    use super::*;

    fn keys(revoked: bool) -> Keys {
        Keys::new(&[KeyRow {
            id: "a".into(),
            name: "ops".into(),
            sha256: auth::hash("bsk_a_secret"),
            created_ms: 0,
            revoked_ms: revoked.then_some(1),
        }])
    }

    #[test]
    fn a_session_ends_by_time_by_hand_and_with_its_key() {
        let (sessions, good) = (Sessions::default(), keys(false));
        let begin = |n| sessions.begin(good.owner("bsk_a_secret").unwrap(), [n; 32], 1000);
        let (late, ended, revoked) = (begin(1), begin(2), begin(3));
        assert_eq!(late.len(), 64);
        assert_eq!(sessions.visitor(&late, 1000, &good).unwrap().name(), "ops");
        assert!(sessions.visitor(&late, 1000 + LASTS_MS - 1, &good).is_some());
        assert!(sessions.visitor(&late, 1000 + LASTS_MS, &good).is_none());
        assert!(sessions.is_open(Ticket::of(&ended), 1000 + LASTS_MS - 1));
        assert!(!sessions.is_open(Ticket::of(&ended), 1000 + LASTS_MS));
        sessions.end(&ended);
        assert!(!sessions.is_open(Ticket::of(&ended), 1000));
        assert!(sessions.visitor(&ended, 1000, &good).is_none());
        assert!(sessions.visitor(&revoked, 1000, &keys(true)).is_none());
        assert!(sessions.visitor(&revoked, 1000, &good).is_none(), "it does not come back");
        assert!(sessions.visitor(&"0".repeat(64), 1000, &good).is_none());
        assert!(lock(&sessions.open).is_empty());
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_makes_room() {
        let (sessions, keys) = (Sessions::default(), keys(false));
        let visitor = keys.owner("bsk_a_secret").unwrap();
        let tokens: Vec<String> = (0..=MOST_SESSIONS)
            .map(|n| {
                let mut random = [0; 32];
                random[..8].copy_from_slice(&n.to_le_bytes());
                sessions.begin(visitor.clone(), random, u64::try_from(n).unwrap())
            })
            .collect();
        assert_eq!(lock(&sessions.open).len(), MOST_SESSIONS);
        assert!(sessions.visitor(&tokens[0], 2000, &keys).is_none());
        assert!(sessions.visitor(&tokens[1], 2000, &keys).is_some());
    }

    #[test]
    fn a_machine_that_guesses_has_to_wait_and_others_do_not() {
        let sessions = Sessions::default();
        let (guesser, other): (IpAddr, IpAddr) =
            ("203.0.113.7".parse().unwrap(), "203.0.113.8".parse().unwrap());
        for _ in 0..ATTEMPTS {
            assert_eq!(sessions.may_try(guesser, 5000), Ok(()));
            sessions.failed(guesser, 5000);
        }
        assert_eq!(sessions.may_try(guesser, 5000), Err(6));
        assert_eq!(sessions.may_try(other, 5000), Ok(()));
        assert_eq!(sessions.may_try(guesser, 5000 + ATTEMPT_MS), Ok(()));
        for n in 0..3 * MOST_MACHINES {
            sessions.failed(IpAddr::V4(u32::try_from(n).unwrap().into()), 5000);
        }
        assert!(lock(&sessions.failures).len() <= MOST_MACHINES);
    }

    #[test]
    fn a_network_of_ipv6_is_one_machine() {
        let of = |text: &str| machine(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:203.0.113.7"), of("203.0.113.7"));
    }
}
