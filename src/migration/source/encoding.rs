//! From bytes to text. What is not UTF-8 is refused with what was found: a guess would put wrong
//! letters into somebody's rows.

use std::path::Path;

use super::position;

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

impl From<Unreadable> for std::io::Error {
    fn from(err: Unreadable) -> Self {
        match err {
            Unreadable::Io(err) => err,
            encoding @ Unreadable::Encoding { .. } => Self::other(encoding),
        }
    }
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
    let refuse = |at: usize, found: String| {
        let before = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
        Err(Unreadable::Encoding {
            line: position(&before, before.len()).line,
            found,
        })
    };
    let marks: [(&[u8], &str); 4] = [
        (&[0xFF, 0xFE, 0, 0], "UTF-32"),
        (&[0, 0, 0xFE, 0xFF], "UTF-32"),
        (&[0xFF, 0xFE], "UTF-16"),
        (&[0xFE, 0xFF], "UTF-16"),
    ];
    if let Some((_, name)) = marks.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        return refuse(0, format!("it begins with the byte-order mark of {name}"));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let zeros = |first: usize| {
            bytes
                .iter()
                .skip(first)
                .step_by(2)
                .filter(|b| **b == 0)
                .count()
        };
        let is_most = |zeros: usize| zeros * 4 > bytes.len();
        return if is_most(zeros(0)) != is_most(zeros(1)) {
            refuse(0, "every other byte is zero, as in UTF-16".to_owned())
        } else {
            refuse(at, "there is a NUL byte, which no text has".to_owned())
        };
    }
    let body = bytes.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(bytes);
    match std::str::from_utf8(body) {
        Ok(text) => Ok(text.to_owned()),
        Err(err) => {
            let at = bytes.len() - body.len() + err.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or_default();
            let found = format!(
                "the byte 0x{byte:02X} is not UTF-8; the file may be in Latin-1 or Windows-1252"
            );
            refuse(at, found)
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
            (vec![0xFF, 0xFE, 0, 0, b'-', 0, 0, 0], 1, "UTF-32"),
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
