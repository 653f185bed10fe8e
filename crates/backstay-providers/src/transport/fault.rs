//! What went wrong on a connection, as a [`Failure`] with a sentence for people.
//!
//! Sentences are made of the peer's `host:port` and of words of our own and the operating system:
//! nothing that the peer sent gets into them.

use std::{error::Error, io};

use backstay_core::failure::{Cut, Failure, FailureClass};
use rustls::CertificateError;

/// A failure to set up or use a connection.
pub(super) fn connection(message: String) -> Failure {
    Failure::new(FailureClass::Connection, message)
}

/// A request that got no status line.
pub(super) fn before_headers(error: &hyper::Error, peer: &str) -> Failure {
    if error.is_parse() {
        let message = format!("{peer} answered with something that is not HTTP");
        return Failure::new(FailureClass::UpstreamError, message);
    }
    connection(format!("{peer} {} before it answered", ending(error)))
}

/// A body that could not be read to its end.
pub(super) fn in_body(error: &hyper::Error, peer: &str) -> Failure {
    let garbled = io_cause(error).is_some_and(|cause| {
        matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    });
    if garbled {
        let message = format!("the reply of {peer} has a garbled chunked encoding");
        return Failure::new(FailureClass::UpstreamError, message);
    }
    let message = format!("{peer} {} before the reply was complete", ending(error));
    Failure::new(FailureClass::Truncated(Cut::Stream), message)
}

fn ending(error: &hyper::Error) -> String {
    if error.is_timeout() {
        return "did not answer HTTP/2 pings".into();
    }
    match io_cause(error) {
        Some(cause) if cause.kind() != io::ErrorKind::UnexpectedEof => {
            format!("broke the connection ({})", io_words(cause))
        }
        Some(_) | None => "closed the connection".into(),
    }
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

/// The operating system's words for an error.
pub(super) fn io_words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.kind().to_string(), |_| error.to_string())
}

/// Why a TLS handshake failed, and how to mend it where that is known.
pub(super) fn tls_words(error: &io::Error) -> String {
    let Some(error) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>())
    else {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            "the server closed the connection".into()
        } else {
            io_words(error)
        };
    };
    if let rustls::Error::InvalidCertificate(certificate) = error {
        return certificate_words(certificate).into();
    }
    if let rustls::Error::AlertReceived(alert) = error {
        return format!("the server refused with alert {alert:?}");
    }
    if matches!(error, rustls::Error::InvalidMessage(_)) {
        return "the server does not speak TLS: should base_url begin with `http://`?".into();
    }
    "the server's answers break the TLS protocol".into()
}

fn certificate_words(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    if matches!(error, E::UnknownIssuer) {
        "certificate unknown authority: name a private authority with `ca_file`"
    } else if matches!(error, E::Expired | E::ExpiredContext { .. }) {
        "the certificate has expired"
    } else if matches!(error, E::NotValidYet | E::NotValidYetContext { .. }) {
        "the certificate is not valid yet: is this machine's clock right?"
    } else if matches!(error, E::NotValidForName | E::NotValidForNameContext { .. }) {
        "the certificate is for another host name"
    } else if matches!(error, E::Revoked) {
        "the certificate is revoked"
    } else {
        "the certificate is not acceptable"
    }
}
