//! The scenes that the tests show every third-party stack: a server behind veth, the kernel's TCP as its clients.
//!
//! In: a server program and its arguments; out: a panic where it did not do as it must. Only tests use this: those of
//! `httpd` and of `httpd-demikernel`, since the rows are programs of two packages. Needs root; says so without.

pub mod points;
pub mod recorded;

use loadgen::{Load, Report};
use netlab::{Interface, Lab, LabError, Namespace};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketType};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Where every server listens.
pub const ADDRESS: &str = "10.123.0.2:8080";
/// Whatever takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client's and a server's namespace, joined by a veth pair of which the client's end has an address.
pub struct Site {
    client: Namespace,
    server: Namespace,
    _lab: Lab,
}

impl Site {
    /// `None` where network namespaces cannot be made.
    pub fn new() -> Option<Site> {
        let lab = match Lab::new() {
            Ok(lab) => lab,
            Err(LabError::Threads | LabError::NotAllowed { .. }) => {
                eprintln!("skipped: network namespaces need root here");
                return None;
            }
            Err(e) => panic!("{e}"),
        };
        let client = lab.namespace("client").unwrap();
        let server = lab.namespace("server").unwrap();
        lab.veth((&client, "tp-c"), (&server, "tp-s")).unwrap();
        for (namespace, end) in [(&client, "tp-c"), (&server, "tp-s")] {
            let plain = || Interface::named(end)?.offloads_off();
            namespace.enter(plain).unwrap().unwrap();
        }
        let address = || Interface::named("tp-c")?.set_address([10, 123, 0, 1].into(), 24);
        client.enter(address).unwrap().unwrap();
        Some(Site {
            client,
            server,
            _lab: lab,
        })
    }

    /// Starts a server at its end of the veth pair.
    pub fn serve(&self, program: &str, arguments: &[&str], session: Option<&str>) -> Server {
        let mut command = self.server.command(program);
        command.args(arguments).args(["--dev", "packet:tp-s"]);
        if let Some(session) = session {
            command.env(recorded::SESSION, session);
        }
        Server::spawn(command)
    }

    /// Makes load for a while, which must be answered without a fault; again if the while was too short for a reply.
    pub fn load(&self, plan: &Load) -> Report {
        let mut plan = plan.clone();
        loop {
            let run = || loadgen::run(&plan, &AtomicBool::new(false));
            let report = self.client.enter(run).unwrap().unwrap();
            assert_eq!((report.errors, report.timeouts), (0, 0), "{report:?}");
            if report.requests > 0 {
                return report;
            }
            plan.duration *= 2;
            assert!(plan.duration < PATIENCE, "{report:?}");
        }
    }

    /// Does something with connections of the client's kernel.
    pub fn connect<T: Send>(&self, scene: impl FnOnce() -> T + Send) -> T {
        self.client.enter(scene).unwrap()
    }
}

/// A server under test.
pub struct Server {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn spawn(mut command: Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        out.read_line(&mut ready).unwrap();
        assert!(ready.trim().ends_with(ADDRESS), "not ready: {ready:?}");
        Server { child, out }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The number of requests answered, by the line that it prints for SIGUSR1.
    pub fn requests(&mut self) -> u64 {
        self.signal(rustix::process::Signal::USR1);
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        let (_, rest) = line.split_once("\"requests\":").unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    }

    /// Ends it by SIGINT, which must succeed.
    pub fn end(mut self) {
        self.signal(rustix::process::Signal::INT);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `end` there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A load for the address that all servers have.
pub fn plan(connections: usize, ms: u64) -> Load {
    let address: SocketAddrV4 = ADDRESS.parse().unwrap();
    let mut plan = Load::new(address);
    plan.connections = connections;
    plan.duration = Duration::from_millis(ms);
    // The machine may be busy with other tests.
    plan.timeout = PATIENCE;
    plan
}

/// The SHA-256 of a body of `n` letters.
pub fn sha256_of_letters(n: usize) -> [u8; 32] {
    Sha256::digest(vec![b'a'; n]).into()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: 10.123.0.2:8080\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: 10.123.0.2:8080\r\nConnection: close\r\n\r\n";

fn dial() -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(ADDRESS) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(e) if begun.elapsed() > PATIENCE => panic!("{e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// How many whole replies a stream holds until the server ends it.
fn replies_until_end(mut stream: TcpStream) -> usize {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.matches("HTTP/1.1 200 OK\r\n").count()
}

/// Twenty requests in one write are answered in order, the last of them with the server's end of the connection.
pub fn pipelined() {
    let mut stream = dial();
    stream
        .write_all(&[GET.repeat(19), LAST.to_vec()].concat())
        .unwrap();
    assert_eq!(replies_until_end(stream), 20);
}

/// A client that ends its own side after asking gets its reply, and then the server's end.
pub fn half_closed() {
    let mut stream = dial();
    stream.write_all(GET).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(replies_until_end(stream), 1);
}

/// A client that ends its own side after asking `times` and reads late gets all bytes of all bodies of this length.
pub fn half_closed_and_late(body: usize, times: usize) {
    let mut stream = dial();
    stream.write_all(&GET.repeat(times)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let letters = bytes.iter().rev().take_while(|&&byte| byte == b'a').count();
    assert_eq!((bytes.len() % times, letters), (0, body));
    assert!(bytes.len() > times * body);
}

/// A client with a receive buffer of this size, which reads little at a time with pauses, then the rest, gets a body whole.
pub fn slow_reader(buffer: usize, body: usize) {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::sockopt::set_socket_recv_buffer_size(&socket, buffer).unwrap();
    let to: SocketAddrV4 = ADDRESS.parse().unwrap();
    net::connect(&socket, &to).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(LAST).unwrap();
    let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
    for _ in 0..15 {
        let n = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..n]);
        std::thread::sleep(Duration::from_millis(100));
    }
    stream.read_to_end(&mut bytes).unwrap();
    let letters = bytes.iter().rev().take_while(|&&byte| byte == b'a').count();
    assert_eq!(letters, body);
}

/// A request in pieces of one byte is one request.
pub fn byte_by_byte() {
    let mut stream = dial();
    stream.set_nodelay(true).unwrap();
    for byte in LAST {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(replies_until_end(stream), 1);
}

/// A request in two parts, the second long after the first.
pub fn in_two_parts() {
    let mut stream = dial();
    stream.write_all(&LAST[..20]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    stream.write_all(&LAST[20..]).unwrap();
    assert_eq!(replies_until_end(stream), 1);
}

/// Connections that come and go, ended by the server, by the client, and by a reset in the middle of a reply.
pub fn churn(times: usize) {
    for _ in 0..times {
        let mut stream = dial();
        stream.write_all(LAST).unwrap();
        assert_eq!(replies_until_end(stream), 1);

        let mut stream = dial();
        stream.write_all(GET).unwrap();
        assert!(stream.read(&mut [0; 1]).unwrap() == 1);
        // Closed with bytes unread: the kernel sends a reset.
        drop(stream);

        drop(dial());
    }
}

/// One connection after the other from the same port, each ended by the server.
pub fn from_one_port(times: usize) {
    let port = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 41_000);
    for _ in 0..times {
        let begun = Instant::now();
        let stream = loop {
            let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
            net::bind(&socket, &port).unwrap();
            let to: SocketAddrV4 = ADDRESS.parse().unwrap();
            match net::connect(&socket, &to) {
                Ok(()) => break TcpStream::from(socket),
                // The one before has not heard the last acknowledgement yet.
                Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) if begun.elapsed() < PATIENCE => {}
                Err(e) => panic!("{e}"),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (&stream).write_all(LAST).unwrap();
        assert_eq!(replies_until_end(stream), 1);
    }
}
