//! What the machine is and how busy others keep it, for the reader of the figures.

use std::fs;

use super::Effort;
use crate::process;

/// A few lines on the machine and the run.
pub(super) fn describe(effort: Effort) -> String {
    let Effort { repetitions, seconds } = effort;
    let how = line("cargo xtask bench");
    format!("{how} {repetitions} repetitions of {seconds} s each, medians.")
}

/// When, how and where it was measured.
pub(super) fn line(command: &str) -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
    let date = process::read(process::command("date").args(["--utc", "+%Y-%m-%d %H:%M UTC"]));
    format!(
        "Measured {} by `{command}`: {cores} × {cpu}, {memory} of memory, Linux {}. Load averages at \
         the end (1, 5, 15 minutes, the measurement itself included): {load}.",
        date.unwrap_or_default().trim(),
        kernel.trim(),
    )
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}
