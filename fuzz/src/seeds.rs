//! Where the seeds in git come from: small valid inputs, so that a fuzzer begins behind the magic numbers.
//!
//! In: nothing; out: bytes per target. `BLESS=1 cargo test --no-default-features` writes them to `seeds/`. Those that
//! are there stay when formats move on: an old file is a good seed. `seeds/README.md` tells of those made otherwise.

use bypassprof::analyse::Packs;
use bypassprof::trace::record::{Crash, End, Meta, Ring, Sample, Session, Switch, SwitchKind};
use bypassprof::trace::{Writer, block};
use bypassprof::units::{ClockPair, Nanos};
use bypassprof_wire::layout::{self, RingHeader};
use bypassprof_wire::{Flow, Slot, Tsc, points};
use std::mem::offset_of;
use std::path::Path;

/// A seed: target, name, bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// All seeds that are made by program; `scratch` is an empty folder.
pub fn all(scratch: &Path) -> Vec<Seed> {
    let mut undated = vec![0];
    undated.extend(bytes(&some_slots()));
    let mut slot_block = Vec::new();
    block::SlotEncoder::default().encode(3, 1000, &some_slots(), &mut slot_block);
    let mut sample_block = Vec::new();
    block::encode_samples(&some_samples(), &mut sample_block);
    let mut switch_block = Vec::new();
    block::encode_switches(&some_switches(), &mut switch_block);
    vec![
        ("answers", "requests", answers()),
        ("slots", "every-kind", undated),
        ("blocks", "slots", slot_block),
        ("blocks", "samples", sample_block),
        ("blocks", "switches", switch_block),
        ("device", "packet", b"packet:eth0,spread=turn,offload=both".to_vec()),
        (
            "device",
            "faults",
            b"tap:t%d,loss=1%,reorder=0.25%,corrupt=0.0001%,delay=5ms,rate=10M,seed=7,pcap=a.pcap".to_vec(),
        ),
        ("device", "dpdk", b"dpdk:net_tap0,iface=t0,duplicate=100%".to_vec()),
        ("core", "ring-and-thread", core(true)),
        ("core", "threads-alone", core(false)),
        ("events", "kinds", EVENTS.into()),
        ("events", "options", b"event=0x3c,umask=0x01,edge,name=mine".to_vec()),
        ("events", "bits", b"config1:0-7,32-35".to_vec()),
        ("events", "fields", fields()),
        (
            "events",
            "files",
            b"cpu-cycles,umask=0x1,edge\0event config:0-7,32-35\numask config:8-15\nedge config:18\ncpu-cycles event=0x3c\n".to_vec(),
        ),
        (
            "folded",
            "forms",
            b"# of a tool\nhttpd;main;poll 5\nhttpd-7/8;main;tcp_input_[k] 3\n[unknown];a b 2\n".to_vec(),
        ),
        ("packs", "fstack", built_in("fstack")),
        ("packs", "servers", built_in("servers")),
        ("packs", "every-key", EVERY_KEY.into()),
        ("recording", "whole", recording(scratch)),
        ("ring", "drain", ring()),
        ("ring", "flight", flight()),
        ("ring", "control", control()),
        ("headers", "tagged-segment", frame(&[0x81, 0, 0, 7, 8, 0], &V4, 6)),
        ("headers", "datagram-behind-options", frame(&[0x86, 0xdd], &V6, 0)),
        ("http", "get", http("GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        (
            "http",
            "post-and-close",
            http("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
        ),
        ("http", "old", http("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")),
        ("http", "bad", http("PUT / HTTP/1.1\r\n\r\n")),
        ("perfmap", "few", b"7f000000 40 a function\n0x7f000020 0x40 b\nnonsense\n".to_vec()),
        (
            "kallsyms",
            "few",
            b"ffffffff81000000 T _stext\nffffffff81000000 t startup\nffffffffc0000000 t f\t[veth]\n".to_vec(),
        ),
        ("tcp", "one-request", tcp()),
        ("tcp", "arp", arp()),
        ("tcp", "every-option", every_option()),
        ("tcp", "cookies", cookies()),
        ("tcp", "narrow-path", narrow_path()),
        ("tcp", "marks-and-closing", marks_and_closing()),
        ("telemetry", "one-port", TELEMETRY.into()),
    ]
}

/// Headers of packets to and from ports 8080 and 40000, of version 4, and of version 6 with an extension.
const V4: [u8; 20] = [
    0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 123, 0, 1, 10, 123, 0, 2,
];
const V6: [u8; 48] = {
    let mut packet = [0; 48];
    (packet[0], packet[6], packet[23], packet[39], packet[40]) = (0x60, 60, 1, 2, 17);
    packet
};

fn frame(types: &[u8], packet: &[u8], flags: u8) -> Vec<u8> {
    let segment = [
        0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0,
    ];
    [&[2; 12], types, packet, &segment].concat()
}

const TELEMETRY: &str = r#"{"/ethdev/list":[0,1]}
{"/mempool/list":["frames"]}
{"/ethdev/stats":{"ipackets":5,"imissed":0,"q_ipackets":[5,0]}}
{"/ethdev/link_status":{"status":"UP","speed":10000}}
{"/ethdev/info":{"name":"net_null0"}}
{"/mempool/info":{"size":8191,"common_pool_count":7000,"total_cache_count":3}}"#;

const EVENTS: &str = "cycles:u,{r1a8,cs:k}:D,cpu/event=0x3c,edge/pp,4:0x3c,mem:0x1000/8:rw:u,net:*,./a:b::c+0x8%return:u";

/// A tracepoint's fields, and a record of it.
fn fields() -> Vec<u8> {
    let text = "ID: 7\nformat:\n\tfield:void * at;\toffset:0;\tsize:8;\tsigned:0;\n\
        \tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:char comm[4];\toffset:12;\tsize:4;\tsigned:0;\n\tfield:long left;\toffset:16;\tsize:8;\tsigned:1;\n\
        \tfield:__u8 addr[4];\toffset:24;\tsize:4;\tsigned:0;\n\0";
    let record =
        b"\x10\0\0\0\0\0\0\0\x1c\0\x05\0abc\0\xfe\xff\xff\xff\xff\xff\xff\xff\x0a\0\0\x01eth0\0";
    [text.as_bytes(), record].concat()
}

/// A pack with all that a pack may have, some of it not meant.
const EVERY_KEY: &str = r#"name = "mine"
about = "all of it"
sources = "none"
base = true
with = ["kernel", "fstack"]
symbols = ["mine_*", "tcp_input"]
foreign = ["sshd*"]
[[architecture]]
name = "fstack"
symbols = ["main_loop"]
[[role]]
name = "loop"
threads = ["fstack-*"]
below = ["ff_run", "main_loop"]
[[caller]]
phase = "app"
chain = ["mine_outer", "mine_*"]
unless_below = ["epoll_wait"]
[[caller]]
phase = "poll"
chain = ["ff_run"]
unless_below = ["ff_*"]
[[rule]]
phase = "copy"
order = "first"
symbols = ["memcpy", "mem*"]
[[rule]]
phase = "poll"
steady = true
symbols = ["rte_eth_rx_burst", "mlx5_*"]
[[rule]]
phase = "tcp_rx"
space = "user"
symbols = ["tcp_input", "tcp_*", "tcp_output"]
[[rule]]
phase = "kernel_syscall"
order = "last"
space = "kernel"
polls = true
symbols = ["do_*", "schedule"]
[[point]]
name = "my_rx*"
means = "rx_burst"
"#;

fn built_in(pack: &str) -> Vec<u8> {
    let text = Packs::built_in_text(pack).expect("it is built in");
    text.as_bytes().to_vec()
}

/// Two requests on each of three threads, of a program that died.
fn answers() -> Vec<u8> {
    let clock = |at: u64| {
        Meta::Clock(ClockPair {
            tsc_before: at,
            time: Nanos::from_ns(at),
            tsc_after: at,
        })
    };
    let mut metas = vec![
        Meta::Session(Session::default()),
        clock(1 << 40),
        clock((1 << 40) + 1_000_000),
    ];
    for n in 0..3 {
        metas.push(Meta::Ring(Ring {
            ring: n,
            pid: 1,
            tid: n + 1,
            name: format!("fstack-{n}"),
            base_tsc: 1 << 40,
            capacity: 512,
            ..Ring::default()
        }));
    }
    metas.push(Meta::Crash(Crash {
        pid: 1,
        tid: Some(2),
        signal: Some(11),
        ..Crash::default()
    }));
    metas.push(Meta::End(End::default()));
    let mut text = Vec::new();
    for meta in &metas {
        serde_json::to_writer(&mut text, meta).expect("it is written to memory");
        text.push(b'\n');
    }
    text.push(0);
    for block in 0..6u64 {
        let at = |n: u64| Tsc::from_raw((1 << 40) + block * 1000 + n * 100);
        let flow = Flow::from_raw(7 + block as u32 % 3);
        let n = block as u32;
        text.extend(bytes(&[
            Slot::head(at(0), points::RX_BURST, Flow::from_raw(0x0002_0001), n),
            Slot::head(at(1), points::TCP_IN, flow, n),
            Slot::cont(64, 0, 65_535),
            Slot::head(at(2), points::DELIVER, flow, 64),
            Slot::head(at(3), points::APP_START, flow, 1),
            Slot::head(at(4), points::APP_END, flow, 151),
            Slot::head(at(5), points::TCP_OUT, flow, n),
            Slot::cont(151, 151, 65_535),
        ]));
    }
    text
}

fn some_slots() -> Vec<Slot> {
    let t = Tsc::from_raw(0x1234_5678_9abc_def0);
    let flow = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000);
    let mut slots = vec![
        Slot::epoch(t),
        Slot::head(t, points::IDLE_END, Flow::NONE, 17),
    ];
    for i in 0..4 {
        let t = Tsc::from_raw(t.raw() + 90 * (1 + u64::from(i)));
        slots.push(Slot::head(
            t,
            points::RX_BURST,
            Flow::from_raw(0x0002_0001),
            i,
        ));
        slots.push(Slot::head(t, points::TCP_IN, flow, i));
        slots.push(Slot::cont(64, 151, 65_535));
        slots.push(Slot::head(t, points::APP_END, flow, 151));
    }
    slots.push(Slot::lost(t, 3));
    slots
}

fn some_samples() -> Vec<Sample> {
    let sample = |i: u64| Sample {
        time: Nanos::from_ns(i * 1_003_009),
        pid: 100,
        tid: 101,
        period: 1_003_009,
        frames: vec![0xffff_ffff_8100_0000 + i * 16, 0x5555_0000],
        kernel_frames: 1,
        group: vec![i, 2 * i],
        ..Sample::default()
    };
    (0..4).map(sample).collect()
}

fn some_switches() -> Vec<Switch> {
    let switch = |i: u64| Switch {
        time: Nanos::from_ns(i * 777),
        pid: 100,
        tid: 101,
        cpu: 1,
        kind: SwitchKind::OutWaiting,
    };
    (0..4).map(switch).collect()
}

fn bytes(slots: &[Slot]) -> Vec<u8> {
    let words = slots.iter().flat_map(|s| [s.word0, s.word1]);
    words.flat_map(u64::to_le_bytes).collect()
}

fn recording(scratch: &Path) -> Vec<u8> {
    let path = scratch.join("seed.mcap");
    let mut writer = Writer::create(&path).expect("the folder can be written");
    let records = [
        Meta::Session(Session::default()),
        Meta::Ring(Ring::default()),
    ];
    let written = records
        .iter()
        .try_for_each(|meta| writer.meta(meta))
        .and_then(|()| writer.samples(&some_samples()))
        .and_then(|()| writer.switches(&some_switches()))
        .and_then(|()| writer.slots(0, 0, &some_slots()))
        .and_then(|()| writer.finish());
    written.expect("the folder can be written");
    std::fs::read(path).expect("it was just written")
}

/// A file of words, zero but for those given.
fn words(len: u64, given: &[(usize, u64)]) -> Vec<u8> {
    let mut file = vec![0; len as usize];
    for &(at, word) in given {
        file[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    file
}

/// A ring in flight mode that has been overwritten from its start.
fn flight() -> Vec<u8> {
    let mut file = ring();
    let owner = offset_of!(RingHeader<u64>, owner) + offset_of!(layout::Owner<u64>, mode);
    let head = offset_of!(RingHeader<u64>, writer);
    for (at, word) in [(owner, 1), (head, layout::MIN_CAPACITY + 12)] {
        file[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
    }
    file
}

fn ring() -> Vec<u8> {
    let slots = bytes(&some_slots());
    let head = slots.len() as u64 / 16;
    let writer = offset_of!(RingHeader<u64>, writer);
    let mut file = words(
        layout::ring_file_bytes(layout::MIN_CAPACITY),
        &[
            (0, layout::RING_MAGIC),
            (8, layout::VERSION_WORD),
            (offset_of!(RingHeader<u64>, capacity), layout::MIN_CAPACITY),
            (offset_of!(RingHeader<u64>, owner), 2),
            (writer, head),
        ],
    );
    file[layout::RING_HEADER_BYTES..][..slots.len()].copy_from_slice(&slots);
    file
}

/// A core of one thread, a mapped file, a stack and, if wanted, a ring.
fn core(with_ring: bool) -> Vec<u8> {
    let note = |kind: u32, desc: &[u8]| {
        let mut note = Vec::new();
        for word in [5, desc.len() as u32, kind] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"CORE\0\0\0\0");
        note.extend(desc);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    };
    // Signal, number, and registers from byte 112 on: rbp, rip, rsp.
    let mut status = words(
        336,
        &[(144, 0x7000_0100), (240, 0x40_1010), (264, 0x7000_0080)],
    );
    status[12] = 11;
    status[32] = 42;
    let mut process = vec![0; 136];
    process[24] = 42;
    process[40..45].copy_from_slice(b"httpd");
    let mut signal = words(128, &[(16, 0xdead)]);
    (signal[0], signal[8]) = (11, 1);
    let mut files = words(
        40,
        &[(0, 1), (8, 4096), (16, 0x40_1000), (24, 0x40_2000), (32, 1)],
    );
    files.extend(b"/bin/httpd\0");
    let notes = [
        note(1, &status),
        note(3, &process),
        note(0x5349_4749, &signal),
        note(0x4649_4c45, &files),
    ]
    .concat();
    let stack = words(512, &[(0x80, 0x40_1020), (0x100, 0), (0x108, 0x40_1030)]);
    let ring = if with_ring { ring() } else { Vec::new() };
    // Kind, flags, address and bytes of each segment.
    let segments = [
        (4u32, 0u32, 0u64, notes),
        (1, 5, 0x40_1000, Vec::new()),
        (1, 6, 0x7000_0000, stack),
        (1, 6, 0x7100_0000, ring),
    ];
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    for half in [0u16, 0, 64, 56, segments.len() as u16, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut at = 64 + 56 * segments.len() as u64;
    for (kind, flags, address, bytes) in &segments {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        let len = bytes.len() as u64;
        let size = len.max(if *kind == 1 { 4096 } else { 0 });
        for word in [at, *address, *address, len, size, 4] {
            file.extend(word.to_le_bytes());
        }
        at += len;
    }
    segments.iter().for_each(|(.., bytes)| file.extend(bytes));
    file
}

fn control() -> Vec<u8> {
    let rings = offset_of!(layout::ControlFile<u64>, rings);
    let live = layout::Entry {
        state: layout::EntryState::Live,
        copies: 1,
        tid: 101,
    };
    words(
        layout::CONTROL_BYTES as u64,
        &[
            (0, layout::CONTROL_MAGIC),
            (8, layout::VERSION_WORD),
            (offset_of!(layout::ControlFile<u64>, census), 1),
            (rings, live.word()),
        ],
    )
}

fn http(text: &str) -> Vec<u8> {
    [&[7], text.as_bytes()].concat()
}

/// SYN, ACK, a request, a read, a reply, FIN: see `tcp.rs` for the script.
fn tcp() -> Vec<u8> {
    let mut script = vec![0];
    script.extend([0, 0x02, 0, 0, 0, 0xff]);
    script.extend([0, 0x10, 0, 0, 0, 0xff]);
    script.extend([0, 0x18, 0, 0, 1 << 3]);
    script.extend([b'g'; 47]);
    script.push(0xff);
    script.extend([12, 11, 19, 9, 20]);
    script.extend([0, 0x11, 0, 0, 0, 0xff, 14, 9, 25]);
    script
}

/// A handshake with every option, data with a hole, its SACK, the rest.
fn every_option() -> Vec<u8> {
    let stamps = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
    let mut script = vec![4, 0, 0x02, 0, 0, 6];
    script.extend([2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
    script.extend(stamps);
    script.push(0xff);
    let mut segment = |flags: u8, seq: u8, payload: u8| {
        script.extend([0, flags, seq, 0, 3 | (payload << 3)]);
        script.extend(stamps);
        script.extend(vec![b'd'; usize::from(payload) * 47]);
        script.push(0xff);
    };
    segment(0x10, 0, 0);
    segment(0x18, 94, 1);
    segment(0x18, 0, 16);
    script.extend([12, 11, 40, 9, 20]);
    script
}

/// Four SYNs at a backlog of one: the last comes back with its cookie and data.
fn cookies() -> Vec<u8> {
    let mut script = vec![7];
    for port in 0..4 {
        script.extend([0, (port << 6) | 0x02, 0, 0, 1, 2, 4, 5, 180, 0xff]);
    }
    script.extend([0, 0xd8, 0, 0, 1 << 3]);
    script.extend([b'c'; 47]);
    script.extend([0xff, 12, 11, 19, 9, 22]);
    script
}

/// A connection whose data is too large for a router, one that complains about what was never sent, and one that says
/// that nobody is there.
fn narrow_path() -> Vec<u8> {
    let mut script = vec![0];
    script.extend([0, 0x02, 0, 0, 1, 2, 4, 5, 180, 0xff]);
    script.extend([0, 0x10, 0, 0, 0, 0xff]);
    script.extend([
        11, 255, 6, 4, 4, 0, 0x81, 6, 4, 4, 0, 0x7f, 6, 1, 0, 0, 0xff, 9, 20,
    ]);
    script
}

/// Marks from the network and from the peer; then both close, reset and come again.
fn marks_and_closing() -> Vec<u8> {
    let mut script = vec![5];
    script.extend([7, 0xc0, 0x02, 0, 0, 0, 0xff]);
    script.extend([0, 0x10, 0, 0, 0, 0xff]);
    script.extend([11, 100, 7, 0x43, 0x18, 0, 0, 1 << 3]);
    script.extend([b'm'; 47]);
    script.extend([
        0xff, 13, 0, 0x11, 0, 0, 0, 0xff, 9, 12, 0, 0x02, 60, 0, 0, 0xff,
    ]);
    script.extend([0, 0x04, 1, 0, 0, 0xff, 0, 0x04, 0, 0, 0, 0xff, 9, 25]);
    script
}

/// Who has 10.123.0.2, as a whole frame.
fn arp() -> Vec<u8> {
    let mut script = vec![1, 8, 42];
    script.extend([0xff; 6]);
    script.extend([2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    script.extend([
        2, 0, 0, 0, 0, 2, 10, 123, 0, 1, 0, 0, 0, 0, 0, 0, 10, 123, 0, 2,
    ]);
    script
}
