//! The crash-safety net of the call log: what was answered but is not stored yet.
//!
//! A frame is handed to the kernel in one write before its call is answered. That survives the death
//! of the process (`kill -9`) without the price of a sync; against the death of the machine there is
//! only the store, which syncs a few milliseconds later. Frames are bytes here; what they mean is the
//! recorder's business.
//!
//! On disk: segments `spool-NNNNNNNNNNNNNNNN` of about 8 MB, each a row of frames `length: u32 LE`,
//! `CRC-32 of the payload: u32 LE`, `payload`. A segment is unlinked when all of its frames are stored.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, IoSlice, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{ErrorKind, StoreError};

/// A segment is closed by the frame that reaches this length.
const SEGMENT_BYTES: u64 = 8 << 20;
/// The longest payload: above every request that the server takes in.
const MAX_PAYLOAD: usize = 64 << 20;
/// What all segments together may hold before frames are refused: many minutes of a store that is
/// out of order, and a bound for the disk.
const MAX_BYTES: u64 = 512 << 20;
/// An open segment up to this length is emptied under the lock, a longer one replaced.
const EMPTIED_IN_PLACE: u64 = 256 << 10;
const HEADER: usize = 8;
const LOCK: &str = "backstay.lock";
const PREFIX: &str = "spool-";

/// The segment that a frame went to; goes back to [`Spool::committed`] when the frame is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(u64);

/// The open spool of a directory, and the lock that makes this process its only server.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    /// Held, not used: the lock lives as long as the file is open, and dies with the process.
    _lock: File,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    /// The one that is written to.
    open: Option<Open>,
    /// All that are not unlinked, the open one included, oldest first.
    segments: VecDeque<State>,
}

#[derive(Debug)]
struct Open {
    file: File,
    number: u64,
    /// The length of all whole frames; what is behind it is never left there.
    good: u64,
}

#[derive(Clone, Copy, Debug)]
struct State {
    number: u64,
    bytes: u64,
    /// Frames that are not stored.
    waiting: u64,
}

impl Spool {
    /// Locks the directory (made if it is not there) and lists what an earlier process left behind.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when another process has the directory: the message tells its pid.
    pub fn open(dir: impl Into<PathBuf>) -> Result<(Self, Recovered), StoreError> {
        let dir = dir.into();
        let wrong = |error| StoreError::io(&dir, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(wrong)?;
        let lock = lock(&dir)?;
        let numbers = numbers_in(&dir).map_err(wrong)?;
        let next = numbers.last().map_or(1, |last| last + 1);
        let segments = numbers.into_iter().map(|number| path_of(&dir, number)).collect();
        let inner = Inner { next, open: None, segments: VecDeque::new() };
        Ok((Self { dir, _lock: lock, inner: Mutex::new(inner) }, Recovered { segments }))
    }

    /// What is in the spool of `dir` at this moment, whoever works on it.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn peek(dir: &Path) -> io::Result<Recovered> {
        let numbers = match numbers_in(dir) {
            Ok(numbers) => numbers,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Recovered { segments: numbers.into_iter().map(|n| path_of(dir, n)).collect() })
    }

    /// Hands one frame to the kernel, in one write.
    ///
    /// # Errors
    /// When the frame is not in the spool, whole: no space, too long, or the spool is at its bound.
    /// The next append may succeed.
    pub fn append(&self, payload: &[u8]) -> io::Result<Segment> {
        let mut header = [0; HEADER];
        let (length, crc) = header.split_at_mut(4);
        let bytes = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_PAYLOAD)
            .ok_or_else(|| io::Error::other("longer than a frame of the spool may be"))?;
        length.copy_from_slice(&bytes.to_le_bytes());
        crc.copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        let frame = [IoSlice::new(&header), IoSlice::new(payload)];
        let size = u64::from(bytes) + HEADER as u64;

        let mut inner = self.lock_inner();
        let total: u64 = inner.segments.iter().map(|segment| segment.bytes).sum();
        if total + size > MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the spool holds {total} bytes that wait to be stored, which is its bound"),
            ));
        }
        let mut open = inner.writable(&self.dir)?;
        if let Err(error) = write_frame(&mut open.file, &frame, size) {
            // A half frame must not stay in front of whole ones. If it cannot be cut off the segment
            // is left: its torn tail ends the replay of this segment only.
            if open.file.set_len(open.good).is_ok() {
                inner.open = Some(open);
            }
            return Err(error);
        }
        open.good += size;
        let segment = Segment(open.number);
        if let Some(last) = inner.segments.back_mut() {
            last.bytes = open.good;
            last.waiting += 1;
        }
        if open.good < SEGMENT_BYTES {
            inner.open = Some(open);
        }
        Ok(segment)
    }

    /// Tells that `frames` frames of `segment` are stored. With its last one a closed segment is
    /// unlinked, and the open one emptied: the texts of calls must not outlive their retention in
    /// here, and what is cut off before the kernel writes it costs no disk at all.
    ///
    /// # Errors
    /// When a segment stays; its frames will be replayed, which changes nothing.
    pub fn committed(&self, segment: Segment, frames: u64) -> io::Result<()> {
        let mut inner = self.lock_inner();
        if let Some(state) = inner.segments.iter_mut().find(|state| state.number == segment.0) {
            state.waiting = state.waiting.saturating_sub(frames);
        }
        let stored = inner.take_stored();
        drop(inner);
        self.unlink(&stored)
    }

    /// Hands back the oldest segment that has frames which are not stored, in order that they be
    /// replayed here and now; the open one is closed for that. The segment is then the caller's:
    /// what [`Spool::committed`] is told of its frames later changes nothing.
    ///
    /// # Errors
    /// When it cannot be read; it is left for the next start.
    pub fn reclaim(&self) -> io::Result<Option<RecoveredSegment>> {
        let mut inner = self.lock_inner();
        let Some(place) = inner.segments.iter().position(|state| state.waiting > 0) else {
            return Ok(None);
        };
        let Some(state) = inner.segments.remove(place) else { return Ok(None) };
        inner.open.take_if(|open| open.number == state.number);
        drop(inner);
        let path = path_of(&self.dir, state.number);
        let bytes = fs::read(&path)?;
        Ok(Some(RecoveredSegment { path, bytes, at: 0 }))
    }

    /// Ends a clean shutdown: unlinks every segment whose frames are all stored, the open one too.
    ///
    /// # Errors
    /// When a segment could not be unlinked.
    pub fn close(&self) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.open = None;
        let stored = inner.take_stored();
        drop(inner);
        self.unlink(&stored)
    }

    /// Not under the lock: to free megabytes takes the kernel longer than a call may wait.
    fn unlink(&self, segments: &[u64]) -> io::Result<()> {
        let mut result = Ok(());
        for number in segments {
            if let Err(error) = fs::remove_file(path_of(&self.dir, *number)) {
                result = Err(error);
            }
        }
        result
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; and a spool that is given up would lose more than one
        // whose last change is doubtful.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes out the open segment, or begins one.
    fn writable(&mut self, dir: &Path) -> io::Result<Open> {
        if let Some(open) = self.open.take() {
            return Ok(open);
        }
        let number = self.next;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path_of(dir, number))?;
        self.next += 1;
        self.segments.push_back(State { number, bytes: 0, waiting: 0 });
        Ok(Open { file, number, good: 0 })
    }

    /// Takes out the segments whose frames are all stored, for their files to be unlinked. The open
    /// one is emptied in its place if that is quick.
    fn take_stored(&mut self) -> Vec<u64> {
        if let (Some(open), Some(state)) = (&mut self.open, self.segments.back_mut())
            && state.waiting == 0
        {
            if open.good <= EMPTIED_IN_PLACE && open.file.set_len(0).is_ok() {
                open.good = 0;
                state.bytes = 0;
            } else {
                self.open = None;
            }
        }
        let open = self.open.as_ref().map(|open| open.number);
        let mut stored = Vec::new();
        self.segments.retain(|segment| {
            let keep = segment.waiting > 0 || open == Some(segment.number);
            if !keep {
                stored.push(segment.number);
            }
            keep
        });
        stored
    }
}

/// The numbers of the segments in `dir`, oldest first.
fn numbers_in(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:016}"))
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let wrong = |error| StoreError::io(&path, error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            (&mut file).take(20).read_to_string(&mut pid).map_err(wrong)?;
            let pid = pid.trim();
            return Err(StoreError::new(
                ErrorKind::Busy,
                format!(
                    "{}: another server works on this directory (pid {}): stop it, or give this \
                     one another `[store] path`",
                    dir.display(),
                    if pid.is_empty() { "unknown" } else { pid },
                ),
            ));
        }
        Err(TryLockError::Error(error)) => return Err(wrong(error)),
    }
    file.set_len(0).map_err(wrong)?;
    file.rewind().map_err(wrong)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(wrong)?;
    Ok(file)
}

/// All of it in one system call, or an error: a file takes less than it is given only when it is at
/// the end of its disk or quota.
fn write_frame(file: &mut File, frame: &[IoSlice<'_>; 2], size: u64) -> io::Result<()> {
    let written = loop {
        match file.write_vectored(frame) {
            Ok(written) => break written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    if u64::try_from(written).is_ok_and(|written| written == size) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::StorageFull, "the disk took only a part of the frame"))
}

/// The segments of an earlier process, read one at a time, oldest first.
#[derive(Debug)]
pub struct Recovered {
    segments: VecDeque<PathBuf>,
}

impl Recovered {
    /// Whether there is nothing to replay.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

impl Iterator for Recovered {
    type Item = io::Result<RecoveredSegment>;

    fn next(&mut self) -> Option<Self::Item> {
        let path = self.segments.pop_front()?;
        Some(fs::read(&path).map(|bytes| RecoveredSegment { path, bytes, at: 0 }))
    }
}

/// One segment of an earlier process: an iterator over the payloads of its whole frames.
#[derive(Debug)]
pub struct RecoveredSegment {
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
}

impl RecoveredSegment {
    /// The payload of the next whole frame; `None` at the end, or where the tail is torn.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        let (header, rest) = self.bytes.get(self.at..)?.split_first_chunk::<HEADER>()?;
        let (length, crc) = header.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let payload = rest.get(..length)?;
        if crc32fast::hash(payload).to_le_bytes() != *crc {
            return None;
        }
        self.at += HEADER + length;
        Some(payload)
    }

    /// Bytes behind the frames that were read so far: at the end of the iteration, the torn tail.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it anew without the frames that `drop` wants out, and without a torn tail.
    ///
    /// # Errors
    /// When it cannot be written; it is as it was then.
    pub fn rewrite(mut self, drop: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        let mut kept = Vec::with_capacity(self.bytes.len());
        loop {
            let start = self.at;
            let Some(out) = self.next_frame().map(&drop) else { break };
            if !out {
                kept.extend_from_slice(self.bytes.get(start..self.at).unwrap_or_default());
            }
        }
        // Its name is not that of a segment.
        let new = self.path.with_extension("new");
        std::mem::drop(fs::remove_file(&new));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&kept)?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }

    /// Unlinks it, once its frames are stored.
    ///
    /// # Errors
    /// When it cannot be unlinked.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}

#[cfg(test)]
mod tests;
