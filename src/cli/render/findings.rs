//! What a finding means and what to do about it: from `docs/findings.md`, which has an entry for
//! each.

use qcheck::check::{CheckReport, Source};

/// Every entry: a heading with the code, then a paragraph that ends with the repair.
const FINDINGS: &str = include_str!("../../../docs/findings.md");

/// A finding's meaning, and its remedy, both in sentences without marks of the document.
pub fn meaning(code: &str) -> (String, String) {
    let heading = format!("### `{code}`\n");
    let entry = FINDINGS.split_once(&heading).map_or("", |(_, rest)| rest);
    let paragraph = entry.split("\n\n").next().unwrap_or("").trim();
    let (meaning, remedy) = paragraph.split_once(" Repair: ").unwrap_or((paragraph, "None."));
    // The severity is told by itself.
    let meaning = meaning.trim_start_matches("Notice. ").trim_start_matches("Check error. ");
    (meaning.replace('`', ""), remedy.replace('`', ""))
}

/// Which disk a guest range is of: nothing for the active one, else the snapshot's id.
pub fn snapshot(report: &CheckReport, source: Source) -> Option<String> {
    let Source::Snapshot(index) = source else { return None };
    let name = usize::try_from(index).ok().and_then(|index| report.snapshots.get(index));
    Some(name.map_or_else(|| index.to_string(), |name| name.id.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meaning_ends_where_the_repair_begins() {
        let (meaning, remedy) = meaning("copied-data");
        assert_eq!(meaning, "COPIED of an L2 entry disagrees with the refcount of its cluster.");
        assert_eq!(remedy, "-r all corrects it, -r leaks where no refcount is too low.");
        let (meaning, remedy) = super::meaning("unreadable");
        assert!(meaning.starts_with("The system could not read"), "{meaning}");
        assert!(remedy.starts_with("None, "), "{remedy}");
    }

    #[test]
    fn every_entry_of_the_documentation_is_a_meaning_on_one_line() {
        let codes = FINDINGS.lines().filter_map(|l| l.strip_prefix("### `")?.strip_suffix('`'));
        let mut count = 0;
        for code in codes {
            let (meaning, remedy) = meaning(code);
            assert!(meaning.len() > 20 && !meaning.contains('\n'), "{code}: {meaning}");
            assert!(!remedy.contains('\n'), "{code}: {remedy}");
            let whole = |text: &str| {
                let begins = text.starts_with(|c: char| c.is_uppercase());
                let is_mode = ["-r all ", "-r leaks "].iter().any(|mode| text.starts_with(mode));
                (begins || is_mode) && text.ends_with('.') && !text.contains('`')
            };
            assert!(whole(&meaning) && whole(&remedy), "{code}: {meaning} {remedy}");
            let more_than_a_mode = remedy.split(' ').count() > 3 || remedy.starts_with("None");
            assert!(more_than_a_mode, "{code}: {remedy}");
            count += 1;
        }
        assert!(count > 30, "{count}");
    }
}
