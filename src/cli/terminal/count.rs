//! How many of something, in words.

/// A number with its noun.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let images = |number| counted(number, "image", "images");
        assert_eq!([0, 1, 2].map(images), ["0 images", "1 image", "2 images"]);
    }
}
