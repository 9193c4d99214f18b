//! The types of a SARIF 2.1.0 log, as far as this program uses them.

use serde::Serialize;

/// The published schema.
pub const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// A log.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Log {
    /// The published schema.
    #[serde(rename = "$schema")]
    pub schema: &'static str,
    /// `2.1.0`.
    pub version: &'static str,
    pub runs: [Run; 1],
}

/// A run of this program.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    pub tool: Tool,
    pub invocations: [Invocation; 1],
    pub results: Vec<Finding>,
}

/// This program.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tool {
    pub driver: Driver,
}

/// This program, with its rules.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Driver {
    pub name: &'static str,
    pub version: &'static str,
    pub rules: Vec<Rule>,
}

/// A kind of finding, or what a policy denies.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub id: String,
    pub short_description: Text,
    pub help: Text,
}

/// How the run ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Invocation {
    /// Whether there is a verdict on every image that can be checked.
    pub execution_successful: bool,
    pub tool_execution_notifications: Vec<Notification>,
}

/// What is to be known of an image beside its findings.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Notification {
    pub level: Level,
    pub message: Text,
    pub locations: [Location; 1],
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Note,
    Warning,
    Error,
}

/// A finding, or a violation of the policy.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub rule_id: String,
    pub level: Level,
    pub message: Text,
    pub locations: [Location; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial_fingerprints: Option<Fingerprints>,
}

/// What identifies a finding in the next run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fingerprints {
    /// A finding is the same one in the next run if it is of the same kind at the same place.
    #[serde(rename = "codeAndPlace/v1")]
    pub code_and_place: String,
}

/// A text for people.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Text {
    pub text: String,
}

impl Text {
    /// The text as it is.
    pub const fn of(text: String) -> Self {
        Self { text }
    }
}

/// Where something was found.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Location {
    pub physical_location: Physical,
    /// The structure in the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logical_locations: Vec<Logical>,
}

impl Location {
    /// The image as a whole.
    pub fn file(artifact: &Artifact) -> Self {
        let physical_location = Physical { artifact_location: artifact.clone(), region: None };
        Self { physical_location, logical_locations: Vec::new() }
    }
}

/// A file, or bytes of it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Physical {
    pub artifact_location: Artifact,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// A file.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Artifact {
    pub uri: String,
}

/// Bytes of a file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Region {
    pub byte_offset: u64,
    pub byte_length: u64,
}

/// A structure in an image.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Logical {
    pub fully_qualified_name: String,
}
