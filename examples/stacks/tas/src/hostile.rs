//! Tests of a whole service with applications that write whatever they like into the memory they share with it.

use crate::client::{Context, ContextConfig, Gone, listen};
use crate::config::ServiceConfig;
use crate::entry::{Arx, Atx, FlowId, KernelIn, KernelOut, Opaque};
use crate::service::Service;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stack_netio::{Device, RxFrame};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// A link with nobody on it.
struct Silence;

impl Device for Silence {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 2]
    }
    fn mtu(&self) -> u16 {
        1500
    }
    fn rx_burst(&mut self, _max: usize) -> usize {
        0
    }
    fn rx_frame(&self, _index: usize) -> RxFrame<'_> {
        RxFrame {
            bytes: &[],
            checksum_ok: false,
        }
    }
    fn rx_release(&mut self) {}
    fn tx_frame(&mut self, _len: usize) -> Option<&mut [u8]> {
        None
    }
    fn tx_queued(&self) -> usize {
        0
    }
    fn tx_burst(&mut self) -> usize {
        0
    }
    fn rx_dropped(&mut self) -> u64 {
        0
    }
}

fn small() -> ContextConfig {
    ContextConfig {
        connections: 16,
        spin: Duration::ZERO,
        ..ContextConfig::default()
    }
}

/// Runs `test` beside a service of two cores, which must be alive after it and end when it is told to.
fn beside_a_service(test: impl FnOnce(&crate::client::Address)) {
    let mut listening = listen(None).unwrap();
    let mut config = ServiceConfig::new([10, 123, 0, 2].into(), 24);
    config.spin = Duration::from_micros(50);
    config.slow_path_spins = false;
    let socket = listening.socket.take().unwrap();
    let service = Service::new(config, vec![Silence, Silence], socket).unwrap();
    let stopper = service.stopper();
    let running = thread::spawn(move || service.run());
    test(&listening.address);
    assert!(!running.is_finished());
    stopper.stop();
    running.join().unwrap().unwrap();
}

/// Calls `is` until it is so, but not for ever.
fn until(mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(1));
    }
}

/// What an application can do to its queues: any words anywhere in flags, positions and entries, and entries that are
/// well-formed and make no sense.
fn mischief() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let anywhere = (0usize..3 * 512, prop_oneof![any::<u64>(), 0u64..70_000]);
    prop::collection::vec(anywhere, 1..40)
}

/// Whatever an application writes, the service goes on and serves the others; the worst it gets is its own end.
#[test]
fn hostile_applications_harm_themselves_alone() {
    beside_a_service(|address| {
        let mut good = Context::attach(address, small()).unwrap();
        good.listen(8080, 16).unwrap();
        let mut runner = TestRunner::new(Config::with_cases(24));
        let outcome = runner.run(&mischief(), |words| {
            let mut bad = Context::attach(address, small()).unwrap();
            for (at, word) in words {
                bad.region().word(at * 8).store(word, Ordering::Relaxed);
                let _ = bad.tas_epoll_wait(&mut [], Duration::ZERO);
            }
            thread::sleep(Duration::from_millis(2));
            let other = Context::attach(address, small());
            prop_assert!(other.unwrap().listen(9090, 1).is_ok());
            Ok(())
        });
        outcome.unwrap();
        assert_eq!(good.tas_epoll_wait(&mut [], Duration::ZERO), Ok(0));
    });
}

/// Well-formed entries for flows that there are not, or are another's, change nothing.
#[test]
fn entries_for_strangers_flows_change_nothing() {
    beside_a_service(|address| {
        let mut bad = Context::attach(address, small()).unwrap();
        for index in [0, 1, 1000, 131_071, u32::MAX] {
            for generation in [0, 1, u16::MAX] {
                let flow = FlowId { index, generation };
                let atx = Atx {
                    flow,
                    rx_bump: 1,
                    tx_bump: u32::MAX,
                    done: true,
                };
                bad.publish(atx);
                bad.call(KernelIn::Close { flow });
            }
        }
        let opaque = Opaque {
            index: u32::MAX,
            generation: 7,
        };
        bad.call(KernelIn::Accept { port: 1, opaque });
        assert!(bad.listen(8080, u32::MAX).is_ok());
    });
}

/// A position that cannot be ends the context of whoever wrote it; the service takes the next one in its place.
#[test]
fn corrupt_positions_end_the_context() {
    beside_a_service(|address| {
        for _ in 0..40 {
            let mut bad = Context::attach(address, small()).unwrap();
            let head = bad.layout().atx(1).head;
            bad.region()
                .word(head)
                .store(u64::MAX / 2, Ordering::Relaxed);
            bad.region()
                .word(bad.layout().kernel_in().head)
                .store(1 << 40, Ordering::Relaxed);
            until(|| {
                let answer = bad.tas_epoll_wait(&mut [], Duration::from_millis(1));
                answer == Err(Gone::Dead)
            });
        }
    });
}

/// What a service writes is looked at with the same eyes: nonsense is an error for the application, no panic.
#[test]
fn applications_refuse_a_hostile_service() {
    beside_a_service(|address| {
        let opaque = Opaque {
            index: 3,
            generation: 0,
        };
        let accepted = KernelOut::Accepted {
            opaque,
            flow: FlowId::default(),
            slot: 99,
            core: 200,
            peer: 1,
            peer_port: 1,
        };
        let arx = Arx {
            opaque,
            rx_bump: u32::MAX,
            ..Arx::default()
        };
        // News of names that were never given are nobody's; connections under such names are nonsense.
        let mut app = Context::attach(address, small()).unwrap();
        app.forge_arx(arx.to_words());
        assert_eq!(app.tas_epoll_wait(&mut [], Duration::ZERO), Ok(0));
        for words in [accepted.to_words(), [u64::MAX; 8]] {
            let mut app = Context::attach(address, small()).unwrap();
            app.forge_kernel_out(words);
            assert_eq!(
                app.tas_epoll_wait(&mut [], Duration::ZERO),
                Err(Gone::Nonsense)
            );
        }
        let mut app = Context::attach(address, small()).unwrap();
        app.forge_arx([u64::MAX; 4]);
        assert_eq!(
            app.tas_epoll_wait(&mut [], Duration::ZERO),
            Err(Gone::Nonsense)
        );
    });
}

/// Attaching sizes that are out of bounds, or more often than there are contexts, is refused; who goes makes room.
#[test]
fn contexts_are_bounded() {
    beside_a_service(|address| {
        let wild = ContextConfig {
            rx: 1 << 20,
            ..small()
        };
        assert!(Context::attach(address, wild).is_err());
        let mut all: Vec<_> = (0..16)
            .map(|_| Context::attach(address, small()).unwrap())
            .collect();
        assert!(Context::attach(address, small()).is_err());
        all.pop();
        until(|| Context::attach(address, small()).is_ok());
    });
}
