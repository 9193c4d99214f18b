//! `check --reattach`: which lost L2 tables go back into which L1 entries.

use std::ffi::OsString;

use qcheck::format::{HostCluster, L1Index};
use qcheck::repair::{Reattach, Reattachment};

use crate::cli::args::size::parse_number;

/// The option's name.
const OPTION: &str = "--reattach";

/// A value of the option: none means each table that only one L1 entry can have pointed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Without a value.
    Sole,
    /// A table and its L1 entry.
    One(Reattachment),
}

/// Parses `CLUSTER=L1INDEX`, with `@ID` after it for the L1 table of a snapshot.
pub fn parse(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Sole);
    }
    let Some((cluster, entry)) = text.split_once('=') else {
        return Err("give CLUSTER=L1INDEX, or CLUSTER=L1INDEX@ID for a snapshot".into());
    };
    let (index, snapshot) = match entry.split_once('@') {
        Some((index, id)) => (index, Some(id.to_owned())),
        None => (entry, None),
    };
    Ok(Value::One(Reattachment {
        table: HostCluster::new(parse_number(cluster)?),
        index: L1Index::new(parse_number(index)?),
        snapshot,
    }))
}

/// What these values ask for.
pub fn reattach(values: &[Value]) -> Reattach {
    if values.contains(&Value::Sole) {
        return Reattach::Sole;
    }
    let one = |value: &Value| match value {
        Value::One(one) => Some(one.clone()),
        Value::Sole => None,
    };
    match values {
        [] => Reattach::Proven,
        some => Reattach::These(some.iter().filter_map(one).collect()),
    }
}

/// Joins the option with a value that follows it as a word of its own: any other word is not its
/// value.
pub fn expand(args: Vec<OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::with_capacity(args.len());
    let mut rest = args.into_iter().peekable();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        let is_value = |next: &OsString| {
            let text = next.to_str().unwrap_or_default();
            text.contains('=') && parse(text).is_ok()
        };
        if arg == OPTION {
            if let Some(value) = rest.next_if(is_value) {
                let mut joined = OsString::from(format!("{OPTION}="));
                joined.push(value);
                out.push(joined);
                continue;
            }
        }
        out.push(arg);
    }
    out.extend(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(args: &[&str]) -> Vec<String> {
        let out = expand(args.iter().map(OsString::from).collect());
        out.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn a_table_and_an_entry_are_a_value_and_a_file_name_is_not() {
        assert_eq!(expanded(&[OPTION, "12=3", "a.qcow2"]), ["--reattach=12=3", "a.qcow2"]);
        assert_eq!(expanded(&[OPTION, "a=b.qcow2"]), [OPTION, "a=b.qcow2"]);
        assert_eq!(expanded(&["--", OPTION, "12=3"]), ["--", OPTION, "12=3"]);
    }

    #[test]
    fn a_snapshot_is_named_by_its_id() {
        let Ok(Value::One(one)) = parse("12=3@7") else { panic!("it is a value") };
        assert_eq!((one.table.get(), one.index.get()), (12, 3));
        assert_eq!(one.snapshot.as_deref(), Some("7"));
        assert!(parse("12").is_err() && parse("x=1").is_err() && parse("1=x").is_err());
    }
}
