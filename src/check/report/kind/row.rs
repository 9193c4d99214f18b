//! What is known of a kind of finding, whatever the numbers in it.

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Information; nothing is wrong.
    Notice,
    /// Space that nothing uses.
    Leak,
    /// The check could not see this part.
    CheckError,
    /// Data is lost or in danger.
    Corruption,
}

/// The least that a repair has to be allowed to correct a finding, where it can be corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Any repair.
    Leaks,
    /// A repair of everything that loses no data.
    All,
    /// A repair that may lose data.
    DataLoss,
    /// No repair corrects it.
    None,
}

/// A kind of finding.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The stable name, for JSON and scripts.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// How bad it is where another finding reports the same clusters, or where a file may be right
    /// and could not be opened.
    pub lesser: Option<Severity>,
    /// What repairs it.
    pub remedy: Remedy,
    /// Whether clusters that seem leaked may be what a damaged or missing pointer referred to.
    pub hides_references: bool,
    /// Whether an L1 or L2 entry itself is wrong, where the finding is about one.
    pub is_entry: bool,
    /// What it means, in Markdown.
    pub meaning: &'static str,
    /// What to do, in Markdown.
    pub repair: &'static str,
}

/// Kinds of findings about one part of an image.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Which part.
    pub heading: &'static str,
    /// What is true of all of them, in Markdown; may be empty.
    pub intro: &'static str,
    /// The kinds.
    pub rows: &'static [&'static Row],
}
