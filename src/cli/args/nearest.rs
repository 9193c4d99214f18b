//! What may have been meant by a word that is not known.

use std::cmp::Reverse;

/// Letters of a word for each one in which a slip may change it.
const LETTERS_AN_EDIT: usize = 3;

/// A question after a message, where a known word is like the one given; else nothing.
pub fn hint(given: &str, known: &[&str]) -> String {
    nearest(given, known).map(|word| format!("; did you mean '{word}'?")).unwrap_or_default()
}

/// The known word that takes the fewest edits, if that is few for its length.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let letters: Vec<char> = given.to_lowercase().chars().collect();
    // Nobody means a word by something much longer.
    let in_reach = |word: &&&str| letters.len() <= 2 * word.len();
    let near = known.iter().filter(in_reach).map(|word| (edits(&letters, word), *word));
    // Letters are left out more often than put in.
    let (count, word) = near.min_by_key(|(count, word)| (*count, Reverse(word.len())))?;
    (count <= word.len().div_ceil(LETTERS_AN_EDIT)).then_some(word)
}

/// How many letters have to be put in, taken out or changed to make one word the other.
fn edits(given: &[char], word: &str) -> usize {
    let mut row: Vec<usize> = (0..=given.len()).collect();
    for (number, letter) in word.chars().enumerate() {
        let mut above_left = row[0];
        row[0] = number + 1;
        for (at, other) in given.iter().enumerate() {
            let changed = above_left + usize::from(*other != letter);
            above_left = row[at + 1];
            row[at + 1] = changed.min(above_left + 1).min(row[at] + 1);
        }
    }
    row[given.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_distinguished_from_another_word() {
        let known = ["off", "metadata", "falloc", "full", "cluster_size", "size"];
        for (given, word) in [
            ("cluster_siz", "cluster_size"),
            ("clutser-size", "cluster_size"),
            ("metdata", "metadata"),
            ("fallloc", "falloc"),
            ("FULL", "full"),
            ("of", "off"),
        ] {
            assert_eq!(nearest(given, &known), Some(word), "{given}");
        }
        for given in ["", "nonsense", "xyz", "offoffoffoff"] {
            assert_eq!(nearest(given, &known), None, "{given}");
        }
        assert_eq!(hint("size_", &known), "; did you mean 'size'?");
        assert_eq!(hint("nonsense", &known), "");
    }
}
