//! Passphrases, and the names under which options refer to them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Why a build without the feature `encryption` refuses an image.
pub(super) const ABSENT: &str = "the image is encrypted, and encryption is not built in (the cargo \
                                 feature 'encryption')";

/// A passphrase or key. It is overwritten when it is dropped, and never printed.
#[derive(Clone)]
pub struct Secret(pub(super) Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Secrets by their names. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, Secret>>);

impl Secrets {
    /// These secrets.
    pub fn new(secrets: BTreeMap<String, Secret>) -> Self {
        Self(Arc::new(secrets))
    }

    /// The secret of a name. Fails with [`Error::NoSecret`].
    pub fn get(&self, name: &str) -> Result<&Secret> {
        self.0.get(name).ok_or_else(|| Error::NoSecret(name.to_owned()))
    }
}

/// Which of the secrets opens an image.
#[derive(Debug, Clone, Default)]
pub struct Key {
    /// The secrets, also for the images below.
    pub secrets: Secrets,
    /// The name of the image's own, where one is given.
    pub name: Option<String>,
}

impl Key {
    /// The same secrets for another image.
    pub fn renamed(&self, name: Option<String>) -> Self {
        Self { secrets: self.secrets.clone(), name }
    }

    /// The secret. `option` is the option that names it, in QEMU's words. Fails with
    /// [`Error::NoKey`] where none is named, and with [`Error::NoSecret`].
    pub fn secret(&self, option: &'static str) -> Result<&Secret> {
        let name = self.name.as_deref().ok_or_else(|| no_key(option))?;
        self.secrets.get(name)
    }
}

/// The error where no secret is named for an encrypted image. A build without encryption cannot
/// use one.
pub(crate) fn no_key(option: &'static str) -> Error {
    match cfg!(feature = "encryption") {
        true => Error::NoKey { option },
        false => Error::Unsupported(ABSENT.into()),
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_a_secret() {
        let secrets = Secrets::new([("a".to_owned(), Secret::new(b"hunter2".to_vec()))].into());
        assert_eq!(format!("{secrets:?}"), r#"Secrets({"a": Secret(..)})"#);
        let error = Secret::new(b"hunter2!".to_vec()).decoded().unwrap_err();
        assert!(!error.to_string().contains('!'), "{error}");
    }

    #[test]
    fn base64_may_have_line_breaks() {
        assert_eq!(
            Secret::new(b"aHVu\ndGVyMg==\n".to_vec()).decoded().unwrap().bytes(),
            b"hunter2"
        );
        assert!(Secret::new(b"aHVudGVyMg=".to_vec()).decoded().is_err());
    }

    /// `printf hunter2 | openssl enc -aes-256-cbc -K 00..1f -iv 00..0f | base64`.
    #[test]
    fn an_encrypted_secret_is_decrypted_with_its_key() {
        let key = Secret::new((0..32).collect());
        let iv = Secret::new((0..16).collect());
        let sealed = Secret::new(b"5Oc1d6/9hbpDg7sQDpNVfw==".to_vec()).decoded().unwrap();
        assert_eq!(sealed.decrypted(&key, &iv).unwrap().bytes(), b"hunter2");
        assert!(sealed.decrypted(&iv, &iv).is_err());
        assert!(Secret::new(vec![1; 15]).decrypted(&key, &iv).is_err());
        let wrong = Secret::new((1..33).collect());
        assert!(sealed.decrypted(&wrong, &iv).is_err());
    }
}
