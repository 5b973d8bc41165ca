//! What comes from DPDK programs: frames that are looked at, and what the program answers when it is asked.
//!
//! In: bytes; out: nothing, and no panic. Nothing is said that does not stand there.

use bypassprof::collect::probes::telemetry::answers;
use bypassprof_wire::headers;

/// A frame's first bytes: cut shorter, they say nothing, or the same.
pub fn headers(data: &[u8]) {
    let whole = headers::headers(data);
    for len in (0..data.len()).rev().take(256) {
        let cut = headers::headers(&data[..len]);
        assert!(cut == whole || cut == headers::Headers::default());
    }
}

/// Answers of a telemetry socket, a line each: lists of ports and pools, a port's statistics, its link, what else is known of
/// it, and a pool.
pub fn telemetry(data: &[u8]) {
    let mut lines = data.split(|&b| b == b'\n');
    let mut answer = |question: &str| {
        let line = lines.next().unwrap_or_default();
        answers::under(line, question).unwrap_or_default()
    };
    let (ports, pools) = (answer("/ethdev/list"), answer("/mempool/list"));
    let told = answers::numbers(&ports).count() + answers::names(&pools).count();
    assert!(told <= data.len());
    let stats = answer("/ethdev/stats");
    let (link, info) = (answer("/ethdev/link_status"), answer("/ethdev/info"));
    if let Some(port) = answers::port(0, &stats, &link, &info) {
        assert!(
            port.counters
                .iter()
                .all(|(name, n)| stats[name.as_str()] == *n)
        );
    }
    let pool = answer("/mempool/info");
    assert_eq!(
        answers::pool("pool", &pool).is_some(),
        pool["size"].is_u64()
    );
}
