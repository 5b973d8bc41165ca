//! A client and a server in network namespaces of a test's own, joined by a veth pair. Needs root; says so without.

use crate::server::Server;
use httpscenes::sha256_of_letters;
use loadgen::{Load, Report};
use netlab::{Interface, Lab, LabError, Namespace};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub const URL: &str = "http://10.123.0.2:8080/";
pub const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
/// After its reply the server closes.
pub const LAST_GET: &str = "GET / HTTP/1.0\r\n\r\n";

/// The right to make namespaces; `None`, with a word on stderr, where there is none.
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

/// A client's and a server's namespace, joined by a veth pair of which the client's end has an address.
pub fn joined(lab: &Lab) -> (Namespace, Namespace) {
    let client = lab.namespace("client").unwrap();
    let server = lab.namespace("server").unwrap();
    lab.veth((&client, "http-c"), (&server, "http-s")).unwrap();
    let ends = [(&client, "http-c"), (&server, "http-s")];
    for (namespace, end) in ends {
        let plain = || Interface::named(end)?.offloads_off();
        namespace.enter(plain).unwrap().unwrap();
    }
    let address = || Interface::named("http-c")?.set_address([10, 123, 0, 1].into(), 24);
    client.enter(address).unwrap().unwrap();
    (client, server)
}

/// A command that serves in a namespace with these arguments.
pub fn command(namespace: &Namespace, stack: &str, arguments: &[&str]) -> Command {
    let mut command = namespace.command(env!("CARGO_BIN_EXE_httpd"));
    command.args(["--stack", stack]).args(arguments);
    command
}

/// A server in a namespace.
pub fn serve(namespace: &Namespace, stack: &str, arguments: &[&str]) -> Server {
    Server::spawn(command(namespace, stack, arguments))
}

/// Loads the server from the client's namespace; every request must be answered. A busy machine that answers none in the
/// plan's time has more of it.
pub fn load(client: &Namespace, plan: &Load) -> Report {
    let run = || loadgen::run(plan, &AtomicBool::new(false));
    let report = client.enter(run).unwrap().unwrap();
    assert_eq!((report.errors, report.timeouts), (0, 0), "{report:?}");
    if report.requests > 0 {
        return report;
    }
    assert!(plan.duration < Duration::from_secs(20), "{report:?}");
    let mut longer = plan.clone();
    longer.duration *= 4;
    load(client, &longer)
}

/// Fetches bodies of a quarter of a MiB from a server with these arguments, four at a time; each must have its digest.
pub fn bodies_come_whole(client: &Namespace, server: &Namespace, stack: &str, arguments: &[&str]) {
    let served = serve(server, stack, &[arguments, &["--body", "262144"]].concat());
    let mut plan = Load::new(served.address);
    (plan.duration, plan.connections) = (Duration::from_millis(500), 4);
    plan.timeout = Duration::from_secs(10);
    plan.digest = Some(sha256_of_letters(262_144));
    load(client, &plan);
    served.end();
}

/// Whether a row was built in, or beside; says so if not.
pub fn is_built(stack: &str) -> bool {
    let httpd = env!("CARGO_BIN_EXE_httpd");
    let built = match stack {
        "demikernel" => Path::new(httpd).with_file_name("httpd-demikernel").exists(),
        "lwip" => {
            // What is missing is told before the device is looked at.
            let mut command = Command::new(httpd);
            command.args(["--stack", stack, "--dev", "packet:no-such-one"]);
            let error = String::from_utf8(command.output().unwrap().stderr).unwrap();
            let missing = error.contains("was not found when this program was built");
            assert!(
                !missing || error.contains("apt-get install liblwip-dev"),
                "{error}"
            );
            !missing
        }
        _ => true,
    };
    if !built {
        eprintln!("skipped: {stack} was not built");
    }
    built
}

/// Whether a program is there to be run.
pub fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// A connection from the client's namespace.
pub fn connect(client: &Namespace, address: SocketAddrV4) -> TcpStream {
    let stream = client.enter(|| TcpStream::connect(address));
    let stream = stream.unwrap().unwrap();
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Everything the server says to `text`, sent in pieces of `piece` bytes, until it closes.
pub fn dialogue(client: &Namespace, address: SocketAddrV4, text: &str, piece: usize) -> String {
    let mut stream = connect(client, address);
    for part in text.as_bytes().chunks(piece) {
        stream.write_all(part).unwrap();
    }
    let mut out = String::new();
    stream.read_to_string(&mut out).unwrap();
    out
}

/// Connections by the hundred, ended by the server, by the client and by a reset in turn; each is served.
pub fn come_and_go(client: &Namespace, address: SocketAddrV4) {
    for round in 0..300 {
        if round % 3 == 0 {
            let out = dialogue(client, address, LAST_GET, 100);
            assert!(out.ends_with('a'), "{out}");
            continue;
        }
        let mut stream = connect(client, address);
        stream.write_all(GET.as_bytes()).unwrap();
        // Gone with the reply unread is a reset.
        let seen = match round % 3 {
            1 => stream.read(&mut [0; 1000]),
            _ => stream.peek(&mut [0; 1]),
        };
        assert!(seen.unwrap() > 0);
    }
}
