//! TLS: who is trusted, and which HTTP is agreed on.

use std::{path::PathBuf, sync::Arc};

use backstay_core::failure::FailureClass;
use backstay_providers::transport::TransportOptions;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::{http2::answer, round_trip, server::Server, transport};

/// A server with a certificate of its own making, and the file that says whom to trust for it.
async fn server(alpn: &'static [&'static [u8]]) -> (Server, tempfile::TempDir, PathBuf) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |socket, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let service = hyper::service::service_fn(answer);
            let serving = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // An end by the client is no fault of the test.
            drop(serving.serve_connection(TokioIo::new(stream), service).await);
        }
    })
    .await;
    (server, directory, ca_file)
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_if_named() {
    let (server, _directory, ca_file) = server(&[b"http/1.1"]).await;
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}", server.address.port());
        let failure = round_trip(&transport(&url, TransportOptions::default())).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Connection);
        let expected = format!(
            "TLS handshake with {host}:{} failed: certificate unknown authority",
            server.address.port()
        );
        assert!(failure.message.starts_with(&expected), "{failure}");
        let options =
            TransportOptions { ca_file: Some(ca_file.clone()), ..TransportOptions::default() };
        let trusting = transport(&url, options);
        assert_eq!(round_trip(&trusting).await.unwrap(), (200, "HTTP/1.1".into()));
    }
}

#[tokio::test]
async fn http2_is_spoken_if_the_server_offers_it() {
    let (server, _directory, ca_file) = server(&[b"h2", b"http/1.1"]).await;
    let options = TransportOptions { ca_file: Some(ca_file), ..TransportOptions::default() };
    let transport = transport(&format!("https://{}", server.address), options);
    for _ in 0..10 {
        assert_eq!(round_trip(&transport).await.unwrap(), (200, "HTTP/2.0".into()));
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let server = Server::start(|mut socket, _| async move {
        let hello = socket.read_u8().await.unwrap();
        assert_eq!(hello, 22, "the first byte of a TLS handshake record");
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let transport = transport(&format!("https://{}", server.address), TransportOptions::default());
    let failure = round_trip(&transport).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Connection);
    assert!(failure.message.contains("does not speak TLS"), "{failure}");
}

#[tokio::test]
async fn a_broken_ca_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let server = Server::once("").await;
    for path in [empty, directory.path().join("missing.pem")] {
        let shown = path.display().to_string();
        let options = TransportOptions { ca_file: Some(path), ..TransportOptions::default() };
        let transport = transport(&format!("https://{}", server.address), options);
        let failure = round_trip(&transport).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Connection);
        assert!(failure.message.contains(&format!("ca_file `{shown}`")), "{failure}");
    }
}
