//! What kernel-bypass stacks need of the machine.
//!
//! In: the machine's files; out: [`Check`]s.

use super::{Check, Root, State};

pub(super) fn checks(root: &Root) -> Vec<Check> {
    vec![hugepages(root), dpdk(root), shm(root)]
}

fn hugepages(root: &Root) -> Check {
    let id = "hugepages";
    let number = |key: &str| {
        let field = root.field("/proc/meminfo", key)?;
        field.split(' ').next()?.parse::<u64>().ok()
    };
    let Some(total) = number("HugePages_Total") else {
        return Check {
            state: State::Unknown,
            ..Check::good(id, "/proc/meminfo does not tell")
        };
    };
    if total == 0 {
        return Check::bad(
            id,
            State::Limits,
            "none are set aside",
            "DPDK without --no-huge, and large rings without TLB misses",
            "sysctl vm.nr_hugepages=512; mount -t hugetlbfs none /dev/hugepages",
        );
    }
    let free = number("HugePages_Free").unwrap_or(0);
    let size = number("Hugepagesize").unwrap_or(0) / 1024;
    Check::good(id, format!("{free} of {total} free, {size} MiB each"))
}

/// Drivers that hand a device to a program.
const DRIVERS: &[&str] = &["vfio-pci", "uio_pci_generic", "igb_uio"];

fn dpdk(root: &Root) -> Check {
    let id = "dpdk";
    let mut devices = Vec::new();
    for driver in DRIVERS {
        let bound = root.names(&format!("/sys/bus/pci/drivers/{driver}"));
        let bound = bound.into_iter().filter(|n| n.contains(':'));
        devices.extend(bound.map(|d| format!("{d} ({driver})")));
    }
    let loaded: Vec<_> = DRIVERS
        .iter()
        .filter(|d| root.exists(&format!("/sys/bus/pci/drivers/{d}")))
        .copied()
        .collect();
    let iommu = !root.names("/sys/kernel/iommu_groups").is_empty();
    if !devices.is_empty() {
        return Check::good(id, format!("devices for programs: {}", devices.join(", ")));
    }
    let found = if loaded.is_empty() {
        "no driver that hands devices to programs is loaded"
    } else {
        "no device is handed to programs"
    };
    Check::bad(
        id,
        State::Limits,
        format!(
            "{found}; {}",
            if iommu {
                "there is an IOMMU"
            } else {
                "no IOMMU"
            }
        ),
        "DPDK on network cards; its virtual devices (net_tap, net_af_packet, net_ring) work without",
        if iommu {
            "modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci ADDRESS"
        } else {
            "modprobe vfio enable_unsafe_noiommu_mode=1; modprobe vfio-pci; dpdk-devbind.py --bind=vfio-pci ADDRESS"
        },
    )
}

fn shm(root: &Root) -> Check {
    let id = "shm";
    if root.exists("/dev/shm") {
        return Check::good(id, "/dev/shm is there for the rings of probes");
    }
    Check::bad(
        id,
        State::Prevents,
        "there is no /dev/shm",
        "probes: their rings are files there",
        "mkdir /dev/shm; mount -t tmpfs none /dev/shm",
    )
}
