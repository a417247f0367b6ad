//! Names of numeric owners, from the guest's own files.

use super::GuestRoot;
use vml_core::Result;
use vml_core::entry::Owner;

/// Names of users and groups by number, in the order of their files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// From `passwd`.
    pub users: Vec<Owner>,
    /// From `group`.
    pub groups: Vec<Owner>,
}

/// Reads `/etc/passwd` and `/etc/group` of a guest.
pub fn owners(root: &GuestRoot) -> Owners {
    owners_in(root.read("etc/passwd").as_deref(), root.read("etc/group").as_deref())
}

/// The same from the bytes of the two files, as far as they are there.
pub fn owners_in(passwd: Option<&[u8]>, group: Option<&[u8]>) -> Owners {
    Owners { users: passwd.map(parse).unwrap_or_default(), groups: group.map(parse).unwrap_or_default() }
}

/// The same of the host, for a tree that is no guest's root. Names that only a directory service knows are not found.
///
/// # Errors
/// When the host's root cannot be opened.
pub fn host_owners() -> Result<Owners> {
    GuestRoot::open(std::path::Path::new("/")).map(|root| owners(&root))
}

/// `name:password:number:...` a line; others are passed over.
fn parse(bytes: &[u8]) -> Vec<Owner> {
    let text = String::from_utf8_lossy(bytes);
    let owner = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        let plain = !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
        plain.then_some(())?;
        Some(Owner { id: number.parse().ok()?, name: name.to_owned() })
    };
    text.lines().filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_lines_are_passed_over() {
        let owners = parse(b"root:x:0:0:root:/root:/bin/sh\n+::::\nbad\n:x:7:\nuser:x:-1:\ndev:x:1000:1000::/home/dev:\n");
        let named: Vec<(u32, &str)> = owners.iter().map(|owner| (owner.id, owner.name.as_str())).collect();
        assert_eq!(named, [(0, "root"), (1000, "dev")]);
    }
}
