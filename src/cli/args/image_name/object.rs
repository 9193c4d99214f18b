//! `--object secret,id=..`: secrets by names, as qemu-img takes them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use qcheck::crypt::{Secret, Secrets};
use serde_json::Value;

use crate::cli::args::options;

/// The objects of a command line.
#[derive(Debug, clap::Args)]
pub struct Objects {
    /// Define a secret: secret,id=NAME,file=FILE; options of images name it
    #[arg(long = "object", value_name = "OBJECT", action = clap::ArgAction::Append)]
    objects: Vec<Text>,
}

/// An object as it was given, which nothing prints: it may have a secret in it.
#[derive(Clone)]
struct Text(String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(..)")
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Objects {
    /// The secrets. What is wrong with one is an error in qemu-img's words.
    pub fn secrets(&self) -> Result<Secrets> {
        let mut secrets = BTreeMap::new();
        for Text(text) in &self.objects {
            let (id, secret) = secret(properties(text)?, &secrets)?;
            if secrets.insert(id.clone(), secret).is_some() {
                bail!("attempt to add duplicate property '{id}' to object (type 'container')");
            }
        }
        Ok(Secrets::new(secrets))
    }
}

/// The properties of an object, in JSON or as `type,name=value,..`.
fn properties(text: &str) -> Result<BTreeMap<String, String>> {
    if text.starts_with('{') {
        // The parser's error has a place and no text.
        let value: Value = serde_json::from_str(text).context("--object: invalid JSON")?;
        let Value::Object(members) = value else { bail!("--object: invalid JSON object") };
        let text = |(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            _ => Err(anyhow!("Invalid parameter type for '{name}', expected: string")),
        };
        return members.into_iter().map(text).collect();
    }
    let pair = |(n, item): (usize, String)| match item.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None if n == 0 => Ok(("qom-type".to_owned(), item)),
        None => Err(anyhow!("--object: a property has no value")),
    };
    options::split(text).into_iter().enumerate().map(pair).collect()
}

/// The secret that an object is, and its name. Another one, given before, may decrypt it.
fn secret(
    mut given: BTreeMap<String, String>,
    others: &BTreeMap<String, Secret>,
) -> Result<(String, Secret)> {
    match given.remove("qom-type").as_deref() {
        Some("secret") => {}
        Some(other) => bail!("invalid object type: {other}: only secret is supported"),
        None => bail!("Parameter 'qom-type' is missing"),
    }
    let id = given.remove("id").ok_or_else(|| anyhow!("Parameter 'id' is missing"))?;
    if !is_identifier(&id) {
        bail!("Parameter 'id' expects an identifier");
    }
    let (data, file) = (given.remove("data"), given.remove("file"));
    let format = given.remove("format").unwrap_or_else(|| "raw".to_owned());
    let (key, iv) = (given.remove("keyid"), given.remove("iv"));
    if let Some(name) = given.keys().next() {
        bail!("Parameter '{name}' is unexpected");
    }
    let is_base64 = match format.as_str() {
        "raw" => false,
        "base64" => true,
        _ => bail!("Parameter 'format' does not accept value '{format}'"),
    };
    let bytes = match (data, file) {
        (Some(_), Some(_)) => bail!("'file' and 'data' are mutually exclusive"),
        (None, None) => bail!("Either 'file' or 'data' must be provided"),
        (Some(data), None) => data.into_bytes(),
        (None, Some(file)) => fs::read(&file).with_context(|| format!("Unable to read {file}"))?,
    };
    let given = Secret::new(bytes);
    let secret = match key {
        None if is_base64 => given.decoded()?,
        None => given,
        Some(key) => decrypted(&given, is_base64, &key, iv, others)?,
    };
    Ok((id, secret))
}

/// A secret that was given encrypted. In the format raw a file has the bytes themselves.
fn decrypted(
    given: &Secret,
    is_base64: bool,
    key: &str,
    iv: Option<String>,
    others: &BTreeMap<String, Secret>,
) -> Result<Secret> {
    let key = others.get(key).ok_or_else(|| anyhow!("No secret with id '{key}'"))?;
    let iv = iv.ok_or_else(|| anyhow!("IV is required to decrypt secret"))?;
    let iv = Secret::new(iv.into_bytes()).decoded()?;
    let sealed = if is_base64 { given.decoded()? } else { given.clone() };
    Ok(sealed.decrypted(key, &iv)?)
}

/// QEMU's rule for names of objects.
fn is_identifier(id: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    id.starts_with(|c: char| c.is_ascii_alphabetic()) && id.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Result<Secrets> {
        let objects = texts.iter().map(|text| Text((*text).to_owned())).collect();
        Objects { objects }.secrets()
    }

    #[test]
    fn secrets_are_taken_in_each_form() {
        for text in [
            "secret,id=a,data=hunter2",
            "secret,id=a,data=aHVudGVyMg==,format=base64",
            "qom-type=secret,data=hunter2,id=a,format=raw",
            r#"{"qom-type":"secret","id":"a","data":"hunter2"}"#,
        ] {
            assert!(secrets(&[text]).unwrap().get("a").is_ok(), "{text}");
        }
        let key = "secret,id=k,format=base64,data=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let sealed = "secret,id=a,keyid=k,iv=AAECAwQFBgcICQoLDA0ODw==,format=base64,\
                      data=5Oc1d6/9hbpDg7sQDpNVfw==";
        assert!(secrets(&[key, sealed]).unwrap().get("a").is_ok());
        assert!(secrets(&[sealed]).unwrap_err().to_string().contains("No secret with id 'k'"));
    }

    #[test]
    fn what_is_wrong_is_reported_in_the_words_of_qemu_img_and_without_the_secret() {
        for (text, line) in [
            ("secret,data=hunter2", "Parameter 'id' is missing"),
            ("secret,id=q", "Either 'file' or 'data' must be provided"),
            ("secret,id=q,data=hunter2,file=b", "'file' and 'data' are mutually exclusive"),
            ("secret,id=q,foo=1,data=hunter2", "Parameter 'foo' is unexpected"),
            ("secret,id=q,data=hunter2,format=hex", "Parameter 'format' does not accept value"),
            ("secret,id=q,data=hunter2!,format=base64", "Base64 data is not valid"),
            ("secret,id=1q,data=hunter2", "expects an identifier"),
            ("iothread,id=q", "invalid object type: iothread"),
            ("secret,id=q,hunter2", "a property has no value"),
            (r#"{"id":"hunter2""#, "invalid JSON"),
        ] {
            let error = format!("{:#}", secrets(&[text]).unwrap_err());
            assert!(error.contains(line) && !error.contains("hunter2"), "{text}: {error}");
        }
        let twice = secrets(&["secret,id=q,data=a", "secret,id=q,data=b"]).unwrap_err();
        assert!(twice.to_string().contains("duplicate property 'q'"));
        assert!(!format!("{:?}", Text("hunter2".into())).contains("hunter2"));
    }
}
