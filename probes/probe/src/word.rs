//! How a hot path finds a thread's own words: two instructions, which stable Rust has no way to say.
//!
//! In: the name of an initial-exec thread-local symbol that a C file defines; out: its address for the calling thread.

/// The address of the calling thread's own `$symbol`; on machines whose thread pointer is not known here, what `$else`
/// returns. To be used in an `unsafe` block: the symbol must be defined, thread-local and initial-exec.
#[doc(hidden)]
#[macro_export]
macro_rules! thread_word {
    ($symbol:literal, $else:expr) => {{
        let address;
        // Reads the thread pointer and adds the symbol's offset, as a compiler does for initial-exec storage.
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            concat!("mov {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
            "add {0}, qword ptr fs:[0]",
            out(reg) address,
            options(pure, readonly, nostack)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "mrs {0}, tpidr_el0",
            concat!("adrp {1}, :gottprel:", $symbol),
            concat!("ldr {1}, [{1}, #:gottprel_lo12:", $symbol, "]"),
            "add {0}, {0}, {1}",
            out(reg) address,
            out(reg) _,
            options(pure, readonly, nostack, preserves_flags)
        );
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            address = $else;
        }
        address
    }};
}

/// The value of the calling thread's own `$symbol`, a word as wide as a pointer: one instruction less than through its
/// address. To be used like [`thread_word`](crate::thread_word).
#[doc(hidden)]
#[macro_export]
macro_rules! thread_value {
    ($symbol:literal, $else:expr) => {{
        let value;
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            concat!("mov {0}, qword ptr [rip + ", $symbol, "@GOTTPOFF]"),
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) value,
            options(pure, readonly, nostack, preserves_flags)
        );
        #[cfg(not(target_arch = "x86_64"))]
        {
            let address: *const core::cell::Cell<_> = $crate::thread_word!($symbol, $else);
            value = (*address).get();
        }
        value
    }};
}
