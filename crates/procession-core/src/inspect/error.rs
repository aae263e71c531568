//! Why a family cannot be inspected.

/// Why a family cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no such process.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// The process has no arena open.
    #[error("process {0} shares nothing through procession: it is of no family")]
    NoFamily(u32),
    /// The process is another user's, or hides itself.
    #[error("process {0} may not be looked at: only its own user may, and root")]
    NotAllowed(u32),
    /// The numbers of the family's processes mean other processes here.
    #[error("process {0} runs in another pid namespace, for example in a container: look at it from there")]
    OtherNamespace(u32),
    /// The family runs another version of procession.
    #[error("the family of process {pid} runs another version of procession: its memory has format {found}, and this command reads format {ours}")]
    OtherVersion {
        /// A process of the family.
        pid: u32,
        /// The family's format.
        found: u32,
        /// The format that is read here.
        ours: u32,
    },
    /// The shared memory is damaged, or the family is just being made.
    #[error("the shared memory of process {pid} is damaged, or not complete yet: {what}")]
    Damaged {
        /// A process of the family.
        pid: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// Another observer traces the family.
    #[error("the family of process {0} is traced already")]
    Traced(u32),
    /// The word that switches the trace on may not be written.
    #[error(
        "this process may not write to the shared memory of process {0}, which a trace needs: be its user, or root"
    )]
    NotWritable(u32),
    /// No process of the family is left.
    #[error("the family of process {0} has ended")]
    Ended(u32),
    /// A system call failed.
    #[error("{call}: {source}")]
    Os {
        /// The system call.
        call: &'static str,
        /// The error that it returned.
        source: std::io::Error,
    },
}

/// The result of a look.
pub(super) type Look<T> = std::result::Result<T, InspectError>;
