//! What a finding means and what to do about it, in plain text.

use std::ops::Range;

use qcheck::check::{CheckReport, GuestRange, Row, Source};
use qcheck::contents::{Contents, Part};

/// What a kind of finding means, and its remedy, both in sentences without marks of Markdown.
pub fn meaning(row: &Row) -> (String, String) {
    (row.meaning.replace('`', ""), row.repair.replace('`', ""))
}

/// Which disk a guest range is of: nothing for the active one, else the snapshot's id.
pub fn snapshot(report: &CheckReport, source: Source) -> Option<String> {
    let Source::Snapshot(index) = source else { return None };
    let name = usize::try_from(index).ok().and_then(|index| report.snapshots.get(index));
    Some(name.map_or_else(|| index.to_string(), |name| name.id.clone()))
}

/// Guest ranges of a report, with what is there.
#[derive(Debug, Clone, Copy)]
pub struct Ranges<'a> {
    /// The report.
    pub report: &'a CheckReport,
    contents: Option<&'a Contents>,
}

impl<'a> Ranges<'a> {
    /// Of a report, and of what the active disk contains where that is known.
    pub const fn new(report: &'a CheckReport, contents: Option<&'a Contents>) -> Self {
        Self { report, contents }
    }

    /// What is known of the disk that a range is of. What a snapshot contains is not looked up: its
    /// partitions may be others.
    fn known(&self, range: &GuestRange) -> Option<&'a Contents> {
        self.contents.filter(|_| range.source == Source::Active)
    }

    /// The parts that a range touches.
    pub fn parts(&self, range: &GuestRange) -> Vec<&'a Part> {
        let bytes = bytes(range);
        let known = self.known(range);
        known.map_or_else(Vec::new, |contents| contents.at(&bytes).collect())
    }

    /// A range in words: its offsets, its snapshot, what is there.
    pub fn text(&self, range: &GuestRange) -> String {
        let bytes = bytes(range);
        let (start, last) = (bytes.start, bytes.end.saturating_sub(1));
        let mut text = format!("{start:#x} to {last:#x}");
        if let Some(id) = snapshot(self.report, range.source) {
            text.push_str(&format!(" of snapshot {id}"));
        }
        let words = self.known(range).map(|contents| contents.words(&bytes)).unwrap_or_default();
        if !words.is_empty() {
            text.push_str(&format!(" ({})", words.join("; ")));
        }
        text
    }
}

fn bytes(range: &GuestRange) -> Range<u64> {
    let start = range.offset.get();
    start..start.saturating_add(range.bytes)
}

#[cfg(test)]
mod tests {
    use qcheck::check::Remedy;
    use qcheck::check::report::SECTIONS;

    use super::*;

    fn rows() -> impl Iterator<Item = &'static Row> {
        SECTIONS.iter().flat_map(|section| section.rows.iter().copied())
    }

    #[test]
    fn every_kind_has_a_meaning_and_a_remedy_in_whole_sentences() {
        for row in rows() {
            let (meaning, remedy) = meaning(row);
            let code = row.code;
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
        }
        assert!(rows().count() > 30);
    }

    #[test]
    fn the_words_of_a_remedy_name_the_repair() {
        for row in rows() {
            let loses = row.repair.contains("`-r all --allow-data-loss`");
            let is_named = match row.remedy {
                Remedy::Leaks => row.repair.starts_with("`-r leaks` and `-r all` "),
                Remedy::All => row.repair.starts_with("`-r all` "),
                Remedy::DataLoss => loses && !row.repair.starts_with("None"),
                Remedy::None => row.repair.starts_with("None") && !loses,
            };
            assert!(is_named, "{}: {:?}, but {}", row.code, row.remedy, row.repair);
        }
    }

    #[test]
    fn every_code_is_one_kind() {
        let mut codes: Vec<&str> = rows().map(|row| row.code).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
