//! The name of a task's function, out of what a Python program sends to define it: a pickle that begins with the names
//! of module and function. Nothing else of it is read, so no argument can be shown.

use crate::text::clean;

const PROTO: u8 = 0x80;
const FRAME: u8 = 0x95;
const SHORT_BINUNICODE: u8 = 0x8c;
const MEMOIZE: u8 = 0x94;
const STACK_GLOBAL: u8 = 0x93;

/// Reads a pickle from its front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Pass an operation and its argument of this length, if it is next.
    fn pass(&mut self, operation: u8, length: usize) -> Option<()> {
        if self.0.first() != Some(&operation) {
            return None;
        }
        self.take(1 + length).map(drop)
    }

    fn string(&mut self) -> Option<&'a str> {
        self.pass(SHORT_BINUNICODE, 0)?;
        let length = self.take(1)?[0];
        let text = std::str::from_utf8(self.take(length.into())?).ok();
        self.pass(MEMOIZE, 0)?;
        text
    }
}

/// `module.function`, of a function that is sent by its name; `None` for all others, for example lambdas, and for
/// functions of Rust programs.
pub(crate) fn name(definition: &[u8]) -> Option<String> {
    let mut reader = Reader(definition);
    reader.pass(PROTO, 1)?;
    // Short pickles have no frame.
    let _ = reader.pass(FRAME, 8);
    let (module, function) = (reader.string()?, reader.string()?);
    reader.pass(STACK_GLOBAL, 0)?;
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|char| char.is_alphanumeric() || "_.".contains(char));
    if !is_name(module) || !is_name(function) {
        return None;
    }
    Some(match module {
        "__main__" | "__mp_main__" => clean(function),
        module => clean(&format!("{module}.{function}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_is_sent_by_name_has_one() {
        let pickle = b"\x80\x05\x95\x1c\0\0\0\0\0\0\0\x8c\x04shop\x94\x8c\x05serve\x94\x93\x94K\0\x86\x94.";
        assert_eq!(name(pickle).as_deref(), Some("shop.serve"));
        let own = b"\x80\x05\x8c\x08__main__\x94\x8c\x05serve\x94\x93\x94K\0\x86\x94.";
        assert_eq!(name(own).as_deref(), Some("serve"));
        for length in 0..22 {
            assert_eq!(name(&own[..length]), None);
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        assert_eq!(name(b""), None);
        assert_eq!(name(b"\x80\x05\x8c\x06secret\x94\x8c\x05other\x94\x86\x94."), None);
        assert_eq!(name(b"\x80\x05\x8c\x04a\x1b[m\x94\x8c\x01b\x94\x93\x94."), None);
        assert_eq!(name(b"\x80\x05\x8c\x02\xff\xff\x94\x8c\x01b\x94\x93\x94."), None);
    }
}
