//! Packs from strangers, and what they make of a recording.
//!
//! In: the text of a pack; out: nothing, and no panic. Its rules are asked about their own names and about the stacks of
//! a small recording, beside all packs that are built in.

use crate::PACKS;
use crate::imports::sink;
use bypassprof::analyse::Join;
use bypassprof::analyse::coverage::coverage;
use bypassprof::analyse::packs::glob::plain;
use bypassprof::analyse::packs::{Asked, Pack, lint};
use bypassprof::present::packs as present;
use bypassprof::present::style::Style;
use bypassprof::trace::folded::Folded;
use bypassprof::trace::record::{Meta, Sample};
use bypassprof::trace::{Reader, Record};
use std::sync::LazyLock;

/// Threads in whose stacks functions of the seeds' packs and of the kernel's lie, polling and working.
const STACKS: &str = "\
fstack-0-1/2;main;main_loop;rte_eth_rx_burst;mlx5_rx_burst_vec 500
fstack-0-1/2;main;ff_run;main_loop;process_packets;ff_veth_input;ether_input;tcp_input 300
fstack-0-1/2;main;ff_run;main_loop;loop;ff_write;sosend_generic;tcp_usr_send;tcp_output;memcpy 200
httpd-1/3;main;<httpd::linux::Server as Serve>::run;epoll_wait;entry_SYSCALL_64_[k];do_epoll_wait_[k];schedule_[k] 70
httpd-1/3;main;mine_outer;mine_inner;nobody_knows 40
sshd-9/9;main;tcp_input 5
swapper-0/0;do_idle_[k];cpuidle_enter_[k] 900
";

static RECORDED: LazyLock<(Vec<Meta>, Vec<Sample>)> = LazyLock::new(recorded);

fn recorded() -> (Vec<Meta>, Vec<Sample>) {
    let mut stacks = Folded::default();
    let read = stacks.read("stacks", STACKS.as_bytes());
    read.expect("they are stacks");
    let (file, mut writer) = sink();
    let written = stacks.write(&mut writer, "cpu-clock", 10);
    written.expect("memory can be written");
    writer.finish().expect("memory can be written");
    let reader = Reader::open(file.path()).expect("it was just written");
    let metas = reader.metas().map(|m| m.expect("it is whole"));
    let samples = reader.records().filter_map(|record| match record {
        Ok(Record::Sample(sample)) => Some(sample),
        _ => None,
    });
    (metas.collect(), samples.collect())
}

/// A pack: its rules are taken beside those that are built in, or the file is named with what is wrong. A pattern is a
/// name too, of which some rule speaks; what decides about a recording adds up to all of it.
pub fn packs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let pack = match Pack::parse("input.toml", &text) {
        Ok(pack) => pack,
        Err(error) => return assert!(error.to_string().contains("input.toml"), "{error}"),
    };
    let remarks = lint::lint(&pack);
    assert!(!present::checked(&pack, &remarks, Style::PLAIN).is_empty());
    let symbols = pack.rules.iter().flat_map(|rule| &rule.symbols);
    let names: Vec<String> = symbols
        .map(|(glob, _)| glob.text().to_owned())
        .take(64)
        .collect();
    let mut packs = PACKS.clone();
    if packs.add(pack).is_err() {
        return;
    }
    let rules = packs.rules(&[]);
    for name in &names {
        let hit = rules.of_function(Asked::named(name, None));
        assert!(hit.is_some() || plain(name) != name, "{name}");
        let _ = rules.of_function(Asked::named(name, Some(true)));
        let _ = rules.meaning(name);
    }
    let (metas, samples) = &*RECORDED;
    let mut join = Join::new(metas, packs);
    for sample in samples {
        join.sample(sample);
    }
    let profile = join.finish(None);
    let covered = coverage(&profile);
    let all = covered.leaf + covered.caller + covered.nothing;
    assert!((all - 1.0).abs() < 1e-6, "{all}");
    assert!(!present::fits(&profile, &covered, Style::PLAIN).is_empty());
}
