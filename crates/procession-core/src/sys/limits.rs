//! Limits of this process: cores, address space, and the memory still available, both the machine's and what control
//! groups leave of it.
//!
//! Pages of the arena are charged to a control group. Beyond its limit the kernel does not refuse, it kills. So check
//! before committing.

use super::proc;
use rustix::process::{getrlimit, Resource};
use rustix::thread::CpuSet;
use std::path::{Path, PathBuf};

/// Where control groups are mounted, by convention.
const MOUNT: &str = "/sys/fs/cgroup";

/// The cores that this process may use, at least one: bit n stands for the cores whose number is n modulo 64.
pub(crate) fn usable_cores() -> u64 {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return 1;
    };
    let usable = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
    usable.fold(0, |all, core| all | 1 << (core % 64)).max(1)
}

/// Bytes that can still be committed; `None` when the system does not say.
pub(crate) fn available() -> Option<u64> {
    smallest(meminfo("MemAvailable:"), Group::available)
}

/// Bytes of memory this process may ever have; `None` when the system does not say.
pub(crate) fn total() -> Option<u64> {
    smallest(meminfo("MemTotal:"), Group::limit)
}

/// Bytes of address space that this process may still map; `None` when that is not limited, or not known.
pub(crate) fn address_space_left() -> Option<u64> {
    let limit = getrlimit(Resource::As).current?;
    Some(limit.saturating_sub(proc::address_space()?))
}

fn smallest(machine: Option<u64>, of_group: impl Fn(&Group) -> Option<u64>) -> Option<u64> {
    let groups = own_groups();
    groups.iter().filter_map(of_group).chain(machine).min()
}

fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix(key))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    kilobytes.checked_mul(1024)
}

/// A control group's folder, and the names that its version gives to the files.
#[derive(Debug)]
struct Group {
    folder: PathBuf,
    names: &'static Names,
}

#[derive(Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat` that count file pages which can be dropped.
    cache: [&'static str; 2],
}

static V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file ", "active_file "],
};
static V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file ", "total_active_file "],
};

impl Group {
    fn number(&self, file: &str) -> Option<u64> {
        std::fs::read_to_string(self.folder.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// The limit, unless there is none ("max", or a number near the end of the range).
    fn limit(&self) -> Option<u64> {
        self.number(self.names.limit).filter(|&limit| limit < 1 << 60)
    }

    fn available(&self) -> Option<u64> {
        let left = self.limit()?.saturating_sub(self.number(self.names.usage)?);
        Some(left.saturating_add(self.droppable()))
    }

    fn droppable(&self) -> u64 {
        let text = std::fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let value = |key: &&str| {
            text.lines()
                .find_map(|line| line.strip_prefix(*key))?
                .trim()
                .parse::<u64>()
                .ok()
        };
        self.names.cache.iter().filter_map(value).fold(0, u64::saturating_add)
    }
}

/// The memory groups this process is in, innermost first, up to the root.
fn own_groups() -> Vec<Group> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    text.lines()
        .flat_map(|line| groups_of(line, Path::new(MOUNT)))
        .collect()
}

/// The groups that a line of `/proc/self/cgroup` names: `0::/path` (version 2) or `4:memory:/path`.
fn groups_of(line: &str, mount: &Path) -> Vec<Group> {
    let mut parts = line.splitn(3, ':');
    let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (root, names) = if number == "0" && controllers.is_empty() {
        (mount.to_path_buf(), &V2)
    } else if controllers.split(',').any(|name| name == "memory") {
        (mount.join("memory"), &V1)
    } else {
        return Vec::new();
    };
    // In a container the path may be the host's, and only the root of the mount may be there: folders that do not exist
    // say nothing.
    let inner = root.join(path.trim_start_matches('/'));
    inner
        .ancestors()
        .take_while(|folder| folder.starts_with(&root))
        .map(|folder| Group {
            folder: folder.to_path_buf(),
            names,
        })
        .collect()
}

/// Whether this program runs with more rights than its caller: set-user-id, set-group-id, or with file capabilities.
/// Then the environment is not to be trusted.
pub fn is_secure() -> bool {
    // SAFETY: reads a number that the kernel left to the program.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("procession-limits-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write(folder: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_machine_says_something() {
        let (available, total) = (available().unwrap(), total().unwrap());
        assert!(available > 0 && available <= meminfo("MemTotal:").unwrap() && total > 0);
    }

    #[test]
    fn the_tightest_group_up_the_tree_counts() {
        let mount = folder("v2");
        write(
            &mount.join("a/b"),
            &[("memory.max", "max\n"), ("memory.current", "500\n")],
        );
        let stat = "anon 5\ninactive_file 300\nactive_file 20\nshmem 7\n";
        write(
            &mount.join("a"),
            &[
                ("memory.max", "10000\n"),
                ("memory.current", "9000\n"),
                ("memory.stat", stat),
            ],
        );
        let groups = groups_of("0::/a/b", &mount);
        assert_eq!(groups.len(), 3);
        assert_eq!(groups.iter().filter_map(Group::available).min(), Some(1320));
        assert_eq!(groups.iter().filter_map(Group::limit).min(), Some(10_000));
        std::fs::remove_dir_all(mount).unwrap();
    }

    #[test]
    fn version_one_is_understood() {
        let mount = folder("v1");
        let none = "9223372036854771712\n";
        write(
            &mount.join("memory"),
            &[("memory.limit_in_bytes", none), ("memory.usage_in_bytes", "1\n")],
        );
        let files = [("memory.limit_in_bytes", "4096\n"), ("memory.usage_in_bytes", "5000\n")];
        write(&mount.join("memory/x"), &files);
        let groups = groups_of("4:cpu,memory:/x", &mount);
        assert_eq!(groups.iter().map(Group::available).collect::<Vec<_>>(), [Some(0), None]);
        std::fs::remove_dir_all(mount).unwrap();
    }

    #[test]
    fn odd_lines_name_nothing() {
        for line in ["", "x", "1:cpu:/a", "::", "0:"] {
            assert!(groups_of(line, Path::new(MOUNT)).is_empty(), "{line}");
        }
        assert!(groups_of("0::/../../etc", Path::new(MOUNT))
            .iter()
            .all(|group| group.folder.starts_with(MOUNT)));
    }
}
