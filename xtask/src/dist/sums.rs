//! SHA-256 sums as everybody writes them.

use std::fmt::Write;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The sum of these bytes, in hexadecimal digits.
pub(super) fn of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A list of files and their sums as `sha256sum -c` takes it.
pub(super) fn list<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<String> {
    let mut list = String::new();
    for (name, bytes) in files {
        writeln!(list, "{}  {name}", of(bytes)).context("writing a sum")?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_sha256sum_writes() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(list([("a/b", &[][..])].into_iter()).unwrap(), format!("{empty}  a/b\n"));
    }
}
