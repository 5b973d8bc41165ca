//! A wire between two namespaces that loses, reorders and corrupts frames: the same for every stack, the kernel's too.
//!
//! In: two namespaces and what shall be wrong; out: an interface in each, joined by a third namespace in which a thread
//! of ours carries frames from one side to the other. Faults are `stack-netio`'s, done to both directions; addresses and
//! protocols are nobody's business here.

use crate::Failure;
use netlab::{Interface, Lab, LabError, Namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stack_netio::{Device, FaultCounts, Faults, Faulty, Packet, PacketOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const LEFT: &str = "left0";
const RIGHT: &str = "right0";
/// Frames carried at a time.
const BURST: usize = 64;
/// A frame that is held back is looked for this often.
const PATIENCE: Duration = Duration::from_millis(1);

/// The wire, as long as it lives.
pub struct BadLink {
    over: Arc<AtomicBool>,
    carrier: Option<JoinHandle<Counts>>,
    _between: Namespace,
}

/// What was done to frames of each direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// From the client to the server.
    pub to_server: FaultCounts,
    /// From the server to the client.
    pub to_client: FaultCounts,
    /// Frames that a full queue of the wire itself dropped.
    pub overrun: u64,
}

impl BadLink {
    /// Joins two namespaces; the names are those of the new interfaces in them.
    pub fn join(
        lab: &Lab,
        client: (&Namespace, &str),
        server: (&Namespace, &str),
        faults: Faults,
    ) -> Result<BadLink, Failure> {
        let between = lab.namespace("wire")?;
        lab.veth(client, (&between, LEFT))?;
        lab.veth((&between, RIGHT), server)?;
        let open = |name: &str| {
            let opened = between.enter(|| {
                Interface::named(name)?.offloads_off()?;
                Ok::<_, LabError>(Packet::open(name, PacketOptions::default()))
            })??;
            opened.map_err(|e| Failure::Wrong(format!("the bad link's end {name}: {e}")))
        };
        let left = open(LEFT)?;
        let right = Faulty::new(open(RIGHT)?, faults, 0);
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let carrier = std::thread::Builder::new()
            .name("wire".to_string())
            .spawn(move || carry(left, right, &told))
            .map_err(|e| Failure::Wrong(format!("cannot start the bad link's thread: {e}")))?;
        Ok(BadLink {
            over,
            carrier: Some(carrier),
            _between: between,
        })
    }

    /// Takes the wire away; what it did.
    pub fn end(mut self) -> Counts {
        self.halt()
    }

    fn halt(&mut self) -> Counts {
        // A flag that carries no data: the thread sees it within its patience.
        self.over.store(true, Ordering::Relaxed);
        let carrier = self.carrier.take();
        carrier.and_then(|c| c.join().ok()).unwrap_or_default()
    }
}

impl Drop for BadLink {
    fn drop(&mut self) {
        self.halt();
    }
}

fn carry(mut left: Packet, mut right: Faulty<Packet>, over: &AtomicBool) -> Counts {
    let mut overrun = 0;
    while !over.load(Ordering::Relaxed) {
        let moved =
            pass(&mut left, &mut right, &mut overrun) + pass(&mut right, &mut left, &mut overrun);
        if moved == 0 {
            wait(&left, &right);
        }
    }
    // Of the faulty device, what it received comes from the server.
    let [to_client, to_server] = right.fault_counts().unwrap_or_default();
    Counts {
        to_server,
        to_client,
        overrun,
    }
}

/// Moves what is there; how many frames.
fn pass(from: &mut impl Device, to: &mut impl Device, overrun: &mut u64) -> usize {
    let came = from.rx_burst(BURST);
    for index in 0..came {
        let bytes = from.rx_frame(index).bytes;
        match to.tx_frame(bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => *overrun += 1,
        }
    }
    from.rx_release();
    if to.tx_queued() > 0 {
        to.tx_burst();
    }
    came
}

fn wait(left: &impl Device, right: &impl Device) {
    let ends = [left.poll_fd(), right.poll_fd()];
    let mut ends: Vec<_> = ends
        .iter()
        .flatten()
        .map(|fd| PollFd::new(fd, PollFlags::IN))
        .collect();
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(PATIENCE.subsec_nanos()),
    };
    // Interrupted or not, both ends are looked at again.
    let _ = poll(&mut ends, Some(&patience));
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack_netio::Chance;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    const BODY: usize = 300_000;

    /// What a bad wire does shows in its counts, and the kernel's TCP at both ends gets every byte across all the same.
    #[test]
    fn bytes_arrive_whole_and_faults_are_counted() {
        let lab = match Lab::new() {
            Ok(lab) => lab,
            Err(LabError::Threads | LabError::NotAllowed { .. }) => {
                eprintln!("skipped: network namespaces need root here");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        let ends = ["rows-c", "rows-s"].map(|name| lab.namespace(name).unwrap());
        let faults = Faults {
            loss: Chance::per_million(30_000),
            reorder: Chance::per_million(30_000),
            corrupt: Chance::per_million(30_000),
            ..Faults::default()
        };
        let names = ["rows-c0", "rows-s0"];
        let link = BadLink::join(&lab, (&ends[0], names[0]), (&ends[1], names[1]), faults).unwrap();
        let addresses = [1, 2].map(|host| Ipv4Addr::new(10, 125, 0, host));
        for ((end, name), address) in ends.iter().zip(names).zip(addresses) {
            let furnish = || {
                let interface = Interface::named(name)?;
                interface.offloads_off()?;
                interface.set_address(address, 24)
            };
            end.enter(furnish).unwrap().unwrap();
        }
        let listener = ends[1].enter(|| TcpListener::bind((addresses[1], 9000)));
        let listener = listener.unwrap().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&vec![b'a'; BODY]).unwrap();
        });
        let stream = ends[0].enter(|| TcpStream::connect((addresses[1], 9000)));
        let mut body = Vec::new();
        stream.unwrap().unwrap().read_to_end(&mut body).unwrap();
        server.join().unwrap();
        assert_eq!(body, vec![b'a'; BODY]);
        let counts = link.end();
        // Two hundred segments and more: of each fault, none is less likely than one in four hundred.
        let to_client = counts.to_client;
        assert!(to_client.frames > 200, "{counts:?}");
        assert!(
            to_client.lost > 0 && to_client.reordered > 0 && to_client.corrupted > 0,
            "{counts:?}"
        );
        assert!(
            counts.to_server.frames > 0 && counts.overrun == 0,
            "{counts:?}"
        );
    }
}
