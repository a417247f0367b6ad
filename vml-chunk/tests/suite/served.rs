//! Object storage over a network, against servers that `scripts/test-objects.sh` starts: `VML_TEST_S3` is the address of one that keeps conditions,
//! `VML_TEST_S3_CARELESS` of one that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vml_chunk::backend::object::{Abilities, ObjectPlace, connect};
use vml_chunk::{Backend, ErrorKind, ObjectBackend, PutOutcome};
use vml_testkit::backend_suite;

static NEXT: AtomicUsize = AtomicUsize::new(0);

const OPTIONS: [(&str, &str); 3] =
    [("aws_access_key_id", "testing-key"), ("aws_secret_access_key", "testing-secret"), ("aws_region", "us-east-1")];

fn open(endpoint: &str, bucket: &str, more: &[(&str, &str)]) -> ObjectBackend {
    let prefix = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let place = ObjectPlace::parse(&format!("s3://{bucket}/{prefix}")).unwrap().unwrap();
    let own = |options: &[(&str, &str)]| options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
    let mut options = own(&OPTIONS);
    options.extend(own(more));
    options.push(("aws_endpoint_url".to_owned(), endpoint.to_owned()));
    connect(&place, &options).unwrap()
}

fn server() -> String {
    std::env::var("VML_TEST_S3").expect("scripts/test-objects.sh sets it")
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn a_served_store_conforms() {
    let endpoint = server();
    backend_suite::run(&|| Arc::new(open(&endpoint, "bucket", &[])));
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn a_served_store_takes_a_long_file_in_parts_and_lists_in_pages() {
    let bytes = vml_testkit::noise::incompressible(7, 40 << 20);
    // Both ways of long files, whatever the probe finds.
    for copy_if_absent in [true, false] {
        let backend = open(&server(), "bucket", &[]).with_abilities(Abilities { copy_if_absent }).unwrap();
        a_long_file(&backend, &bytes);
    }
    let backend = open(&server(), "bucket", &[]);
    backend.probe().unwrap();
    // A page has a thousand.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let backend = &backend;
            scope.spawn(move || (0..150).for_each(|i| _ = backend.put(&format!("many/{thread}-{i}"), b"x").unwrap()));
        }
    });
    assert_eq!(backend.list("many").unwrap().len(), 1200);
    let keys: Vec<String> = (0..100).map(|i| format!("many/3-{i}")).collect();
    assert!(backend.read_many(&keys, 9).into_iter().all(|bytes| bytes.unwrap() == b"x"));
}

fn a_long_file(backend: &ObjectBackend, bytes: &[u8]) {
    let mut staged = backend.stage().unwrap();
    bytes.chunks(1 << 20).for_each(|part| staged.append(part).unwrap());
    assert_eq!(staged.publish("data/long").unwrap(), PutOutcome::Stored);
    let mut tail = vec![0; 3 << 20];
    backend.read_at("data/long", (37 << 20) + 1, &mut tail[..(3 << 20) - 1]).unwrap();
    assert!(tail[..(3 << 20) - 1] == bytes[(37 << 20) + 1..]);
    let mut again = backend.stage().unwrap();
    again.append(bytes).unwrap();
    assert_eq!(again.publish("data/long").unwrap(), PutOutcome::AlreadyThere);
    drop((staged, again));
    assert_eq!(backend.list("tmp").unwrap(), []);
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn errors_say_what_to_do_in_bounded_time() {
    let endpoint = server();
    let error = open(&endpoint, "missing-bucket", &[]).read("config", 99).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("no such bucket"), "{error:?}");
    let error = open(&endpoint, "missing-bucket", &[]).list("data").unwrap_err();
    assert!(error.to_string().contains("no such bucket"), "{error:?}");
    let started = Instant::now();
    // Nobody listens at the discard port.
    let error = open("http://127.0.0.1:9", "bucket", &[]).read("config", 99).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("cannot be reached"), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
#[ignore = "needs a server, see scripts/test-objects.sh"]
fn the_probe_refuses_a_careless_store() {
    let endpoint = std::env::var("VML_TEST_S3_CARELESS").expect("scripts/test-objects.sh sets it");
    let error = open(&endpoint, "vml", &[]).probe().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(error.to_string().contains("cannot hold a repository") && error.to_string().contains("Use a store"), "{error}");
}
