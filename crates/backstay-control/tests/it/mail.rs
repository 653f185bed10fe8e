//! Mail, by a server that speaks as much SMTP as it takes.

use backstay_store::{AlertStore, MemoryStore, alerts::Event};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::receivers::{Office, SOON, alert, hasty, receivers};

/// Takes mails; the first `refused` connections are turned away.
async fn serve(listener: TcpListener, mut refused: u32, mails: mpsc::UnboundedSender<String>) {
    let mut sessions = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        if refused > 0 {
            refused -= 1;
            stream.write_all(b"421 not now\r\n").await.unwrap();
            continue;
        }
        let mails = mails.clone();
        sessions.spawn(async move {
            if let Some(mail) = session(stream).await {
                mails.send(mail).unwrap();
            }
        });
    }
}

async fn session(stream: TcpStream) -> Option<String> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 ready\r\n").await.ok()?;
    let mut said = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        said.push_str(&line);
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let reply = match word.as_str() {
            "EHLO" => "250 here",
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                while line != ".\r\n" {
                    line.clear();
                    stream.read_line(&mut line).await.ok()?;
                    said.push_str(&line);
                }
                stream.write_all(b"250 taken\r\n").await.ok()?;
                return Some(said);
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await.ok()?;
                return None;
            }
            _ => "250 ok",
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
    }
}

#[tokio::test]
async fn mail_is_sent_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, mut mails) = mpsc::unbounded_channel();
    let mut servers = JoinSet::new();
    servers.spawn(serve(listener, 1, told));
    let dir = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[alerts.notify]]\nkind = \"smtp\"\nname = \"mail\"\nurl = \"smtp://{address}\"\n\
         from = \"Backstay <backstay@example.com>\"\nto = [\"ops@example.com\", \"dev@example.com\"]\n"
    );
    let store = MemoryStore::new();
    let receivers = receivers(dir.path(), &toml);
    let mut office = Office::open(store.clone(), Box::new(store), receivers, hasty());
    office.happens(&alert(1), Event::Firing);
    let mail = tokio::time::timeout(SOON, mails.recv()).await;
    let mail = mail.unwrap_or_else(|_| panic!("{:?}", office.store.receivers())).unwrap();
    for part in [
        "MAIL FROM:<backstay@example.com>",
        "RCPT TO:<ops@example.com>",
        "RCPT TO:<dev@example.com>",
        "Subject: [page] call-1: error_rate: 9 of 100 calls failed",
        "Auto-Submitted: auto-generated",
        "Top failure   schema",
    ] {
        assert!(mail.contains(part), "{part} is missing in {mail}");
    }
    office.until("mail", |state| state.pending == 0).await;
    let state = &office.store.receivers().unwrap()[0];
    assert!(state.last_failed_ms.is_some() && state.last_error.is_none(), "{state:?}");
}
