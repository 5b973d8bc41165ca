//! Fields of a segment that cross the border otherwise than they came, because one side could not take them.
//!
//! In: a frame that holds a [`Segment`]; out: the same with other numbers in it. Its checksum is wrong
//! afterwards: only for stacks that do not verify it, or before it is made.

use crate::segment::{ETHERNET, Segment, parts};

/// The numbers, flags and window of this segment.
pub fn headers(frame: &mut [u8], segment: &Segment) {
    put(frame, 4, &segment.seq.to_be_bytes());
    put(frame, 13, &[segment.flags]);
    acknowledge(frame, segment.ack);
    window(frame, segment.window);
}

/// Another acknowledgement number.
pub fn acknowledge(frame: &mut [u8], ack: u32) {
    put(frame, 8, &ack.to_be_bytes());
}

/// Another window, in the units of the connection's scale.
pub fn window(frame: &mut [u8], window: u16) {
    put(frame, 14, &window.to_be_bytes());
}

/// Writes into the TCP header; frames without one stay as they are.
fn put(frame: &mut [u8], field: usize, bytes: &[u8]) {
    let Some((ip, _)) = parts(frame) else {
        return;
    };
    let at = ETHERNET + ip.len() + field;
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;
    use crate::segment::tests::frame;

    /// All that may be shown otherwise is read again.
    #[test]
    fn headers_are_read() {
        let mut bytes = frame(1, 2, 0x11, &[1, 1, 1, 1], b"x");
        let shown = Segment {
            seq: 9,
            ack: 8,
            flags: 0x10,
            window: 7,
            ..Segment::of(&bytes).unwrap()
        };
        headers(&mut bytes, &shown);
        assert_eq!(Segment::of(&bytes), Some(shown));
    }

    /// What is shown is read, and nothing else has changed.
    #[test]
    fn what_is_shown_is_read() {
        let mut bytes = frame(1, 2, 0x10, &[], b"x");
        let came = Segment::of(&bytes).unwrap();
        acknowledge(&mut bytes, 77);
        window(&mut bytes, 5);
        let shown = Segment {
            ack: 77,
            window: 5,
            ..came
        };
        assert_eq!(Segment::of(&bytes), Some(shown));
        window(&mut bytes[..20], 9);
    }
}
