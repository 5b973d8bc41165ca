//! Frames that a device loses before the program sees them: what it missed and what it had no buffer for are the device's own
//! numbers.

use super::{missing, testpmd};
use crate::support::Place;

/// Port 0 hears of frames by libpcap, which drops those that nobody fetches in time; port 1 sends them. The others are rings, more than
/// enough to take all buffers there are, after which port 0 has none for what it still holds.
#[test]
fn missed_and_without_buffer() {
    or_leave_out!();
    let cable =
        "ip link add one type veth peer name two && ip link set one up && ip link set two up &&";
    let mut devices = vec![
        "net_pcap0,iface=one".to_owned(),
        "net_af_packet0,iface=two".to_owned(),
    ];
    devices.extend((0..10).map(|ring| format!("net_ring{ring}")));
    let devices: Vec<_> = devices.iter().map(String::as_str).collect();
    let typed = [
        "set portlist 1",
        "set fwd txonly",
        "start",
        "stop",
        "set portlist 2,3,4,5,6,7,8,9,10,11",
        "start",
        "stop",
        "set portlist 0",
        "set fwd rxonly",
        "start",
        "stop",
        "show port info 0",
        "show port stats 0",
        "quit",
    ];
    let place = Place::new();
    let run = testpmd(&place, cable, &devices, 1, &typed);
    let out = &run.run.out;
    let stats = out
        .rsplit_once("NIC statistics for port 0")
        .map_or("", |s| s.1);
    let told = |name: &str| {
        let number = stats.split_once(name)?.1.split_whitespace().next()?;
        number.parse::<u64>().ok()
    };
    let ports = run.queues["ports"].as_array().unwrap();
    let port = ports
        .iter()
        .find(|p| p["port"] == 0 && p["receives"] == true)
        .unwrap();
    let counters = port["device"]["counters"].as_array().unwrap();
    for (name, theirs) in [("imissed", "RX-missed:"), ("rx_nombuf", "RX-nombuf:")] {
        let counter = counters.iter().find(|c| c[0] == name);
        let ours = counter.and_then(|c| c[1].as_u64());
        assert_eq!(ours, told(theirs), "{theirs} {stats}\n{port:#}");
        assert!(ours > Some(0), "{theirs} {out}\n{port:#}");
    }
    let table = place.run(&["queues"]);
    let missed = told("RX-missed:").unwrap().to_string();
    assert!(table.out.contains(&missed), "{missed}: {}", table.out);
}
