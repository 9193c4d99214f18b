//! Whether a dump checks like the image that it was made of.

use super::verdict::CheckOutcome;
use crate::check::{CheckReport, Finding, Kind, Tally, Verb};
use crate::error::{Error, Result};

/// An error that names the first difference; with `blank`, other names are not differences.
pub fn same(original: &CheckOutcome, dump: &CheckOutcome, blank: bool) -> Result<()> {
    let difference = match (original, dump) {
        (CheckOutcome::Report(original), CheckOutcome::Report(dump)) => {
            difference(original, dump, blank)
        }
        (CheckOutcome::None(original), CheckOutcome::None(dump)) if original == dump => None,
        (_, CheckOutcome::None(why)) => Some(why.clone()),
        (CheckOutcome::None(_), _) => Some("its header can be read".into()),
    };
    let why = match blank {
        true => "names overlap other metadata, or the image cannot be read in parts or is in use",
        false => "the image cannot be read in parts or is in use",
    };
    difference.map_or(Ok(()), |what| {
        let text = format!("the dump does not check like the image ({what}): {why}");
        Err(Error::Refused(text))
    })
}

fn difference(original: &CheckReport, dump: &CheckReport, blank: bool) -> Option<String> {
    let depends_on_data =
        |f: &&Finding| matches!(f.kind, Kind::BlankTable { .. } | Kind::Unaccounted { .. });
    let counts = |r: &CheckReport| {
        let left_out = r.findings.iter().filter(depends_on_data).count() as u64;
        let notices = r.tally.notices.saturating_sub(left_out);
        (Tally { notices, ..r.tally }, r.allocation, r.image_end)
    };
    // Which ones of very many findings are kept is left to chance.
    if original.unlisted == 0 && dump.unlisted == 0 {
        let told = |finding: &Finding| match blank {
            true => nameless(finding),
            false => finding.clone(),
        };
        // A dump has no data, and so no data that a blank table may have pointed to.
        let of = |r: &CheckReport| -> Vec<Finding> {
            r.findings.iter().filter(|f| !depends_on_data(f)).cloned().collect()
        };
        let (was, is) = (of(original), of(dump));
        let differs = was.iter().zip(&is).find(|(was, is)| told(was) != told(is));
        let first = differs.map(|(was, _)| was);
        let first = first.or_else(|| was.get(is.len())).or_else(|| is.get(was.len()));
        if let Some(finding) = first {
            return Some(finding.line(0, Verb::Tell));
        }
    }
    (counts(original) != counts(dump)).then(|| {
        let (was, is) = (original.tally, dump.tally);
        format!(
            "errors: {} there, {} in the dump; leaks: {} there, {} in the dump",
            was.corruptions, is.corruptions, was.leaks, is.leaks
        )
    })
}

/// A finding without the names in it.
fn nameless(finding: &Finding) -> Finding {
    let mut finding = finding.clone();
    match &mut finding.kind {
        Kind::SnapshotL1Unaligned { id, name, .. } | Kind::SnapshotL1TooLarge { id, name, .. } => {
            id.clear();
            name.clear();
        }
        Kind::SnapshotIdTwice(name)
        | Kind::BitmapEntry { name, .. }
        | Kind::BitmapTable { name, .. }
        | Kind::BitmapInUse { name } => name.clear(),
        _ => {}
    }
    finding
}
