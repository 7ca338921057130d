//! How much memory this process may have. In: what the kernel says of its control groups. Out: the
//! smallest limit of the group that it is in and of those above it, whichever version of groups
//! it is; in a container that is the container's.

use std::fs;
use std::path::Path;

/// `None` where nobody has set one.
pub(super) fn memory_limit() -> Option<u64> {
    limit(|path| fs::read_to_string(path).ok())
}

fn limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mut limits = Vec::new();
    for (root, group, file) in groups.lines().filter_map(of_memory) {
        // What is above a container's own group is not to be seen in it: its root is that group.
        for above in Path::new(group).ancestors() {
            let folder = Path::new(root).join(above.strip_prefix("/").unwrap_or(above));
            let text = read(&folder.join(file));
            limits.extend(text.and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits.into_iter().min()
}

/// Root, path and file of the group of a line `number:controllers:path`, if it may bound memory.
fn of_memory(line: &str) -> Option<(&'static str, &str, &'static str)> {
    let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
    if controllers.is_empty() {
        return Some(("/sys/fs/cgroup", group, "memory.max"));
    }
    let is_of_memory = controllers.split(',').any(|name| name == "memory");
    is_of_memory.then_some(("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
}

#[cfg(test)]
mod tests {
    use super::limit;

    fn of(files: &[(&str, &str)]) -> Option<u64> {
        limit(|path| {
            let found = files.iter().find(|(name, _)| path.to_str() == Some(name));
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_smallest_limit_of_the_group_and_those_above() {
        let service = ("/proc/self/cgroup", "0::/system.slice/nearside.service\n");
        let own = "/sys/fs/cgroup/system.slice/nearside.service/memory.max";
        let slice = "/sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(of(&[service, (own, "1000\n"), (slice, "max\n")]), Some(1000));
        assert_eq!(of(&[service, (own, "max\n"), (slice, "2000\n")]), Some(2000));
        assert_eq!(of(&[service, (own, "max\n"), (slice, "max\n")]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn groups_of_the_first_version() {
        let groups = ("/proc/self/cgroup", "4:cpu,cpuacct:/a\n3:memory:/a\n0::/a\n");
        let own = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        assert_eq!(of(&[groups, (own, "3000\n")]), Some(3000));
    }

    #[test]
    fn a_container_sees_its_group_as_the_root() {
        let docker = ("/proc/self/cgroup", "3:memory:/docker/1234\n");
        let root = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(of(&[docker, (root, "4000\n")]), Some(4000));
        let namespaced = ("/proc/self/cgroup", "0::/\n");
        assert_eq!(of(&[namespaced, ("/sys/fs/cgroup/memory.max", "5000\n")]), Some(5000));
    }
}
