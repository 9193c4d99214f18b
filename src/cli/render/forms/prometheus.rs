//! Verdicts as metrics in Prometheus's text format, for the textfile collector of node_exporter.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;
use qcheck::Class;

use crate::cli::render::verdict::record::Summary;
use crate::cli::render::verdict::summary::summary;
use crate::cli::render::verdict::{Judged, Verdict};

/// What is shown of an image.
#[derive(Debug)]
struct Image {
    class: Class,
    word: &'static str,
    seconds: f64,
    /// When it was checked, in seconds since 1970.
    checked: Option<i64>,
    summary: Option<Summary>,
}

/// The images so far, each name once: two series with the same labels are an error.
#[derive(Debug, Default)]
pub struct Metrics(BTreeMap<String, Image>);

impl Metrics {
    /// Adds an image. Of two with the same name the worse one counts.
    pub fn add(&mut self, judged: &Judged) {
        let (seconds, checked) = match &judged.verdict {
            Verdict::Unchanged(record) => (record.seconds, record.time()),
            _ => (judged.took.as_secs_f64(), Some(judged.begun.as_second())),
        };
        let (class, word, summary) = (judged.class(), judged.word(), summary(judged));
        let image = Image { class, word, seconds, checked, summary };
        match self.0.get(&judged.name) {
            Some(known) if known.class >= class => {}
            _ => drop(self.0.insert(judged.name.clone(), image)),
        }
    }

    /// Writes all of them, a block for each metric.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let version = format!("qcheck_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
        block(out, "qcheck_build_info", "The version of qcheck that checked.", &version)?;
        let ended = format!("qcheck_run_timestamp_seconds {}\n", Timestamp::now().as_second());
        block(out, "qcheck_run_timestamp_seconds", "When the run ended.", &ended)?;
        self.verdicts(out)?;
        self.findings(out)?;
        for (name, help, value) in OF_REPORTS {
            self.each(out, name, help, |image| image.summary.as_ref().map(value))?;
        }
        self.each(
            out,
            "qcheck_image_check_duration_seconds",
            "How long the last check of the image took.",
            |image| Some(image.seconds),
        )?;
        #[expect(clippy::cast_precision_loss, reason = "exact for seconds")]
        self.each(
            out,
            "qcheck_image_check_timestamp_seconds",
            "When the image was last checked; an unchanged image that was skipped keeps its time.",
            |image| image.checked.map(|time| time as f64),
        )
    }

    fn verdicts(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = String::new();
        for (name, image) in &self.0 {
            let (name, word) = (escape(name), image.word);
            let _ =
                writeln!(lines, "qcheck_image_verdict{{image=\"{name}\",verdict=\"{word}\"}} 1");
        }
        let help = "1 for the verdict of the last check: clean, digest, leaks, errors, denied, \
                    no-verdict or no-checker.";
        block(out, "qcheck_image_verdict", help, &lines)
    }

    fn findings(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = String::new();
        for (name, image) in &self.0 {
            let name = escape(name);
            for (code, count) in image.summary.iter().flat_map(|summary| &summary.codes) {
                let labels = format!("image=\"{name}\",code=\"{}\"", escape(code));
                let _ = writeln!(lines, "qcheck_image_findings{{{labels}}} {count}");
            }
        }
        let help = "Clusters or entries with a finding of this code, notices included.";
        block(out, "qcheck_image_findings", help, &lines)
    }

    fn each(
        &self,
        out: &mut dyn Write,
        name: &str,
        help: &str,
        value: impl Fn(&Image) -> Option<f64>,
    ) -> io::Result<()> {
        let mut lines = String::new();
        for (image, of) in &self.0 {
            if let Some(value) = value(of) {
                let _ = writeln!(lines, "{name}{{image=\"{}\"}} {value}", escape(image));
            }
        }
        block(out, name, help, &lines)
    }
}

/// A metric of images that have a report: its name, its help, its value.
type OfReport = (&'static str, &'static str, fn(&Summary) -> f64);

#[expect(clippy::cast_precision_loss, reason = "numbers in this format are floating-point")]
const OF_REPORTS: [OfReport; 8] = [
    ("qcheck_image_errors", "Errors in the image.", |s| s.corruptions as f64),
    ("qcheck_image_leaked_bytes", "Bytes of leaked clusters.", |s| s.leaked_bytes() as f64),
    ("qcheck_image_unchecked_parts", "Parts of the image that could not be checked.", |s| {
        s.check_errors as f64
    }),
    (
        "qcheck_image_allocated_bytes",
        "Bytes of the virtual disk that are stored in the image.",
        |s| s.allocated_bytes() as f64,
    ),
    ("qcheck_image_virtual_bytes", "Bytes of the virtual disk.", |s| s.virtual_size as f64),
    ("qcheck_image_used_bytes", "The end of the last cluster in use, in bytes of the file.", |s| {
        s.image_end_offset as f64
    }),
    (
        "qcheck_image_fragmentation_ratio",
        "Allocated clusters that do not follow the one before in the file, of all allocated ones.",
        Summary::fragmentation,
    ),
    ("qcheck_image_snapshots", "Snapshots in the image.", |s| s.snapshot_count as f64),
];

/// A metric, unless it has no values.
fn block(out: &mut dyn Write, name: &str, help: &str, lines: &str) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{lines}")
}

/// The value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(name: &str) -> Judged {
        Judged::new(name.to_owned(), false)
    }

    #[test]
    fn a_name_with_special_characters_is_one_label() {
        let mut metrics = Metrics::default();
        metrics.add(&failed("a\"b\\c\nd"));
        let mut out = Vec::new();
        metrics.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = r#"qcheck_image_verdict{image="a\"b\\c\nd",verdict="no-verdict"} 1"#;
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn each_series_is_there_once_and_each_metric_is_one_block() {
        let mut metrics = Metrics::default();
        metrics.add(&failed("a"));
        metrics.add(&failed("b"));
        metrics.add(&failed("a"));
        let mut out = Vec::new();
        metrics.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let mut series: Vec<&str> = text.lines().filter_map(|l| l.split(' ').next()).collect();
        series.retain(|name| *name != "#");
        let count = series.len();
        series.dedup();
        assert_eq!(series.len(), count, "{text}");
        let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(types, 5, "{text}");
    }
}
