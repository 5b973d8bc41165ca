//! A flow as the command line names it: by its label, or by both ends of the connection.
//!
//! In: a word of the command line; out: [`Flows`]. Events carry a hash of both ends, so that a port that may be any is
//! as many labels as there are ports. A word that cannot be meant is told with how to say it.

use crate::analyse::filter::Flows;
use bypassprof_wire::Flow;
use std::net::{IpAddr, SocketAddr};

/// One end of a connection; any port where there is none.
struct End {
    address: IpAddr,
    port: Option<u16>,
}

/// The flows that are meant.
pub fn flows(text: &str) -> Result<Flows, String> {
    if let Some((a, b)) = text.split_once('-') {
        return between(&end(a)?, &end(b)?, text);
    }
    if end(text).is_ok() {
        return Err(
            "names one end; events carry a hash of both: ADDR:PORT-ADDR:PORT, in any order, one port may be *"
                .to_owned(),
        );
    }
    let digits = text.trim_start_matches("0x");
    u32::from_str_radix(digits, 16)
        .map(Flows::one)
        .map_err(|_| "should be up to 8 hexadecimal digits, or ADDR:PORT-ADDR:PORT".to_owned())
}

fn end(text: &str) -> Result<End, String> {
    let text = text.trim();
    // Any port: read as if it were one.
    let numbered = text
        .strip_suffix(":*")
        .map(|address| format!("{address}:0"));
    let parsed: SocketAddr = (numbered.as_deref().unwrap_or(text).parse()).map_err(|_| {
        format!("{text:?} should be like 10.0.0.1:8080, 10.0.0.1:* or [fe80::1]:8080")
    })?;
    Ok(End {
        address: parsed.ip(),
        port: numbered.is_none().then(|| parsed.port()),
    })
}

fn between(a: &End, b: &End, said: &str) -> Result<Flows, String> {
    let label = |p: u16, q: u16| match (a.address, b.address) {
        (IpAddr::V4(x), IpAddr::V4(y)) => Ok(Flow::ipv4(x.to_bits(), p, y.to_bits(), q).raw()),
        (IpAddr::V6(x), IpAddr::V6(y)) => Ok(Flow::ipv6(x.to_bits(), p, y.to_bits(), q).raw()),
        _ => Err("one end is IPv4 and the other IPv6".to_owned()),
    };
    let every = 0..=u16::MAX;
    match (a.port, b.port) {
        (Some(p), Some(q)) => Ok(Flows::one(label(p, q)?)),
        (None, Some(q)) => {
            let labels: Result<Vec<_>, _> = every.map(|p| label(p, q)).collect();
            Ok(Flows::all(labels?, said.to_owned()))
        }
        (Some(p), None) => {
            let labels: Result<Vec<_>, _> = every.map(|q| label(p, q)).collect();
            Ok(Flows::all(labels?, said.to_owned()))
        }
        (None, None) => Err("one of both ports must be told".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow by its hash, or by both of its ends in any order; all of a server's by one port that may be any.
    #[test]
    fn named() {
        let of = |text| flows(text).unwrap();
        assert_eq!(of("0xbeef"), Flows::one(0xbeef));
        let hash = Flow::ipv4(0x0a7b_0002, 8080, 0x0a7b_0001, 40_000).raw();
        for text in [
            "10.123.0.1:40000-10.123.0.2:8080",
            "10.123.0.2:8080-10.123.0.1:40000",
        ] {
            assert_eq!(of(text), Flows::one(hash));
        }
        for text in [
            "10.123.0.1:*-10.123.0.2:8080",
            "10.123.0.2:8080-10.123.0.1:*",
        ] {
            assert!(of(text).has(hash), "{text}");
            assert!(!of(text).has(Flow::ipv4(0x0a7b_0002, 80, 0x0a7b_0001, 40_000).raw()));
        }
        assert!(flows("[::1]:80-[::2]:4000").is_ok() && flows("[::1]:80-[::2]:*").is_ok());
        for one_end in ["10.123.0.2:8080", "10.123.0.2:*"] {
            assert!(flows(one_end).unwrap_err().contains("both"));
        }
        for wrong in [
            "",
            "xyz",
            "123456789",
            "10.0.0.1-10.0.0.2",
            "10.0.0.1:*-10.0.0.2:*",
            "[::1]:1-1.1.1.1:1",
        ] {
            assert!(flows(wrong).is_err(), "{wrong}");
        }
    }
}
