//! Prices as they are written in files, exactly: no floating point.

use std::fmt;
use std::str::FromStr;

/// No price in any currency is above this many minor units; keeps sums of orders far from overflow.
const MOST_MINOR: i64 = 1_000_000_000_000;

/// ISO 4217 codes whose minor unit is not a hundredth, and how many decimals theirs has.
const UNUSUAL: [(&str, usize); 23] = [
    ("BIF", 0),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("ISK", 0),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("PYG", 0),
    ("RWF", 0),
    ("UGX", 0),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
    ("BHD", 3),
    ("IQD", 3),
    ("JOD", 3),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("TND", 3),
];

/// An ISO 4217 code in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many decimals its minor unit has.
    pub fn decimals(&self) -> usize {
        let unusual = UNUSUAL.iter().find(|(code, _)| *code == self.code());
        unusual.map_or(2, |(_, decimals)| *decimals)
    }

    /// Reads an amount in major units, such as `19.9`, as minor units.
    ///
    /// # Errors
    /// A clause that says what is wrong, to follow the name of what was read.
    pub fn minor_units(&self, text: &str) -> Result<i64, String> {
        let not_one = || format!("is `{text}`, which is not an amount like 19.99");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if text.starts_with('-') {
            return Err(format!("is `{text}`: it cannot be negative"));
        }
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(not_one());
        }
        let decimals = self.decimals();
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > decimals {
            let code = self.code();
            return Err(format!("is `{text}`, but {code} has {decimals} decimals"));
        }
        format!("{whole}{fraction:0<decimals$}")
            .parse()
            .ok()
            .filter(|minor| *minor <= MOST_MINOR)
            .ok_or_else(|| format!("is `{text}`, which is more than any price can be"))
    }
}

impl FromStr for Currency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code: Result<[u8; 3], _> = text.as_bytes().try_into();
        code.ok()
            .filter(|code| code.iter().all(u8::is_ascii_uppercase))
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a currency: write three capitals, like USD"))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minor(currency: &str, text: &str) -> Result<i64, String> {
        currency.parse::<Currency>()?.minor_units(text)
    }

    #[test]
    fn amounts_become_minor_units_exactly() {
        for (currency, text, wanted) in [
            ("USD", "42.99", 4299),
            ("USD", "75", 7500),
            ("USD", "0.1", 10),
            ("USD", "1.", 100),
            ("USD", "0", 0),
            ("USD", "8.5000", 850),
            // As a double this is 1.1499999999999999.
            ("USD", "1.15", 115),
            ("USD", "10000000000.00", 1_000_000_000_000),
            ("JPY", "500", 500),
            ("JPY", "500.00", 500),
            ("KWD", "1.234", 1234),
        ] {
            assert_eq!(minor(currency, text), Ok(wanted), "{currency} {text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "-1",
            "-0.01",
            "1,299.00",
            "1.999",
            ".5",
            "1.2.3",
            "$5",
            "1e3",
            "NaN",
            "٣",
            " 1",
            "10000000000.01",
            "99999999999999999999",
        ] {
            assert!(minor("USD", text).is_err(), "{text:?} was read");
        }
        assert!(minor("JPY", "5.5").is_err());
        for currency in ["usd", "US", "USDX", "", "U$D"] {
            assert!(minor(currency, "1").is_err(), "{currency:?} was accepted");
        }
    }
}
