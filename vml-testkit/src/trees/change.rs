//! Changes a tree as a day's work does.

use super::make::{add_xattrs, any_content, any_kind, any_name, any_time, make_member};
use super::{Able, Kind, set_mtime, walk};
use crate::noise::{Rng, text};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes `count` changes below `root`; some of them meet the same member, and some find nothing to change.
pub fn change_tree(root: &Path, rng: &mut Rng, count: usize, able: &Able) {
    for _ in 0..count {
        let all = walk(root);
        let any = |rng: &mut Rng, wanted: &dyn Fn(&fs::Metadata) -> bool| -> Option<PathBuf> {
            let fitting: Vec<&PathBuf> = all.iter().filter(|path| wanted(&fs::symlink_metadata(path).unwrap())).collect();
            (!fitting.is_empty()).then(|| fitting[rng.below(fitting.len())].clone())
        };
        let directory = any(rng, &fs::Metadata::is_dir).unwrap_or_else(|| root.to_path_buf());
        let file = any(rng, &fs::Metadata::is_file);
        let other = any(rng, &|meta| !meta.is_dir());
        let new = directory.join(any_name(rng, able));
        let new = if new.as_os_str().len() > 3000 { root.join("new") } else { new };
        // A tree may have been made read-only all over; whoever works in it opens what he works on.
        if !able.root {
            open_up(&directory);
            file.iter().chain(&other).for_each(|path| open_up(path.parent().unwrap()));
            file.iter().for_each(|path| _ = fs::set_permissions(path, Permissions::from_mode(0o600)));
        }
        match (rng.below(14), file, other) {
            (0, Some(file), _) => edit(&file, rng),
            (1, Some(file), _) => File::options().append(true).open(file).unwrap().write_all(&any_content(rng)).unwrap(),
            (2, Some(file), _) => {
                let len = fs::metadata(&file).unwrap().len();
                let len = rng.below(usize::try_from(len + 5000).unwrap()) as u64;
                File::options().write(true).open(file).unwrap().set_len(len).unwrap();
            }
            (3, _, Some(path)) => {
                let (seconds, nanoseconds) = any_time(rng, able);
                set_mtime(&path, seconds, nanoseconds).unwrap();
            }
            (4, Some(file), _) => {
                fs::set_permissions(file, Permissions::from_mode(0o600 + u32::try_from(rng.below(0o200)).unwrap())).unwrap();
            }
            (5, _, Some(path)) => add_xattrs(&path, rng, able),
            (6, _, _) => add_xattrs(&directory, rng, able),
            (7, _, Some(path)) if new.symlink_metadata().is_err() => fs::rename(path, new).unwrap(),
            (8, _, _) if directory != root && new.symlink_metadata().is_err() && !new.starts_with(&directory) => {
                fs::rename(directory, new).unwrap();
            }
            (9, _, Some(path)) => fs::remove_file(path).unwrap(),
            (10, _, Some(path)) => {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
                fs::write(path.join("in the file's place"), any_content(rng)).unwrap();
            }
            (11, _, _) if directory != root => {
                remove_all(&directory, able);
                fs::write(directory, any_content(rng)).unwrap();
            }
            (12, Some(file), Some(path)) if file != path => {
                fs::remove_file(&path).unwrap();
                fs::hard_link(file, path).unwrap();
            }
            (_, _, _) if new.symlink_metadata().is_err() => {
                let kind = any_kind(rng);
                make_member(&new, if kind == Kind::HardLink { Kind::File } else { kind }, rng, able);
            }
            _ => {}
        }
    }
}

/// Other bytes in one place, the length as it was.
fn edit(path: &Path, rng: &mut Rng) {
    let file = File::options().write(true).open(path).unwrap();
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    if len > 0 {
        let at = rng.below(len);
        let edited = text(rng.next_u64(), (len - at).min(100));
        file.write_all_at(&edited, at as u64).unwrap();
    }
}

fn remove_all(directory: &Path, able: &Able) {
    if !able.root {
        open_up(directory);
        walk(directory).iter().filter(|path| path.symlink_metadata().unwrap().is_dir()).for_each(|path| open_up(path));
    }
    fs::remove_dir_all(directory).unwrap();
}

fn open_up(directory: &Path) {
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
}
