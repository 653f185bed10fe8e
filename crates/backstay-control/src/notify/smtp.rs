//! Mail. All that is said of one alert is one thread; the identity of a mail is that of the notice, so
//! that a mail that is sent twice can be told from two.

use std::time::{Duration, UNIX_EPOCH};

use backstay_core::failure::{Failure, FailureClass, Phase};
use backstay_providers::transport::Unanswered;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::Error as SmtpError,
};

use super::wording::Message;

/// A mail server, and who gets mail by it.
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mailer {
    /// Reads the address of a server: `smtps://USER:PASSWORD@HOST`, `smtp://HOST:25`,
    /// `smtp://HOST?tls=required`.
    ///
    /// # Errors
    /// What is wrong, and how to mend it; never the address itself.
    pub(super) fn new(
        url: &str,
        from: &str,
        to: &[String],
        limit: Duration,
    ) -> Result<Self, String> {
        if sends_password_in_the_open(url) {
            return Err("would send its password unencrypted: write smtps://, or add \
                        ?tls=required to the address"
                .to_owned());
        }
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| {
            "has no valid address: write smtps://USER:PASSWORD@HOST or smtp://HOST:25".to_owned()
        })?;
        let mailbox = |address: &str| {
            let wrong = |_| format!("`{address}` is not a mail address: write name@example.com");
            address.parse::<Mailbox>().map_err(wrong)
        };
        Ok(Self {
            transport: builder.timeout(Some(limit)).build(),
            from: mailbox(from)?,
            to: to.iter().map(|address| mailbox(address)).collect::<Result<_, _>>()?,
        })
    }

    /// Sends a mail.
    pub(super) async fn send(&self, message: &Message<'_>) -> Result<(), Unanswered> {
        let mail = mail(message, &self.from, &self.to).map_err(|error| {
            let failure = Failure::new(
                FailureClass::BadRequest,
                format!("the mail cannot be written: {error}"),
            );
            Unanswered { failure, maybe_seen: false }
        })?;
        // Whether the server is there has to be known for certain: see `Unanswered::maybe_seen`.
        match self.transport.test_connection().await {
            Ok(true) => {}
            Ok(false) => {
                let message = "the mail server takes no mail for now";
                let failure = Failure::new(FailureClass::Overloaded, message);
                return Err(Unanswered { failure, maybe_seen: false });
            }
            Err(error) => return Err(Unanswered { failure: fault(&error), maybe_seen: false }),
        }
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let refused = error.status().is_some();
                Err(Unanswered { failure: fault(&error), maybe_seen: !refused })
            }
        }
    }
}

/// What went wrong, in words of our own: a server's reply may hold addresses.
fn fault(error: &SmtpError) -> Failure {
    let (class, message) = match error.status() {
        Some(code) if error.is_permanent() => {
            (FailureClass::UpstreamAuth, format!("the mail server refuses ({code})"))
        }
        Some(code) => {
            (FailureClass::Overloaded, format!("the mail server cannot for now ({code})"))
        }
        None if error.is_timeout() => {
            let phase = FailureClass::Timeout(Phase::Headers);
            (phase, "the mail server did not answer in time".to_owned())
        }
        None if error.is_tls() => {
            (FailureClass::Connection, "TLS with the mail server failed".to_owned())
        }
        None => (FailureClass::Connection, "the connection to the mail server failed".to_owned()),
    };
    Failure::new(class, message)
}

fn sends_password_in_the_open(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("smtp://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let Some((user, host)) = authority.rsplit_once('@') else { return false };
    let local =
        host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]");
    user.contains(':') && !local && !rest.contains("tls=required")
}

/// The mail of a notification.
fn mail(
    message: &Message<'_>,
    from: &Mailbox,
    to: &[Mailbox],
) -> Result<Mail, lettre::error::Error> {
    let mut builder = Mail::builder()
        .from(from.clone())
        .subject(format!("{}: {}", message.title(), message.summary()))
        .date(UNIX_EPOCH + Duration::from_millis(message.now_ms))
        .message_id(Some(format!("<{}@backstay>", message.key.replace('/', "."))))
        .references(format!("<{}@backstay>", message.alert.id))
        .header(ContentType::TEXT_PLAIN)
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for mailbox in to {
        builder = builder.to(mailbox.clone());
    }
    builder.body(text(message))
}

fn text(message: &Message<'_>) -> String {
    let mut text = format!("{}\n\n", message.summary());
    for (name, value) in message.facts() {
        let value = value.replace('\n', "\n              ");
        text.push_str(&format!("{name:<13} {value}\n"));
    }
    text.push_str(&format!("\n{}\n", message.link()));
    text
}

#[cfg(test)]
mod tests {
    use backstay_store::alerts::Event;

    use super::super::wording::tests::{alert, assert_complete, message};
    use super::*;

    #[test]
    fn mails() {
        let alert = alert();
        let from: Mailbox = "Backstay <backstay@example.com>".parse().unwrap();
        let to = ["ops@example.com".parse().unwrap(), "dev@example.com".parse().unwrap()];
        let message = message(&alert, Event::Firing);
        assert_complete(&text(&message));
        let mail = mail(&message, &from, &to).unwrap();
        let formatted = String::from_utf8(mail.formatted()).unwrap().replace("\r\n", "\n");
        insta::assert_snapshot!("mail_firing", formatted);
    }

    #[tokio::test]
    async fn addresses() {
        let make = |url: &str| {
            Mailer::new(url, "a@example.com", &["b@example.com".to_owned()], Duration::from_secs(1))
        };
        for good in [
            "smtp://127.0.0.1:25",
            "smtps://u:p@mail.example.com",
            "smtp://u:p@mail.example.com:587?tls=required",
            "smtp://u:p@localhost",
        ] {
            assert!(make(good).is_ok(), "{good}");
        }
        for bad in ["http://hunter2", "smtp://u:hunter2@mail.example.com", "hunter2"] {
            let why = make(bad).err().unwrap();
            assert!(!why.contains("hunter2"), "{why}");
        }
        let wrong = Mailer::new("smtp://h", "nobody", &[], Duration::from_secs(1)).err().unwrap();
        assert!(wrong.contains("`nobody` is not a mail address"), "{wrong}");
    }
}
