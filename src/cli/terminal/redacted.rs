//! Messages without the credentials of the addresses in them.

use std::borrow::Cow;

/// What begins an address after its scheme.
const MARK: &str = "://";
/// Names of options whose values are secret.
const SECRET: [&str; 3] = ["password", "cookie", "data"];

/// A text without user and password of the addresses in it, without the parameters of those of web
/// servers, and without the values of options that are secret.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let text = match text.contains(MARK) {
        true => Cow::Owned(addresses(text)),
        false => Cow::Borrowed(text),
    };
    SECRET.iter().fold(text, |text, option| match without_value(&text, option) {
        Some(text) => Cow::Owned(text),
        None => text,
    })
}

fn addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        let authority = until(after, &['/', '?', '#']);
        let host = authority.rsplit('@').next().unwrap_or_default();
        out.push_str(host);
        let path = until(&after[authority.len()..], &[]);
        let scheme = before[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
        let is_web = scheme.is_some_and(|scheme| scheme.starts_with("http"));
        out.push_str(if is_web { until(path, &['?', '#']) } else { path });
        rest = &after[authority.len() + path.len()..];
    }
    out.push_str(rest);
    out
}

/// What is before the end of an address in a message, a list of options or JSON, or before one of
/// these characters. Options have a comma of a value twice.
fn until<'a>(text: &'a str, marks: &[char]) -> &'a str {
    let mut from = 0;
    while let Some((at, found)) =
        text[from..].char_indices().find(|(_, c)| marks.contains(c) || " '\",\n".contains(*c))
    {
        let at = from + at;
        if found != ',' || !text[at + 1..].starts_with(',') {
            return &text[..at];
        }
        from = at + 2;
    }
    text
}

/// A text without the values of an option, as `NAME=VALUE` or in JSON; `None` without any.
fn without_value(text: &str, option: &str) -> Option<String> {
    let (mut out, mut rest, mut is_changed) = (String::new(), text, false);
    while let Some(at) = rest.find(option) {
        let (before, after) = rest.split_at(at + option.len());
        out.push_str(before);
        rest = after;
        let value = after.strip_prefix('=').or_else(|| {
            after.strip_prefix('"')?.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')
        });
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            out.push_str(&after[..after.len() - value.len()]);
            out.push_str("...");
            is_changed = true;
            rest = &value[until(value, &[]).len()..];
        }
    }
    is_changed.then(|| out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_left_out_wherever_they_are() {
        for (text, shown) in [
            ("'https://me:pw@h/x?sig=1': refused", "'https://h/x': refused"),
            (
                "driver=qcow2,file.url=https://me:p,,w@h:8/x?sig=1,a=b",
                "driver=qcow2,file.url=https://h:8/x,a=b",
            ),
            (r#"json:{"url": "nbd://me:pw@h/x", "a": 1}"#, r#"json:{"url": "nbd://h/x", "a": 1}"#),
            ("nbd+unix:///x?socket=/a@b", "nbd+unix:///x?socket=/a@b"),
            ("a=1,file.password=pw,b=2", "a=1,file.password=...,b=2"),
            (r#"{"proxy-password" : "pw"}"#, r#"{"proxy-password" : "..."}"#),
            ("could not read data at 5: me@h", "could not read data at 5: me@h"),
            ("the password is wrong", "the password is wrong"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
