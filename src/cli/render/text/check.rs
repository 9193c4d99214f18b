//! A check's result in words. What qemu-img prints too is the same to the letter.

use std::collections::HashSet;
use std::io::{self, Write};

use qcheck::check::{Allocation, CheckReport, Finding, Kind, Place, Severity, Verb};
use qcheck::repair::{Comparison, Fixed, RepairOutcome};

/// One step of a repair's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A finding, as found or as repaired.
    Finding(&'a Finding, Verb),
    /// The refcount structures are rebuilt.
    Rebuilding,
}

/// A check's findings in the order in which they are printed.
pub fn check_steps(report: &CheckReport) -> impl Iterator<Item = Step<'_>> {
    told(report).map(|finding| Step::Finding(finding, Verb::Tell))
}

fn told(report: &CheckReport) -> impl Iterator<Item = &Finding> {
    report.findings.iter().filter(|f| f.severity() != Severity::Notice)
}

/// What a repair found and repaired, in the order in which qemu-img prints it: refcounts are
/// printed as found and again as they are corrected, everything else once. COPIED flags are
/// compared with the refcounts after the repair, so those that are right with the new refcounts are
/// not printed.
pub fn repair_steps<'a>(outcome: &'a RepairOutcome, comparison: &'a Comparison) -> Vec<Step<'a>> {
    let (flags, others): (Vec<_>, Vec<_>) = told(&outcome.before).partition(|f| is_copied(f));

    let mut steps: Vec<Step<'_>> = others
        .iter()
        .map(|f| {
            let repair = !is_count(f) && comparison.is_repaired(f);
            Step::Finding(f, if repair { Verb::Repair } else { Verb::Tell })
        })
        .collect();
    if outcome.rebuilt {
        steps.push(Step::Rebuilding);
    }
    // A refcount is printed again as it is corrected, except those that a rebuild corrected.
    let told_once = |f: &Finding| outcome.rebuilt || !is_count(f);
    let told_above: HashSet<(Place, &str)> =
        others.iter().filter(|f| told_once(f)).map(|f| (f.place, f.code())).collect();
    let is_told = |f: &Finding| told_above.contains(&(f.place, f.code()));
    let later = comparison.repaired().iter().filter(|f| !is_copied(f) && !is_told(f));
    steps.extend(later.map(|f| Step::Finding(f, Verb::Repair)));
    steps.extend(flags.iter().filter_map(|f| {
        if comparison.is_repaired(f) {
            Some(Step::Finding(f, Verb::Repair))
        } else {
            comparison.is_left(f).then_some(Step::Finding(f, Verb::Tell))
        }
    }));
    steps
}

fn is_count(finding: &Finding) -> bool {
    matches!(finding.kind, Kind::Count { .. })
}

fn is_copied(finding: &Finding) -> bool {
    matches!(finding.kind, Kind::L2TableCopied { .. } | Kind::DataCopied { .. })
}

/// What was repaired, before the verdict of the second check.
pub fn fixed(out: &mut dyn Write, fixed: Fixed) -> io::Result<()> {
    write!(
        out,
        "The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    {} \
         corruptions\n\nDouble checking the fixed image now...\n",
        fixed.leaks, fixed.corruptions
    )
}

/// The verdict and how the image is filled. In qemu-img's place its words are printed, whatever
/// leaked clusters may hold.
pub fn summary(out: &mut dyn Write, report: &CheckReport, as_qemu_img: bool) -> io::Result<()> {
    let tally = report.tally;
    if tally.is_clean() {
        writeln!(out, "No errors were found on the image.")?;
    }
    if tally.corruptions > 0 {
        write!(
            out,
            "\n{} errors were found on the image.\nData may be corrupted, or further writes to \
             the image may corrupt it.\n",
            tally.corruptions
        )?;
    }
    if tally.leaks > 0 {
        let only_leaks = tally.corruptions == 0 && tally.check_errors == 0;
        let meaning = if only_leaks && report.hides_references && !as_qemu_img {
            "Some of them may hold data to which damaged structures refer."
        } else {
            "This means waste of disk space, but no harm to data."
        };
        writeln!(out, "\n{} leaked clusters were found on the image.\n{meaning}", tally.leaks)?;
    }
    if tally.check_errors > 0 {
        let errors = tally.check_errors;
        write!(out, "\n{errors} internal errors have occurred during the check.\n")?;
    }
    let Allocation { total, allocated, fragmented, compressed } = report.allocation;
    if total > 0 && allocated > 0 {
        writeln!(
            out,
            "{allocated}/{total} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters",
            percent(allocated, total),
            percent(fragmented, allocated),
            percent(compressed, allocated)
        )?;
    }
    if report.image_end.get() > 0 {
        writeln!(out, "Image end offset: {}", report.image_end)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are printed")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use qcheck::check::{Affected, Source, Tally};
    use qcheck::format::{ClusterCount, Geometry, HostCluster, HostOffset, L1Index, L2Index};

    fn report(findings: Vec<Finding>) -> CheckReport {
        let mut tally = Tally::default();
        findings.iter().for_each(|f| tally.add(f));
        CheckReport {
            findings,
            unlisted: 0,
            hides_references: false,
            tally,
            allocation: Allocation { total: 19, allocated: 19, fragmented: 9, compressed: 8 },
            image_end: HostOffset::new(1_114_112),
            geometry: Geometry::new(16, 4, false, 19 << 16).unwrap(),
            snapshots: vec![],
        }
    }

    fn leak(cluster: u64) -> Finding {
        let place = Place::Clusters(HostCluster::new(cluster), ClusterCount::new(1));
        Finding::new(Kind::Count { stored: 1, referenced: 0 }, place)
    }

    fn at(l2: u32, kind: Kind) -> Finding {
        Finding::new(kind, Place::L2(Source::Active, L1Index::new(0), L2Index::new(l2)))
    }

    fn lines(steps: &[Step<'_>]) -> Vec<String> {
        steps
            .iter()
            .map(|step| match step {
                Step::Finding(finding, verb) => finding.line(0, *verb),
                Step::Rebuilding => "Rebuilding".into(),
            })
            .collect()
    }

    #[test]
    fn a_repair_is_reported_in_the_order_of_qemu_img() {
        let reserved = at(1, Kind::L2Reserved(0x8000_0000_0006_0002));
        let flag = at(0, Kind::DataCopied { entry: 0x50000, count: 1 });
        let stale = at(3, Kind::DataCopied { entry: 0x70000, count: 2 });
        let outcome = RepairOutcome {
            rebuilt_header: None,
            before: report(vec![reserved.clone(), leak(17), flag.clone(), stale]),
            rebuilt: false,
            held: 0,
            after: Some(report(vec![reserved])),
            affected: Affected::default(),
        };
        assert_eq!(
            lines(&repair_steps(&outcome, &outcome.comparison())),
            [
                "ERROR found l2 entry with reserved bits set: 8000000000060002",
                "Leaked cluster 17 refcount=1 reference=0",
                "Repairing cluster 17 refcount=1 reference=0",
                "Repairing OFLAG_COPIED data cluster: l2_entry=50000 refcount=1",
                "Repairing OFLAG_COPIED data cluster: l2_entry=70000 refcount=2",
            ]
        );
    }

    #[test]
    fn what_a_rebuild_releases_is_reported_after_it() {
        let low = Kind::Count { stored: 0, referenced: 1 };
        let low = Finding::new(low, leak(6).place);
        // The first of two is released.
        let run = Place::Clusters(HostCluster::new(1), ClusterCount::new(2));
        let run = Finding::new(leak(1).kind, run);
        let outcome = RepairOutcome {
            rebuilt_header: None,
            before: report(vec![low, run]),
            rebuilt: true,
            held: 0,
            after: Some(report(vec![leak(2)])),
            affected: Affected::default(),
        };
        assert_eq!(
            lines(&repair_steps(&outcome, &outcome.comparison())),
            [
                "ERROR cluster 6 refcount=0 reference=1",
                "Leaked cluster 1 refcount=1 reference=0",
                "Rebuilding",
                "Repairing cluster 1 refcount=1 reference=0",
            ]
        );
    }

    #[test]
    fn the_summary_is_qemu_imgs() {
        let mut text = Vec::new();
        summary(&mut text, &report(vec![leak(3)]), true).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "\n1 leaked clusters were found on the image.\nThis means waste of disk space, but no \
             harm to data.\n19/19 = 100.00% allocated, 47.37% fragmented, 42.11% compressed \
             clusters\nImage end offset: 1114112\n"
        );
    }
}
