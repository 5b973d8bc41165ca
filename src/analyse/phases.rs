//! Whose cycles a function's are: rules from names to phases, as a table.
//!
//! In: a function's name and module; out: a phase, or `None` where no rule speaks. Rules are read from top to bottom,
//! the first that fits decides. A stack's phase is that of its innermost frame with one: `memcpy` is a copy wherever it
//! is called from, a helper without a rule belongs to its caller. The table covers the kernel's network path, libc and
//! this project's own servers.

/// The phase of a stack in which no rule spoke.
pub const UNKNOWN: &str = "unknown";
/// The phase of every stack sampled while its thread polled for nothing.
pub const POLL: &str = "poll";

enum Is {
    /// The name itself.
    Exactly(&'static str),
    /// The name's beginning.
    Begins(&'static str),
    /// Any part of the name.
    Has(&'static str),
}
use Is::{Begins, Exactly, Has};

/// Rules for user code of any module.
const USER: &[(Is, &str)] = &[
    (Begins("memcpy"), "copy"),
    (Begins("__memcpy"), "copy"),
    (Begins("memmove"), "copy"),
    (Begins("__memmove"), "copy"),
    (Has("::copy_from_slice"), "copy"),
    (Has("::copy_nonoverlapping"), "copy"),
    (Exactly("malloc"), "alloc"),
    (Exactly("free"), "alloc"),
    (Exactly("realloc"), "alloc"),
    (Exactly("calloc"), "alloc"),
    (Begins("_int_malloc"), "alloc"),
    (Begins("_int_free"), "alloc"),
    (Begins("__rust_alloc"), "alloc"),
    (Begins("__rust_dealloc"), "alloc"),
    (Begins("alloc::alloc::"), "alloc"),
    (Begins("pthread_mutex_"), "sync"),
    (Begins("pthread_spin_"), "sync"),
    (Begins("pthread_cond_"), "sync"),
    (Begins("__lll_lock_wait"), "sync"),
    (Has("::sync::mutex::"), "sync"),
    (Has("checksum"), "csum"),
    (Begins("stack_netio::"), "driver_rx"),
    (Has("tx_burst"), "driver_tx"),
    (Has("rx_burst"), "driver_rx"),
    (Has("tcp_timer"), "tcp_timer"),
    (Has("tcp_output"), "tcp_tx"),
    (Has("tcp_input"), "tcp_rx"),
    (Begins("stack_tcp::wire::"), "eth_ip"),
    (Begins("stack_tcp::"), "tcp_rx"),
    (Has("::process_side_ring"), "poll.side"),
    (Has("::process_dispatch_ring"), "poll"),
    (Has("::process_msg_ring"), "poll"),
    (
        Begins("stack_fstack::main_loop::Stack<D>::main_loop"),
        "poll",
    ),
    (Begins("stack_fstack::main_loop::Stack<D>::round"), "poll"),
    (
        Begins("stack_fstack::main_loop::Stack<D>::tick"),
        "tcp_timer",
    ),
    (
        Begins("stack_fstack::main_loop::Stack<D>::receive"),
        "eth_ip",
    ),
    (Begins("stack_fstack::"), "api"),
    (Begins("httpjob::"), "app"),
    (Begins("httpd::"), "app"),
];

/// Rules for kernel code; what none of them names is `kernel_syscall` if a system call led there, else `irq`.
const KERNEL: &[(Is, &str)] = &[
    (Has("poll_idle"), "idle"),
    (Begins("cpuidle_"), "idle"),
    (Begins("default_idle"), "idle"),
    (Begins("pv_native_safe_halt"), "idle"),
    (Begins("csum_"), "csum"),
    (Has("csum_partial"), "csum"),
    (Begins("__tcp_transmit_skb"), "tcp_tx"),
    (Begins("tcp_write_xmit"), "tcp_tx"),
    (Begins("tcp_sendmsg"), "tcp_tx"),
    (Begins("tcp_send_ack"), "ack_only"),
    (Begins("__tcp_send_ack"), "ack_only"),
    (Begins("tcp_keepalive_timer"), "tcp_timer"),
    (Begins("tcp_write_timer"), "tcp_timer"),
    (Begins("tcp_delack_timer"), "tcp_timer"),
    (Begins("tcp_"), "tcp_rx"),
    (Begins("__tcp_"), "tcp_rx"),
    (Begins("copy_"), "copy"),
    (Begins("_copy_"), "copy"),
    (Begins("rep_movs"), "copy"),
    (Begins("skb_copy_datagram"), "copy"),
    (Begins("memcpy"), "copy"),
    (Begins("kmem_cache_"), "alloc"),
    (Begins("__alloc_skb"), "alloc"),
    (Begins("kfree"), "alloc"),
    (Begins("__kmalloc"), "alloc"),
    (Begins("skb_release"), "alloc"),
    (Begins("clear_page"), "alloc"),
    (Begins("_raw_spin_"), "sync"),
    (Begins("futex_"), "sync"),
    (Begins("try_to_wake_up"), "sync"),
    (Begins("schedule"), "sync"),
    (Begins("__schedule"), "sync"),
    (Begins("ip_"), "eth_ip"),
    (Begins("__ip_"), "eth_ip"),
    (Begins("nf_"), "eth_ip"),
    (Begins("eth_"), "eth_ip"),
    (Begins("__netif_receive_skb"), "eth_ip"),
    (Begins("process_backlog"), "driver_rx"),
    (Begins("napi_"), "driver_rx"),
    (Begins("veth_poll"), "driver_rx"),
    (Begins("veth_xmit"), "driver_tx"),
    (Begins("dev_hard_start_xmit"), "driver_tx"),
    (Begins("__dev_queue_xmit"), "driver_tx"),
    (Begins("packet_rcv"), "driver_rx"),
    (Begins("tpacket_rcv"), "driver_rx"),
    (Begins("ep_"), "api"),
    (Begins("__sys_accept"), "api"),
    (Begins("inet_"), "api"),
    (Begins("sock_"), "api"),
    (Begins("asm_common_interrupt"), "irq"),
    (Begins("asm_sysvec_"), "irq"),
    (Begins("handle_softirqs"), "irq"),
    (Begins("do_syscall_64"), "kernel_syscall"),
    (Begins("el0_svc"), "kernel_syscall"),
    (Begins("entry_SYSCALL_64"), "kernel_syscall"),
    (Begins("__x64_sys_"), "kernel_syscall"),
    (Begins("asm_exc_page_fault"), "alloc"),
    (Begins("ret_from_fork"), "other"),
];

/// The phase of a function, if a rule speaks about it.
pub fn phase_of(name: &str, kernel: bool) -> Option<&'static str> {
    let rules = if kernel { KERNEL } else { USER };
    let fits = |is: &Is| match is {
        Exactly(word) => name == *word,
        Begins(word) => {
            name.starts_with(word) || name.strip_prefix('<').is_some_and(|n| n.starts_with(word))
        }
        Has(word) => name.contains(word),
    };
    rules
        .iter()
        .find(|(is, _)| fits(is))
        .map(|&(_, phase)| phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernel and user rules are apart, and unknown code is not guessed at.
    #[test]
    fn rules() {
        assert_eq!(phase_of("tcp_ack", true), Some("tcp_rx"));
        assert_eq!(phase_of("tcp_ack", false), None);
        assert_eq!(phase_of("memcpy", false), Some("copy"));
        assert_eq!(
            phase_of("<httpd::linux::Server as X>::run", false),
            Some("app")
        );
        assert_eq!(phase_of("my_function", false), None);
    }

    /// Every phase in the table has a colour of its own in pictures.
    #[test]
    fn phases_have_colours() {
        for (_, phase) in USER.iter().chain(KERNEL) {
            assert_ne!(
                flamegraphs::colour_of(phase),
                flamegraphs::UNKNOWN_COLOUR,
                "{phase}"
            );
        }
    }
}
