//! The spool under kills, torn writes and full disks.

use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn frames(recovered: Recovered) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for segment in recovered {
        let mut segment = segment.unwrap();
        while let Some(frame) = segment.next_frame() {
            all.push(frame.to_vec());
        }
    }
    all
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(PREFIX))
        .collect();
    paths.sort_unstable();
    paths
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A tail that is cut off anywhere costs the frame that it cuts, and none before it.
    #[test]
    fn a_torn_tail_costs_its_own_frame_only(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12),
        cut in any::<prop::sample::Index>(),
        garbage in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path()).unwrap();
        for payload in &payloads {
            spool.append(payload).unwrap();
        }
        drop(spool);
        let path = segments(dir.path()).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let cut = cut.index(bytes.len());
        bytes.truncate(cut);
        bytes.extend(&garbage);
        fs::write(&path, bytes).unwrap();

        let mut whole = 0;
        let mut end = 0;
        for payload in &payloads {
            end += HEADER + payload.len();
            if end > cut {
                break;
            }
            whole += 1;
        }
        let (spool, recovered) = Spool::open(dir.path()).unwrap();
        spool.append(b"after").unwrap();
        let found = frames(recovered);
        prop_assert!(found.len() >= whole);
        prop_assert_eq!(&found[..whole], &payloads[..whole]);
        // The garbage is no frame, unless it happens to be what was cut off.
        if garbage.is_empty() {
            prop_assert_eq!(found.len(), whole);
        }
        drop(spool);
        let (_spool, recovered) = Spool::open(dir.path()).unwrap();
        prop_assert_eq!(frames(recovered).pop().unwrap(), b"after");
    }

    /// A flipped bit is never taken for a frame.
    #[test]
    fn a_damaged_byte_is_noticed(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 1..8),
        place in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path()).unwrap();
        for payload in &payloads {
            spool.append(payload).unwrap();
        }
        drop(spool);
        let path = segments(dir.path()).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        fs::write(&path, &bytes).unwrap();
        let (_spool, recovered) = Spool::open(dir.path()).unwrap();
        let found = frames(recovered);
        prop_assert!(found.len() < payloads.len());
        prop_assert_eq!(&found[..], &payloads[..found.len()]);
    }
}

#[test]
fn a_second_server_is_refused_with_the_pid_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, recovered) = Spool::open(dir.path()).unwrap();
    assert!(recovered.is_empty());
    let error = Spool::open(dir.path()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.message.contains(&format!("pid {}", std::process::id())), "{error}");
    drop(spool);
    assert!(Spool::open(dir.path()).is_ok());
}

#[test]
fn stored_segments_are_unlinked_and_stored_frames_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path()).unwrap();
    let payload = vec![7; 3 << 20];
    let placed: Vec<Segment> = (0..7).map(|_| spool.append(&payload).unwrap()).collect();
    // Three frames reach 8 MB.
    assert_eq!(placed.iter().map(|segment| segment.0).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3]);
    spool.committed(placed[6], 1).unwrap();
    assert_eq!(segments(dir.path()).len(), 2, "the open one is too long to be emptied");
    spool.committed(placed[3], 2).unwrap();
    assert_eq!(segments(dir.path()).len(), 2, "one frame of the second is not stored");
    spool.committed(placed[5], 1).unwrap();
    assert_eq!(segments(dir.path()), [path_of(dir.path(), 1)]);
    let short = spool.append(b"short").unwrap();
    spool.committed(short, 1).unwrap();
    assert_eq!(fs::metadata(path_of(dir.path(), short.0)).unwrap().len(), 0, "emptied");
    assert_eq!(spool.append(b"from the beginning").unwrap(), short);
    spool.committed(short, 1).unwrap();
    spool.close().unwrap();
    assert_eq!(segments(dir.path()), [path_of(dir.path(), 1)], "its frames wait");
    drop(spool);
    let (_spool, recovered) = Spool::open(dir.path()).unwrap();
    assert_eq!(frames(recovered).len(), 3);
}

#[test]
fn the_spool_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path()).unwrap();
    assert!(spool.append(&vec![0; MAX_PAYLOAD + 1]).is_err());
    let segment = spool.append(b"a").unwrap();
    spool.inner.lock().unwrap().segments[0].bytes = MAX_BYTES;
    let error = spool.append(b"b").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    spool.committed(segment, 1).unwrap();
    assert_eq!(spool.append(b"c").unwrap(), segment);
}

#[test]
fn a_segment_that_cannot_be_mended_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(dir.path()).unwrap();
    let first = spool.append(b"a").unwrap();
    // Every write to it fails for want of space, and it cannot be cut.
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    spool.inner.lock().unwrap().open.as_mut().unwrap().file = full;
    assert_eq!(spool.append(b"b").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(spool.append(b"c").unwrap() > first);
    drop(spool);
    let (_spool, recovered) = Spool::open(dir.path()).unwrap();
    assert_eq!(frames(recovered), [b"a", b"c"]);
}

const FULL_DIR: &str = "BACKSTAY_TEST_FULL_DIR";

#[test]
#[ignore = "body of a child process, whose files may not grow, of a_full_disk_costs_one_frame"]
fn child_appends_until_the_disk_is_full() {
    let dir = std::env::var_os(FULL_DIR).unwrap();
    let (spool, _) = Spool::open(&dir).unwrap();
    let mut whole = 0;
    while spool.append(&[1; 3_000]).is_ok() {
        whole += 1;
        assert!(whole < 100, "the limit does not hold");
    }
    assert!(whole > 0);
    assert!(spool.append(&[2; 3_000]).is_err());
    // In the place of the half frame.
    spool.append(&[3; 10]).unwrap();
}

#[test]
fn a_full_disk_costs_one_frame() {
    let dir = tempfile::tempdir().unwrap();
    // A process that may not write longer files gets a short write, as from a full disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["spool::tests::child_appends_until_the_disk_is_full", "--exact", "--ignored"])
        .env(FULL_DIR, dir.path())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let (_spool, recovered) = Spool::open(dir.path()).unwrap();
    let found = frames(recovered);
    let (last, before) = found.split_last().unwrap();
    assert_eq!(*last, [3; 10]);
    assert!(!before.is_empty() && before.iter().all(|frame| *frame == [1; 3_000]));
}
