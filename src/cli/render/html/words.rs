//! Texts as HTML.

use qcheck::Class;

use crate::cli::terminal::ui::escape;

/// A verdict in its colour, and in words.
pub fn badge(class: Class, word: &str) -> String {
    format!("<span class=\"badge v-{}\">{}</span>", class.word(), text(word))
}

/// A text of an image, or of anything else, as HTML: nothing in it is markup, nothing steers.
pub fn text(text: &str) -> String {
    let shown = escape(text);
    let mut out = String::with_capacity(shown.len() + 16);
    for c in shown.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
