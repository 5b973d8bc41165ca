//! A device's words on a command line: `KIND:NAME[,OPTION=VALUE]...`.
//!
//! In: text; out: which device is wanted and how, or a sentence that quotes the text and says what would do. It refuses to
//! know whether such a device exists.

use crate::Faults;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An interface that exists, through packet sockets.
    Packet,
    /// A queue of an interface that exists, through an AF_XDP socket.
    Xdp,
    /// A virtual device of DPDK's.
    Dpdk,
    /// A TAP interface; `%d` in its name becomes a number.
    Tap,
}

impl Kind {
    const ALL: [(Kind, &'static str); 4] = [
        (Kind::Packet, "packet"),
        (Kind::Xdp, "xdp"),
        (Kind::Tap, "tap"),
        (Kind::Dpdk, "dpdk"),
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Kind::ALL.iter().find(|(kind, _)| kind == self);
        f.write_str(word.map_or("", |(_, word)| word))
    }
}

/// Which queue of several gets a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// By the kernel's hash of the flow: addresses and ports, the same in both directions, keyed anew at every boot. It is
    /// not the Toeplitz hash of a network card's RSS, so which queue gets a flow cannot be known beforehand.
    #[default]
    Hash,
    /// Each frame to the next queue in turn, whatever its flow: for tests of stacks that hand misdirected frames on.
    Turn,
    /// By the CPU that received it: a flow changes its queue when its sender changes the CPU.
    Cpu,
}

impl Spread {
    const ALL: [(Spread, &'static str); 3] = [
        (Spread::Hash, "hash"),
        (Spread::Turn, "turn"),
        (Spread::Cpu, "cpu"),
    ];
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Spread::ALL.iter().find(|(spread, _)| spread == self);
        f.write_str(word.map_or("", |(_, word)| word))
    }
}

/// What is left to the kernel of checksums and of cutting frames into segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// Nothing: frames are what a wire carries.
    #[default]
    None,
    /// Frames sent may leave both to the kernel.
    Tx,
    /// So may the other end: received frames are up to 64 KiB long.
    Both,
}

impl Offload {
    const ALL: [(Offload, &'static str); 3] = [
        (Offload::None, "none"),
        (Offload::Tx, "tx"),
        (Offload::Both, "both"),
    ];
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Offload::ALL.iter().find(|(offload, _)| offload == self);
        f.write_str(word.map_or("", |(_, word)| word))
    }
}

/// Which device a stack is to use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceSpec {
    /// What carries the frames.
    pub kind: Kind,
    /// The interface's name, or the virtual device's.
    pub name: String,
    /// What DPDK's driver is told: all options that are not ours, as they were given.
    pub arguments: String,
    /// Which of several queues gets a frame; packet sockets only.
    pub spread: Spread,
    /// What is left to the kernel.
    pub offload: Offload,
    /// Receive in blocks, each seen after so many milliseconds at the latest; packet sockets only.
    pub bulk: Option<NonZeroU16>,
    /// What is done to its frames.
    pub faults: Faults,
    /// The file that its frames are written to; that of a second queue has `.1` before its ending, and so on.
    pub pcap: Option<PathBuf>,
}

impl DeviceSpec {
    /// A device of this kind and name, with no options.
    pub fn new(kind: Kind, name: impl Into<String>) -> DeviceSpec {
        DeviceSpec {
            kind,
            name: name.into(),
            arguments: String::new(),
            spread: Spread::default(),
            offload: Offload::default(),
            bulk: None,
            faults: Faults::default(),
            pcap: None,
        }
    }

    /// The TAP of this name.
    pub fn tap(name: impl Into<String>) -> DeviceSpec {
        DeviceSpec::new(Kind::Tap, name)
    }
}

/// A TAP of the stack's own, with a name that is free.
impl Default for DeviceSpec {
    fn default() -> DeviceSpec {
        DeviceSpec::tap("bypass%d")
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)?;
        if !self.arguments.is_empty() {
            write!(f, ",{}", self.arguments)?;
        }
        if self.spread != Spread::default() {
            write!(f, ",spread={}", self.spread)?;
        }
        if self.offload != Offload::default() {
            write!(f, ",offload={}", self.offload)?;
        }
        if let Some(wait) = self.bulk {
            write!(f, ",bulk={wait}ms")?;
        }
        write!(f, "{}", self.faults)?;
        if let Some(path) = &self.pcap {
            write!(f, ",pcap={}", path.display())?;
        }
        Ok(())
    }
}

/// Why text names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A kind that does not exist.
    #[error("device {spec}: not a kind of device; use packet:IF, xdp:IF, tap:NAME or dpdk:VDEV")]
    Unknown {
        /// All that was given.
        spec: String,
    },
    /// A name that no interface can have.
    #[error(
        "device {spec}: an interface's name has 1 to 15 bytes, without blanks, slashes, colons and commas"
    )]
    Name {
        /// All that was given.
        spec: String,
    },
    /// A name that no virtual device of DPDK's can have.
    #[error(
        "device {spec}: DPDK's virtual devices are named net_tap0, net_af_packet0 and the like"
    )]
    VirtualDevice {
        /// All that was given.
        spec: String,
    },
    /// An option that does not exist, or not on this kind of device, or whose value is none.
    #[error("device {spec}: {option}: {fix}")]
    Option {
        /// All that was given.
        spec: String,
        /// The option, with its value.
        option: String,
        /// What would do.
        fix: &'static str,
    },
}

impl FromStr for DeviceSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<DeviceSpec, SpecError> {
        let owned = || spec.to_string();
        let Some((kind, rest)) = spec.split_once(':') else {
            return Err(SpecError::Unknown { spec: owned() });
        };
        let Some((kind, _)) = Kind::ALL.iter().find(|(_, word)| *word == kind) else {
            return Err(SpecError::Unknown { spec: owned() });
        };
        let mut words = rest.split(',');
        let name = words.next().unwrap_or_default();
        if *kind == Kind::Dpdk {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let number = name.ends_with(|c: char| c.is_ascii_digit());
            if !name.starts_with("net_") || !number || name.len() > 31 || !name.chars().all(plain) {
                return Err(SpecError::VirtualDevice { spec: owned() });
            }
        } else {
            let odd = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
            if name.is_empty() || name.len() > 15 || name.contains(odd) {
                return Err(SpecError::Name { spec: owned() });
            }
        }
        let mut device = DeviceSpec::new(*kind, name);
        for option in words {
            device.set(option).map_err(|fix| SpecError::Option {
                spec: owned(),
                option: option.to_string(),
                fix,
            })?;
        }
        if device.offload != Offload::None && !device.faults.are_none() {
            return Err(SpecError::Option {
                spec: owned(),
                option: format!("offload={}", device.offload),
                fix: "faults are done to frames as a wire carries them; leave one of both out",
            });
        }
        Ok(device)
    }
}

const OPTIONS: &str = "no such option; there are offload, spread, bulk, loss, reorder, duplicate, corrupt, delay, rate, \
    seed, pcap";

impl DeviceSpec {
    /// Sets one option from its words; what would do instead, if they do not.
    fn set(&mut self, option: &str) -> Result<(), &'static str> {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "spread" if self.kind == Kind::Packet => {
                let spread = Spread::ALL.iter().find(|(_, word)| *word == value);
                self.spread = spread.ok_or("spread is hash, turn or cpu")?.0;
            }
            "spread" => return Err("only packet:IF can spread frames over queues in other ways"),
            "bulk" if self.kind == Kind::Packet => {
                let number = value.strip_suffix("ms").and_then(|v| v.parse().ok());
                let wait = number.filter(|wait: &NonZeroU16| wait.get() <= 1000);
                self.bulk = Some(wait.ok_or("bulk is the longest wait of a block, 1ms to 1000ms")?);
            }
            "bulk" => return Err("only packet:IF receives in blocks"),
            "offload" if matches!(self.kind, Kind::Xdp | Kind::Dpdk) => {
                return Err("only packet:IF and tap:NAME leave work to the kernel");
            }
            "offload" => {
                let offload = Offload::ALL.iter().find(|(_, word)| *word == value);
                self.offload = offload.ok_or("offload is none, tx or both")?.0;
            }
            "pcap" if value.is_empty() => return Err("pcap is the path of a file"),
            "pcap" => self.pcap = Some(PathBuf::from(value)),
            _ if self.faults.set(key, value)? => {}
            _ if self.kind == Kind::Dpdk && !key.is_empty() && !option.contains('\0') => {
                if !self.arguments.is_empty() {
                    self.arguments.push(',');
                }
                self.arguments.push_str(option);
            }
            _ => return Err(OPTIONS),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is put together from our words is understood and said again with the same meaning, or refused with a
        /// sentence that quotes it.
        #[test]
        fn words_keep_their_meaning(
            kind in prop::sample::select(vec!["packet", "xdp", "tap", "dpdk", "wifi"]),
            name in "[a-z0-9_]{1,15}|net_tap[0-9]|.{0,20}",
            options in prop::collection::vec(
                "(loss|reorder|duplicate|corrupt)=[0-9]{1,3}(\\.[0-9]{1,5})?%|delay=[0-9]{1,6}(ns|us|ms|s)?|\
                    rate=[0-9]{1,5}[kMG]?|seed=[0-9]{1,20}|pcap=[a-z./ ]{0,9}|spread=(hash|turn|cpu)|bulk=[0-9]{1,4}ms|\
                    offload=(none|tx|both)|.{0,12}",
                0..5,
            ),
        ) {
            let mut text = format!("{kind}:{name}");
            for option in options {
                text.push(',');
                text.push_str(&option);
            }
            match text.parse::<DeviceSpec>() {
                Ok(spec) => prop_assert_eq!(spec.to_string().parse(), Ok(spec)),
                Err(error) => prop_assert!(error.to_string().contains(&text)),
            }
        }
    }

    /// Every kind reads back as it was written.
    #[test]
    fn specs_read_back() {
        for text in [
            "packet:eth0",
            "xdp:eth0",
            "dpdk:net_tap0",
            "dpdk:net_af_packet1,iface=eth0,qpairs=2,loss=1%,pcap=a.pcap",
            "tap:first-try",
            "packet:eth0,spread=turn,offload=both,bulk=10ms",
        ] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
        let own = DeviceSpec::default();
        assert_eq!(own.to_string().parse(), Ok(own));
    }

    /// What cannot be opened is refused with the words given and the choices there are.
    #[test]
    fn refusals_name_the_choices() {
        for text in ["eth0", "wifi:eth0", ""] {
            let error = text.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("packet:IF, xdp:IF, tap:NAME or dpdk:VDEV"),
                "{error}"
            );
        }
        for text in ["packet:", "tap:0123456789abcdef", "tap:a b", "packet:a/b"] {
            let error = text.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("1 to 15 bytes"),
                "{error}"
            );
        }
        for (text, fix) in [
            ("packet:eth0,spread=rss", "hash, turn or cpu"),
            ("tap:eth0,spread=turn", "only packet:IF"),
            ("xdp:eth0,offload=tx", "only packet:IF and tap:NAME"),
            ("dpdk:--vdev=x", "net_tap0"),
            ("dpdk:net_tap", "net_tap0"),
            ("packet:eth0,bulk=0ms", "1ms to 1000ms"),
            ("packet:eth0,bulk", "1ms to 1000ms"),
            ("xdp:eth0,bulk=1ms", "only packet:IF"),
            ("tap:eth0,colour=red", "no such option"),
            ("tap:eth0,", "no such option"),
            ("tap:eth0,pcap=", "path of a file"),
            ("tap:eth0,loss=2", "0% to 100%"),
            ("tap:eth0,loss=1%,offload=tx", "as a wire carries them"),
        ] {
            let error = text.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(fix), "{error}");
        }
    }
}
