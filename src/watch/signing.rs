//! HMAC-SHA256: what a message or a link was made by, provably.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key that signs. It is not printed.
#[derive(Clone)]
pub(super) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    pub(super) fn new(key: &[u8]) -> Self {
        // HMAC pads short keys and hashes long ones; the error of the interface is of other MACs.
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The signature of the parts, one after the other.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> Vec<u8> {
        self.mac(parts).finalize().into_bytes().to_vec()
    }

    /// Whether the parts were signed so. The time that it takes tells nothing about the signature.
    pub(super) fn is_genuine(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        self.mac(parts).verify_slice(signature).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(hidden)")
    }
}
