//! Files of users, as `htpasswd` writes them: lines of a name and the hash of a password.

use std::collections::HashMap;

use super::pair::{LONGEST_PAIR, Pair};
use super::password::{self, PasswordHash};
use crate::config::{Diagnostics, Span};

/// Reads users and the hashes of their passwords from a text that people know as `place`, or reports every
/// line that is wrong at `span`. Shows neither hashes nor what may be a password.
pub(super) fn read<'t>(
    text: &'t str,
    (place, span): (&str, Span),
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(&'t str, PasswordHash)>> {
    let mut users = Vec::new();
    let mut lines: HashMap<&str, usize> = HashMap::new();
    let mut is_sound = true;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if line.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (problem, help) = match line.split_once(':') {
            Some((name, hash)) if is_name(name) => match PasswordHash::read(hash) {
                _ if lines.contains_key(name) => (
                    format!("`{name}` has a password already"),
                    format!("it is on line {}: remove one of them", lines[name]),
                ),
                Ok(hash) => {
                    lines.insert(name, number);
                    users.push((name, hash));
                    continue;
                }
                Err(problem) => (
                    format!("the password of `{name}` is {problem}"),
                    format!(
                        "hash it with Argon2id (`tollgate hash-key --password {name}`) or bcrypt \
                         (`htpasswd -B -C 12`)"
                    ),
                ),
            },
            _ => (
                "this is not a name with a hash".to_owned(),
                "write `name:hash`, as `tollgate hash-key --password NAME` does".to_owned(),
            ),
        };
        diagnostics
            .error(span, format!("line {number} of `{place}`: {problem}"))
            .help(help);
        is_sound = false;
    }
    is_sound.then_some(users)
}

/// Whether it can be told from a comment, and be sent.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.trim() == name
        && !name.starts_with('#')
        && !name.contains(|it: char| it == ':' || it.is_control())
}

/// A line for a file of users.
///
/// # Errors
/// Why no request could show them.
pub fn hash_password(name: &str, password: &str) -> Result<String, String> {
    if !is_name(name) {
        return Err(
            "a name has neither `:` nor control characters, nor blanks around it".to_owned(),
        );
    }
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    let text = format!("{name}:{password}");
    if Pair::read(&text).is_none() {
        return Err("a password has no control characters".to_owned());
    }
    if text.len() > LONGEST_PAIR {
        return Err(format!(
            "name and password have {} bytes: {LONGEST_PAIR} at most",
            text.len()
        ));
    }
    Ok(format!("{name}:{}", password::hash(password)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "$2y$08$LJ14hDHLp6ep4a5AK4tCqup7k7R7dB37hVzlkO/VtIgcMA2.LJs9u";

    /// The names, or what is said.
    fn names(text: &str) -> Result<Vec<&str>, Vec<String>> {
        let mut diagnostics = Diagnostics::default();
        let users = read(text, ("users", Span::default()), &mut diagnostics);
        match users {
            Some(users) => {
                assert!(!diagnostics.has_errors());
                Ok(users.into_iter().map(|(name, _)| name).collect())
            }
            None => {
                let said = diagnostics.into_sorted().into_iter();
                Err(said
                    .map(|it| format!("{} ({})", it.message, it.help.unwrap()))
                    .collect())
            }
        }
    }

    #[test]
    fn names_are_read_between_comments_and_empty_lines() {
        let text =
            format!("# staff\n\nalice:{HASH}\r\n  # of the night\n \nb c@d#:{HASH}  \nÄ:{HASH}");
        assert_eq!(names(&text), Ok(vec!["alice", "b c@d#", "Ä"]));
        assert_eq!(names("# nobody\n"), Ok(vec![]));
    }

    #[test]
    fn every_line_that_is_wrong_is_reported_and_none_is_shown() {
        let text = format!(
            "alice:{HASH}\nhunter2\n:{HASH}\n bob:{HASH}\nalice:{HASH}\ncarol:hunter2\n\
             dave:$apr1$hunter2$hunter2\na\tb:{HASH}\nerin:{HASH}:hunter2\n"
        );
        let said = names(&text).unwrap_err();
        let expected = [
            (2, "not a name with a hash"),
            (3, "not a name with a hash"),
            (4, "not a name with a hash"),
            (5, "`alice` has a password already (it is on line 1"),
            (6, "the password of `carol` is not hashed"),
            (
                7,
                "the password of `dave` is hashed with MD5 (hash it with Argon2id (`tollgate hash-key --password dave`)",
            ),
            (8, "not a name with a hash"),
            (
                9,
                "the password of `erin` is hashed, but not all of the hash is there",
            ),
        ];
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (said, (line, expected)) in said.iter().zip(expected) {
            assert!(
                said.starts_with(&format!("line {line} of `users`: ")),
                "{said}"
            );
            assert!(said.contains(expected), "{said}");
            assert!(
                !said.contains("hunter2") && !said.contains("LJ14"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_line_that_is_written_here_is_read_here() {
        let line = hash_password("alice", "a:b £").unwrap();
        assert_eq!(names(&line), Ok(vec!["alice"]));
        for (name, password) in [
            ("", "b"),
            ("a:b", "c"),
            ("#a", "b"),
            (" a", "b"),
            ("a\n", "b"),
            ("a", ""),
            ("a", "b\n"),
            ("a", &"b".repeat(LONGEST_PAIR - 1)),
        ] {
            assert!(hash_password(name, password).is_err(), "{name} {password}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(alice|:|#|\n| |\\$2y\\$08\\$|\\$argon2id\\$v=19\\$|\\PC){0,40}") {
            let _ = names(&text);
        }
    }
}
