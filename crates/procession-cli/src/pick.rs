//! Which family a command is about.

use crate::{Failure, NOTHING, UNREADABLE};
use procession_core::inspect::{families, FamilyFound, InspectError, Inspector};

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        let code = match error {
            InspectError::NoProcess(_) | InspectError::NoFamily(_) | InspectError::Ended(_) => NOTHING,
            _ => UNREADABLE,
        };
        Self {
            code,
            message: error.to_string(),
        }
    }
}

/// The family of process `pid`, or the only one.
pub(crate) fn family(pid: Option<u32>) -> Result<Inspector, Failure> {
    if let Some(pid) = pid {
        return Ok(Inspector::of(pid)?);
    }
    let mut found = living();
    match found.len() {
        0 => Err(Failure {
            code: NOTHING,
            message: "no program of this user shares anything through procession".to_owned(),
        }),
        1 => Ok(found.remove(0).inspector?),
        _ => {
            let first: Vec<String> = found.iter().map(|family| family.pids[0].to_string()).collect();
            Err(Failure {
                code: crate::MISUSED,
                message: format!(
                    "there are several families; name a process of one of them: {}",
                    first.join(", ")
                ),
            })
        }
    }
}

/// The families of this user. If there are several, those are left out that have ended: something else than a process of
/// the family may have kept its memory.
pub(crate) fn living() -> Vec<FamilyFound> {
    let mut found = families();
    if found.len() > 1 {
        let lives = |family: &FamilyFound| match &family.inspector {
            Ok(inspector) => !matches!(inspector.processes(), Err(InspectError::Ended(_))),
            Err(_) => true,
        };
        found.retain(lives);
    }
    found
}
