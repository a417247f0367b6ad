//! Makes machine code more alike before it is compressed.
//!
//! x86 calls and jumps name their target by its distance, so ten calls of one function have ten different operands.
//! The filter writes the target's place in the frame instead:
//!
//! ```text
//! e8|e9  distance i24  00|ff      ->      e8|e9  (distance + place of the opcode) mod 2^24  00|ff
//! ```
//! It goes from the back to the front and is undone from the front to the back, each place being looked at in the state in which
//! the other direction left it. So it is exact for any bytes whatever, code or not.

use memchr::{memchr2, memrchr2};

const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
/// An opcode and its operand.
const LEN: usize = 5;
/// Code has an operand that is short enough at least so often.
const DENSITY: usize = 400;
/// Looked at to tell code from other bytes: every so many bytes so many.
const SAMPLE_STEP: usize = 64 << 10;
const SAMPLE_LEN: usize = 8 << 10;

/// Whether the operand behind an opcode is one of those that are rewritten.
fn is_near(place: &[u8]) -> bool {
    matches!(place[LEN - 1], 0x00 | 0xff)
}

/// Whether so much of it looks like x86 code that filtering is worth its time.
pub(super) fn looks_like_code(plain: &[u8]) -> bool {
    let (mut seen, mut found) = (0, 0);
    for sample in plain.chunks(SAMPLE_STEP).map(|step| &step[..step.len().min(SAMPLE_LEN)]) {
        seen += sample.len();
        found += sample.windows(LEN).filter(|place| matches!(place[0], CALL | JUMP) && is_near(place)).count();
    }
    found * DENSITY > seen
}

/// Rewrites distances as places.
pub(super) fn apply(plain: &mut [u8]) {
    let Some(mut end) = plain.len().checked_sub(LEN - 1) else { return };
    while let Some(at) = memrchr2(CALL, JUMP, &plain[..end]) {
        shift(&mut plain[at..at + LEN], at as u32);
        end = at;
    }
}

/// Rewrites places as distances.
pub(super) fn undo(plain: &mut [u8]) {
    let Some(end) = plain.len().checked_sub(LEN - 1) else { return };
    let mut from = 0;
    while let Some(found) = memchr2(CALL, JUMP, &plain[from..end]) {
        let at = from + found;
        shift(&mut plain[at..at + LEN], (at as u32).wrapping_neg());
        from = at + 1;
    }
}

fn shift(place: &mut [u8], by: u32) {
    if is_near(place) {
        let operand = u32::from_le_bytes([place[1], place[2], place[3], 0]).wrapping_add(by).to_le_bytes();
        place[1..4].copy_from_slice(&operand[..3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calls_of_one_function_become_alike() {
        let mut code = Vec::new();
        for at in (0..4096_u32).step_by(16) {
            code.extend_from_slice(&[CALL]);
            code.extend_from_slice(&5000_u32.wrapping_sub(at).to_le_bytes());
            code.extend_from_slice(&[0x90; 11]);
        }
        assert!(looks_like_code(&code));
        let plain = code.clone();
        apply(&mut code);
        assert!(code.chunks(16).all(|call| call[..5] == [CALL, 0x88, 0x13, 0x00, 0x00]));
        undo(&mut code);
        assert_eq!(code, plain);
        assert!(!looks_like_code(&b"a line of text \xe8 and another\n".repeat(1000)));
    }

    proptest! {
        /// Also where opcodes overlap each other's operands.
        #[test]
        fn what_is_applied_can_be_undone(
            plain in proptest::collection::vec(prop_oneof![Just(CALL), Just(JUMP), Just(0), Just(0xff), any::<u8>()], 0..600)
        ) {
            let mut bytes = plain.clone();
            apply(&mut bytes);
            undo(&mut bytes);
            prop_assert_eq!(bytes, plain);
        }
    }
}
