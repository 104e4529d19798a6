//! From bytes to text. What is not UTF-8 is refused with what was found: a guess would put wrong
//! letters into somebody's rows.

use std::path::Path;

use super::{BYTE_ORDER_MARK, position};

/// Why a file's bytes are no text that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The file system's answer.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The bytes are something else than UTF-8.
    #[error("line {line}: {found}; save the file as UTF-8")]
    Encoding {
        /// The line, from 1.
        line: usize,
        /// What was found.
        found: String,
    },
}

/// The text of the file at `path`, without a byte-order mark.
///
/// # Errors
/// [`Unreadable`] when it cannot be read or is not UTF-8.
pub fn read(path: &Path) -> Result<String, Unreadable> {
    decode(&std::fs::read(path)?)
}

/// The text that `bytes` are in UTF-8, without a byte-order mark.
///
/// # Errors
/// [`Unreadable::Encoding`] when they are not UTF-8 or hold a NUL.
pub fn decode(bytes: &[u8]) -> Result<String, Unreadable> {
    let refuse = |at: usize, found: &str| {
        let before = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
        Err(Unreadable::Encoding {
            line: position(&before, before.len()).line,
            found: found.to_owned(),
        })
    };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return refuse(
            at,
            "there is a NUL byte, which no text in UTF-8 has (UTF-16 has many)",
        );
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text
            .strip_prefix(BYTE_ORDER_MARK)
            .unwrap_or(text)
            .to_owned()),
        Err(err) => {
            let at = err.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or_default();
            let found = format!(
                "the byte 0x{byte:02X} is not UTF-8; the file may be in Latin-1 or Windows-1252"
            );
            refuse(at, &found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_is_read_with_and_without_its_mark() {
        assert_eq!(decode("é\r\n".as_bytes()).expect("text"), "é\r\n");
        assert_eq!(decode(b"\xEF\xBB\xBFa").expect("text"), "a");
        assert_eq!(decode(b"").expect("text"), "");
        assert_eq!(decode(b"\xEF\xBB\xBF").expect("text"), "");
    }

    #[test]
    fn whatever_else_is_refused_with_its_line_and_what_to_do() {
        let utf16 = |text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
            let units = text.encode_utf16().flat_map(bytes);
            mark.iter().copied().chain(units).collect::<Vec<u8>>()
        };
        for (bytes, line, said) in [
            (
                utf16("-- title", &[0xFF, 0xFE], u16::to_le_bytes),
                1,
                "UTF-16",
            ),
            (
                utf16("-- title", &[0xFE, 0xFF], u16::to_be_bytes),
                1,
                "UTF-16",
            ),
            (utf16("-- title", &[], u16::to_le_bytes), 1, "UTF-16"),
            (b"a\nb\r\ncaf\xE9 = 1".to_vec(), 3, "0xE9"),
            (b"\xEF\xBB\xBFa\n\xA0".to_vec(), 2, "0xA0"),
            (b"a\n\xED\xA0\x80".to_vec(), 2, "0xED"),
            (b"-- title: x\nUPDATE \0 t SET a = 1".to_vec(), 2, "NUL"),
        ] {
            let message = decode(&bytes).expect_err("must be refused").to_string();
            assert!(message.starts_with(&format!("line {line}: ")), "{message}");
            assert!(message.contains(said), "{message}");
            assert!(message.ends_with("save the file as UTF-8"), "{message}");
        }
    }
}
