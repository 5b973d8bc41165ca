//! Hostile clients against every stack: garbage frames, floods and storms of segments, absurd HTTP, single bytes.
//! No server may end, grow or stop serving others. Needs root; says so and passes without.

mod forge;

use crate::server::Server;
use crate::veth;
use forge::{Forge, Random, flags};
use netlab::{Interface, Lab, Namespace};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use stack_netio::{Device, Packet, PacketOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const SERVER: [u8; 4] = [10, 123, 0, 2];
const CLIENT: [u8; 4] = [10, 123, 0, 1];
const PORT: u16 = 8080;
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 123, 0, 2), PORT);
const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const LAST_GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
/// The reply to [`GET`].
const REPLY: usize = 151;
/// What a server may have grown by after an attack, whatever came: buffers and tables that are used again.
const GROWTH_KB: u64 = 64 * 1024;
const HTTPD: &str = env!("CARGO_BIN_EXE_httpd");

/// A server behind a veth pair, a peaceful connection to it, and a way to send any frame.
struct Arena {
    stack: &'static str,
    client: Namespace,
    server: Server,
    peaceful: TcpStream,
    raw: Packet,
    forge: Forge,
    random: Random,
    resident: u64,
    _lab: Lab,
}

impl Arena {
    fn new(stack: &'static str) -> Option<Arena> {
        if !veth::is_built(stack) {
            return None;
        }
        let lab = veth::lab()?;
        let client = lab.namespace("client").unwrap();
        let space = lab.namespace("server").unwrap();
        lab.veth((&client, "ht-c"), (&space, "ht-s")).unwrap();
        for (namespace, end) in [(&client, "ht-c"), (&space, "ht-s")] {
            let plain = || Interface::named(end)?.offloads_off();
            namespace.enter(plain).unwrap().unwrap();
        }
        let address = || Interface::named("ht-c")?.set_address(CLIENT.into(), 24);
        client.enter(address).unwrap().unwrap();
        let mac = space.enter(|| Interface::named("ht-s")?.mac());
        let raw = client
            .enter(|| Packet::open("ht-c", PacketOptions::default()))
            .unwrap()
            .unwrap();
        let mut httpd = space.command(HTTPD);
        httpd.args(["--stack", stack]);
        if stack == "linux" {
            let address = || Interface::named("ht-s")?.set_address(SERVER.into(), 24);
            space.enter(address).unwrap().unwrap();
            // The kernel answers strangers only where it knows a way to them.
            let mut route = space.command("ip");
            route.args(["route", "add", "default", "dev", "ht-s"]);
            assert!(route.status().unwrap().success());
            httpd.args(["--listen", "10.123.0.2:8080"]);
        } else {
            httpd.args(["--dev", "packet:ht-s"]);
        }
        let server = Server::spawn(httpd);
        let mut arena = Arena {
            stack,
            forge: Forge {
                to: mac.unwrap().unwrap(),
                from: raw.mac(),
            },
            peaceful: client.enter(connect).unwrap(),
            client,
            server,
            raw,
            random: Random(0x9e37_79b9_7f4a_7c15),
            resident: 0,
            _lab: lab,
        };
        arena.peace();
        arena.resident = arena.server.resident_kb();
        Some(arena)
    }

    /// Sends every frame, as fast as the link takes them.
    fn send(&mut self, frames: impl Iterator<Item = Vec<u8>>) {
        for frame in frames {
            loop {
                if let Some(room) = self.raw.tx_frame(frame.len()) {
                    room.copy_from_slice(&frame);
                    break;
                }
                self.raw.tx_burst();
            }
            if self.raw.tx_queued() >= 64 {
                self.raw.tx_burst();
            }
        }
        while self.raw.tx_queued() > 0 {
            self.raw.tx_burst();
        }
    }

    /// Segments with these flags that the server has sent to strangers since it was last asked, as far as they were kept.
    fn answers_to_strangers(&mut self, flags: u8) -> usize {
        let mut answers = 0;
        loop {
            let held = self.raw.rx_burst(64);
            for index in 0..held {
                let (to, sent) = forge::segment_seen(self.raw.rx_frame(index).bytes);
                answers += usize::from(to != CLIENT && sent & flags == flags);
            }
            self.raw.rx_release();
            if held == 0 {
                return answers;
            }
        }
    }

    /// Runs a client's work in its namespace.
    fn work(&self, work: impl FnOnce() + Send) {
        self.client.enter(work).unwrap();
    }

    /// The connection that was there before still has its requests answered.
    fn peace(&mut self) {
        let mut reply = [0; REPLY];
        self.peaceful.write_all(GET).unwrap();
        self.peaceful.read_exact(&mut reply).unwrap();
        assert!(reply.starts_with(b"HTTP/1.1 200 ") && reply.ends_with(b"aaaa"));
    }

    /// Old and new connections are served, and memory is bounded; then the server ends cleanly.
    fn survived(mut self) {
        self.peace();
        self.work(|| {
            for _ in 0..20 {
                assert!(dialogue(LAST_GET).ends_with(b"aaaa"));
            }
        });
        let grown = self.server.resident_kb().saturating_sub(self.resident);
        assert!(grown < GROWTH_KB, "{} grew by {grown} KiB", self.stack);
        self.server.end();
    }
}

fn connect() -> TcpStream {
    prepared(TcpStream::connect(ADDRESS).unwrap())
}

fn prepared(stream: TcpStream) -> TcpStream {
    // Long enough for a server that is slow; none may be silent.
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Whether a stack looks for a stranger's Ethernet address before it answers, and, finding no way there, does not.
fn asks_first(stack: &str) -> bool {
    matches!(stack, "linux" | "tas" | "smoltcp" | "lwip")
}

/// Connections that a stack serves at once without a word: Demikernel's are few, and the next one is reset.
fn bears(stack: &str) -> usize {
    if stack == "demikernel" { 200 } else { 300 }
}

/// One of many connections in a row: a stack that bears few may ask to come back once those before it are over.
fn connect_in_a_row(stack: &str) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(ADDRESS) {
            Ok(stream) => return prepared(stream),
            Err(e) => {
                let few = stack == "demikernel" && e.kind() == ErrorKind::ConnectionRefused;
                assert!(few && begun.elapsed() < Duration::from_secs(30), "{e}");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// What the server says to `text` until it ends the connection, by FIN or by RST.
fn dialogue(text: &[u8]) -> Vec<u8> {
    let mut stream = connect();
    // It may have had enough before all is sent.
    let _ = stream.write_all(text);
    let _ = stream.shutdown(Shutdown::Write);
    let mut out = Vec::new();
    match stream.read_to_end(&mut out) {
        Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("the server is silent"),
        _ => out,
    }
}

/// Random bytes, random packets behind sound headers, and segments with one thing wrong.
fn garbage_frames_are_dropped(stack: &'static str) {
    let Some(mut arena) = Arena::new(stack) else {
        return;
    };
    let (forge, mut random) = (arena.forge, arena.random);
    arena.send((0..20_000).map(|n| forge.noise(&mut random, n)));
    arena.send((0..20_000).map(|_| forge.spoiled_segment(&mut random)));
    arena.survived();
}

/// 100,000 SYNs from as many addresses do not keep the next client out.
fn a_syn_flood_keeps_nobody_out(stack: &'static str) {
    let Some(mut arena) = Arena::new(stack) else {
        return;
    };
    let (forge, mut random) = (arena.forge, arena.random);
    let syn = |_| {
        let from = random.stranger();
        forge.segment(from, random.next() as u32, 0, flags::SYN, &[])
    };
    arena.send((0..100_000).map(syn));
    arena.peace();
    let answers = arena.answers_to_strangers(flags::SYN | flags::ACK);
    assert!(answers > 0 || asks_first(stack), "no SYN came through");
    arena.survived();
}

/// RST, FIN, SYN and data at random, from strangers and in the name of a connection that exists but is not known well
/// enough: it goes on. Then a thousand clients that end by FIN and by RST in the middle of a reply.
fn storms_end_no_other_connection(stack: &'static str) {
    let Some(mut arena) = Arena::new(stack) else {
        return;
    };
    let (forge, mut random) = (arena.forge, arena.random);
    let own_port = arena.peaceful.local_addr().unwrap().port();
    let kinds = [
        flags::RST,
        flags::RST | flags::ACK,
        flags::FIN,
        flags::FIN | flags::ACK,
        flags::SYN,
        flags::SYN | flags::ACK,
        flags::ACK,
        0xff,
    ];
    let storm = |n: usize| {
        let known = n.is_multiple_of(2);
        let from = if known {
            (CLIENT, own_port)
        } else {
            random.stranger()
        };
        let (seq, ack) = (random.next() as u32, random.next() as u32);
        let kind = kinds[n / 2 % kinds.len()];
        // Data that happens to fit the connection's window would be its own peer's fault.
        let data: &[u8] = if known { b"" } else { b"GET " };
        forge.segment(from, seq, ack, kind, data)
    };
    arena.send((0..40_000).map(storm));
    arena.peace();
    let answers = arena.answers_to_strangers(flags::RST);
    assert!(answers > 0 || asks_first(stack), "nothing came through");
    arena.work(|| {
        for n in 0..1000 {
            let mut stream = connect_in_a_row(stack);
            if n % 4 != 0 {
                stream.write_all(&GET.repeat(n % 7)).unwrap();
            }
            match n % 3 {
                0 => stream.shutdown(Shutdown::Write).unwrap(),
                1 => set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
                _ => {}
            }
        }
    });
    arena.survived();
}

/// What is no HTTP is answered `400` and ended; what never ends does not hinder others.
fn absurd_http_is_refused(stack: &'static str) {
    let long = [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(100_000)].concat();
    let bad: Vec<Vec<u8>> = vec![
        vec![b'A'; 1 << 20],
        vec![0; 100_000],
        vec![0xff; 5000],
        long,
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec(),
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        b"BREW / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    let Some(arena) = Arena::new(stack) else {
        return;
    };
    arena.work(|| {
        let unfinished: Vec<_> = (0..bears(stack))
            .map(|n| {
                let mut stream = connect();
                stream.write_all(&GET[..n % GET.len()]).unwrap();
                stream
            })
            .collect();
        for text in &bad {
            let said = dialogue(text);
            let begin = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
            assert!(said.starts_with(b"HTTP/1.1 400 "), "{stack}: {begin}");
        }
        drop(unfinished);
    });
    arena.survived();
}

/// Requests in segments of one byte, replies through a window of next to nothing.
fn single_bytes_are_served(stack: &'static str) {
    let Some(arena) = Arena::new(stack) else {
        return;
    };
    arena.work(|| {
        let mut stream = connect();
        set_socket_recv_buffer_size(&stream, 1).unwrap();
        let mut reader = stream.try_clone().unwrap();
        // At the same time: a kernel with so little room takes no acknowledgements while its replies are not read.
        let reading = thread::spawn(move || {
            let (mut out, mut byte) = (Vec::new(), [0]);
            while reader.read(&mut byte).unwrap() > 0 {
                out.push(byte[0]);
            }
            out
        });
        for byte in GET.repeat(30).iter().chain(LAST_GET) {
            stream.write_all(&[*byte]).unwrap();
            // One at a time: what waits would be joined.
            thread::yield_now();
        }
        let out = reading.join().unwrap();
        let replies = out.windows(15).filter(|w| w == b"HTTP/1.1 200 OK");
        assert_eq!(replies.count(), 31, "{stack}");
    });
    arena.survived();
}

/// A test of each of these attacks for each of these stacks.
macro_rules! attack {
    ($($stack:ident)*; $attacks:tt) => {
        $(attack! { @stack $stack $attacks })*
    };
    (@stack $stack:ident { $($test:ident: $attack:ident)* }) => {
        mod $stack {
            $(#[test]
            fn $test() {
                super::$attack(stringify!($stack));
            })*
        }
    };
}

attack! {
    demikernel fstack ix linux lwip mtcp smoltcp tas; {
        drops_garbage_frames: garbage_frames_are_dropped
        serves_through_a_syn_flood: a_syn_flood_keeps_nobody_out
        ends_no_connection_in_a_storm: storms_end_no_other_connection
        refuses_absurd_http: absurd_http_is_refused
        serves_single_bytes: single_bytes_are_served
    }
}
