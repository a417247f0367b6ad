//! Object storage without a network: over a store in memory, and over one that loses requests and answers.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vml_chunk::backend::object::ABILITIES_KEY;
use vml_chunk::{Backend, ErrorKind, ObjectBackend, PutOutcome};
use vml_testkit::backend_suite;

type Rule = dyn Fn(&str, u64) -> Fault + Send + Sync;

/// What happens to a put.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The request does not arrive.
    Request,
    /// It is carried out and the answer does not arrive.
    Answer,
    /// Its condition is taken for fulfilled.
    Condition,
}

/// A store in memory whose puts fail by a rule over key and number.
struct Odd {
    inner: InMemory,
    rule: Box<Rule>,
    puts: AtomicU64,
    copies: Option<bool>,
    e_tags: bool,
    requests: AtomicUsize,
    log: Mutex<Vec<String>>,
}

impl Odd {
    fn new(rule: impl Fn(&str, u64) -> Fault + Send + Sync + 'static) -> Self {
        let (puts, requests, log) = (AtomicU64::new(0), AtomicUsize::new(0), Mutex::default());
        Self { inner: InMemory::new(), rule: Box::new(rule), puts, copies: Some(true), e_tags: true, requests, log }
    }

    fn count(&self, what: &str, path: &Path) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.log.lock().unwrap().push(format!("{what} {path}"));
    }
}

impl fmt::Debug for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

fn lost() -> Error {
    let cut = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut");
    Error::Generic { store: "odd", source: Box::new(HttpError::new(HttpErrorKind::Interrupted, cut)) }
}

#[async_trait]
impl ObjectStore for Odd {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> object_store::Result<PutResult> {
        self.count("put", path);
        match (self.rule)(path.as_ref(), self.puts.fetch_add(1, Ordering::Relaxed)) {
            Fault::None => self.inner.put_opts(path, payload, options).await,
            Fault::Request => Err(lost()),
            Fault::Answer => {
                self.inner.put_opts(path, payload, options).await?;
                Err(lost())
            }
            Fault::Condition => {
                options.mode = PutMode::Overwrite;
                self.inner.put_opts(path, payload, options).await
            }
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.count("multipart", path);
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.count(if options.head { "head" } else { "get" }, path);
        let mut result = self.inner.get_opts(path, options).await?;
        if !self.e_tags {
            result.meta.e_tag = None;
        }
        Ok(result)
    }

    fn delete_stream(&self, paths: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.count("copy", to);
        match self.copies {
            Some(true) => self.inner.copy_opts(from, to, options).await,
            Some(false) => self.inner.copy_opts(from, to, CopyOptions::default()).await,
            None => Err(Error::NotSupported { source: "no copies".into() }),
        }
    }
}

fn backend(store: Arc<dyn ObjectStore>) -> ObjectBackend {
    ObjectBackend::new(store, "some/prefix", "s3://bucket/some/prefix").unwrap()
}

/// The objects there are, whole.
fn objects(store: &InMemory) -> Vec<String> {
    use futures_util::TryStreamExt as _;
    let listed: Vec<ObjectMeta> = futures_util::FutureExt::now_or_never(store.list(None).try_collect()).unwrap().unwrap();
    listed.into_iter().map(|object| object.location.to_string()).collect()
}

#[test]
fn a_store_in_memory_passes() {
    backend_suite::run(&|| Arc::new(backend(Arc::new(InMemory::new()))));
    backend_suite::run(&|| Arc::new(ObjectBackend::new(Arc::new(InMemory::new()), "", "s3://bucket").unwrap()));
}

#[test]
fn a_store_passes_when_every_file_is_uploaded_in_parts() {
    backend_suite::run(&|| Arc::new(backend(Arc::new(InMemory::new())).with_parts(0, 1000).unwrap()));
}

#[test]
fn a_store_without_copies_passes() {
    backend_suite::run(&|| {
        let odd = Odd { copies: None, ..Odd::new(|_, _| Fault::None) };
        Arc::new(backend(Arc::new(odd)).with_parts(0, 1000).unwrap())
    });
}

#[test]
fn lost_requests_and_answers_of_puts_are_made_good() {
    // Refs are left out: when two lose answers about one ref, one of them cannot know.
    backend_suite::run(&|| {
        let odd = Odd::new(|path, number| match number % 3 {
            _ if path.contains("/refs/") => Fault::None,
            0 => Fault::Request,
            1 => Fault::Answer,
            _ => Fault::None,
        });
        Arc::new(backend(Arc::new(odd)))
    });
}

#[test]
fn a_swap_whose_answer_was_lost_is_known_to_be_done() {
    let odd = Arc::new(Odd::new(|_, number| if number % 2 == 0 { Fault::Answer } else { Fault::Request }));
    let backend = backend(Arc::clone(&odd) as Arc<dyn ObjectStore>);
    assert!(backend.swap("refs/x", None, Some(b"1")).unwrap());
    assert!(backend.swap("refs/x", Some(b"1"), Some(b"2")).unwrap());
    assert!(backend.swap("refs/x", Some(b"2"), None).unwrap());
    assert!(backend.swap("refs/x", None, Some(b"3")).unwrap());
    assert_eq!(backend.read("refs/x", 9).unwrap(), b"3");
    assert!(odd.requests.load(Ordering::Relaxed) < 40);
}

#[test]
fn of_swaps_that_lose_answers_none_is_done_twice_or_forgotten() {
    let odd = Odd::new(|_, number| match number % 5 {
        1 => Fault::Answer,
        3 => Fault::Request,
        _ => Fault::None,
    });
    let backend = backend(Arc::new(odd));
    let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let old = backend.read("refs/counter", 99).ok();
                    let value: usize = old.as_deref().map_or(0, |old| std::str::from_utf8(old).unwrap().parse().unwrap());
                    match backend.swap("refs/counter", old.as_deref(), Some((value + 1).to_string().as_bytes())) {
                        Ok(true) => _ = counts[0].fetch_add(1, Ordering::Relaxed),
                        Ok(false) => {}
                        Err(error) if error.kind() == ErrorKind::Interrupted => _ = counts[1].fetch_add(1, Ordering::Relaxed),
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
    });
    let [done, unknown] = counts.map(AtomicUsize::into_inner);
    let value: usize = String::from_utf8(backend.read("refs/counter", 99).unwrap()).unwrap().parse().unwrap();
    assert!(done > 0 && (done..=done + unknown).contains(&value), "{value} after {done} swaps and {unknown} of unknown fate");
}

#[test]
fn a_file_deleted_by_swap_is_a_tombstone_and_its_name_can_be_used() {
    let store = InMemory::new();
    let backend = backend(Arc::new(store.fork()));
    assert!(backend.swap("saving/x", None, Some(b"1")).unwrap() && backend.swap("saving/x", Some(b"1"), None).unwrap());
    assert_eq!(backend.read_at("saving/x", 0, &mut [0; 4]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.map("saving/x").map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backend.list("saving").unwrap(), []);
    assert!(backend.read_many(&["saving/x".to_owned()], 99)[0].as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound));
    assert_eq!(backend.put("saving/x", b"put").unwrap(), PutOutcome::Stored);
    assert_eq!(backend.put("saving/x", b"again").unwrap(), PutOutcome::AlreadyThere);
    assert_eq!(backend.put("data/x", b"VML: no file here").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(backend.swap("refs/x", None, Some(b"seventeen bytes!!")).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_long_file_is_uploaded_while_it_is_written_and_leaves_nothing_else() {
    let odd = Arc::new(Odd::new(|_, _| Fault::None));
    let backend = backend(Arc::clone(&odd) as Arc<dyn ObjectStore>).with_parts(10_000, 4_000).unwrap();
    assert!(backend.probe().unwrap().copy_if_absent);
    let bytes: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut staged = backend.stage().unwrap();
    bytes.chunks(777).for_each(|part| staged.append(part).unwrap());
    assert_eq!(staged.publish("data/long").unwrap(), PutOutcome::Stored);
    assert!(backend.map("data/long").unwrap().as_ref() == bytes);
    let mut second = backend.stage().unwrap();
    bytes.chunks(10_000).for_each(|part| second.append(part).unwrap());
    assert_eq!(second.publish("data/long").unwrap(), PutOutcome::AlreadyThere);
    assert_eq!(second.publish("data/other").unwrap(), PutOutcome::Stored, "it is still in hand");
    assert!(second.append(b"more").is_err());
    drop((staged, second));
    let mut dropped = backend.stage().unwrap();
    dropped.append(&bytes).unwrap();
    drop(dropped);
    let left: Vec<String> = objects(&odd.inner);
    let expected = ["data/long", "data/other", ABILITIES_KEY].map(|key| format!("some/prefix/{key}"));
    assert_eq!(left, expected);
}

#[test]
fn a_staged_file_that_a_sweep_took_is_an_error_and_nothing_else() {
    let store = Arc::new(InMemory::new());
    let open = || backend(Arc::clone(&store) as Arc<dyn ObjectStore>).with_parts(10, 10).unwrap();
    let (patient, hasty) = (open(), open().with_abandoned_after(Duration::ZERO).unwrap());
    patient.put("data/there", b"somebody else's").unwrap();
    let mut staged = patient.stage().unwrap();
    staged.append(b"longer than ten bytes").unwrap();
    // Now it is a whole object without its name.
    assert_eq!(staged.publish("data/there").unwrap(), PutOutcome::AlreadyThere);
    assert_eq!(patient.sweep().unwrap(), 0, "it is not a week old");
    assert_eq!(hasty.sweep().unwrap(), 1);
    let error = staged.publish("data/x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert_eq!(patient.len("data/x").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(patient.list("tmp").unwrap(), []);
}

#[test]
fn the_probe_accepts_a_good_store_once_and_leaves_nothing_else() {
    let odd = Arc::new(Odd::new(|_, _| Fault::None));
    let backend = backend(Arc::clone(&odd) as Arc<dyn ObjectStore>);
    assert!(backend.probe().unwrap().copy_if_absent);
    assert_eq!(objects(&odd.inner), [format!("some/prefix/{ABILITIES_KEY}")]);
    assert!(backend.probe().is_ok(), "again is no error");
    let without = Odd { copies: None, ..Odd::new(|_, _| Fault::None) };
    assert!(!self::backend(Arc::new(without)).probe().unwrap().copy_if_absent);
    let careless = Odd { copies: Some(false), ..Odd::new(|_, _| Fault::None) };
    assert!(!self::backend(Arc::new(careless)).probe().unwrap().copy_if_absent, "a copy that overwrites is none if absent");
}

#[test]
fn the_probe_refuses_stores_that_do_not_keep_conditions() {
    let refused = |odd: Odd, why: &str| {
        let odd = Arc::new(odd);
        let error = backend(Arc::clone(&odd) as Arc<dyn ObjectStore>).probe().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why) && error.to_string().contains("Use a store"), "{error}");
        assert_eq!(objects(&odd.inner), [""; 0], "nothing stays");
    };
    refused(Odd::new(|_, _| Fault::Condition), "overwrites an object");
    refused(Odd { e_tags: false, ..Odd::new(|_, _| Fault::None) }, "no ETag");
    // Checks and then writes: sound one after another, and not in a race.
    refused(Odd::new(|path, _| if path.contains("race-") { Fault::Condition } else { Fault::None }), "of 8 writers");
    refused(Odd::new(|path, number| if path.contains("-one") && number == 3 { Fault::Condition } else { Fault::None }), "has changed");
}

/// A server that answers each request with what `answer` makes of its first line, and then with `endless` until nobody reads.
fn lying_server(answer: impl Fn(&str) -> (String, Option<&'static [u8]>) + Send + Sync + 'static) -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(first)) = lines.next() else { return };
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let (text, endless) = answer(&first);
                if stream.write_all(text.as_bytes()).is_err() {
                    return;
                }
                while endless.is_some_and(|part| stream.write_all(part).is_ok()) {}
            });
        }
    });
    address
}

#[test]
fn a_lying_store_is_an_error_and_takes_no_memory() {
    const HEAD: &str = "ETag: \"x\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: close\r\n";
    // A chunk of sixteen bytes, again and again.
    const CHUNK: &[u8] = b"10\r\n0123456789abcdef\r\n";
    let server = lying_server(|request| {
        let chunked = |status: &str| (format!("HTTP/1.1 {status}\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n"), Some(CHUNK));
        match request {
            _ if request.contains("short") => (format!("HTTP/1.1 200 OK\r\n{HEAD}Content-Length: 100\r\n\r\nten bytes."), None),
            _ if request.contains("huge") => (format!("HTTP/1.1 200 OK\r\n{HEAD}Content-Length: 1099511627776\r\n\r\n"), Some(CHUNK)),
            _ if request.contains("whole") => (format!("HTTP/1.1 200 OK\r\n{HEAD}Content-Length: 10\r\n\r\n0123456789"), None),
            _ if request.contains("denied") => chunked("403 Forbidden"),
            _ if request.contains("moved") => {
                (format!("HTTP/1.1 307 Moved\r\n{HEAD}Location: http://127.0.0.1:9/x\r\nContent-Length: 0\r\n\r\n"), None)
            }
            _ => chunked("200 OK"),
        }
    });
    let place = vml_chunk::backend::object::ObjectPlace::parse("s3://bucket/p").unwrap().unwrap();
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let options = [option("aws_endpoint_url", &server), option("aws_access_key_id", "k"), option("aws_secret_access_key", "s")];
    let backend = vml_chunk::backend::object::connect(&place, &options).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(backend.read("data/short", 100).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(backend.read("data/huge", 100).unwrap_err().kind(), ErrorKind::Corrupt, "more than it may have");
    assert_eq!(backend.map("data/huge").map(|_| ()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(backend.read("data/endless", 100).unwrap_err().kind(), ErrorKind::Io, "without a length");
    assert_eq!(backend.read_at("data/whole", 3, &mut [0; 4]).unwrap_err().kind(), ErrorKind::Io, "no range");
    assert_eq!(backend.read("data/denied", 100).unwrap_err().kind(), ErrorKind::Io, "an answer without an end");
    assert_eq!(backend.read("data/moved", 100).unwrap_err().kind(), ErrorKind::Io, "nobody is followed elsewhere");
    assert_eq!(backend.list("listing").unwrap_err().kind(), ErrorKind::Io);
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}
