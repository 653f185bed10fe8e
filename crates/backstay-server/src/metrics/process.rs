//! What the system says of this process. Where there is no `/proc`, nothing.

/// The process at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    /// `None`: there is no limit.
    pub(super) max_fds: Option<u64>,
    pub(super) started_seconds: f64,
}

impl Process {
    /// Reads it; `None` where the system does not tell.
    #[cfg(target_os = "linux")]
    #[expect(clippy::cast_precision_loss, reason = "ticks of a process are far below 2^52")]
    pub(super) fn read() -> Option<Self> {
        use procfs::{WithCurrentSystemInfo, process::LimitValue};
        let process = procfs::process::Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks = procfs::ticks_per_second() as f64;
        let max_fds = process.limits().ok()?.max_open_files.soft_limit;
        Some(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: Some(stat.rss_bytes().get()),
            virtual_bytes: Some(stat.vsize),
            open_fds: process.fd_count().ok().and_then(|n| u64::try_from(n).ok()),
            max_fds: match max_fds {
                LimitValue::Value(n) => Some(n),
                LimitValue::Unlimited => None,
            },
            started_seconds: procfs::boot_time_secs().ok()? as f64 + stat.starttime as f64 / ticks,
        })
    }

    /// There is nothing to read.
    #[cfg(not(target_os = "linux"))]
    pub(super) const fn read() -> Option<Self> {
        None
    }
}
