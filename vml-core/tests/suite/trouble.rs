//! Trees that change while they are saved: the save goes on, names what it could not take, and takes it the next time.

use crate::support::{OPTIONS, assert_equal, build_new, config, let_files_age, memory, request, save, subdir, temp, try_save};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use vml_core::monitor::{Monitor, NoMonitor, Task};
use vml_core::repository::Saved;
use vml_core::tree::{Exclude, LeftOutReason};
use vml_core::{CollectMonitor, Problem, Repository, RepositoryOptions};
use vml_testkit::faulty::FaultyBackend;
use vml_testkit::noise::incompressible;

type Prank = Box<dyn FnOnce() + Send>;

/// Does something to the tree as soon as the first file is taken.
struct Prankster {
    prank: Mutex<Option<Prank>>,
    heard: CollectMonitor,
}

impl Prankster {
    fn new(prank: impl FnOnce() + Send + 'static) -> Self {
        Self { prank: Mutex::new(Some(Box::new(prank))), heard: CollectMonitor::default() }
    }
}

impl Monitor for Prankster {
    fn advance(&self, task: Task, _: u64, _: u64) {
        assert_eq!(task, Task::Capture);
        if let Some(prank) = self.prank.lock().unwrap().take() {
            prank();
        }
    }

    fn problem(&self, problem: Problem) {
        self.heard.problem(problem);
    }
}

/// One thread that reads, so that files are read in the order of their names, after all were listed.
fn repository() -> Repository {
    Repository::init(memory(), config(), RepositoryOptions { threads: 1, ..OPTIONS }).unwrap()
}

/// Ten files and a directory; the prank is played when the first file is taken. Gives the save and the problems.
fn saved_during(prank: impl FnOnce(&Path) + Send + 'static) -> (Repository, tempfile::TempDir, Saved, Vec<Problem>) {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for number in 0..10 {
        fs::write(tree.join(format!("{number}")), incompressible(number, 1000)).unwrap();
    }
    let repository = repository();
    let root: PathBuf = tree.clone();
    let prankster = Prankster::new(move || prank(&root));
    let saved = try_save(&repository, "work", &tree, &prankster).unwrap();
    let problems = prankster.heard.problems();
    assert_eq!(saved.problems_count, problems.len() as u64);
    (repository, dir, saved, problems)
}

#[track_caller]
fn assert_one(problems: &[Problem], subject: &str, message: &str) {
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].subject, subject);
    assert!(problems[0].message.contains(message), "{problems:?}");
}

/// The next save takes everything as it is then.
fn assert_next_is_whole(repository: &Repository, dir: &tempfile::TempDir) {
    let tree = dir.path().join("tree");
    let saved = save(repository, "work", &tree);
    assert_equal(&tree, build_new(repository, &saved.id).path());
}

#[test]
fn a_file_that_vanishes_is_named_and_the_others_are_saved() {
    let (repository, dir, saved, problems) = saved_during(|tree| fs::remove_file(tree.join("5")).unwrap());
    assert_one(&problems, "5", "vanished");
    let part = saved.entry.tree().unwrap();
    assert_eq!((part.stats.files_count, part.left_out.len()), (9, 1));
    assert_eq!((part.left_out[0].path.as_slice(), part.left_out[0].reason), (&b"5"[..], LeftOutReason::Unreadable));
    let built = build_new(&repository, &saved.id);
    for number in (0..10).filter(|number| *number != 5) {
        assert_eq!(fs::read(built.path().join(format!("{number}"))).unwrap(), incompressible(number, 1000));
    }
    assert_next_is_whole(&repository, &dir);
}

#[test]
fn a_file_that_becomes_something_else_is_named_and_not_waited_for() {
    type Maker = fn(&Path);
    let makers: [(&str, Maker); 3] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a link", |path| symlink("/etc/passwd", path).unwrap()),
        ("a FIFO", |path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap()),
    ];
    for (what, make) in makers {
        let (repository, dir, saved, problems) = saved_during(move |tree| {
            fs::remove_file(tree.join("5")).unwrap();
            make(&tree.join("5"));
        });
        assert_one(&problems, "5", "it was replaced");
        assert_eq!(saved.entry.tree().unwrap().stats.files_count, 9, "{what}");
        assert_next_is_whole(&repository, &dir);
    }
}

#[test]
fn a_file_replaced_by_another_file_is_saved_as_it_is_when_it_is_read() {
    let (repository, dir, saved, problems) = saved_during(|tree| {
        fs::write(tree.join("new"), b"other bytes").unwrap();
        fs::rename(tree.join("new"), tree.join("5")).unwrap();
    });
    assert_eq!(problems, []);
    assert_eq!(fs::read(build_new(&repository, &saved.id).path().join("5")).unwrap(), b"other bytes");
    assert_next_is_whole(&repository, &dir);
}

#[test]
fn all_names_of_a_file_are_left_out_when_it_vanishes() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    for name in ["a", "b"] {
        fs::write(tree.join(name), name).unwrap();
    }
    fs::hard_link(tree.join("b"), tree.join("c")).unwrap();
    let repository = repository();
    let root = tree.clone();
    let prankster = Prankster::new(move || ["b", "c"].iter().for_each(|name| fs::remove_file(root.join(name)).unwrap()));
    let saved = try_save(&repository, "work", &tree, &prankster).unwrap();
    assert_one(&prankster.heard.problems(), "b", "vanished");
    let part = saved.entry.tree().unwrap();
    assert_eq!((part.stats.files_count, part.left_out.len(), saved.problems_count), (1, 2, 1));
    assert_next_is_whole(&repository, &dir);
}

/// A save after one of the same tree: the first file is known, so the prank is played while its directory is walked.
fn saved_again_during(prank: impl FnOnce(&Path) + Send + 'static) -> (Repository, tempfile::TempDir, Saved, Vec<Problem>) {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    fs::write(tree.join("a"), b"known").unwrap();
    fs::create_dir(tree.join("directory")).unwrap();
    fs::write(tree.join("directory/inner"), b"inner").unwrap();
    fs::write(tree.join("z"), b"last").unwrap();
    let_files_age();
    let repository = repository();
    save(&repository, "work", &tree);
    let root = tree.clone();
    let prankster = Prankster::new(move || prank(&root));
    let saved = try_save(&repository, "work", &tree, &prankster).unwrap();
    let problems = prankster.heard.problems();
    assert_eq!(saved.problems_count, problems.len() as u64);
    (repository, dir, saved, problems)
}

#[test]
fn a_name_that_is_gone_before_it_is_looked_at_is_named() {
    let (repository, dir, saved, problems) = saved_again_during(|tree| fs::remove_file(tree.join("z")).unwrap());
    assert_one(&problems, "z", "left out");
    assert_eq!(saved.entry.tree().unwrap().stats.files_count, 2);
    assert_next_is_whole(&repository, &dir);
}

#[test]
fn a_directory_that_vanishes_or_becomes_something_else_is_named() {
    type Maker = fn(&Path);
    let makers: [(&str, Maker); 3] =
        [("nothing", |_| {}), ("a file", |path| fs::write(path, b"file").unwrap()), ("a link", |path| symlink("/etc", path).unwrap())];
    for (what, make) in makers {
        let (repository, dir, saved, problems) = saved_again_during(move |tree| {
            // Renamed, because its own name is what the walk has seen already.
            fs::rename(tree.join("directory"), tree.join("moved")).unwrap();
            make(&tree.join("directory"));
        });
        // What stands there in its place when it is looked at is merely another kind of member.
        if what == "nothing" {
            assert_one(&problems, "directory", "left out");
        } else {
            assert_eq!(problems, [], "{what}");
        }
        let part = saved.entry.tree().unwrap();
        assert_eq!(part.stats.directories_count, 1, "{what}: nothing of /etc is in it");
        assert_next_is_whole(&repository, &dir);
    }
}

#[test]
fn a_directory_replaced_by_a_link_after_it_was_listed_is_not_followed() {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    fs::create_dir(tree.join("directory")).unwrap();
    fs::write(tree.join("z"), b"known").unwrap();
    let_files_age();
    let repository = repository();
    save(&repository, "work", &tree);
    // "directory" is looked at before "z", and entered after it.
    for (number, to) in ["/etc", "."].iter().enumerate() {
        let root = tree.clone();
        let prankster = Prankster::new(move || {
            fs::rename(root.join("directory"), root.join(format!("moved {number}"))).unwrap();
            symlink(to, root.join("directory")).unwrap();
        });
        let saved = try_save(&repository, "work", &tree, &prankster).unwrap();
        assert_one(&prankster.heard.problems(), "directory", "cannot read the directory");
        assert_eq!(saved.problems_count, 1);
        let built = build_new(&repository, &saved.id);
        assert!(!built.path().join("directory").exists());
        fs::remove_file(tree.join("directory")).unwrap();
        fs::rename(tree.join(format!("moved {number}")), tree.join("directory")).unwrap();
        fs::write(tree.join("z"), b"known").unwrap();
        let_files_age();
        save(&repository, "work", &tree);
    }
}

/// Saves a large file while `write` is called on it for every frame that is stored, up to `times` times.
fn saved_while_writing(
    times: usize,
    write: impl Fn(&Path) + Send + Sync + 'static,
) -> (Repository, PathBuf, tempfile::TempDir, Saved, Vec<Problem>) {
    let dir = temp();
    let tree = subdir(&dir, "tree");
    let path = tree.join("busy");
    fs::write(&path, incompressible(1, 1_500_000)).unwrap();
    fs::write(tree.join("other"), incompressible(2, 1000)).unwrap();
    let (busy, left) = (path.clone(), Mutex::new(times));
    let backend = FaultyBackend::observed(memory(), move |operation| {
        let mut left = left.lock().unwrap();
        // Frames, and not the small things before and after them.
        if operation.name == "append" && operation.len > 20_000 && *left > 0 {
            *left -= 1;
            write(&busy);
        }
    });
    let repository = Repository::init(Arc::new(backend), config(), RepositoryOptions { threads: 1, ..OPTIONS }).unwrap();
    let monitor = CollectMonitor::default();
    let saved = try_save(&repository, "work", &tree, &monitor).unwrap();
    assert_eq!(saved.problems_count, monitor.problems().len() as u64);
    (repository, path, dir, saved, monitor.problems())
}

fn append(path: &Path) {
    File::options().append(true).open(path).unwrap().write_all(b"one more line\n").unwrap();
}

#[test]
fn a_file_that_changes_once_while_it_is_read_is_read_again() {
    let (repository, path, dir, saved, problems) = saved_while_writing(1, append);
    assert_eq!(problems, []);
    let built = build_new(&repository, &saved.id);
    assert!(fs::read(built.path().join("busy")).unwrap() == fs::read(path).unwrap());
    assert_next_is_whole(&repository, &dir);
}

#[test]
fn a_file_that_keeps_changing_is_saved_as_last_seen_and_named() {
    // New bytes each time, or nothing would be stored when it is read again, and nothing changed at that.
    let seed = AtomicU64::new(100);
    let rewrite = move |path: &Path| fs::write(path, incompressible(seed.fetch_add(1, Ordering::Relaxed), 1_500_000)).unwrap();
    let (repository, path, dir, saved, problems) = saved_while_writing(30, rewrite);
    assert_one(&problems, "busy", "changed twice");
    let built = build_new(&repository, &saved.id);
    assert_eq!(fs::metadata(built.path().join("busy")).unwrap().len(), 1_500_000);
    assert_eq!(fs::read(built.path().join("other")).unwrap(), incompressible(2, 1000));
    // It is not taken for unchanged afterwards.
    let_files_age();
    let again = save(&repository, "work", &dir.path().join("tree"));
    assert!(again.entry.tree().unwrap().stats.read_files_count >= 1);
    assert!(fs::read(build_new(&repository, &again.id).path().join("busy")).unwrap() == fs::read(path).unwrap());
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_saved_as_what_is_left() {
    let (repository, path, dir, saved, problems) =
        saved_while_writing(1, |path| File::options().write(true).open(path).unwrap().set_len(5).unwrap());
    assert_eq!(problems, []);
    assert_eq!(fs::read(build_new(&repository, &saved.id).path().join("busy")).unwrap(), fs::read(path).unwrap());
    assert_next_is_whole(&repository, &dir);
}

#[test]
fn a_tree_that_is_not_there_is_an_error_and_nothing_is_saved() {
    let dir = temp();
    let repository = repository();
    fs::write(dir.path().join("file"), b"x").unwrap();
    for path in ["missing", "file"] {
        let path = dir.path().join(path);
        let error = repository.save(request("work", &path, &Exclude::default()), &NoMonitor).unwrap_err();
        assert!(error.to_string().contains("cannot open directory"), "{error:?}");
    }
    assert_eq!(repository.entry_ids().unwrap(), []);
    assert!(repository.resolve("work@latest").is_err());
}
