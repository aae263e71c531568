//! What a child has of its parent at the moment of its start, whatever the start method, and what runs before its
//! function.

mod common;

use common::{by, program, METHODS};
use procession::StartMethod;
use std::ffi::CString;
use std::io::read_to_string;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Calls of [`construct`] in this process, and the arguments that it was passed.
static CALLS: AtomicUsize = AtomicUsize::new(0);
static ARGUMENTS: AtomicUsize = AtomicUsize::new(0);

// Without a number, it runs behind the crate's own.
#[used]
#[link_section = ".init_array"]
static CONSTRUCTOR: extern "C" fn(usize) = construct;

extern "C" fn construct(argc: usize) {
    CALLS.fetch_add(1, Relaxed);
    ARGUMENTS.store(argc as u32 as usize, Relaxed);
}

fn constructed((): ()) -> (usize, usize) {
    (CALLS.load(Relaxed), ARGUMENTS.load(Relaxed))
}

#[test]
fn the_constructors_of_the_program_run_before_the_function() {
    let (calls, arguments) = constructed(());
    assert_eq!(calls, 1);
    for method in METHODS {
        let (calls, there) = by(method).spawn(constructed, ()).unwrap().join().unwrap();
        assert_eq!(calls, 1, "{method:?}");
        if cfg!(target_env = "gnu") {
            assert_eq!(there, arguments, "{method:?}");
        }
    }
}

/// Directory, two variables, umask, and which streams are open.
type Seen = (PathBuf, Option<String>, Option<String>, String, [bool; 3]);

fn look(text: String) -> Seen {
    println!("{text}");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find(|line| line.starts_with("Umask")).unwrap();
    let variable = |name| std::env::var(name).ok();
    (
        std::env::current_dir().unwrap(),
        variable("PROCESSION_TEST_SET"),
        variable("PROCESSION_TEST_REMOVED"),
        umask.to_owned(),
        // SAFETY: asks for a flag.
        [0, 1, 2].map(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0),
    )
}

#[test]
fn children_look_like_their_parent_at_their_start() {
    let output = program("changes_itself")
        .env("PROCESSION_TEST_REMOVED", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Make stdout a socket, and return its other end.
fn redirect() -> UnixStream {
    let (reader, writer) = UnixStream::pair().unwrap();
    // The hole that stdin left must not be filled.
    let (reader, writer) = (reader.try_clone().unwrap(), writer.try_clone().unwrap());
    // SAFETY: both are open.
    assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), 1) }, 1);
    reader
}

#[test]
#[ignore = "run by another test"]
fn changes_itself() {
    // The fork server has what the process has now.
    let before = procession::spawn(look, String::new()).unwrap().join().unwrap();
    assert_eq!((before.1.as_deref(), before.2.as_deref()), (None, Some("1")));
    let folder = std::env::temp_dir().join(format!("procession-surroundings-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    std::env::set_current_dir(&folder).unwrap();
    // SAFETY: the harness's other thread only waits for this one.
    let stdout = unsafe {
        std::env::set_var("PROCESSION_TEST_SET", "2");
        std::env::remove_var("PROCESSION_TEST_REMOVED");
        libc::umask(0o27);
        libc::close(0);
        libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3)
    };
    for method in METHODS {
        let reader = redirect();
        let child = by(method).spawn(look, format!("by {method:?}")).unwrap();
        let seen = child.join().unwrap();
        // SAFETY: as above; the socket has no other copy now.
        assert_eq!(unsafe { libc::dup2(stdout, 1) }, 1);
        assert_eq!(read_to_string(reader).unwrap(), format!("by {method:?}\n"));
        let umask = "Umask:\t0027".to_owned();
        assert_eq!(
            seen,
            (folder.clone(), Some("2".into()), None, umask, [false, true, true]),
            "{method:?}"
        );
    }
    std::fs::remove_dir(&folder).unwrap();
}

#[test]
fn variables_that_cannot_be_set_and_those_set_twice() {
    let mut program = program("has_strange_variables");
    let exe = CString::new(std::env::current_exe().unwrap().into_os_string().into_vec()).unwrap();
    let arguments = ["x", "--ignored", "--exact", "--nocapture", "has_strange_variables"];
    let strings = |all: &[&str]| all.iter().map(|&one| CString::new(one).unwrap()).collect::<Vec<_>>();
    let (arguments, variables) = (strings(&arguments), strings(&["=x=1", "TWICE=1", "TWICE=2"]));
    let execute = move || {
        let list = |all: &[CString]| all.iter().map(|one| one.as_ptr()).chain([null()]).collect::<Vec<_>>();
        let (arguments, variables) = (list(&arguments), list(&variables));
        // SAFETY: the lists end with a null pointer, and the strings live.
        unsafe { libc::execve(exe.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
        Err(std::io::Error::last_os_error())
    };
    // SAFETY: the allocator of the C library works after a fork.
    let output = unsafe { program.pre_exec(execute) }.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn variables((): ()) -> [Option<String>; 3] {
    ["=x", "TWICE", "NEW"].map(|name| {
        let mut all = std::env::vars();
        all.find_map(|(this, value)| (this == name).then_some(value))
    })
}

#[test]
#[ignore = "run by another test"]
fn has_strange_variables() {
    let some = |text: &str| Some(text.to_owned());
    let expected = [some("1"), some("1"), None];
    assert_eq!(procession::spawn(variables, ()).unwrap().join().unwrap(), expected);
    // SAFETY: the harness's other thread only waits for this one.
    unsafe { std::env::set_var("NEW", "3") };
    let expected = [some("1"), some("1"), some("3")];
    for method in METHODS {
        let seen = by(method).spawn(variables, ()).unwrap().join();
        assert_eq!(seen.unwrap(), expected, "{method:?}");
    }
}

fn streams((): ()) -> [bool; 3] {
    // SAFETY: asks for a flag.
    [0, 1, 2].map(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0)
}

#[test]
fn what_takes_the_number_of_a_closed_stream_is_not_passed_on() {
    let output = program("closes_its_streams").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by another test"]
fn closes_its_streams() {
    // SAFETY: nothing of this process uses them.
    unsafe { (libc::close(0), libc::close(2)) };
    let forkserver = || by(StartMethod::Forkserver).spawn(streams, ()).unwrap().join().unwrap();
    let spawn = || by(StartMethod::Spawn).spawn(streams, ()).unwrap().join().unwrap();
    let closed = [false, true, false];
    assert_eq!((forkserver(), spawn()), (closed, closed));
    assert_eq!(streams(()), closed, "the fork server's socket is no stream");
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(file.as_raw_fd(), 0);
    assert_eq!((forkserver(), spawn()), (closed, closed));
}
