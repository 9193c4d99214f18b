//! Heavy matrices: a sample of their cases, or all of them.

use super::rng::Rng;

/// Whether matrices run whole: with `QCHECK_TESTS=full`.
pub fn is_full() -> bool {
    std::env::var("QCHECK_TESTS").is_ok_and(|value| value == "full")
}

/// Where random choices begin: `QCHECK_SEED`, or 0.
pub fn seed() -> u64 {
    std::env::var("QCHECK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0)
}

/// One in `one_in` of the cases, chosen by the seed; all of them where matrices run whole.
pub fn sample<T>(cases: impl IntoIterator<Item = T>, one_in: u64) -> Vec<T> {
    let mut rng = Rng::new(seed());
    let one_in = if is_full() { 1 } else { one_in };
    cases.into_iter().filter(|_| rng.below(one_in) == 0).collect()
}
