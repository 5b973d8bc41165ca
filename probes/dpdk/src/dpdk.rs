//! What of DPDK is needed, found by name in the running program.
//!
//! In: names; out: addresses, the library's version, and where in the table of burst functions things lie in that
//! version. A version that is not known here is refused: a wrong guess would break the program.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::OnceLock;

/// Bytes of a port in the table.
const PORT_BYTES: usize = 128;
/// The lcore of a thread that is none.
const NO_LCORE: u32 = u32::MAX;
/// 1: burst functions stay as they are, and bursts are seen by callbacks.
const CALLBACKS_VARIABLE: &str = "BYPASSPROF_DPDK_CALLBACKS";
/// Room for a port's name, as DPDK asks for.
const NAME_BYTES: usize = 64;

/// A function of DPDK's that this library stands in front of.
pub struct Real {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Real {
    pub const fn new(name: &'static CStr) -> Real {
        Real {
            name,
            found: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The function behind ours.
    pub fn get(&self) -> Option<*mut c_void> {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return Some(known);
        }
        // SAFETY: the name ends with a zero byte.
        let mut found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            found = in_loaded_library(self.name)?;
        }
        self.found.store(found, Ordering::Relaxed);
        Some(found)
    }
}

/// A symbol of the program or of the libraries it was started with.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a zero byte.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() {
        in_loaded_library(name)
    } else {
        Some(found)
    }
}

/// A symbol of a DPDK that the program loaded later, for itself alone.
fn in_loaded_library(name: &CStr) -> Option<*mut c_void> {
    struct Search {
        name: *const c_char,
        found: *mut c_void,
    }
    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
        // SAFETY: the loader hands out a valid entry, `data` is the search below, and NOLOAD opens nothing new.
        unsafe {
            let search = &mut *data.cast::<Search>();
            let path = (*info).dlpi_name;
            if path.is_null()
                || !CStr::from_ptr(path)
                    .to_bytes()
                    .windows(7)
                    .any(|w| w == b"librte_")
            {
                return 0;
            }
            let library = libc::dlopen(path, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if !library.is_null() {
                search.found = libc::dlsym(library, search.name);
                libc::dlclose(library);
            }
            c_int::from(!search.found.is_null())
        }
    }
    let mut search = Search {
        name: name.as_ptr(),
        found: core::ptr::null_mut(),
    };
    // SAFETY: the callback gets the search, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut search).cast()) };
    (!search.found.is_null()).then_some(search.found)
}

/// Where things lie in a port's part of the table, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub rx_burst: usize,
    pub rx_data: usize,
    pub tx_burst: usize,
    pub tx_data: usize,
}

/// DPDK 21.11 to 23.07.
pub const FUNCTIONS_FIRST: Layout = Layout {
    rx_burst: 0,
    rx_data: 24,
    tx_burst: 64,
    tx_data: 88,
};
/// DPDK 23.11 to 25.11.
pub const DATA_FIRST: Layout = Layout {
    rx_burst: 16,
    rx_data: 0,
    tx_burst: 80,
    tx_data: 64,
};

impl Layout {
    /// The layout in a version, by its text (`DPDK 22.11.11`).
    pub fn of_version(text: &str) -> Option<Layout> {
        let numbers = text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let mut parts = numbers.split(['.', '-']);
        let year: u32 = parts.next()?.parse().ok()?;
        let month: u32 = parts.next()?.parse().ok()?;
        match (year, month) {
            (21, 11) | (22, _) | (23, 1..=7) => Some(FUNCTIONS_FIRST),
            (23, 8..) | (24, _) | (25, 1..=11) => Some(DATA_FIRST),
            _ => None,
        }
    }
}

/// The table of burst functions.
#[derive(Debug)]
pub struct Table {
    start: *mut u8,
    ports: usize,
    layout: Layout,
    /// Where the library's own code is: functions in it stand for ports that are not started.
    own: *mut c_void,
    /// Whether that is the program's file, with drivers in it as well.
    built_in: bool,
    /// What stands in the table for a port that is not started.
    idle: [*mut c_void; 3],
}

// SAFETY: addresses of memory that belongs to the process and stays (`pin`).
unsafe impl Send for Table {}
// SAFETY: as above; it is only handed out as atomic words.
unsafe impl Sync for Table {}

/// Whether the program has a DPDK whose table may not be touched: its version is not known here, or someone wants it so.
pub fn has_callbacks_only() -> bool {
    static ONLY: OnceLock<bool> = OnceLock::new();
    *ONLY.get_or_init(|| {
        symbol(c"rte_eth_add_rx_callback").is_some() && (wants_callbacks() || find().is_none())
    })
}

fn wants_callbacks() -> bool {
    std::env::var_os(CALLBACKS_VARIABLE).is_some_and(|v| v == "1")
}

/// A function of DPDK's by name.
pub fn function(name: &CStr) -> Option<*mut c_void> {
    symbol(name)
}

/// The table of the program's DPDK; `None` without DPDK, or with a version whose table is not known.
pub fn table() -> Option<&'static Table> {
    static TABLE: OnceLock<Option<Table>> = OnceLock::new();
    TABLE
        .get_or_init(|| find().filter(|_| !wants_callbacks()))
        .as_ref()
}

fn find() -> Option<Table> {
    let start = symbol(c"rte_eth_fp_ops")?;
    let version = symbol(c"rte_version")?;
    // SAFETY: DPDK declares it so in every version; the text is a constant.
    let text = unsafe {
        let version: extern "C" fn() -> *const c_char = core::mem::transmute(version);
        CStr::from_ptr(version())
    };
    let layout = Layout::of_version(text.to_str().ok()?)?;
    let code = symbol(c"rte_eth_dev_get_name_by_port")?;
    pin(code);
    let mut table = Table {
        start: start.cast(),
        ports: bytes_of(start) / PORT_BYTES,
        layout,
        own: object_of(code)?,
        built_in: is_program(code),
        idle: [core::ptr::null_mut(); 3],
    };
    let last = table.ports.checked_sub(1)?;
    let idle = [table.rx_burst(last), table.tx_burst(last)].map(|w| w.load(Ordering::Relaxed));
    let dummy = symbol(c"rte_eth_pkt_burst_dummy").unwrap_or_default();
    table.idle = [idle[0], idle[1], dummy];
    Some(table)
}

/// Whether an address lies in the program's own file.
fn is_program(address: *mut c_void) -> bool {
    // SAFETY: the kernel's word on where the program begins its life.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) } as *mut c_void;
    object_of(address).is_some_and(|object| Some(object) == object_of(entry))
}

/// Whether the program has DPDK built in and lets others use it: this library was loaded by it then, not preloaded.
pub fn is_built_in() -> bool {
    symbol(c"rte_eth_fp_ops").is_some() && symbol(c"rte_eth_dev_start").is_some_and(is_program)
}

/// Keeps a library mapped: its table is looked at for as long as the program runs.
fn pin(address: *mut c_void) {
    // SAFETY: dladdr fills the structure with names that live as long as the object; NOLOAD opens nothing new.
    unsafe {
        let mut info: libc::Dl_info = core::mem::zeroed();
        if libc::dladdr(address, &mut info) != 0 && !info.dli_fname.is_null() {
            let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            libc::dlopen(info.dli_fname, flags);
        }
    }
}

/// The start of the object that an address lies in.
fn object_of(address: *mut c_void) -> Option<*mut c_void> {
    // SAFETY: dladdr fills the structure.
    unsafe {
        let mut info: libc::Dl_info = core::mem::zeroed();
        (libc::dladdr(address, &mut info) != 0).then_some(info.dli_fbase)
    }
}

unsafe extern "C" {
    fn dladdr1(
        address: *const c_void,
        info: *mut libc::Dl_info,
        extra: *mut *mut c_void,
        flags: c_int,
    ) -> c_int;
}
const RTLD_DL_SYMENT: c_int = 1;

/// The size of a symbol, as its object says.
fn bytes_of(address: *mut c_void) -> usize {
    // SAFETY: dladdr1 fills both; the entry lies in the object's own table.
    unsafe {
        let mut info: libc::Dl_info = core::mem::zeroed();
        let mut entry: *mut c_void = core::ptr::null_mut();
        if dladdr1(address, &mut info, &mut entry, RTLD_DL_SYMENT) == 0 || entry.is_null() {
            return 0;
        }
        (*entry.cast::<libc::Elf64_Sym>()).st_size as usize
    }
}

impl Table {
    /// Ports there can be.
    pub fn ports(&self) -> usize {
        self.ports
    }

    /// The pointer to a port's receive function.
    pub fn rx_burst(&self, port: usize) -> &AtomicPtr<c_void> {
        self.word(port, self.layout.rx_burst)
    }

    /// The pointer to a port's transmit function.
    pub fn tx_burst(&self, port: usize) -> &AtomicPtr<c_void> {
        self.word(port, self.layout.tx_burst)
    }

    /// Whether a function is a driver's, not what stands there while a port is not started.
    pub fn is_drivers(&self, function: *mut c_void) -> bool {
        !function.is_null()
            && !self.idle.contains(&function)
            && (self.built_in || object_of(function).is_some_and(|o| o != self.own))
    }

    /// The number of a queue by its data, which is what burst functions are given.
    pub fn queue_of(&self, port: usize, receives: bool, data: *mut c_void) -> Option<u16> {
        const MOST: usize = 1024;
        let offset = if receives {
            self.layout.rx_data
        } else {
            self.layout.tx_data
        };
        let queues: *const *mut c_void = self.word(port, offset).load(Ordering::Relaxed).cast();
        if queues.is_null() || data.is_null() {
            return None;
        }
        // SAFETY: DPDK gives every port an array of RTE_MAX_QUEUES_PER_PORT (1024) pointers, and the data that a burst
        // function was just given comes from it, so that the search ends there.
        (0..MOST)
            .find(|&at| unsafe { *queues.add(at) } == data)
            .map(|at| at as u16)
    }

    fn word(&self, port: usize, offset: usize) -> &AtomicPtr<c_void> {
        let at = port.min(self.ports.saturating_sub(1)) * PORT_BYTES + offset;
        // SAFETY: the table has so many ports by its symbol's size, each of them 128 bytes of words on any version that
        // `Layout` knows, and stays mapped.
        unsafe { &*self.start.add(at).cast() }
    }
}

/// A port's name; empty if DPDK does not say.
pub fn port_name(port: u16) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    if let Some(function) = symbol(c"rte_eth_dev_get_name_by_port") {
        // SAFETY: DPDK declares it so in every version and writes at most 64 bytes.
        unsafe {
            let function: extern "C" fn(u16, *mut c_char) -> c_int = core::mem::transmute(function);
            function(port, name.as_mut_ptr().cast());
        }
    }
    name
}

/// Where frames have the stamp that receiving devices give them, and the flag of those that have it; `None` before a
/// device or the program has asked for stamps.
pub fn stamps() -> Option<(i32, u64)> {
    #[repr(C)]
    struct Field {
        name: [u8; NAME_BYTES],
        size: usize,
        align: usize,
        flags: u32,
    }
    let offset = symbol(c"rte_mbuf_dynfield_lookup")?;
    let flag = symbol(c"rte_mbuf_dynflag_lookup")?;
    let mut field = Field {
        name: [0; NAME_BYTES],
        size: 0,
        align: 0,
        flags: 0,
    };
    // SAFETY: DPDK declares them so in every version that has the table, and takes a null pointer for what it need not tell.
    let (offset, bit) = unsafe {
        let offset: extern "C" fn(*const c_char, *mut Field) -> c_int =
            core::mem::transmute(offset);
        let flag: extern "C" fn(*const c_char, *mut c_void) -> c_int = core::mem::transmute(flag);
        (
            offset(c"rte_dynfield_timestamp".as_ptr(), &mut field),
            flag(c"rte_dynflag_rx_timestamp".as_ptr(), core::ptr::null_mut()),
        )
    };
    let fits = (0..=120).contains(&offset) && field.size == 8 && (0..64).contains(&bit);
    fits.then(|| (offset, 1 << bit))
}

/// The calling thread's lcore, if it is one.
pub fn lcore() -> Option<u32> {
    // SAFETY: DPDK declares a thread-local number of 32 bits; the loader gives the address of the calling thread's own.
    let number = unsafe { *symbol(c"per_lcore__lcore_id")?.cast::<u32>() };
    (number != NO_LCORE).then_some(number)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A table of so many ports, each with this driver's functions, and the memory that it lies in.
    pub fn table_of(ports: usize, driver: *mut c_void) -> (Table, Vec<[u64; PORT_BYTES / 8]>) {
        let mut words = vec![[0; PORT_BYTES / 8]; ports];
        for port in &mut words {
            for at in [FUNCTIONS_FIRST.rx_burst, FUNCTIONS_FIRST.tx_burst] {
                port[at / 8] = driver as u64;
            }
        }
        let table = Table {
            start: words.as_mut_ptr().cast(),
            ports,
            layout: FUNCTIONS_FIRST,
            own: core::ptr::null_mut(),
            built_in: true,
            idle: [core::ptr::null_mut(); 3],
        };
        (table, words)
    }

    /// Versions before and after the table was rearranged, and some that have none or are not known.
    #[test]
    fn versions() {
        for (text, layout) in [
            ("DPDK 21.11.0", Some(FUNCTIONS_FIRST)),
            ("DPDK 22.11.11", Some(FUNCTIONS_FIRST)),
            ("DPDK 23.07.0-rc2", Some(FUNCTIONS_FIRST)),
            ("DPDK 23.11.2", Some(DATA_FIRST)),
            ("DPDK 24.11.0", Some(DATA_FIRST)),
            ("DPDK 20.11.3", None),
            ("DPDK 27.03.0", None),
            ("", None),
        ] {
            assert_eq!(Layout::of_version(text), layout, "{text}");
        }
    }
}
