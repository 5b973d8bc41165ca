//! Frames with numbers over links of this machine.

use netlab::{Lab, LabError, Namespace};
use stack_netio::{AnyDevice, Device, DeviceSpec, open, open_queues};
use std::time::{Duration, Instant};

/// A lab, or why there is none.
pub fn lab() -> Option<Lab> {
    match Lab::new() {
        Ok(lab) => Some(lab),
        Err(LabError::Threads | LabError::NotAllowed { .. }) => {
            eprintln!("skipped: network namespaces need root here");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// Kinds of devices that open an interface which is there.
pub const KINDS: [&str; 3] = ["packet", "packet,bulk=1ms", "xdp"];

/// Two devices of a kind, one at each end of a veth pair; behind a comma the kind may have options of both.
pub fn pair(lab: &Lab, kind: &str) -> (AnyDevice, AnyDevice) {
    let (kind, options) = kind.split_once(',').unwrap_or((kind, ""));
    let options = match options {
        "" => String::new(),
        options => format!(",{options}"),
    };
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
    let open = |namespace: &Namespace, name: &str| {
        let spec: DeviceSpec = format!("{kind}:{name}{options}").parse().unwrap();
        let opened = namespace.enter(|| open(&spec, [10, 77, 0, 2].into()));
        opened.unwrap().unwrap()
    };
    (open(&a, "netio-a"), open(&b, "netio-b"))
}

/// An Ethernet type that no kernel answers.
pub const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
/// Length of an Ethernet header.
pub const HEADER: usize = 14;

/// Bytes that follow from a number and their places.
pub fn fill(bytes: &mut [u8], number: u32) {
    let step = number.wrapping_mul(2_654_435_761) | 1;
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = ((at as u32).wrapping_mul(step) >> 24) as u8;
    }
}

/// Queues a frame of `len` bytes that carries `number`, and bytes that follow from it.
pub fn queue(from: &mut impl Device, to: [u8; 6], len: usize, number: u32) -> bool {
    let mac = from.mac();
    let Some(frame) = from.tx_frame(len) else {
        return false;
    };
    fill(frame, number);
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&mac);
    frame[12..HEADER].copy_from_slice(&EXPERIMENT);
    frame[HEADER..HEADER + 4].copy_from_slice(&number.to_be_bytes());
    true
}

/// Hands over all that waits.
pub fn flush(device: &mut impl Device) {
    while device.tx_queued() > 0 {
        device.tx_burst();
    }
}

/// Polls until there is a burst; the deadline only keeps a broken device from hanging the test.
pub fn wait(device: &mut impl Device, max: usize) -> usize {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        match device.rx_burst(max) {
            0 => std::thread::yield_now(),
            count => return count,
        }
    }
    panic!("nothing was received");
}

/// The number that a held frame carries.
pub fn number(device: &impl Device, index: usize) -> u32 {
    let bytes = &device.rx_frame(index).bytes[HEADER..HEADER + 4];
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// A device of one queue and, at the other end of a veth pair, one of several, both of this kind; `options` are the
/// second one's.
pub fn pair_with(
    lab: &Lab,
    kind: &str,
    queues: usize,
    options: &str,
) -> (AnyDevice, Vec<AnyDevice>) {
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
    let spec = |text: String| text.parse::<DeviceSpec>().unwrap();
    let here = spec(format!("{kind}:netio-a"));
    let there = spec(format!("{kind}:netio-b{options}"));
    let address = [10, 77, 0, 2].into();
    let one = a.enter(|| open(&here, address)).unwrap().unwrap();
    let many = b.enter(|| open_queues(&there, address, queues)).unwrap();
    (one, many.unwrap())
}

/// Polls all queues until one of them holds a burst: which.
pub fn wait_any(queues: &mut [AnyDevice], max: usize) -> usize {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if let Some(found) = queues.iter_mut().position(|queue| queue.rx_burst(max) > 0) {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("nothing was received");
}

/// Waits for the host to ask who has `address`, and tells it, from whichever queue the question came.
pub fn answer_arp(queues: &mut [AnyDevice], address: [u8; 4]) {
    let asked = loop {
        let asked = wait_any(queues, 1);
        if queues[asked].rx_frame(0).bytes[12..14] == [0x08, 0x06] {
            break asked;
        }
        queues[asked].rx_release();
    };
    let device = &mut queues[asked];
    let question = device.rx_frame(0).bytes[..42].to_vec();
    device.rx_release();
    let mac = device.mac();
    let answer = device.tx_frame(42).unwrap();
    answer.copy_from_slice(&question);
    answer[..6].copy_from_slice(&question[6..12]);
    answer[6..12].copy_from_slice(&mac);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&mac);
    answer[28..32].copy_from_slice(&address);
    answer[32..42].copy_from_slice(&question[22..32]);
    flush(device);
}

/// Two packet devices at the ends of a veth pair, each with options of its own.
pub fn pair_of(lab: &Lab, options: [&str; 2]) -> (AnyDevice, AnyDevice) {
    let (a, b) = (lab.namespace("a").unwrap(), lab.namespace("b").unwrap());
    lab.veth((&a, "netio-a"), (&b, "netio-b")).unwrap();
    let open = |namespace: &Namespace, text: String| {
        let spec: DeviceSpec = text.parse().unwrap();
        let opened = namespace.enter(|| open(&spec, [10, 77, 0, 2].into()));
        opened.unwrap().unwrap()
    };
    let here = open(&a, format!("packet:netio-a{}", options[0]));
    (here, open(&b, format!("packet:netio-b{}", options[1])))
}
