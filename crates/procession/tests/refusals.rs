//! What is refused, and with which error: objects of another family, of another kind or gone, and what exceeds the
//! memory. The file is long because each file of tests is a program of its own to link.

mod common;

use common::{alone, by, program, METHODS};
use procession::codec::{collect, unpack};
use procession::{
    channel, pipe, Array, AsyncResult, Barrier, Builder, Condvar, Error, Event, Imap, IntoIter, Iter, JoinError,
    JoinHandle, Lock, LockError, MapResult, Mutex, Queue, Semaphore, StartMethod, TryIter,
};
use serde::Serialize;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

/// Assert that the ignored test `name` passes in its own family, with this variable in its environment.
fn passes(name: &str, variable: &str, value: &str) {
    let output = program(name).env(variable, value).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

const FOREIGN: &str = "PROCESSION_TEST_FOREIGN";

/// One object of each shared kind, packed.
fn packed() -> [(&'static str, Vec<u8>); 8] {
    fn pack<T: Serialize>(value: procession::Result<T>) -> Vec<u8> {
        collect(Vec::new(), &value.unwrap()).unwrap().bytes
    }
    [
        ("queue", pack(Queue::<u8>::new())),
        ("lock", pack(Lock::new())),
        ("array", pack(Mutex::new(0_u8))),
        ("array", pack(Array::<u8>::zeroed(9))),
        ("semaphore", pack(Semaphore::new(1))),
        ("condition", pack(Condvar::new())),
        ("event", pack(Event::new())),
        ("barrier", pack(Barrier::new(2))),
    ]
}

#[test]
fn what_belongs_to_another_family_is_refused() {
    let texts = packed().map(|(_, bytes)| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(","));
    passes("refuses_what_is_foreign", FOREIGN, &texts.join(" "));
}

#[test]
#[ignore = "run by another test"]
fn refuses_what_is_foreign() {
    let texts = std::env::var(FOREIGN).unwrap();
    let foreign: Vec<Vec<u8>> = texts
        .split(' ')
        .map(|text| text.split(',').map(|byte| byte.parse().unwrap()).collect())
        .collect();
    let own = packed(); // so this family has objects in the same places
    let error = |at: usize| {
        let bytes = &foreign[at];
        let error = match at {
            0 => unpack::<Queue<u8>>(bytes, vec![]).map(drop),
            1 => unpack::<Lock>(bytes, vec![]).map(drop),
            2 => unpack::<Mutex<u8>>(bytes, vec![]).map(drop),
            3 => unpack::<Array<u8>>(bytes, vec![]).map(drop),
            4 => unpack::<Semaphore>(bytes, vec![]).map(drop),
            5 => unpack::<Condvar>(bytes, vec![]).map(drop),
            6 => unpack::<Event>(bytes, vec![]).map(drop),
            _ => unpack::<Barrier>(bytes, vec![]).map(drop),
        };
        error.unwrap_err().to_string()
    };
    for (at, (name, _)) in own.iter().enumerate() {
        let text = format!("this {name} belongs to another family of processes: it cannot be used here");
        assert_eq!(error(at), text);
    }
}

#[test]
fn starts_succeed_again_once_there_are_descriptors() {
    for method in METHODS {
        passes("uses_up_the_descriptors", METHOD, &format!("{method:?}"));
    }
}

const METHOD: &str = "PROCESSION_TEST_METHOD";

#[test]
#[ignore = "run by another test"]
fn uses_up_the_descriptors() {
    fn sleep((): ()) {
        loop {
            std::thread::park();
        }
    }
    let name = std::env::var(METHOD).unwrap();
    let method = METHODS
        .into_iter()
        .find(|method| format!("{method:?}") == name)
        .unwrap();
    let add = || by(method).spawn(|n: u32| n + 1, 1).unwrap().join();
    assert_eq!(add(), Ok(2));
    // SAFETY: reads and sets a limit.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = 48;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    for _ in 0..3 {
        let mut children = Vec::new();
        let error = loop {
            match by(method).spawn(sleep, ()) {
                Ok(child) => children.push(child),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("os error 24"), "{error}");
        assert!(children.len() > 10);
        for child in &children {
            child.kill().unwrap();
            assert!(child.wait(std::time::Duration::from_secs(60)).unwrap());
        }
        drop(children);
        assert_eq!(add(), Ok(2));
    }
}

fn answer((): ()) -> i32 {
    42
}

/// Start a child by the start method Fork, without the promise of `fork_beside_threads`.
fn forked() -> procession::Result<i32> {
    let fork = Builder::new().start_method(StartMethod::Fork);
    Ok(fork.spawn(answer, ())?.join()?)
}

#[test]
fn a_copy_is_refused_that_would_inherit_locks() {
    for name in [
        "forks_only_alone",
        "forks_only_without_guards",
        "copies_of_guards_give_nothing_back",
    ] {
        passes(name, METHOD, "Fork");
    }
}

#[test]
#[ignore = "run by another test"]
fn forks_only_alone() {
    alone(|| {
        assert_eq!(forked().unwrap(), 42);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || ended.recv().is_err());
        assert!(matches!(forked(), Err(Error::Threads)));
        drop(end);
        assert!(other.join().unwrap());
        assert_eq!(forked().unwrap(), 42);
        // The engine starts a thread of its own here, which carries descriptors to the processes that receive them.
        let (one, _other) = pipe::<u8>().unwrap();
        let queue = Queue::new().unwrap();
        queue.put(&one).unwrap();
        assert_eq!(forked().unwrap(), 42);
    });
}

#[test]
#[ignore = "run by another test"]
fn forks_only_without_guards() {
    alone(|| {
        let (lock, mutex) = (Lock::new().unwrap(), Mutex::new(0_u8).unwrap());
        let guard = mutex.lock().unwrap();
        assert!(matches!(forked(), Err(Error::Guards)));
        drop(guard);
        assert_eq!(forked().unwrap(), 42);
        // A guard taken by one thread and dropped by another, which has ended.
        let held: &'static Lock = Box::leak(Box::new(lock));
        let guard = held.lock().unwrap();
        std::thread::spawn(move || drop(guard)).join().unwrap();
        assert_eq!(forked().unwrap(), 42);
        // A leaked guard may still be in use anywhere.
        std::thread::spawn(move || std::mem::forget(held.lock().unwrap()))
            .join()
            .unwrap();
        assert!(matches!(forked(), Err(Error::Guards)));
    });
}

#[test]
#[ignore = "run by another test"]
fn copies_of_guards_give_nothing_back() {
    let (lock, slots) = (Lock::new().unwrap(), Semaphore::new(1).unwrap());
    let held = (lock.lock().unwrap(), slots.acquire().unwrap());
    // SAFETY: this process has one thread; the child drops what it inherited, and exits.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            drop(held);
            libc::_exit(0);
        }
        assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
    }
    assert!(lock.try_lock().unwrap().is_none());
    assert_eq!(slots.available(), 0);
    drop(held);
    assert!(lock.try_lock().unwrap().is_some());
    assert_eq!(slots.available(), 1);
}

/// The variable as a child by Spawn was given it. The program has removed it; the kernel remembers.
fn request_of_a_child((): ()) -> String {
    let environment = std::fs::read("/proc/self/environ").unwrap();
    let mut variables = environment.split(|&byte| byte == 0);
    let request = variables.find_map(|variable| variable.strip_prefix(b"PROCESSION_CHILD="));
    String::from_utf8(request.unwrap().to_vec()).unwrap()
}

#[test]
fn a_request_of_a_stranger_is_refused() {
    let refused = |request: &str, reason: &str| {
        let output = program("is_no_child")
            .env("PROCESSION_CHILD", request)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(101), "main must not run: {request}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(reason), "{request}: {text}");
    };
    refused("1 fork_server 3 4", "PROCESSION_CHILD");
    refused(
        "1 9.9.9 5 6 fork_server 3 4",
        "the request is of another program, with procession 9.9.9",
    );
    let child = Builder::new()
        .start_method(StartMethod::Spawn)
        .spawn(request_of_a_child, ());
    let request = child.unwrap().join().unwrap();
    let (giver, rest) = request.split_once(' ').unwrap();
    assert_eq!(giver, std::process::id().to_string());
    refused(&format!("1 {rest}"), "belongs to another family");
}

/// A program with two copies of the crate: its own, and that of a shared library that is loaded before it starts.
#[test]
fn a_shared_library_with_the_crate_disturbs_nobody_and_starts_nothing() {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop();
    let library = folder.with_file_name("examples").join("liblibrary.so");
    assert!(library.exists(), "{} is built with the examples", library.display());
    passes("starts_beside_a_library", "LD_PRELOAD", library.to_str().unwrap());
}

#[test]
#[ignore = "run by another test"]
fn starts_beside_a_library() {
    let name = c"procession_library_starts".as_ptr();
    // SAFETY: the library is loaded, and its function has this type.
    let starts = unsafe {
        let address = libc::dlsym(libc::RTLD_DEFAULT, name);
        assert!(!address.is_null());
        std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> bool>(address)
    };
    assert!(!starts(), "a child would not find the library's function");
    for method in METHODS {
        assert_eq!(by(method).spawn(answer, ()).unwrap().join(), Ok(42), "{method:?}");
    }
}

#[test]
fn a_program_can_be_started_through_the_dynamic_linker() {
    let linker = "/lib64/ld-linux-x86-64.so.2";
    if !std::path::Path::new(linker).exists() {
        return; // another architecture or C library
    }
    let output = std::process::Command::new(linker)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "--test-threads=1",
            "starts_itself",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by another test"]
fn starts_itself() {
    for method in METHODS {
        assert_eq!(by(method).spawn(answer, ()).unwrap().join(), Ok(42), "{method:?}");
        let nested = by(method).spawn(|()| procession::spawn(answer, ()).unwrap().join().unwrap(), ());
        assert_eq!(nested.unwrap().join(), Ok(42), "{method:?}");
    }
}

/// The program is a copy of this executable that belongs to the superuser and is set-user-id. Another user runs it,
/// with a request in its environment.
#[test]
fn a_program_with_more_rights_than_its_caller_takes_no_request() {
    // SAFETY: a call without arguments.
    if unsafe { libc::geteuid() } != 0 {
        return; // only the superuser can make such a program
    }
    let folder = std::env::temp_dir().join(format!("procession-set-user-id-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let copy = folder.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for path in [&folder, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o4755)).unwrap();
    }
    let output = std::process::Command::new(&copy)
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1", "is_no_child"])
        .env(
            "PROCESSION_CHILD",
            format!("{} 0.1.0 5 6 fork_server 3 4", std::process::id()),
        )
        .env("PROCESSION_ARENA_SIZE", "64M")
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .output();
    std::fs::remove_dir_all(&folder).unwrap();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by another test"]
fn is_no_child() {
    alone(|| {
        assert!(
            procession_core::process::is_secure(),
            "the file system may forbid set-user-id"
        );
        assert_eq!(forked().unwrap(), 42);
        for method in [StartMethod::Spawn, StartMethod::Forkserver] {
            let started = Builder::new().start_method(method).spawn(answer, ());
            assert!(matches!(started, Err(Error::Secure)));
        }
        let size = |bytes: usize| Array::<u8>::zeroed(bytes).map(drop);
        size(256 << 20).expect("the caller's limit on shared memory does not count");
    });
}

#[test]
fn a_handle_of_another_kind_or_of_nothing_is_refused() {
    let lock = Lock::new().unwrap();
    let bytes = collect(Vec::new(), &lock).unwrap().bytes;
    assert!(unpack::<Event>(&bytes, vec![]).is_err());
    drop(unpack::<Lock>(&bytes, vec![]).unwrap());
    drop(lock);
    let error = unpack::<Lock>(&bytes, vec![]).unwrap_err().to_string();
    assert!(error.ends_with("no longer exists"), "{error}");
}

#[test]
fn what_memory_cannot_hold_is_refused_here_and_on_arrival() {
    #[derive(Clone, Copy)]
    #[repr(C, align(64))]
    struct Aligned([u8; 64]);
    // SAFETY: plain bytes without padding.
    unsafe impl bytemuck::Zeroable for Aligned {}
    // SAFETY: as above.
    unsafe impl bytemuck::Pod for Aligned {}

    let bytes = collect(Vec::new(), &Array::new(&[0_u8; 64]).unwrap()).unwrap().bytes;
    let alignment = "shared memory is aligned to 16 bytes, this type wants more";
    for error in [
        Array::<Aligned>::zeroed(1).unwrap_err(),
        unpack::<Array<Aligned>>(&bytes, vec![]).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), alignment);
    }
    let size = "a type without a size has nothing to share";
    for error in [
        Mutex::new(()).unwrap_err(),
        unpack::<Mutex<()>>(&bytes, vec![]).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), size);
    }
    let error = Array::<u64>::zeroed(usize::MAX).unwrap_err().to_string();
    assert_eq!(error, "the array is larger than memory can be");
}

#[test]
fn threads_share_all_of_it_and_it_can_be_shown() {
    fn both<T: Send + Sync + std::fmt::Debug>(shared: T) -> String {
        format!("{shared:?}")
    }
    fn shown<T: std::fmt::Debug>() {}
    struct Bare; // the item type of a queue does not matter
    type Local = (std::rc::Rc<()>, Bare);
    assert_eq!(both(Queue::<Local>::new().unwrap()), "Queue { len: Some(0), .. }");
    assert!(both(pipe::<Local>().unwrap().0).starts_with("Pipe { fd: "));
    let array = Array::new(&[1_u16, 2]).unwrap();
    assert_eq!(format!("{:?}", array.lock().unwrap()), "[1, 2]");
    assert_eq!(both(array), "Array { bytes: 4, .. }");
    let mutex = Mutex::new(5_u8).unwrap();
    assert_eq!(format!("{:?}", mutex.lock().unwrap()), "5");
    assert_eq!(both(mutex), "Mutex { .. }");
    both((
        Lock::new().unwrap(),
        Semaphore::new(1).unwrap(),
        Condvar::new().unwrap(),
    ));
    both((Event::new().unwrap(), Barrier::new(1).unwrap()));
    let (to, from) = channel::<u8>().unwrap();
    assert_eq!(both(from.iter()), "Iter(Receiver { len: Some(0), .. })");
    assert_eq!(both(from.try_iter()), "TryIter(Receiver { len: Some(0), .. })");
    both(to);
    shown::<Iter<Bare>>();
    shown::<TryIter<Bare>>();
    shown::<IntoIter<Bare>>();
    shown::<JoinHandle<Bare>>();
    shown::<AsyncResult<Bare>>();
    shown::<MapResult<Bare>>();
    shown::<Imap<Bare, Bare>>();
    shown::<LockError<Bare>>();
}

#[test]
fn exhausted_memory_is_an_error_and_everything_goes_on() {
    passes("goes_on_after_exhaustion", "PROCESSION_ARENA_SIZE", "64M");
}

fn long(size: usize) -> String {
    "x".repeat(size)
}

#[test]
#[ignore = "run by another test"]
fn goes_on_after_exhaustion() {
    let exhausted = |error: &Error| error.to_string().starts_with("out of shared memory: ");
    let huge = long(100 << 20);
    let queue = Queue::new().unwrap();
    assert!(exhausted(&queue.put(&huge).unwrap_err()));
    assert!(exhausted(&Array::<u8>::zeroed(100 << 20).map(drop).unwrap_err()));
    let megabyte = long(1 << 20);
    for method in METHODS {
        assert!(queue.is_empty().unwrap());
        // Fork does not copy its arguments to shared memory.
        if method != StartMethod::Fork {
            let refused = by(method).spawn(|text: String| text.len(), huge.clone());
            assert!(exhausted(&refused.unwrap_err()), "{method:?}");
        }
        let lost = by(method).spawn(long, huge.len()).unwrap().join().unwrap_err();
        assert!(
            matches!(&lost, JoinError::Lost(text) if text.starts_with("out of shared memory: ")),
            "{method:?}: {lost}"
        );
        let mut count = 0;
        let error = loop {
            match queue.put(&megabyte) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(exhausted(&error) && count > 20, "{method:?}: {count} {error}");
        let (one, two) = (queue.get().unwrap(), queue.get().unwrap());
        assert!(one == megabyte && two == megabyte);
        let child = by(method).spawn(long, 1 << 20).unwrap();
        assert!(child.join().unwrap() == megabyte, "{method:?}");
        for _ in 2..count {
            assert!(queue.get().unwrap() == megabyte);
        }
    }
}
