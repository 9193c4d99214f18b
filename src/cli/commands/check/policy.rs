//! `--policy`, `--deny` and the limits: what a checked image may not have.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use qcheck::policy::{Policy, Trait};

use crate::cli::args::size::{parse_number, parse_size};

/// What the user denies.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Policy")]
#[group(skip)]
pub struct Args {
    /// Deny what an image from an untrusted source should not have: every word of --deny but
    /// 'compressed'
    #[arg(long, value_enum, value_name = "untrusted")]
    policy: Option<Named>,

    /// Deny these features; exit code 4 for an image that has one
    #[arg(long, value_name = "WORD,...", value_delimiter = ',', value_parser = words())]
    deny: Vec<Trait>,

    /// Take words back from --policy and --deny
    #[arg(long, value_name = "WORD,...", value_delimiter = ',', value_parser = words())]
    allow: Vec<Trait>,

    /// Deny disks of more bytes than this, for example 100G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_virtual_size: Option<u64>,

    /// Deny images that hold more than N bytes of guest data for each byte of their file
    #[arg(long, value_name = "N", value_parser = parse_number::<u64>)]
    max_ratio: Option<u64>,
}

/// A policy that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Named {
    /// For images from an untrusted source
    Untrusted,
}

fn words() -> impl TypedValueParser<Value = Trait> {
    PossibleValuesParser::new(Trait::ALL.map(Trait::word))
        .try_map(|word| Trait::from_word(&word).ok_or("no such word"))
}

impl Args {
    /// The policy that they make.
    pub fn policy(&self) -> Policy {
        let mut policy = match self.policy {
            Some(Named::Untrusted) => Policy::untrusted(),
            None => Policy::default(),
        };
        policy.denied.extend(&self.deny);
        policy.denied.retain(|denied| !self.allow.contains(denied));
        policy.max_virtual_bytes = self.max_virtual_size;
        policy.max_ratio = self.max_ratio;
        policy
    }
}
