//! A server under test: started, waited for, ended by a signal and looked at afterwards.

use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::process::{Child, ChildStdout, Command, Stdio};

pub struct Server {
    pub address: SocketAddrV4,
    child: Child,
    out: std::cell::RefCell<BufReader<ChildStdout>>,
}

impl Server {
    /// The linux stack on a free port of loopback.
    pub fn linux(arguments: &[&str]) -> Server {
        let listen = ["--listen", "127.0.0.1:0"];
        Server::start("exec ", &[&listen, arguments].concat())
    }

    /// `httpd` with these arguments, behind a piece of shell.
    pub fn start(shell: &str, arguments: &[&str]) -> Server {
        let script = format!("{shell}\"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_httpd")]);
        command.args(arguments);
        Server::spawn(command)
    }

    /// A command that ends in `httpd`.
    pub fn spawn(mut command: Command) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        out.read_line(&mut ready).unwrap();
        let address = ready.trim().rsplit("http://").next().unwrap();
        let address = address
            .parse()
            .unwrap_or_else(|_| panic!("not ready: {ready:?}"));
        Server {
            address,
            child,
            out: out.into(),
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process that is in use, in KiB.
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The line of totals that it prints for SIGUSR1.
    pub fn totals(&self) -> String {
        self.signal(rustix::process::Signal::USR1);
        let mut line = String::new();
        self.out.borrow_mut().read_line(&mut line).unwrap();
        line
    }

    /// CPU time of the process so far, in clock ticks of 10 ms.
    pub fn cpu(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Waits until it ends by itself; its exit status.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
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
