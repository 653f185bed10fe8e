//! No cycles between the top-level modules of a crate: then the list of files is its architecture.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Finding,
    source::{File, closing_brace},
};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Finds the cycles of a crate.
pub(super) fn check(name: &str, files: &[File]) -> Vec<Finding> {
    let graph = graph(files);
    let mut findings = Vec::new();
    let mut reported = BTreeSet::new();
    for module in graph.keys() {
        if reported.contains(module) {
            continue;
        }
        if let Some(cycle) = shortest_cycle(&graph, module) {
            let message = format!(
                "modules use each other in a circle: {} -> {module}; move what both need below both",
                cycle.join(" -> ")
            );
            reported.extend(cycle);
            findings.push(Finding::new(name, message));
        }
    }
    findings
}

/// Which top-level module uses which other.
fn graph(files: &[File]) -> Graph {
    let modules: BTreeSet<String> = files
        .iter()
        .filter_map(|file| file.module().first().map(|module| (*module).to_owned()))
        .collect();
    let mut graph = Graph::new();
    for file in files {
        let path = file.module();
        let Some(own) = path.first() else { continue };
        let uses = graph.entry((*own).to_owned()).or_default();
        let root = "super::".repeat(path.len());
        for used in named_after(&file.code, "crate::").chain(named_after(&file.code, &root)) {
            if used != *own && modules.contains(used) {
                uses.insert(used.to_owned());
            }
        }
    }
    graph
}

/// The modules that stand right after `root`, alone or in braces.
fn named_after<'a>(code: &'a str, root: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(root).flat_map(move |(at, _)| {
        let longer = code.get(..at).is_some_and(|head| head.ends_with("::"));
        let start = at + root.len();
        let rest = code.get(start..).filter(|_| !longer).unwrap_or_default();
        if rest.starts_with('{') {
            let inside = code.get(start + 1..closing_brace(code, start)).unwrap_or_default();
            top_level_items(inside).into_iter().map(identifier).collect()
        } else {
            vec![identifier(rest)]
        }
    })
}

/// Splits `a::{b, c}, d` at the commas that are in no braces.
fn top_level_items(list: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                items.extend(list.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    items.extend(list.get(start..));
    items
}

fn identifier(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// The shortest way from `start` back to itself, without the return.
fn shortest_cycle(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut paths = std::collections::VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        for next in path.last().and_then(|last| graph.get(last)).into_iter().flatten() {
            if next == start {
                return Some(path);
            }
            if seen.insert(next.clone()) {
                let mut longer = path.clone();
                longer.push(next.clone());
                paths.push_back(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> =
            files.iter().map(|(path, text)| File::new(path, path, text)).collect();
        check("x", &files).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_circle_is_found_and_named() {
        let circle = found(&[
            ("a.rs", "use crate::b::B;"),
            ("b/inner.rs", "use crate::{z, c::{self, D}};"),
            ("c.rs", "fn f() { super::a::g() }"),
            ("z.rs", ""),
        ]);
        assert_eq!(circle.len(), 1);
        assert!(circle[0].contains("a -> b -> c -> a"), "{circle:?}");
    }

    #[test]
    fn super_counts_from_the_depth_of_the_file() {
        assert_eq!(found(&[("a.rs", "use crate::b;"), ("b/c.rs", "use super::a;")]).len(), 0);
        assert_eq!(
            found(&[("a.rs", "use crate::b;"), ("b/c.rs", "use super::super::a;")]).len(),
            1
        );
    }

    #[test]
    fn one_way_comments_tests_and_the_root_are_no_circle() {
        let fine = found(&[
            ("lib.rs", "use crate::a; use crate::b;"),
            ("a.rs", "use crate::b::{a, B};"),
            ("b.rs", "// crate::a\n#[cfg(test)]\nmod tests { use crate::a; }"),
        ]);
        assert_eq!(fine, Vec::<String>::new());
    }
}
