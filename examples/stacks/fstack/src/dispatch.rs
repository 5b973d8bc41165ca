//! Whose a received frame is, when several cores share a device.
//!
//! In: Ethernet frames; out: the core that has to see each. ARP is for all cores, since each has a table of neighbours of
//! its own. It refuses to verify anything: a frame that makes no sense stays where it came, and TCP refuses it there.

use bypassprof_probe::Flow;

/// Who decides which core a flow belongs to (F-Stack's `ff_regist_packet_dispatcher`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// The device: all frames of a flow come from one queue, and the core that polls it owns the flow.
    #[default]
    Device,
    /// The flow's label: what comes from a queue of another core than its own goes to that over a dispatch ring.
    Flow,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// To the core that received it.
    Here,
    /// To another one.
    Core(usize),
    /// To all of them.
    All,
}

const ETHERNET: usize = 14;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;

impl Dispatch {
    /// Where a frame goes that core `here` of `cores` has received.
    #[inline]
    pub fn owner(self, frame: &[u8], here: usize, cores: usize) -> Owner {
        if cores <= 1 {
            return Owner::Here;
        }
        match frame.get(12..ETHERNET) {
            Some(kind) if kind == ARP => Owner::All,
            Some(kind) if kind == IPV4 && self == Dispatch::Flow => {
                match flow(&frame[ETHERNET..]).map(|flow| flow.raw() as usize % cores) {
                    Some(core) if core != here => Owner::Core(core),
                    _ => Owner::Here,
                }
            }
            _ => Owner::Here,
        }
    }
}

/// The label of a TCP packet's flow.
fn flow(packet: &[u8]) -> Option<Flow> {
    let header = packet.get(..20)?;
    let length = usize::from(header[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || header[9] != TCP || fragment != 0 {
        return None;
    }
    let ports = packet.get(length..length + 4)?;
    let number = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some(Flow::ipv4(number(12), port(0), number(16), port(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(port: u16) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 40];
        frame[12..14].copy_from_slice(&IPV4);
        frame[14] = 0x45;
        frame[14 + 9] = TCP;
        frame[14 + 12..14 + 20].copy_from_slice(&[10, 123, 0, 1, 10, 123, 0, 2]);
        frame[14 + 20..14 + 24].copy_from_slice(&[(port >> 8) as u8, port as u8, 0x1f, 0x90]);
        frame
    }

    /// Each flow has one owner, whoever receives it; both of two cores own some; ARP is everyone's, the rest stays.
    #[test]
    fn every_flow_has_one_owner() {
        let mut owned = [0; 2];
        for port in 40_000..40_100 {
            let frame = tcp(port);
            let flow = Flow::ipv4(0x0a7b_0001, port, 0x0a7b_0002, 8080);
            let core = flow.raw() as usize % 2;
            owned[core] += 1;
            assert_eq!(Dispatch::Flow.owner(&frame, core, 2), Owner::Here);
            assert_eq!(Dispatch::Flow.owner(&frame, 1 - core, 2), Owner::Core(core));
            assert_eq!(Dispatch::Device.owner(&frame, 1 - core, 2), Owner::Here);
            assert_eq!(Dispatch::Flow.owner(&frame, 0, 1), Owner::Here);
        }
        assert!(owned[0] > 20 && owned[1] > 20, "{owned:?}");
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&ARP);
        assert_eq!(Dispatch::Device.owner(&arp, 1, 2), Owner::All);
    }

    /// Frames cut anywhere, and those of other protocols, stay where they came.
    #[test]
    fn what_makes_no_sense_stays() {
        let frame = tcp(40_000);
        let whole = ETHERNET + 24;
        for cut in 0..whole {
            assert_eq!(
                Dispatch::Flow.owner(&frame[..cut], 0, 7),
                Owner::Here,
                "{cut}"
            );
        }
        let mut udp = frame.clone();
        udp[14 + 9] = 17;
        let mut fragment = frame.clone();
        fragment[14 + 7] = 1;
        let mut six = frame;
        six[14] = 0x65;
        for odd in [udp, fragment, six] {
            for here in 0..7 {
                assert_eq!(Dispatch::Flow.owner(&odd, here, 7), Owner::Here);
            }
        }
    }
}
