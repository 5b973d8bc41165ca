//! Entries of the queues, with the meaning TAS gave them.
//!
//! In: words from shared memory, which may be anything; out: values, or `None` for words that mean nothing. An ARX
//! entry tells the application how far received data and acknowledgements have come, an ATX entry tells the fast path
//! how far the application has read and written. It refuses to know whether the numbers fit.

/// The name an application gave a flow: an index, and a generation so that a name is not taken for its successor's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Opaque {
    /// A place in the application's table.
    pub index: u32,
    /// Which of those that had the place.
    pub generation: u16,
}

impl Opaque {
    fn to_word(self) -> u64 {
        u64::from(self.index) | (u64::from(self.generation) << 32)
    }

    fn from_word(word: u64) -> Opaque {
        Opaque {
            index: word as u32,
            generation: (word >> 32) as u16,
        }
    }
}

/// A flow's name in the service, with the same precaution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowId {
    /// A place in the service's table.
    pub index: u32,
    /// Which of those that had the place.
    pub generation: u16,
}

/// 32 bytes from a fast-path core to an application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arx {
    /// Whose news these are.
    pub opaque: Opaque,
    /// Bytes that were received in order since the last entry.
    pub rx_bump: u32,
    /// Bytes that were acknowledged since the last entry.
    pub tx_bump: u32,
    /// The peer sends no more.
    pub fin: bool,
    /// Counter when the frame was received; 0: not known.
    pub received: u64,
    /// Counter when the entry was written; 0: not known.
    pub written: u64,
}

const CONN_UPDATE: u64 = 2;
const FIN: u64 = 1;

impl Arx {
    /// As words.
    pub fn to_words(self) -> [u64; 4] {
        let flags = if self.fin { FIN } else { 0 };
        [
            self.opaque.to_word() | (CONN_UPDATE << 56) | (flags << 48),
            u64::from(self.rx_bump) | (u64::from(self.tx_bump) << 32),
            self.received,
            self.written,
        ]
    }

    /// From words.
    pub fn from_words(words: [u64; 4]) -> Option<Arx> {
        (words[0] >> 56 == CONN_UPDATE).then(|| Arx {
            opaque: Opaque::from_word(words[0]),
            rx_bump: words[1] as u32,
            tx_bump: (words[1] >> 32) as u32,
            fin: (words[0] >> 48) & FIN != 0,
            received: words[2],
            written: words[3],
        })
    }
}

/// 16 bytes from an application to a fast-path core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Atx {
    /// Which flow.
    pub flow: FlowId,
    /// Bytes of the receive ring that were read since the last entry.
    pub rx_bump: u32,
    /// Bytes that were written into the transmit ring since the last entry.
    pub tx_bump: u32,
    /// Nothing more will be written.
    pub done: bool,
}

impl Atx {
    /// As words.
    pub fn to_words(self) -> [u64; 2] {
        let flags = if self.done { FIN } else { 0 };
        let name = u64::from(self.flow.index) | (u64::from(self.flow.generation) << 32);
        [
            name | (CONN_UPDATE << 56) | (flags << 48),
            u64::from(self.rx_bump) | (u64::from(self.tx_bump) << 32),
        ]
    }

    /// From words.
    pub fn from_words(words: [u64; 2]) -> Option<Atx> {
        (words[0] >> 56 == CONN_UPDATE).then(|| Atx {
            flow: FlowId {
                index: words[0] as u32,
                generation: (words[0] >> 32) as u16,
            },
            rx_bump: words[1] as u32,
            tx_bump: (words[1] >> 32) as u32,
            done: (words[0] >> 48) & FIN != 0,
        })
    }
}

/// 64 bytes from an application to the slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelIn {
    /// Take connections on a port; at most so many may wait.
    Listen {
        /// The port.
        port: u16,
        /// How many.
        backlog: u32,
    },
    /// Take the next connection of a port under this name.
    Accept {
        /// The port.
        port: u16,
        /// The name.
        opaque: Opaque,
    },
    /// The application is through with a flow: its rings are not looked at any more.
    Close {
        /// Which.
        flow: FlowId,
    },
}

impl KernelIn {
    /// As words.
    pub fn to_words(self) -> [u64; 8] {
        let mut words = [0; 8];
        match self {
            KernelIn::Listen { port, backlog } => {
                words[..3].copy_from_slice(&[1, u64::from(port), u64::from(backlog)]);
            }
            KernelIn::Accept { port, opaque } => {
                words[..3].copy_from_slice(&[2, u64::from(port), opaque.to_word()]);
            }
            KernelIn::Close { flow } => {
                words[0] = 3;
                words[1] = u64::from(flow.index) | (u64::from(flow.generation) << 32);
            }
        }
        words
    }

    /// From words.
    pub fn from_words(words: [u64; 8]) -> Option<KernelIn> {
        let port = words[1] as u16;
        match words[0] {
            1 => Some(KernelIn::Listen {
                port,
                backlog: words[2] as u32,
            }),
            2 => Some(KernelIn::Accept {
                port,
                opaque: Opaque::from_word(words[2]),
            }),
            3 => Some(KernelIn::Close {
                flow: FlowId {
                    index: words[1] as u32,
                    generation: (words[1] >> 32) as u16,
                },
            }),
            _ => None,
        }
    }
}

/// 64 bytes from the slow path to an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelOut {
    /// The port is listened on, or why it is not: 0 done, 1 in use by another application.
    Listening {
        /// The port.
        port: u16,
        /// How it went.
        status: u8,
    },
    /// A connection waits to be accepted.
    NewConn {
        /// On which port.
        port: u16,
    },
    /// A connection is there.
    Accepted {
        /// The name from its `Accept`.
        opaque: Opaque,
        /// Its name in the service.
        flow: FlowId,
        /// Whose rings it has.
        slot: u32,
        /// Which core serves it.
        core: u8,
        /// The peer's address.
        peer: u32,
        /// The peer's port.
        peer_port: u16,
    },
    /// A connection has ended before its time; it has to be closed still.
    Reset {
        /// Which.
        opaque: Opaque,
        /// The peer was silent for too long, rather than having reset it.
        timeout: bool,
    },
}

impl KernelOut {
    /// As words.
    pub fn to_words(self) -> [u64; 8] {
        let mut words = [0; 8];
        let values: &[u64] = match self {
            KernelOut::Listening { port, status } => &[1, u64::from(port), u64::from(status)],
            KernelOut::NewConn { port } => &[2, u64::from(port)],
            KernelOut::Accepted {
                opaque,
                flow,
                slot,
                core,
                peer,
                peer_port,
            } => &[
                3,
                opaque.to_word(),
                u64::from(flow.index) | (u64::from(flow.generation) << 32),
                u64::from(slot) | (u64::from(core) << 32),
                u64::from(peer) | (u64::from(peer_port) << 32),
            ],
            KernelOut::Reset { opaque, timeout } => &[4, opaque.to_word(), u64::from(timeout)],
        };
        words[..values.len()].copy_from_slice(values);
        words
    }

    /// From words.
    pub fn from_words(words: [u64; 8]) -> Option<KernelOut> {
        match words[0] {
            1 => Some(KernelOut::Listening {
                port: words[1] as u16,
                status: words[2] as u8,
            }),
            2 => Some(KernelOut::NewConn {
                port: words[1] as u16,
            }),
            3 => Some(KernelOut::Accepted {
                opaque: Opaque::from_word(words[1]),
                flow: FlowId {
                    index: words[2] as u32,
                    generation: (words[2] >> 32) as u16,
                },
                slot: words[3] as u32,
                core: (words[3] >> 32) as u8,
                peer: words[4] as u32,
                peer_port: (words[4] >> 32) as u16,
            }),
            4 => Some(KernelOut::Reset {
                opaque: Opaque::from_word(words[1]),
                timeout: words[2] != 0,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any words are an entry or none, and an entry's words read back as itself.
        #[test]
        fn words_round_trip(words in any::<[u64; 8]>(), kind in 0u64..6) {
            let mut words = words;
            if let Some(arx) = Arx::from_words([words[0] & (u64::MAX >> 8) | 2 << 56, words[1], words[2], words[3]]) {
                prop_assert_eq!(Arx::from_words(arx.to_words()), Some(arx));
            }
            if let Some(atx) = Atx::from_words([words[0] & (u64::MAX >> 8) | 2 << 56, words[1]]) {
                prop_assert_eq!(Atx::from_words(atx.to_words()), Some(atx));
            }
            words[0] = kind;
            if let Some(entry) = KernelIn::from_words(words) {
                prop_assert_eq!(KernelIn::from_words(entry.to_words()), Some(entry));
            }
            if let Some(entry) = KernelOut::from_words(words) {
                prop_assert_eq!(KernelOut::from_words(entry.to_words()), Some(entry));
            }
        }
    }
}
