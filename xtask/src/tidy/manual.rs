//! Every failure class has its section in the manual.

use super::Finding;

const TABLE: &str = "crates/backstay-core/src/failure.rs";
const MANUAL: &str = "docs/manual/failure-classes.md";

/// Compares the table of failure classes with the headings of the manual.
pub(super) fn check(files: &[(String, String)]) -> Vec<Finding> {
    let text = |name: &str| files.iter().find(|(file, _)| file == name).map(|(_, text)| text);
    let Some(classes) = text(TABLE).map(|table| classes(table)).filter(|found| !found.is_empty())
    else {
        return vec![Finding::new(TABLE, "no rows `row(\"name\", …)` of the failure table in it")];
    };
    // The manual is written last; once it exists, it has to be whole.
    let Some(manual) = text(MANUAL) else { return Vec::new() };
    let described: Vec<&str> = manual
        .lines()
        .filter(|line| line.starts_with('#'))
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .collect();
    let missing = classes.into_iter().filter(|class| !described.contains(class));
    missing
        .map(|class| Finding::new(MANUAL, format!("no section is called `{class}`: add one")))
        .collect()
}

/// The names in the first place of each `row(…)`.
fn classes(table: &str) -> Vec<&str> {
    let rows = table.split("row(").skip(1);
    rows.filter_map(|row| row.trim_start().strip_prefix('"')?.split('"').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(table: &str, manual: Option<&str>) -> usize {
        let mut files = vec![(TABLE.to_owned(), table.to_owned())];
        files.extend(manual.map(|text| (MANUAL.to_owned(), text.to_owned())));
        check(&files).len()
    }

    #[test]
    fn each_class_has_a_section() {
        let table =
            "fn row(name: &str) {}\n A => row(\"timeout\", x),\n B => row(\n  \"empty\", y)";
        assert_eq!(broken(table, Some("# Classes\n## `timeout`\n## empty\n")), 0);
        assert_eq!(broken(table, Some("# Classes\n## `timeout`\ntext on empty\n")), 1);
        assert_eq!(broken(table, None), 0);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_not_taken_for_an_empty_one() {
        assert_eq!(broken("fn other() {}", Some("## a\n")), 1);
    }
}
