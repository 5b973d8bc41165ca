//! Our packet I/O as smoltcp's device: one received frame at a time, room for frames to send.
//!
//! In: frames that the loop has chosen; out: tokens as smoltcp asks for them. A received frame is copied out of the
//! device first: smoltcp holds it while it asks for room to answer.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use stack_border::{Port, Segment, checksum, flags, shown};
use stack_netio::Device;

/// Length of an Ethernet header, which smoltcp counts into the MTU.
const ETHERNET: usize = 14;
const ETHERTYPE_ARP: [u8; 2] = [8, 6];

/// The device, and the frame that smoltcp is to see next.
pub struct Phy<D> {
    pub port: Port<D>,
    frame: Vec<u8>,
    loaded: bool,
    scratch: Vec<u8>,
    /// smoltcp has asked for an Ethernet address since this was looked at last.
    pub asked_arp: bool,
}

impl<D: Device> Phy<D> {
    pub fn new(port: Port<D>) -> Phy<D> {
        Phy {
            port,
            frame: Vec::new(),
            loaded: false,
            scratch: Vec::new(),
            asked_arp: false,
        }
    }

    /// Puts the held frame `index` before smoltcp; its TCP segment, and whether its checksum is right: smoltcp is told
    /// not to look, since whether a frame's checksum was ever made is known for each frame, not for a device.
    pub fn load(&mut self, index: usize) -> (Option<Segment>, bool) {
        let (segment, checksum_ok) = self.port.take(index, &mut self.frame);
        self.loaded = true;
        let right = checksum_ok || checksum::is_right(&self.frame);
        if segment.is_some_and(|segment| segment.window == 0 && closes(&segment)) {
            shown::window(&mut self.frame, 1);
        }
        (segment, right)
    }

    /// Whether the frame before smoltcp is an ARP packet.
    pub fn holds_arp(&self) -> bool {
        self.frame.get(12..14) == Some(&ETHERTYPE_ARP)
    }
}

impl<D: Device> phy::Device for Phy<D> {
    type RxToken<'a>
        = Received<'a>
    where
        D: 'a;
    type TxToken<'a>
        = Room<'a, D>
    where
        D: 'a;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.port.mtu()) + ETHERNET;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Room<'_, D>)> {
        if !std::mem::take(&mut self.loaded) {
            return None;
        }
        // An answer for which there is no room is lost; the frame itself is not.
        self.port.has_room();
        let room = Room {
            port: &mut self.port,
            scratch: &mut self.scratch,
            asked_arp: &mut self.asked_arp,
        };
        Some((Received(&self.frame), room))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_, D>> {
        self.port.has_room().then_some(Room {
            port: &mut self.port,
            scratch: &mut self.scratch,
            asked_arp: &mut self.asked_arp,
        })
    }
}

/// Whether a window of 0 in this segment would be taken as one that closes. smoltcp 0.14 then stops its retransmission
/// timer for the sake of probes, and its probes when the window opens: what was in flight and lost is never sent again.
/// A window of one unit keeps the retransmission timer, which does as a probe.
fn closes(segment: &Segment) -> bool {
    segment.has(flags::ACK) && segment.flags & (flags::SYN | flags::RST) == 0
}

/// The frame that was chosen.
pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for one frame to send.
pub struct Room<'a, D> {
    port: &'a mut Port<D>,
    scratch: &'a mut Vec<u8>,
    asked_arp: &'a mut bool,
}

impl<D: Device> phy::TxToken for Room<'_, D> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut f = Some(f);
        let asked_arp = self.asked_arp;
        let mut fill = |frame: &mut [u8]| {
            let result = f.take().map(|f| f(frame));
            *asked_arp |= frame.get(12..14) == Some(&ETHERTYPE_ARP);
            result
        };
        if let Some(Some(result)) = self.port.send(len, &mut fill) {
            return result;
        }
        self.scratch.resize(len, 0);
        match fill(self.scratch) {
            Some(result) => result,
            None => unreachable!("`send` calls `fill` only when it has room"),
        }
    }
}
