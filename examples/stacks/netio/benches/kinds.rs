//! Frames a second by kind of device, all in one run: `cargo bench -p stack-netio [--features dpdk]`, as root.
//!
//! One thread sends a burst of 32 frames through one end of a link and polls the other end until all have come, so that a
//! figure is the cost of both ends and of the kernel between them on one CPU: in this thread's own time, so that others
//! on the machine count little; what the kernel does in threads of its own does not count at all. The other end is always
//! `packet:IF`. Kinds take turns; the median of the turns is shown. Figures of different runs do not compare.

use netlab::{Lab, Namespace};
use rustix::time::{ClockId, clock_gettime};
use stack_netio::{AnyDevice, Device, DeviceSpec, OpenError, Segment, TxOffload, open};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const BURST: usize = 32;
const TURNS: usize = 7;
const TURN: Duration = Duration::from_millis(100);
const STACK: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);
const HEADERS: usize = 54;
/// One long TCP segment, a multiple of what the link carries.
const LONG: usize = HEADERS + 44 * 1460;

/// A link with a device of the kind at one end and a packet socket at the other.
struct Link {
    words: &'static str,
    kind: AnyDevice,
    peer: AnyDevice,
    rates: [Vec<f64>; 5],
    _namespaces: [Namespace; 2],
}

impl Link {
    fn open(lab: &Lab, words: &'static str) -> Option<Link> {
        let namespaces = [lab.namespace("a").unwrap(), lab.namespace("b").unwrap()];
        let [a, b] = &namespaces;
        let interface = words.contains("netio-b");
        if interface {
            lab.veth((a, "netio-a"), (b, "netio-b")).unwrap();
        }
        let open = |namespace: &Namespace, words: &str| {
            let spec: DeviceSpec = words.parse().unwrap();
            namespace.enter(|| open(&spec, STACK)).unwrap()
        };
        let kind = match open(b, words) {
            Ok(kind) => kind,
            Err(error @ OpenError::NoDpdk { .. }) => {
                eprintln!("left out: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let peer = match interface {
            true => open(a, "packet:netio-a,offload=both"),
            false => open(b, "packet:netio-t"),
        };
        let peer = peer.unwrap();
        Some(Link {
            words,
            kind,
            peer,
            rates: Default::default(),
            _namespaces: namespaces,
        })
    }

    fn turn(&mut self) {
        let plain = TxOffload::default();
        let cut = TxOffload {
            checksum: Some((34, 16)),
            segment: Some(Segment {
                header: HEADERS as u16,
                payload: 1460,
            }),
        };
        let (kind, peer) = (&mut self.kind, &mut self.peer);
        let [small_out, small_in, large_out, large_in, long_out] = &mut self.rates;
        small_out.extend(rate(kind, peer, 64, plain));
        small_in.extend(rate(peer, kind, 64, plain));
        large_out.extend(rate(kind, peer, 1514, plain));
        large_in.extend(rate(peer, kind, 1514, plain));
        if kind.offloads().segmentation.is_some() && self.words.contains("packet") {
            long_out.extend(rate(kind, peer, LONG, cut));
        }
    }
}

/// A TCP frame between two addresses that nobody has.
fn write(frame: &mut [u8], macs: [[u8; 6]; 2]) {
    let packet = (frame.len() - 14) as u16;
    frame[..6].copy_from_slice(&macs[1]);
    frame[6..12].copy_from_slice(&macs[0]);
    frame[12..16].copy_from_slice(&[0x08, 0, 0x45, 0]);
    frame[16..18].copy_from_slice(&packet.to_be_bytes());
    frame[18..24].copy_from_slice(&[0, 0, 0, 0, 64, 6]);
    frame[26..34].copy_from_slice(&[10, 81, 0, 1, 10, 81, 0, 2]);
    frame[46] = 0x50;
}

/// What this thread has used of a CPU.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Frames a second through both ends; none if they do not come.
fn rate(from: &mut AnyDevice, to: &mut AnyDevice, len: usize, offload: TxOffload) -> Option<f64> {
    let macs = [from.mac(), to.mac()];
    let start = used();
    let mut frames = 0;
    while used() - start < TURN {
        let mut sent = 0;
        while sent < BURST
            && let Some(frame) = from.tx_frame_with(len, offload)
        {
            write(frame, macs);
            sent += 1;
        }
        while from.tx_queued() > 0 {
            from.tx_burst();
        }
        let mut seen = 0;
        let last = Instant::now();
        while seen < sent {
            let held = to.rx_burst(BURST);
            // Others may speak on the link, too.
            seen += (0..held)
                .filter(|i| to.rx_frame(*i).bytes.len() >= len.min(60))
                .count();
            to.rx_release();
            if last.elapsed() > Duration::from_secs(1) {
                return None;
            }
        }
        frames += seen;
    }
    Some(frames as f64 / (used() - start).as_secs_f64())
}

fn median(rates: &mut [f64]) -> Option<f64> {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

fn main() {
    // Run as a test, too: then there is nothing to measure.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("left out: {error}");
            return;
        }
    };
    let kinds = [
        "packet:netio-b",
        "packet:netio-b,offload=tx",
        "packet:netio-b,bulk=1ms",
        "xdp:netio-b",
        "tap:netio-t",
        "tap:netio-t,offload=both",
        "dpdk:net_af_packet7,iface=netio-b",
        "dpdk:net_tap7,iface=netio-t",
        "packet:netio-b,pcap=/dev/null",
        "packet:netio-b,loss=0.0001%",
    ];
    let mut links: Vec<_> = kinds
        .iter()
        .filter_map(|words| Link::open(&lab, words))
        .collect();
    for _ in 0..TURNS {
        links.iter_mut().for_each(Link::turn);
    }
    println!(
        "thousand frames a second, both ends on one CPU, bursts of {BURST}; Gbit/s for long frames"
    );
    println!(
        "{:<36} {:>8} {:>8} {:>8} {:>8} {:>9}",
        "", "64 out", "64 in", "1514 out", "1514 in", "long out"
    );
    for link in &mut links {
        print!("{:<36}", link.words);
        for (column, rates) in link.rates.iter_mut().enumerate() {
            match median(rates) {
                Some(rate) if column == 4 => print!(" {:>9.1}", rate * LONG as f64 * 8.0 / 1e9),
                Some(rate) => print!(" {:>8.0}", rate / 1e3),
                None => print!(" {:>8}", "-"),
            }
        }
        println!();
    }
}
