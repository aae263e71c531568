//! The stopper's command.

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    procession_killer::run_stopper()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    eprintln!("the stopper steps x86-64 instructions: this is another processor");
    std::process::ExitCode::FAILURE
}
