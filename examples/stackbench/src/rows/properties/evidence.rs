//! Recorded runs: a server under the recorder with one load, and what its threads told.
//!
//! In: a stack, its options, a load; out: events, the client's figures, and the recording's file, which is kept.

use crate::Failure;
use crate::events::{Events, Told};
use crate::load::{Figures, Load};
use crate::measure::{Bench, last_words};
use crate::server::Server;
use crate::site::{Site, Stack};
use bypassprof_wire::points;
use std::path::PathBuf;

/// Samples are not what these recordings are for; a few cost nothing.
const FREQUENCY: &str = "49";

/// One recorded run.
pub struct Recorded {
    /// What threads told.
    pub events: Events,
    /// What the client saw.
    pub figures: Figures,
    /// The recording.
    pub file: PathBuf,
}

impl Recorded {
    /// Makes one; its name is that of its files.
    pub fn make(
        bench: &Bench,
        stack: Stack,
        name: &str,
        arguments: &[&str],
        load: Load,
    ) -> Result<Recorded, Failure> {
        let site = Site::new(bench.lab, stack)?;
        let file = bench.out.join(format!("{}-{name}.mcap", stack.name()));
        let log = file.with_extension("log");
        let mut command = site.server.command(&bench.programs.bypassprof);
        command.args(["record", "-F", FREQUENCY, "-o"]).arg(&file);
        command.arg("--").arg(&bench.programs.httpd);
        command.args(site.httpd_arguments()).args(arguments);
        command.stderr(crate::measure::create(&log)?);
        let server = Server::start(stack.name(), command, bench.stop);
        let in_its_words = |failure: Failure| match (&failure, last_words(&log)) {
            (Failure::Interrupted, _) | (_, None) => failure,
            (_, Some(words)) => Failure::Wrong(words),
        };
        let server = server.map_err(in_its_words)?;
        let figures = bench
            .cpus
            .for_client(|| load.run(bench.programs, &site, bench.stop))?;
        server.end()?;
        bench.stop.check()?;
        Ok(Recorded {
            events: Events::read(&file)?,
            figures,
            file,
        })
    }

    /// The recording's name.
    pub fn name(&self) -> String {
        let name = self.file.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The thread that handles requests.
    pub fn application(&self) -> Result<&Told, Failure> {
        let requests = |told: &&Told| told.count(points::APP_START);
        let most = self.events.threads.iter().max_by_key(requests);
        most.filter(|told| requests(told) > 1)
            .ok_or_else(|| Failure::Wrong("no thread told of requests".to_string()))
    }

    /// Requests that were handled.
    pub fn requests(&self) -> f64 {
        let threads = self.events.threads.iter();
        threads.map(|t| t.count(points::APP_START)).sum::<u64>() as f64
    }

    /// Segments of a kind that left, from all threads, for each request.
    pub fn segments(&self, kind: u32) -> f64 {
        let threads = self.events.threads.iter();
        threads.map(|t| t.segments(kind)).sum::<u64>() as f64 / self.requests()
    }

    /// Events at a point, of all threads.
    pub fn count(&self, point: bypassprof_wire::Point) -> u64 {
        let threads = self.events.threads.iter();
        threads.map(|t| t.count(point)).sum()
    }

    /// The middle of the client's latencies, in us.
    pub fn p50(&self) -> f64 {
        self.figures.latency_ns.p50 as f64 / 1e3
    }
}
