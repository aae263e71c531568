//! The killer's command.

#[cfg(target_arch = "x86_64")]
fn main() -> std::process::ExitCode {
    procession_killer::run()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    eprintln!("the killer steps x86-64 instructions: this is another processor");
    std::process::ExitCode::FAILURE
}
