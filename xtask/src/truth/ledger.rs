//! Whether netsnoop's closing words on standard error add up.

use anyhow::{Context, Result};

/// What does not add up in them, if anything.
pub(crate) fn imbalance(words: &str) -> Result<Option<String>> {
    if words.contains("do not balance") {
        return Ok(Some("netsnoop says itself that its books do not balance".to_owned()));
    }
    for (noun, parts) in [("local", 4), ("packet", 4)] {
        let line = closing_line(words, noun)?;
        let numbers = numbers(line);
        let (whole, rest) = numbers.split_first().with_context(|| format!("no numbers in {line:?}"))?;
        let sum: u64 = rest.iter().take(parts).sum();
        if rest.len() < parts || sum != *whole {
            return Ok(Some(format!("{line:?}: {whole} are not {sum}")));
        }
    }
    Ok(None)
}

/// The last line whose second word begins with `noun`: what was said before of silence has numbers too.
fn closing_line<'a>(words: &'a str, noun: &str) -> Result<&'a str> {
    let found = words.lines().rfind(|line| line.split(' ').nth(1).is_some_and(|word| word.starts_with(noun)));
    found.with_context(|| format!("netsnoop closed without a line of {noun}s: {words}"))
}

/// The numbers of a line; those in parentheses break one of them down.
fn numbers(line: &str) -> Vec<u64> {
    let outside: String = line.split('(').filter_map(|part| part.rsplit(')').next()).collect();
    outside.split(|letter: char| !letter.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::imbalance;

    fn check(ends: &str, packets: &str, balances: bool) {
        let words = format!(
            "3 local sockets known\n1 connection, 0 still open\n{ends}\n{packets}\n0 kernel events read\n"
        );
        let found = imbalance(&words).expect("all lines are there");
        assert_eq!(found.is_none(), balances, "{words}: {found:?}");
    }

    #[test]
    fn sums_are_checked_and_what_is_in_parentheses_is_no_part_of_them() {
        let packets = "9 packets received: 5 decoded, 2 ignored, 1 rejected, 1 dropped";
        check(
            "4 local ends: 1 attributed, 2 unattributed (1 remote, 1 lost), 1 open, 0 evicted",
            packets,
            true,
        );
        check("4 local ends: 1 attributed, 1 unattributed (1 remote), 1 open, 0 evicted", packets, false);
        let packets = "9 packets received: 5 decoded, 2 ignored, 1 rejected, 0 dropped";
        check("1 local end: 1 attributed, 0 unattributed, 0 open, 0 evicted", packets, false);
    }

    #[test]
    fn words_without_counts_are_an_error() {
        assert!(imbalance("killed\n").is_err());
    }
}
