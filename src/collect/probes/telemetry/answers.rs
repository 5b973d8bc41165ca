//! Answers of DPDK's telemetry, read as text from a stranger.
//!
//! In: the bytes of an answer; out: what it says of ports and memory pools, `None` where it does not. Whatever stands there,
//! no more is kept than came. It refuses to know how answers come.

use crate::trace::record::{DevicePool, DevicePort};
use serde_json::Value;

/// Longest answer that is read.
pub const MOST_BYTES: usize = 64 << 10;
/// Most ports and pools that are asked about.
const MOST: usize = 64;
/// What DPDK says for a speed that it does not know.
const UNKNOWN_SPEED: u32 = u32::MAX;

/// The answer to a question, which comes in an object under the question's name.
pub fn under(answer: &[u8], question: &str) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    answer.get_mut(question).map(Value::take)
}

/// Numbers of ports in a list.
pub fn numbers(list: &Value) -> impl Iterator<Item = u16> + '_ {
    let numbers = list.as_array().into_iter().flatten();
    let ports = numbers.filter_map(|n| u16::try_from(n.as_u64()?).ok());
    ports.take(MOST)
}

/// Names of pools in a list.
pub fn names(list: &Value) -> impl Iterator<Item = &str> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(Value::as_str).take(MOST)
}

/// A port by its statistics, its link and what else is known of it.
pub fn port(number: u16, stats: &Value, link: &Value, info: &Value) -> Option<DevicePort> {
    let counters = stats.as_object()?.iter();
    let speed = link["speed"].as_u64().and_then(|s| u32::try_from(s).ok());
    Some(DevicePort {
        port: number,
        name: info["name"].as_str().unwrap_or_default().to_owned(),
        link_up: link["status"] == "UP",
        link_mbps: speed.filter(|&s| s != UNKNOWN_SPEED),
        counters: counters
            .filter_map(|(name, n)| Some((name.clone(), n.as_u64()?)))
            .collect(),
    })
}

/// A pool by what is known of it. Objects in the caches of lcores are free, too.
pub fn pool(name: &str, info: &Value) -> Option<DevicePool> {
    let number = |key: &str| info[key].as_u64();
    Some(DevicePool {
        name: name.to_owned(),
        size: number("size")?,
        free: number("common_pool_count")
            .map(|free| free.saturating_add(number("total_cache_count").unwrap_or(0))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As DPDK 22.11 answers for a port of net_null and testpmd's pool, `q_` numbers being lists.
    const STATS: &str = r#"{"/ethdev/stats":{"ipackets":96,"opackets":32,"imissed":1,"rx_nombuf":2,"q_ipackets":[96,0]}}"#;
    const LINK: &str =
        r#"{"/ethdev/link_status":{"status":"UP","speed":10000,"duplex":"full-duplex"}}"#;
    const POOL: &str = r#"{"/mempool/info":{"name":"mb_pool_0","size":8192,"common_pool_count":7000,"total_cache_count":92}}"#;

    fn read(text: &str) -> Value {
        let question = text.split('"').nth(1).unwrap();
        under(text.as_bytes(), question).unwrap()
    }

    #[test]
    fn what_a_program_answers() {
        let info = read(r#"{"/ethdev/info":{"name":"net_null0","nb_rx_queues":2}}"#);
        let told = port(3, &read(STATS), &read(LINK), &info).unwrap();
        assert_eq!(
            (told.port, told.link_up, told.link_mbps),
            (3, true, Some(10_000))
        );
        assert_eq!(told.name, "net_null0");
        let counters = [
            ("imissed", 1),
            ("ipackets", 96),
            ("opackets", 32),
            ("rx_nombuf", 2),
        ];
        let mut seen = told.counters.clone();
        seen.sort();
        assert_eq!(seen, counters.map(|(name, n)| (name.to_owned(), n)));
        let told = pool("mb_pool_0", &read(POOL)).unwrap();
        assert_eq!((told.size, told.free), (8192, Some(7092)));
        let list = read(r#"{"/ethdev/list":[0,1,70000,-1,"2",5]}"#);
        assert_eq!(numbers(&list).collect::<Vec<_>>(), [0, 1, 5]);
        let list = read(r#"{"/mempool/list":["a",7,"b"]}"#);
        assert_eq!(names(&list).collect::<Vec<_>>(), ["a", "b"]);
    }

    /// A speed that is not known, a link that is down, a pool that does not say what is free.
    #[test]
    fn what_is_not_known_is_not_made_up() {
        let link = read(r#"{"/ethdev/link_status":{"status":"DOWN","speed":4294967295}}"#);
        let told = port(0, &read(STATS), &link, &Value::Null).unwrap();
        assert_eq!(
            (told.link_up, told.link_mbps, &*told.name),
            (false, None, "")
        );
        let told = pool("p", &serde_json::json!({"size": 5})).unwrap();
        assert_eq!(told.free, None);
        assert_eq!(port(0, &Value::Null, &link, &Value::Null), None);
        assert_eq!(pool("p", &Value::Null), None);
        assert_eq!(under(b"{\"/ethdev/list\": [", "/ethdev/list"), None);
        assert_eq!(under(b"[]", "/ethdev/list"), None);
    }

    /// Any JSON of a few levels.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "(size|speed|UP|imissed|[a-z]{0,3})".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = "(size|common_pool_count|total_cache_count|speed|status|name|[a-z]{1,2})";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(key, inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever is answered, there is an end, and nothing is in what was read that was not in the answer.
        #[test]
        fn any_answer_is_read_or_refused(stats in anything(), link in anything(), info in anything(), bytes: Vec<u8>) {
            let told = port(1, &stats, &link, &info);
            prop_assert_eq!(told.is_some(), stats.is_object());
            for (name, n) in told.into_iter().flat_map(|t| t.counters) {
                prop_assert_eq!(stats[&name].as_u64(), Some(n));
            }
            if let Some(pool) = pool("p", &info) {
                prop_assert_eq!(info["size"].as_u64(), Some(pool.size));
            }
            prop_assert!(numbers(&stats).count() <= MOST && names(&link).count() <= MOST);
            let _ = under(&bytes, "/ethdev/list");
        }
    }
}
