//! What a bad link does to frames, in words: `loss=1%,reorder=1%,duplicate=1%,corrupt=0.1%,delay=5ms,rate=100M,seed=7`.
//!
//! In: one option's key and value; out: numbers, or what would do. It refuses to know when and how they are applied.

use std::fmt;
use std::time::Duration;

/// What a bad link does. Each direction of a device does it for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames that are lost.
    pub loss: Chance,
    /// Frames that are overtaken by the three behind them.
    pub reorder: Chance,
    /// Frames that come twice.
    pub duplicate: Chance,
    /// Frames in which one bit behind the Ethernet header is wrong.
    pub corrupt: Chance,
    /// How much later every frame comes.
    pub delay: Duration,
    /// Bits per second, Ethernet headers counted, frame checks and gaps not; 0: without limit. What would wait for more
    /// than 50 ms is dropped.
    pub rate: u64,
    /// Begins the sequence of chances: the same seed and the same frames give the same faults.
    pub seed: u64,
}

impl Faults {
    /// Whether it does nothing.
    pub fn are_none(&self) -> bool {
        *self
            == Faults {
                seed: self.seed,
                ..Faults::default()
            }
    }

    /// Sets what `key` names; false if it names nothing here.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<bool, &'static str> {
        match key {
            "loss" => self.loss = chance(value)?,
            "reorder" => self.reorder = chance(value)?,
            "duplicate" => self.duplicate = chance(value)?,
            "corrupt" => self.corrupt = chance(value)?,
            "delay" => self.delay = delay(value)?,
            "rate" => self.rate = rate(value)?,
            "seed" => self.seed = value.parse().map_err(|_| "seed is a whole number")?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, chance) in [
            ("loss", self.loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
        ] {
            if chance != Chance::NEVER {
                write!(f, ",{key}={chance}")?;
            }
        }
        if !self.delay.is_zero() {
            write!(f, ",delay={}ns", self.delay.as_nanos())?;
        }
        if self.rate != 0 {
            write!(f, ",rate={}", self.rate)?;
        }
        if self.seed != 0 {
            write!(f, ",seed={}", self.seed)?;
        }
        Ok(())
    }
}

/// How often something happens, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// Never.
    pub const NEVER: Chance = Chance(0);

    /// So many times in a million; at most always.
    pub fn per_million(times: u32) -> Chance {
        Chance(times.min(1_000_000))
    }

    /// How many times in a million.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        if rest == 0 {
            return write!(f, "{whole}%");
        }
        let rest = format!("{rest:04}");
        write!(f, "{whole}.{}%", rest.trim_end_matches('0'))
    }
}

fn chance(value: &str) -> Result<Chance, &'static str> {
    const FIX: &str = "a share of the frames is 0% to 100%, with up to four decimals";
    let number = value.strip_suffix('%').ok_or(FIX)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 4 {
        return Err(FIX);
    }
    let whole: u32 = whole.parse().map_err(|_| FIX)?;
    let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| FIX)?;
    match whole
        .checked_mul(10_000)
        .and_then(|w| w.checked_add(decimals))
    {
        Some(millionths) if millionths <= 1_000_000 => Ok(Chance(millionths)),
        _ => Err(FIX),
    }
}

/// Longer ones would be a broken link, not a bad one.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

fn delay(value: &str) -> Result<Duration, &'static str> {
    const FIX: &str = "delay is a whole number of ns, us, ms or s, up to 10s";
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let nanos = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return Err(FIX),
    };
    let number: u64 = number.parse().map_err(|_| FIX)?;
    let delay = Duration::from_nanos(number.checked_mul(nanos).ok_or(FIX)?);
    (delay <= LONGEST_DELAY).then_some(delay).ok_or(FIX)
}

fn rate(value: &str) -> Result<u64, &'static str> {
    const FIX: &str =
        "rate is bits per second, at least 1k: a whole number, with k, M or G if you like";
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let unit = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err(FIX),
    };
    let number: u64 = number.parse().map_err(|_| FIX)?;
    let rate = number.checked_mul(unit).ok_or(FIX)?;
    (rate >= 1_000).then_some(rate).ok_or(FIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Faults, &'static str> {
        let mut faults = Faults::default();
        for word in words.split(',') {
            let (key, value) = word.split_once('=').unwrap();
            assert!(faults.set(key, value)?, "{key}");
        }
        Ok(faults)
    }

    /// Every number is read in its unit.
    #[test]
    fn words_become_numbers() {
        let faults = read("loss=1%,reorder=100%,duplicate=0.5%,corrupt=0.0001%").unwrap();
        let shares = [
            faults.loss,
            faults.reorder,
            faults.duplicate,
            faults.corrupt,
        ];
        assert_eq!(
            shares.map(Chance::millionths),
            [10_000, 1_000_000, 5_000, 1]
        );
        let faults = read("delay=250us,rate=100M,seed=7").unwrap();
        assert_eq!(faults.delay, Duration::from_micros(250));
        assert_eq!((faults.rate, faults.seed), (100_000_000, 7));
    }

    /// What is no share, time or rate is refused with what would do.
    #[test]
    fn wrong_numbers_are_refused() {
        for share in [
            "1",
            "101%",
            "%",
            "1.%",
            ".1%",
            "-1%",
            "0.00001%",
            "99999999999%",
            "1e1%",
        ] {
            let fix = read(&format!("loss={share}")).unwrap_err();
            assert!(fix.contains("0% to 100%"), "{share}");
        }
        for delay in ["5", "ms", "11s", "5min", "-1ms", "99999999999999999999s"] {
            let fix = read(&format!("delay={delay}")).unwrap_err();
            assert!(fix.contains("up to 10s"), "{delay}");
        }
        for rate in ["0", "999", "1K", "M", "1.5G", "99999999999G"] {
            let fix = read(&format!("rate={rate}")).unwrap_err();
            assert!(fix.contains("bits per second"), "{rate}");
        }
        assert_eq!(read("seed=x"), Err("seed is a whole number"));
    }
}
