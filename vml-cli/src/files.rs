//! Small files of this host that are replaced as a whole.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use vml_core::{IoResultExt as _, Result};

/// Mode of a file that only its owner reads.
pub const PRIVATE: u32 = 0o600;
/// Mode of one that others may read, as far as the umask lets them.
pub const PUBLIC: u32 = 0o666;

/// Writes `text` to `path`, which has its old content or the new one at every moment; durable on return. Its folder is made if it is not there.
pub fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).at(|| format!("cannot make the folder {}", folder.display()))?;
    // With its mode from the start.
    let mut builder = tempfile::Builder::new();
    let new = builder.permissions(std::fs::Permissions::from_mode(mode)).tempfile_in(folder);
    let mut new = new.at(|| format!("cannot write in {}", folder.display()))?;
    new.write_all(text.as_bytes()).and_then(|()| new.as_file().sync_all()).at(|| format!("cannot write {}", path.display()))?;
    new.persist(path).map_err(|error| error.error).at(|| format!("cannot replace {}", path.display()))?;
    File::open(folder).and_then(|folder| folder.sync_all()).at(|| format!("cannot write {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/file.toml");
        for text in ["one", "two"] {
            replace(&path, text, PRIVATE).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let error = replace(&path.join("below"), "x", PUBLIC).unwrap_err().to_string();
        assert!(error.contains("cannot make the folder"), "{error}");
    }
}
