//! A package for Debian and what comes from it: the program with its manual pages, completions, a systemd unit and the
//! agent's file. Nothing is started by its installation.
//!
//! The format is man 5 deb; where files belong is the Debian Policy Manual's. It is written without dpkg, on any machine.

use std::env::consts::ARCH;
use std::fmt::Write;

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

use super::contents::{self, Contents, DESCRIPTION, VERSION};
use super::tree::{self, Tree};

/// Of this way of packing, behind the version of what is packed.
const REVISION: u32 = 1;
/// Whom Debian's tools name.
const MAINTAINER: &str = "The netsnoop authors <netsnoop@example.org>";
const DOCUMENTATION: &str = "usr/share/doc/netsnoop";
/// Where shells look for completions, in the order of [`Contents::completions`].
const COMPLETIONS: [&str; 3] = [
    "usr/share/bash-completion/completions/netsnoop",
    "usr/share/zsh/vendor-completions/_netsnoop",
    "usr/share/fish/vendor_completions.d/netsnoop.fish",
];
/// A file that an update leaves as the administrator wrote it.
const SETTINGS: &str = "etc/netsnoop/netsnoop.yaml";

/// What its file is called.
pub(super) fn name() -> String {
    format!("netsnoop_{VERSION}-{REVISION}_{}.deb", architecture())
}

/// The file.
pub(super) fn pack(contents: &Contents) -> Result<Vec<u8>> {
    let files = files(contents)?;
    let archive = |tree: &Tree| tree::gzip(&tree.archive("./", contents.epoch)?);
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", archive(&control(&files)?)?),
        ("data.tar.gz", archive(&files)?),
    ];
    let mut package = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let header = format!("{name:<16}{:<12}0     0     100644  {:<10}`\n", contents.epoch, bytes.len());
        package.extend(header.bytes().chain(bytes));
        if package.len() % 2 == 1 {
            package.push(b'\n');
        }
    }
    Ok(package)
}

/// What is installed.
fn files(contents: &Contents) -> Result<Tree> {
    let mut root = Tree::default();
    root.add_program("usr/bin/netsnoop", &*contents.program);
    for page in &contents.pages {
        root.add(&format!("usr/share/man/man1/{}.gz", page.name), tree::gzip(page.text.as_bytes())?);
    }
    for (path, script) in COMPLETIONS.iter().zip(&contents.completions) {
        root.add(path, &*script.text);
    }
    for (path, source) in [
        ("usr/lib/systemd/system/netsnoop.service", "deploy/systemd/netsnoop.service"),
        (SETTINGS, "deploy/systemd/netsnoop.yaml"),
        ("usr/share/doc/netsnoop/examples/netsnoop.yaml", "deploy/netsnoop.yaml"),
        ("usr/share/lintian/overrides/netsnoop", "deploy/debian/lintian-overrides"),
    ] {
        root.add(path, contents::document(source)?.text);
    }
    for document in contents.documents.iter().filter(|document| document.name == "README.md") {
        root.add(&format!("{DOCUMENTATION}/README.md"), &*document.text);
    }
    root.add(&format!("{DOCUMENTATION}/copyright"), copyright(contents));
    for (name, text) in [
        ("changelog.gz", contents::document("CHANGELOG.md")?.text),
        ("changelog.Debian.gz", changelog(contents.epoch)?),
        ("THIRD-PARTY-LICENSES.txt.gz", contents.notices.text.clone()),
    ] {
        root.add(&format!("{DOCUMENTATION}/{name}"), tree::gzip(text.as_bytes())?);
    }
    Ok(root)
}

/// What dpkg reads.
fn control(files: &Tree) -> Result<Tree> {
    let mut control = Tree::default();
    let size = files.files().map(|(_, bytes)| bytes.len().div_ceil(1024)).sum::<usize>();
    control.add(
        "control",
        format!(
            "Package: netsnoop\nVersion: {VERSION}-{REVISION}\nArchitecture: {}\nMaintainer: {MAINTAINER}\n\
             Installed-Size: {size}\nRecommends: systemd\nSection: net\nPriority: optional\n\
             Description: tells who on this node talks to which service\n {DESCRIPTION}\n \
             It answers passively, from packets, the kernel's events through eBPF, netlink\n and /proc, in every \
             network namespace of the node.\n .\n The agent's service is not started unless it is enabled.\n",
            architecture()
        ),
    );
    control.add("conffiles", format!("/{SETTINGS}\n"));
    control.add("md5sums", md5sums(files)?);
    for script in ["postinst", "prerm", "postrm"] {
        control.add_program(script, contents::document(&format!("deploy/debian/{script}"))?.text);
    }
    Ok(control)
}

/// What `dpkg --verify` holds installed files against; it knows no better sum.
fn md5sums(files: &Tree) -> Result<String> {
    use md5::{Digest, Md5};
    let mut list = String::new();
    for (path, bytes) in files.files().filter(|(path, _)| *path != SETTINGS) {
        for byte in Md5::digest(bytes) {
            write!(list, "{byte:02x}").context("writing a sum")?;
        }
        writeln!(list, "  {path}").context("writing a sum")?;
    }
    Ok(list)
}

/// <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>
fn copyright(contents: &Contents) -> String {
    let mit = contents.licenses().find(|license| license.name == "LICENSE-MIT").map_or("", |mit| &*mit.text);
    let indented = mit.trim().lines().map(|line| if line.trim().is_empty() { " ." } else { line });
    let mit: String =
        indented.map(|line| format!("{}{line}\n", if line == " ." { "" } else { " " })).collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: netsnoop\n\
         Comment: What is linked in is under the licences in THIRD-PARTY-LICENSES.txt.gz.\n\nFiles: *\n\
         Copyright: 2026 the netsnoop authors\nLicense: Expat or Apache-2.0\n\nLicense: Expat\n{mit}\n\
         License: Apache-2.0\n On Debian systems, the full text is in /usr/share/common-licenses/Apache-2.0.\n"
    )
}

/// Debian Policy, section 4.4.
fn changelog(epoch: u64) -> Result<String> {
    let seconds = epoch.try_into().context("the sources are from a far future")?;
    let time = Timestamp::from_second(seconds).context("the sources are from a far future")?;
    let date = rfc2822::to_string(&time.to_zoned(TimeZone::UTC)).context("writing a date")?;
    Ok(format!(
        "netsnoop ({VERSION}-{REVISION}) unstable; urgency=medium\n\n  * What changed is in changelog.gz.\n\n \
         -- {MAINTAINER}  {date}\n"
    ))
}

/// As Debian calls this machine.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The members of the package, by man 5 ar.
    fn members(mut package: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut members = BTreeMap::new();
        package = package.strip_prefix(b"!<arch>\n").unwrap();
        while let Some((header, rest)) = package.split_at_checked(60) {
            let header = std::str::from_utf8(header).unwrap();
            assert_eq!(&header[58..], "`\n");
            let size: usize = header[48..58].trim().parse().unwrap();
            members.insert(header[..16].trim().to_owned(), rest[..size].to_vec());
            package = &rest[size.next_multiple_of(2)..];
        }
        assert!(package.is_empty());
        members
    }

    /// A member's file.
    fn read(members: &BTreeMap<String, Vec<u8>>, archive: &str, path: &str) -> String {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&*members[archive]));
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let entry = entries.find(|entry| *entry.path_bytes() == *path.as_bytes());
        std::io::read_to_string(entry.unwrap_or_else(|| panic!("{path} is missing"))).unwrap()
    }

    #[test]
    fn a_package_has_what_its_lists_say() {
        let members = members(&pack(&Contents::example()).unwrap());
        assert_eq!(members["debian-binary"], b"2.0\n");
        let control = read(&members, "control.tar.gz", "./control");
        assert!(control.contains(&format!("\nVersion: {VERSION}-1\n")), "{control}");
        let settings = read(&members, "control.tar.gz", "./conffiles");
        read(&members, "data.tar.gz", &format!(".{}", settings.trim()));
        let sums = read(&members, "control.tar.gz", "./md5sums");
        assert!(sums.contains("a9c449d4fa44e9e5a41c574ae55ce4d9  usr/bin/netsnoop\n"), "{sums}");
        let unit = read(&members, "data.tar.gz", "./usr/lib/systemd/system/netsnoop.service");
        assert!(unit.contains(&format!("--config /{SETTINGS}\n")), "{unit}");
    }

    #[test]
    fn the_unit_has_the_capabilities_of_the_daemon_set_and_the_one_for_other_users_sockets() {
        let manifest = include_str!("../../../deploy/kustomize/base/daemonset.yaml");
        let list = manifest.lines().find_map(|line| line.trim().strip_prefix("add: [")?.strip_suffix(']'));
        let mut expected: Vec<&str> = list.unwrap().split(", ").chain(["DAC_OVERRIDE"]).collect();
        expected.sort_unstable();
        let unit = include_str!("../../../deploy/systemd/netsnoop.service");
        for key in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
            let set = unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            let mut set: Vec<&str> = set.split(' ').map(|name| name.strip_prefix("CAP_").unwrap()).collect();
            set.sort_unstable();
            assert_eq!(set, expected, "{key}");
        }
    }
}
