//! `struct virtio_net_hdr`, the ten bytes in front of a frame by which the kernel and a stack tell each other about
//! checksums that are not made yet and segments that are not cut yet (linux/virtio_net.h; VIRTIO 1.2, 5.1.6).
//!
//! All numbers are in the machine's byte order, as packet sockets and TAP devices have them unless told otherwise.

use crate::TxOffload;

/// Length of the header.
pub const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;

/// The header of a frame to send.
pub fn header(offload: TxOffload) -> [u8; LEN] {
    let mut header = [0; LEN];
    let mut put = |at: usize, value: u16| header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    if let Some(segment) = offload.segment {
        put(2, segment.header);
        put(4, segment.payload);
    }
    if let Some((start, offset)) = offload.checksum {
        put(6, start);
        put(8, offset);
    }
    header[0] = if offload.checksum.is_some() {
        NEEDS_CSUM
    } else {
        0
    };
    header[1] = if offload.segment.is_some() {
        GSO_TCPV4
    } else {
        0
    };
    header
}

/// Whether nobody has to verify a received frame's checksums: they were verified, or never made.
pub fn checksum_ok(header: &[u8]) -> bool {
    header[0] & (NEEDS_CSUM | DATA_VALID) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;

    /// A frame that leaves nothing to the device has a header of zeros; the others have each number at its place.
    #[test]
    fn fields_are_at_their_places() {
        assert_eq!(header(TxOffload::default()), [0; LEN]);
        let offload = TxOffload {
            checksum: Some((34, 16)),
            segment: Some(Segment {
                header: 66,
                payload: 1448,
            }),
        };
        let mut expected = vec![NEEDS_CSUM, GSO_TCPV4];
        for field in [66_u16, 1448, 34, 16] {
            expected.extend(field.to_ne_bytes());
        }
        assert_eq!(header(offload)[..], expected);
        assert!(checksum_ok(&header(offload)) && !checksum_ok(&[0; LEN]));
    }
}
