//! How much of DPDK's memory pools is in use. The telemetry of DPDK 22.11 does not tell it, nor does one that is switched off.
//!
//! In: the pools, which DPDK walks with its own lock held; out: what they are called, how many objects they have and how
//! many of those are free, in the queue file. A thread with packets never does this.

use crate::{counts, dpdk};
use bypassprof_wire::layout::{NAME_WORDS, name_words};
use bypassprof_wire::queues::POOLS;
use core::ffi::{CStr, c_char, c_uint, c_void};

/// Where a pool says how many objects it has; believed only if it fits what is counted.
const SIZE_AT: usize = 64;

type Count = extern "C" fn(*const c_void) -> c_uint;
type Each = unsafe extern "C" fn(*mut c_void, *mut c_void);

struct Seen {
    free: Count,
    used: Count,
    count: usize,
    pools: [([u64; NAME_WORDS], u64, u64); POOLS],
}

/// Looks at all pools. DPDK's memory must be there.
pub fn look() {
    let functions = [
        c"rte_mempool_walk",
        c"rte_mempool_avail_count",
        c"rte_mempool_in_use_count",
    ];
    let [Some(walk), Some(free), Some(used)] = functions.map(dpdk::function) else {
        return;
    };
    // SAFETY: DPDK declares them so in every version that has the table.
    let (walk, free, used) = unsafe {
        (
            core::mem::transmute::<*mut c_void, extern "C" fn(Each, *mut c_void)>(walk),
            core::mem::transmute::<*mut c_void, Count>(free),
            core::mem::transmute::<*mut c_void, Count>(used),
        )
    };
    let mut seen = Seen {
        free,
        used,
        count: 0,
        pools: Default::default(),
    };
    walk(each, (&raw mut seen).cast());
    counts::tell_pools(&seen.pools[..seen.count]);
}

unsafe extern "C" fn each(pool: *mut c_void, seen: *mut c_void) {
    // SAFETY: DPDK hands on the pointer that `look` gave it, to what lives as long as its call.
    let seen = unsafe { &mut *seen.cast::<Seen>() };
    let Some(place) = seen.pools.get_mut(seen.count) else {
        return;
    };
    // SAFETY: a pool begins with its name, which ends within its field, in every version that has the table.
    let name = unsafe { CStr::from_ptr(pool.cast::<c_char>()) }.to_bytes();
    let free = (seen.free)(pool);
    // Objects come and go between the two.
    let nearly = free.saturating_add((seen.used)(pool));
    // SAFETY: this word lies in the pool's own structure.
    let told = unsafe { pool.byte_add(SIZE_AT).cast::<u32>().read() };
    let size = if told.abs_diff(nearly) <= told / 8 {
        told
    } else {
        nearly
    };
    *place = (name_words(name), size.into(), free.into());
    seen.count += 1;
}
