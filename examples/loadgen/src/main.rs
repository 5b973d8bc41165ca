//! The command line of the load generator: `loadgen http://IP:PORT/ --connections 64 --duration 5`.
//!
//! In: what was typed; out: a summary, or one JSON object with `--json`, on stdout. Exit status 0 unless not one request
//! succeeded (1) or the choice made no sense (2).

use clap::Parser;
use loadgen::{Company, Error, Load};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{SocketAddrV4, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// HTTP load on one server, with latency percentiles.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The server: http://IP:PORT/PATH.
    #[arg(value_parser = url)]
    url: Url,
    /// Connections, spread over the threads.
    #[arg(long, short, value_name = "N", default_value_t = 1)]
    connections: usize,
    /// Threads.
    #[arg(long, short, value_name = "T", default_value_t = 1)]
    threads: usize,
    /// Seconds that are measured.
    #[arg(long, short, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    duration: Duration,
    /// Seconds of load before that.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    warmup: Duration,
    /// Open loop: requests per second of all connections together, latency from the intended send time.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Seconds after which a reply is given up.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    timeout: Duration,
    /// POST with a body this long instead of GET.
    #[arg(long, value_name = "BYTES")]
    post: Option<usize>,
    /// Length that every reply's body must have.
    #[arg(long, value_name = "BYTES")]
    body: Option<u64>,
    /// SHA-256 that every reply's body must have, as sha256sum prints it.
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<[u8; 32]>,
    /// One request a connection, which the server then ends; latency counts from the connection's beginning.
    #[arg(long)]
    close: bool,
    /// Idle keep-alive connections beside the load, each asked before and after it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: usize,
    /// Connections beside the load that read 1 KiB a second.
    #[arg(long, value_name = "N", default_value_t = 0)]
    slow: usize,
    /// Connections beside the load that ask, end their side, and only then read.
    #[arg(long, value_name = "N", default_value_t = 0)]
    half_closed: usize,
    /// One JSON object instead of a summary.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug)]
struct Url {
    address: SocketAddrV4,
    path: String,
}

fn url(text: &str) -> Result<Url, String> {
    let rest = text
        .strip_prefix("http://")
        .ok_or("a URL like http://10.123.0.2:8080/ is needed")?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if path.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("the path has blanks or control characters".into());
    }
    let with_port = if host.contains(':') {
        host.to_string()
    } else {
        format!("{host}:80")
    };
    let mut addresses = with_port
        .to_socket_addrs()
        .map_err(|error| format!("{host}: {error}"))?;
    let address = addresses
        .find_map(|a| match a {
            std::net::SocketAddr::V4(a) => Some(a),
            std::net::SocketAddr::V6(_) => None,
        })
        .ok_or(format!("{host} has no IPv4 address"))?;
    Ok(Url {
        address,
        path: path.into(),
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "a number of seconds is needed".to_string())?;
    if (0.0..=1e6).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err("seconds from 0 to 1,000,000 are possible".into())
    }
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let wrong = || "64 hexadecimal digits are needed".to_string();
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// As many descriptors as this user may have: a connection is one.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it is refused, the connections that are too many say so.
    let _ = setrlimit(Resource::Nofile, most);
}

fn main() -> ExitCode {
    let options = Options::parse();
    let load = Load {
        address: options.url.address,
        path: options.url.path,
        connections: options.connections,
        threads: options.threads,
        duration: options.duration,
        warmup: options.warmup,
        rate: options.rate,
        timeout: options.timeout,
        post: options.post,
        body: options.body,
        digest: options.digest,
        close: options.close,
        company: Company {
            idle: options.idle,
            slow: options.slow,
            half_closed: options.half_closed,
        },
    };
    allow_descriptors();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, stop.clone()) {
            eprintln!("loadgen: signals cannot be waited for: {error}");
            return ExitCode::FAILURE;
        }
    }
    let report = match loadgen::run(&load, &stop) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("loadgen: {error}");
            let wrong_use = matches!(error, Error::Choice(_));
            return ExitCode::from(if wrong_use { 2 } else { 1 });
        }
    };
    if options.json {
        match serde_json::to_string(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("loadgen: {error}"),
        }
    } else {
        println!("{report}");
    }
    if report.requests == 0 {
        eprintln!("loadgen: not one request succeeded");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
