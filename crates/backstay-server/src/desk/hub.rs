//! Everybody who listens to events. A client that does not read is dropped.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{ApiError, sessions::Ticket};
use crate::auth::Visitor;

/// The most streams at once.
const MOST_CLIENTS: usize = 200;
/// Messages that wait for a client before it is dropped.
const PATIENCE: usize = 32;
/// What a stream begins with: how long a browser waits before it connects again.
const HELLO: &str = "retry: 3000\n\n";

/// Everybody who listens; `None` once the server is ending.
#[derive(Debug)]
pub(crate) struct Hub {
    clients: Mutex<Option<Vec<Client>>>,
}

#[derive(Debug)]
struct Client {
    to: mpsc::Sender<Bytes>,
    visitor: Visitor,
    /// The session that it came with, if it did not come with a key.
    ticket: Option<Ticket>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { clients: Mutex::new(Some(Vec::new())) }
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Client>>> {
        // A client is whole or not there.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a client in.
    ///
    /// # Errors
    /// When there is no room, or the server is ending.
    pub(crate) fn join(
        &self,
        visitor: Visitor,
        ticket: Option<Ticket>,
    ) -> Result<mpsc::Receiver<Bytes>, ApiError> {
        let (to, messages) = mpsc::channel(PATIENCE);
        let mut clients = self.lock();
        let Some(clients) = clients.as_mut() else {
            return Err(ApiError::busy("this server is ending", 5));
        };
        clients.retain(|client| !client.to.is_closed());
        if clients.len() >= MOST_CLIENTS {
            let why = format!("{MOST_CLIENTS} event streams are open, which is the limit");
            return Err(ApiError::busy(why, 30));
        }
        // There is room: nobody else has the channel yet.
        drop(to.try_send(Bytes::from_static(HELLO.as_bytes())));
        clients.push(Client { to, visitor, ticket });
        Ok(messages)
    }

    /// Sends to every client that keeps up and is `admitted`; the others are dropped.
    pub(crate) fn send(
        &self,
        message: Option<&Bytes>,
        admitted: impl Fn(&Visitor, Option<Ticket>) -> bool,
    ) {
        for client in self.lock().iter_mut() {
            client.retain(|client| {
                let stays = !client.to.is_closed() && admitted(&client.visitor, client.ticket);
                stays && message.is_none_or(|m| client.to.try_send(m.clone()).is_ok())
            });
        }
    }

    /// Whether nobody listens.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().as_ref().is_none_or(Vec::is_empty)
    }

    /// Ends all streams, and lets no further one begin.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(messages: &mut mpsc::Receiver<Bytes>) -> Vec<Bytes> {
        std::iter::from_fn(|| messages.try_recv().ok()).collect()
    }

    #[tokio::test]
    async fn the_number_of_clients_is_bounded_and_those_who_left_make_room() {
        let hub = Hub::default();
        let mut streams: Vec<_> =
            (0..MOST_CLIENTS).map(|_| hub.join(Visitor::Local, None).unwrap()).collect();
        assert!(hub.join(Visitor::Local, None).is_err());
        streams.pop();
        let mut last = hub.join(Visitor::Local, None).unwrap();
        assert_eq!(heard(&mut last), [HELLO]);
        hub.close();
        assert!(last.recv().await.is_none() && hub.join(Visitor::Local, None).is_err());
    }

    #[tokio::test]
    async fn who_does_not_read_or_has_no_key_any_more_is_dropped() {
        let key = |id: &str| Visitor::Key { id: id.into(), name: id.into(), sha256: [0; 32] };
        let hub = Hub::default();
        let join = |id, ticket| hub.join(key(id), ticket).unwrap();
        let (mut reads, slow) = (join("good", None), join("good", None));
        let mut revoked = join("revoked", None);
        let mut signed_out = join("good", Some(Ticket::of("a cookie")));
        for n in 0..PATIENCE + 1 {
            hub.send(Some(&n.to_string().into()), |visitor, ticket| {
                visitor.name() == "good" && ticket.is_none()
            });
            assert!(!heard(&mut reads).is_empty());
        }
        assert_eq!(heard(&mut revoked), [HELLO], "nothing is told after the key is revoked");
        assert_eq!(heard(&mut signed_out), [HELLO], "nor after the session is over");
        assert!(
            revoked.is_closed() && signed_out.is_closed() && slow.is_closed() && !reads.is_closed()
        );
    }
}
