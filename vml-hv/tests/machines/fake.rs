//! A machine in a few lines: its disk is bytes in memory, its guest a struct. It shows what the interface promises, and fails on purpose.

use crate::guest::Guest;
use crate::suite::{disks_of_one_moment, lives, memory_put_back, memory_with_disks};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use vml_core::disk::{Disk, Extent, ExtentKind};
use vml_core::entry::Fact;
use vml_core::machine::{
    Capabilities, Description, DiskSession, GuestAddress, LiveDisk, LiveDisks, LiveMemory, Machine, MachineDisk, MachineState, SavedMemory,
    Stop,
};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

const LEN: usize = 16 << 20;
const BLOCK: usize = 64 << 10;

/// What it knows and is.
struct Inner {
    state: MachineState,
    disk: Vec<u8>,
    /// Files: where they lie on the disk, and how long they are.
    files: BTreeMap<String, Range<usize>>,
    free: usize,
    /// What is gone when it stops.
    word: String,
    counter: Option<u64>,
    /// The blocks that were written since the checkpoint, and its name.
    since: Option<(String, Vec<bool>)>,
    /// The same since the session that is under way began.
    session: Option<Vec<bool>>,
    seed: u64,
}

#[derive(Clone)]
struct FakeMachine {
    inner: Arc<Mutex<Inner>>,
    dir: PathBuf,
}

impl FakeMachine {
    fn new(dir: &Path) -> Self {
        let inner = Inner {
            state: MachineState::Off,
            disk: vec![0; LEN],
            files: BTreeMap::new(),
            free: 0,
            word: String::new(),
            counter: None,
            since: None,
            session: None,
            seed: 1,
        };
        Self { inner: Arc::new(Mutex::new(inner)), dir: dir.to_owned() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn memory(&self) -> PathBuf {
        self.dir.join("fake-memory")
    }

    fn write_memory(&self, path: &Path) -> Result<()> {
        let inner = self.inner();
        let text = format!("{}\n{:?}\n", inner.word, inner.counter.map_or(-1, u64::cast_signed));
        let mut bytes = text.into_bytes();
        bytes.resize(1 << 20, 0);
        fs::write(path, bytes).at(|| format!("cannot write {}", path.display()))
    }
}

impl Inner {
    fn change(&mut self, range: Range<usize>) {
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            for map in [self.since.as_mut().map(|(_, map)| map), self.session.as_mut()].into_iter().flatten() {
                map[block] = true;
            }
        }
    }

    fn need(&self, state: MachineState) -> Result<()> {
        if self.state == state { Ok(()) } else { Err(Error::invalid(format!("the machine is {}", self.state.name()))) }
    }
}

impl Guest for FakeMachine {
    fn write(&self, name: &str, len: u64) {
        let mut inner = self.inner();
        let range = inner.free..inner.free + usize::try_from(len).unwrap();
        inner.seed += 1;
        let seed = inner.seed;
        inner.disk[range.clone()].copy_from_slice(&vml_testkit::noise::incompressible(seed, usize::try_from(len).unwrap()));
        (inner.free, _) = (range.end, inner.change(range.clone()));
        inner.files.insert(name.to_owned(), range);
    }

    fn remove(&self, name: &str) {
        let mut inner = self.inner();
        let range = inner.files.remove(name).unwrap();
        inner.disk[range.clone()].fill(0);
        inner.change(range);
    }

    fn len(&self, name: &str) -> u64 {
        self.inner().files[name].len() as u64
    }

    fn sync(&self) {}

    fn keep(&self, word: &str) {
        word.clone_into(&mut self.inner().word);
    }

    fn kept(&self) -> String {
        self.inner().word.clone()
    }

    fn start_counter(&self) {
        self.inner().counter = Some(1);
    }

    fn counted(&self) -> u64 {
        let mut inner = self.inner();
        let counter = inner.counter.as_mut().expect("the program was lost");
        *counter += 1;
        *counter
    }
}

impl Machine for FakeMachine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            adapter: "fake",
            drives: "nothing",
            live_disks: true,
            changed_ranges: true,
            memory: true,
            suspend: true,
            quiesce: false,
            address: true,
        }
    }

    fn describe(&self) -> Result<Description> {
        Ok(Description {
            file_name: "fake.toml".to_owned(),
            bytes: b"fake".to_vec(),
            disks: vec![MachineDisk { name: "system".to_owned(), file: self.dir.join("system.raw"), format: "raw".to_owned() }],
            allowed_dirs: Vec::new(),
            memory_bytes: 1 << 20,
            facts: Vec::new(),
        })
    }

    fn state(&self) -> Result<MachineState> {
        Ok(self.inner().state)
    }

    fn start(&self) -> Result<()> {
        let mut inner = self.inner();
        inner.need(MachineState::Off)?;
        inner.state = MachineState::Running;
        Ok(())
    }

    fn stop(&self, _: Stop) -> Result<()> {
        let mut inner = self.inner();
        (inner.state, inner.counter, inner.session) = (MachineState::Off, None, None);
        inner.word.clear();
        Ok(())
    }

    fn suspend(&self) -> Result<()> {
        self.inner().need(MachineState::Running)?;
        self.write_memory(&self.memory())?;
        self.stop(Stop::Kill)?;
        self.inner().state = MachineState::Suspended;
        Ok(())
    }

    fn resume(&self) -> Result<()> {
        let mut inner = self.inner();
        inner.need(MachineState::Suspended)?;
        let text = fs::read_to_string(self.memory()).at(|| "cannot read the memory")?;
        let mut lines = text.lines();
        inner.word = lines.next().unwrap_or_default().to_owned();
        inner.counter = lines.next().and_then(|number| number.parse().ok());
        inner.state = MachineState::Running;
        Ok(())
    }

    fn address(&self) -> Result<Option<GuestAddress>> {
        let address = GuestAddress { host: "127.0.0.1".to_owned(), ssh_port: 22 };
        Ok(Some(address).filter(|_| self.inner().state == MachineState::Running))
    }

    fn clean(&self) -> Result<Vec<String>> {
        let mut inner = self.inner();
        let left = inner.session.take();
        if let (Some(left), Some((_, map))) = (&left, inner.since.as_mut()) {
            map.iter_mut().zip(left).for_each(|(known, left)| *known |= left);
        }
        Ok(left.into_iter().map(|_| "ended a session".to_owned()).collect())
    }

    fn live_disks(&self) -> Option<&dyn LiveDisks> {
        Some(self)
    }

    fn live_memory(&self) -> Option<&dyn LiveMemory> {
        Some(self)
    }
}

/// A disk as it was.
struct Frozen(Vec<u8>);

impl Disk for Frozen {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let from = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(self.0.get(from..from + buffer.len()).ok_or_else(|| Error::invalid("beyond the end"))?);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { len: self.len() - offset, kind: ExtentKind::Data, layer: 0 })
    }
}

fn saved() -> SavedMemory {
    SavedMemory { format: "fake".to_owned(), facts: vec![Fact { name: "memory.fake".to_owned(), value: "1".to_owned() }] }
}

struct FakeSession<'m> {
    machine: &'m FakeMachine,
    disks: Vec<LiveDisk>,
    ended: bool,
}

impl LiveDisks for FakeMachine {
    fn begin(&self, since: Option<&str>) -> Result<Box<dyn DiskSession + '_>> {
        let mut inner = self.inner();
        inner.need(MachineState::Running)?;
        if inner.session.is_some() {
            return Err(Error::new(ErrorKind::Locked, "a session is under way"));
        }
        let known = inner.since.as_ref().filter(|(name, _)| since == Some(name));
        let block = |block: usize| (block * BLOCK) as u64..((block + 1) * BLOCK) as u64;
        let changed = known.map(|(_, map)| (0..map.len()).filter(|at| map[*at]).map(block).collect());
        let disk = Box::new(Frozen(inner.disk.clone()));
        inner.session = Some(vec![false; LEN / BLOCK]);
        let disks = vec![LiveDisk { name: "system".to_owned(), format: "raw".to_owned(), disk, changed }];
        Ok(Box::new(FakeSession { machine: self, disks, ended: false }))
    }
}

impl DiskSession for FakeSession<'_> {
    fn disks(&self) -> &[LiveDisk] {
        &self.disks
    }

    fn commit(mut self: Box<Self>, checkpoint: &str) -> Result<()> {
        self.ended = true;
        let mut inner = self.machine.inner();
        let map = inner.session.take().ok_or_else(|| Error::new(ErrorKind::Interrupted, "the machine has ended"))?;
        inner.since = Some((checkpoint.to_owned(), map));
        Ok(())
    }

    fn abort(mut self: Box<Self>) -> Result<()> {
        self.ended = true;
        self.machine.clean().map(drop)
    }
}

impl Drop for FakeSession<'_> {
    fn drop(&mut self) {
        if !self.ended {
            _ = self.machine.clean();
        }
    }
}

impl LiveMemory for FakeMachine {
    fn save(&self, to: &Path, held: &mut dyn FnMut() -> Result<()>) -> Result<SavedMemory> {
        self.write_memory(to)?;
        held()?;
        Ok(saved())
    }

    fn suspended(&self) -> Result<(PathBuf, SavedMemory)> {
        self.inner().need(MachineState::Suspended)?;
        Ok((self.memory(), saved()))
    }

    fn put(&self, facts: &[Fact], write: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        self.inner().need(MachineState::Off)?;
        if let Some(why) = self.refusal(facts)? {
            return Err(Error::invalid(why));
        }
        write(&self.memory())?;
        self.inner().state = MachineState::Suspended;
        Ok(())
    }

    fn refusal(&self, facts: &[Fact]) -> Result<Option<String>> {
        Ok(facts.is_empty().then(|| "nothing is known of it".to_owned()))
    }
}

#[test]
fn a_fake_machine_passes() {
    let dir = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(dir.path());
    let reach = |_: &GuestAddress| -> Box<dyn Guest> { Box::new(machine.clone()) };
    lives(&machine, &reach);
    disks_of_one_moment(&machine, &reach);
    memory_with_disks(&machine, &reach, dir.path());
    memory_put_back(&machine, &reach, dir.path());
}
