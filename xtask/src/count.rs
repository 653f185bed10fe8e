//! How many tests ran, read from what the test runners print.

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Count {
    /// One check that has no parts.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: passed.into(), failed: (!passed).into() }
    }

    /// Sums what the runners of a log report: nextest, cargo test, Python's unittest, Node's TAP, Vitest,
    /// and the line `N passed, N failed` of our own drivers. A skipped test counts as failed: here
    /// nothing may be skipped.
    pub(crate) fn of_log(log: &str) -> Self {
        let mut count = Self::default();
        let mut unittest = 0;
        for line in log.lines().map(str::trim) {
            if let Some((_, summary)) = line.split_once(" run: ")
                && line.starts_with("Summary [")
            {
                count.passed += before(summary, " passed");
                count.failed += before(summary, " failed") + before(summary, " timed out");
            } else if line.starts_with("test result: ") {
                count.passed += before(line, " passed;");
                count.failed += before(line, " failed;");
            } else if let Some(rest) = line.strip_prefix("Ran ") {
                unittest = leading(rest);
            } else if line == "OK" || line.starts_with("OK (") || line.starts_with("FAILED (") {
                let bad = ["failures=", "errors=", "skipped=", "unexpected successes="];
                let bad: u64 = bad.iter().map(|word| after(line, word)).sum();
                count.failed += bad;
                count.passed += unittest.saturating_sub(bad);
                unittest = 0;
            } else if let Some(rest) = line.strip_prefix("# pass ") {
                count.passed += leading(rest);
            } else if let Some(rest) = line
                .strip_prefix("# fail ")
                .or_else(|| line.strip_prefix("# skipped "))
                .or_else(|| line.strip_prefix("# cancelled "))
                .or_else(|| line.strip_prefix("# todo "))
            {
                count.failed += leading(rest);
            } else if let Some(rest) = line.strip_prefix("Tests ")
                && line.ends_with(')')
            {
                count.passed += before(rest, " passed");
                count.failed +=
                    before(rest, " failed") + before(rest, " skipped") + before(rest, " todo");
            } else if let Some((passed, failed)) = own_summary(line) {
                count.passed += passed;
                count.failed += failed;
            }
        }
        count
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

fn own_summary(line: &str) -> Option<(u64, u64)> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

fn leading(text: &str) -> u64 {
    let digits = text.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn after(text: &str, word: &str) -> u64 {
    text.split_once(word).map_or(0, |(_, rest)| leading(rest))
}

fn before(text: &str, word: &str) -> u64 {
    let number = text
        .split_once(word)
        .and_then(|(head, _)| head.rsplit(|c: char| !c.is_ascii_digit()).next());
    number.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &str, passed: u64, failed: u64) {
        assert_eq!(Count::of_log(log), Count { passed, failed }, "{log}");
    }

    #[test]
    fn nextest() {
        check("     Summary [   0.010s] 12 tests run: 12 passed, 3 skipped", 12, 0);
        check(
            "Summary [ 1.0s] 9 tests run: 6 passed (1 flaky), 2 failed, 1 timed out, 0 skipped",
            6,
            3,
        );
        check("Summary [ 1.0s] 1/9 tests run: 0 passed, 1 failed, 0 skipped", 0, 1);
    }

    #[test]
    fn cargo_test_is_summed() {
        let line = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let bad = "test result: FAILED. 2 passed; 7 failed; 0 ignored; 0 measured";
        check(&format!("{line}\nnoise\n{bad}"), 7, 7);
    }

    #[test]
    fn unittest() {
        check("Ran 12 tests in 0.1s\n\nOK", 12, 0);
        check("Ran 12 tests in 0.1s\n\nFAILED (failures=1, errors=2)", 9, 3);
        check("Ran 12 tests in 0.1s\n\nOK (skipped=1)", 11, 1);
    }

    #[test]
    fn vitest() {
        check(" Test Files  5 passed (5)\n      Tests  73 passed (73)", 73, 0);
        check("Tests  2 failed | 71 passed | 1 skipped (74)", 71, 3);
        check("Tests of the dashboard: 3 passed", 0, 0);
    }

    #[test]
    fn tap_and_our_own() {
        check("# tests 3\n# pass 2\n# fail 1\n# cancelled 0\n# skipped 0\n# todo 0", 2, 1);
        check("80 passed, 2 failed", 80, 2);
        check("it said 3 passed, 1 failed", 0, 0);
        check("nothing", 0, 0);
    }
}
