//! Which snapshot is read.

use std::fmt;

use anyhow::{Result, anyhow};
use qcheck::format::snapshot::SnapshotEntry;

use super::options;

/// Which snapshot is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The one with this id, or else with this name.
    IdOrName(String),
    /// The one with these.
    Exact {
        /// Its id.
        id: Option<String>,
        /// Its name.
        name: Option<String>,
    },
}

/// Parses `-l`: a name, or `snapshot.id=..,snapshot.name=..`.
pub fn parse_choice(text: &str) -> Result<Choice, String> {
    if !text.starts_with("snapshot.") {
        return Ok(Choice::IdOrName(text.to_owned()));
    }
    let (mut id, mut name) = (None, None);
    for item in options::split(text) {
        match item.split_once('=') {
            Some(("snapshot.id", value)) => id = Some(value.to_owned()),
            Some(("snapshot.name", value)) => name = Some(value.to_owned()),
            _ => return Err(format!("'{item}' is neither snapshot.id=.. nor snapshot.name=..")),
        }
    }
    Ok(Choice::Exact { id, name })
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdOrName(text) => write!(f, "'{}'", text.escape_debug()),
            Self::Exact { id, name } => {
                let parts = [("snapshot.id", id), ("snapshot.name", name)];
                let given = parts.iter().filter_map(|(key, value)| {
                    Some(format!("{key}={}", value.as_ref()?.escape_debug()))
                });
                write!(f, "'{}'", given.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl Choice {
    /// The snapshot that is chosen.
    pub fn find(&self, mut snapshots: Vec<SnapshotEntry>) -> Result<SnapshotEntry> {
        let position = |test: &dyn Fn(&SnapshotEntry) -> bool| snapshots.iter().position(test);
        let found = match self {
            Self::IdOrName(text) => position(&|entry| entry.id_text() == *text)
                .or_else(|| position(&|entry| entry.name_text() == *text)),
            Self::Exact { id, name } => position(&|entry| {
                id.as_ref().is_none_or(|id| entry.id_text() == *id)
                    && name.as_ref().is_none_or(|name| entry.name_text() == *name)
            }),
        };
        let missing = || anyhow!("Failed to load snapshot: Can't find snapshot {self}");
        let found = found.ok_or_else(missing)?;
        Ok(snapshots.swap_remove(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_chosen_by_id_or_name() {
        assert_eq!(parse_choice("before"), Ok(Choice::IdOrName("before".into())));
        let both = Choice::Exact { id: Some("1".into()), name: Some("a,b".into()) };
        assert_eq!(parse_choice("snapshot.id=1,snapshot.name=a,,b"), Ok(both));
        assert!(parse_choice("snapshot.foo=1").is_err());
    }
}
