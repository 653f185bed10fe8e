//! The event reader and writer.

use backstay_core::failure::FailureClass;
use backstay_providers::sse::{SseEvent, SseReader, write_event};
use bytes::Bytes;
use proptest::prelude::*;

/// The events of `input`, pushed in pieces that end at `cuts`; `Err` with those before a failure.
fn read(input: &[u8], cuts: &[usize], max: usize) -> Result<Vec<SseEvent>, Vec<SseEvent>> {
    let mut reader = SseReader::new(max);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let (mut events, mut start) = (Vec::new(), 0);
    for end in ends {
        reader.push(Bytes::copy_from_slice(&input[start..end]));
        start = end;
        loop {
            match reader.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(failure) => {
                    assert_eq!(failure.class, FailureClass::UpstreamError);
                    assert!(reader.next().is_err(), "broken once is broken for good");
                    return Err(events);
                }
            }
        }
    }
    Ok(events)
}

fn event(name: Option<&str>, data: &str) -> SseEvent {
    SseEvent { name: name.map(str::to_owned), data: Bytes::copy_from_slice(data.as_bytes()) }
}

#[test]
fn the_standard_by_example() {
    let cases: [(&str, Vec<SseEvent>); 10] = [
        ("data: YHOO\ndata: +2\ndata: 10\n\n", vec![event(None, "YHOO\n+2\n10")]),
        (
            ": note\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n",
            vec![event(None, "first"), event(None, "second")],
        ),
        ("data\n\ndata\ndata\n\ndata:", vec![event(None, ""), event(None, "\n")]),
        ("data:test\n\ndata: test\n\n", vec![event(None, "test"), event(None, "test")]),
        ("event: a\ndata: 1\n\ndata: 2\n\n", vec![event(Some("a"), "1"), event(None, "2")]),
        ("event: lost\n\ndata: 1\n\n", vec![event(None, "1")]),
        (
            "\u{feff}data: bom\r\n\r\ndata: cr\r\rdata: lf\n\n",
            vec![event(None, "bom"), event(None, "cr"), event(None, "lf")],
        ),
        ("data: a:b\nretry: 3\nunknown: x\n\n", vec![event(None, "a:b")]),
        ("data: \u{feff}kept\n\n\u{feff}data: no field\n\n", vec![event(None, "\u{feff}kept")]),
        ("", vec![]),
    ];
    for (input, expected) in cases {
        assert_eq!(read(input.as_bytes(), &[], 1_000), Ok(expected), "{input:?}");
    }
}

#[test]
fn what_is_too_large_or_not_utf8_fails_after_the_events_before_it() {
    let first = vec![event(None, "1")];
    for bad in
        ["data: 0123456789\n\n", "data: 0123456789", "data: 01\ndata: 23\n\n", "event: 0123456789"]
    {
        let input = format!("data: 1\n\n{bad}");
        assert_eq!(read(input.as_bytes(), &[], 12), Err(first.clone()), "{bad}");
    }
    assert_eq!(read(b"data: 1\n\ndata: \xff\n\n", &[], 99), Err(first.clone()));
    assert_eq!(read(b"data: 1\n\nevent: \xff\ndata: 1\n\n", &[], 99), Err(first));
    let comments = ": ping\n".repeat(1_000) + "data: 1\n\n";
    assert_eq!(read(comments.as_bytes(), &[], 12), Ok(vec![event(None, "1")]));
}

/// A line that comes byte by byte is looked at once: a reader that starts over at each piece would
/// need 2·10¹² steps for this, and the test would not end.
#[test]
fn tiny_pieces_cost_no_more_than_large_ones() {
    const LEN: usize = 2_000_000;
    let mut reader = SseReader::new(LEN + 100);
    reader.push(Bytes::from_static(b"data: "));
    let byte = Bytes::from_static(b"x");
    for _ in 0..LEN {
        reader.push(byte.clone());
        assert_eq!(reader.next(), Ok(None));
    }
    reader.push(Bytes::from_static(b"\n\n"));
    assert_eq!(reader.next().unwrap().unwrap().data.len(), LEN);
}

/// Text that is rich in what matters to the format.
fn stream_text() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("\n"),
        Just("\r"),
        Just("\r\n"),
        Just("\n\n"),
        Just("data: "),
        Just("data"),
        Just("event: "),
        Just(":"),
        Just("\u{feff}"),
        Just("é{\"a\":1}"),
        Just(" "),
    ];
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_cutting_gives_the_same_events(
        text in stream_text(),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
        max in 5_usize..200,
    ) {
        let whole = read(text.as_bytes(), &[], max);
        let bytewise: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(&read(text.as_bytes(), &cuts, max), &whole);
        prop_assert_eq!(&read(text.as_bytes(), &bytewise, max), &whole);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        let whole = read(&bytes, &[], 100);
        prop_assert_eq!(read(&bytes, &cuts, 100), whole);
    }

    #[test]
    fn what_is_written_is_read_back(
        name in prop::option::of("[a-z_]{1,10}"),
        data in "[a-zé \n:]{0,40}",
    ) {
        let mut out = Vec::new();
        write_event(name.as_deref(), data.as_bytes(), &mut out);
        prop_assert_eq!(read(&out, &[], 10_000), Ok(vec![event(name.as_deref(), &data)]));
    }
}
