//! What is left out of an object.

/// Whether a number is left out because it is 0, as by qemu-img.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub const fn is_zero(number: &u64) -> bool {
    *number == 0
}
