//! Finding lines, up to a limit; the rest is summed up by kind.

use std::io;

use qcheck::check::{CheckReport, Finding, Place, Verb};

use super::check::Step;
use crate::cli::terminal::count::counted;
use crate::cli::terminal::ui::Output;

/// Ranges of clusters that a line of the rest names.
const NAMED_RANGES: usize = 8;

/// How many lines may still be printed.
#[derive(Debug, Clone, Copy)]
pub struct Budget(Option<u64>);

impl Budget {
    /// At most `lines` lines; 0 means any number.
    pub const fn new(lines: u64) -> Self {
        Self(if lines == 0 { None } else { Some(lines) })
    }

    /// Takes up to `lines` from what is left.
    fn take(&mut self, lines: u64) -> u64 {
        match &mut self.0 {
            None => lines,
            Some(left) => {
                let taken = lines.min(*left);
                *left -= taken;
                taken
            }
        }
    }
}

/// Findings of one kind that got no line of their own.
#[derive(Debug)]
struct Rest {
    code: &'static str,
    verb: Verb,
    lines: u64,
    ranges: Vec<(u64, u64)>,
    more_ranges: u64,
}

impl Rest {
    fn add(&mut self, lines: u64, range: Option<(u64, u64)>) {
        self.lines = self.lines.saturating_add(lines);
        let Some((first, count)) = range else { return };
        let room = self.ranges.len() < NAMED_RANGES;
        match self.ranges.last_mut() {
            Some((start, length)) if *start + *length == first && self.more_ranges == 0 => {
                *length += count;
            }
            Some((start, length)) if first >= *start && first + count <= *start + *length => {}
            _ if room => self.ranges.push((first, count)),
            _ => self.more_ranges += 1,
        }
    }

    fn text(&self) -> String {
        let repaired = if self.verb == Verb::Repair { " repaired" } else { "" };
        let mut text = format!("... and {} more{repaired}: {}", self.lines, self.code);
        let ranges: Vec<String> = self
            .ranges
            .iter()
            .map(|&(first, count)| match count {
                1 => format!("cluster {first}"),
                _ => format!("clusters {first} to {}", first + count - 1),
            })
            .collect();
        if !ranges.is_empty() {
            text.push_str(": ");
            text.push_str(&ranges.join(", "));
        }
        if self.more_ranges > 0 {
            let more = counted(self.more_ranges, "more range", "more ranges");
            text.push_str(&format!(", and {more}"));
        }
        text
    }
}

/// Prints steps until the budget is used up, then one line for each kind of what is left.
pub fn print<'a>(
    out: &mut Output,
    report: &CheckReport,
    steps: impl IntoIterator<Item = Step<'a>>,
    budget: &mut Budget,
) -> io::Result<()> {
    let mut rest: Vec<Rest> = Vec::new();
    for step in steps {
        match step {
            Step::Rebuilding => out.line("Rebuilding refcount structure")?,
            Step::Finding(finding, verb) => {
                let lines = finding.line_count();
                let shown = budget.take(lines);
                for number in 0..shown {
                    out.line(&finding.line(number, verb))?;
                }
                if shown < lines {
                    let range = range_from(report, finding, shown);
                    rest_of(&mut rest, finding.code(), verb).add(lines - shown, range);
                }
            }
        }
    }
    for kind in &rest {
        out.line(&kind.text())?;
    }
    if report.unlisted > 0 {
        let more = counted(report.unlisted, "more that is", "more that are");
        out.line(&format!("... and {more} counted but not listed"))?;
    }
    Ok(())
}

fn rest_of<'a>(rest: &'a mut Vec<Rest>, code: &'static str, verb: Verb) -> &'a mut Rest {
    let position = rest.iter().position(|r| r.code == code && r.verb == verb);
    let index = position.unwrap_or_else(|| {
        rest.push(Rest { code, verb, lines: 0, ranges: Vec::new(), more_ranges: 0 });
        rest.len() - 1
    });
    &mut rest[index]
}

/// The clusters of a finding after its first `shown` lines.
fn range_from(report: &CheckReport, finding: &Finding, shown: u64) -> Option<(u64, u64)> {
    let (first, count) = report.clusters(finding)?;
    let skip = if matches!(finding.place, Place::Clusters(..)) { shown } else { 0 };
    Some((first + skip, count.get() - skip.min(count.get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest() -> Rest {
        Rest { code: "leak", verb: Verb::Tell, lines: 0, ranges: vec![], more_ranges: 0 }
    }

    #[test]
    fn neighbouring_ranges_become_one() {
        let mut rest = rest();
        rest.add(2, Some((5, 2)));
        rest.add(1, Some((7, 1)));
        rest.add(1, Some((9, 1)));
        assert_eq!(rest.text(), "... and 4 more: leak: clusters 5 to 7, cluster 9");
    }

    #[test]
    fn the_line_of_a_kind_is_bounded() {
        let mut rest = rest();
        (0..100).for_each(|n| rest.add(1, Some((2 * n, 1))));
        let text = rest.text();
        assert!(text.ends_with("cluster 14, and 92 more ranges"), "{text}");
    }

    #[test]
    fn a_budget_of_zero_does_not_limit() {
        assert_eq!(Budget::new(0).take(u64::MAX), u64::MAX);
        let mut budget = Budget::new(3);
        assert_eq!((budget.take(2), budget.take(2), budget.take(1)), (2, 1, 0));
    }
}
