//! Hashes of passwords: which kinds are accepted, and whether a password is the one.

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use openssl::memcmp;
use openssl::rand::rand_bytes;

use super::super::refusal::Refusal;

/// What bcrypt looks at of a password; the rest would count for nothing.
const LONGEST_FOR_BCRYPT: usize = 72;
/// The cost of bcrypt: below it, passwords that are stolen are guessed too fast; above it, each takes seconds.
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 8..=15;
/// What Argon2 may take: KiB of memory, passes over it, lanes in it.
const ARGON2_MEMORY: std::ops::RangeInclusive<u32> = 4096..=262_144;
const ARGON2_PASSES: std::ops::RangeInclusive<u32> = 1..=10;
const ARGON2_LANES: std::ops::RangeInclusive<u32> = 1..=16;
/// The only version that is not broken (RFC 9106).
const VERSION: Version = Version::V0x13;
/// Shortest output of Argon2, in bytes.
const SHORTEST_OUTPUT: usize = 16;

/// What hashes that are not accepted begin with, and what they are.
const WEAK: [(&str, &str); 8] = [
    ("$apr1$", "hashed with MD5"),
    ("$1$", "hashed with MD5"),
    ("{SHA}", "hashed with SHA-1"),
    ("{SSHA}", "hashed with SHA-1"),
    ("$5$", "hashed with SHA-256, which is fast to guess"),
    ("$6$", "hashed with SHA-512, which is fast to guess"),
    ("$2x$", "hashed with a bcrypt that is known to be wrong"),
    (
        "$argon2d$",
        "hashed with Argon2d, which is not for passwords",
    ),
];

/// The hash of a password, with all that it takes to compute it again.
pub(super) enum PasswordHash {
    Bcrypt(Box<str>),
    Argon2 {
        argon2: Argon2<'static>,
        salt: Box<[u8]>,
        output: Box<[u8]>,
    },
}

impl PasswordHash {
    /// Reads a hash, or says what it is instead. Never shows any of it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Some((_, weak)) = WEAK.iter().find(|(prefix, _)| text.starts_with(prefix)) {
            return Err((*weak).to_owned());
        }
        if ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|it| text.starts_with(it))
        {
            return read_bcrypt(text);
        }
        if ["$argon2id$", "$argon2i$"]
            .iter()
            .any(|it| text.starts_with(it))
        {
            return read_argon2(text);
        }
        Err("not hashed, or in a way that is not known".to_owned())
    }

    /// Whether it is the hash of this password. Takes as long if it is not, whatever the reason.
    pub(super) fn matches(&self, password: &str) -> Result<bool, Refusal> {
        match self {
            Self::Bcrypt(hash) => {
                let is_right = bcrypt::verify(password, hash).unwrap_or(false);
                Ok(is_right & (password.len() <= LONGEST_FOR_BCRYPT))
            }
            Self::Argon2 {
                argon2,
                salt,
                output,
            } => {
                let mut found = vec![0; output.len()];
                argon2
                    .hash_password_into(password.as_bytes(), salt, &mut found)
                    // There is no memory for it, which says nothing of the password.
                    .map_err(|_| Refusal::Busy)?;
                Ok(memcmp::eq(&found, output))
            }
        }
    }
}

/// Hashes a password as OWASP's Password Storage Cheat Sheet advises: with Argon2id, in 19 MiB, twice.
pub(super) fn hash(password: &str) -> Result<String, String> {
    let mut salt = [0; 16];
    rand_bytes(&mut salt).map_err(|error| error.to_string())?;
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|error| error.to_string())?;
    let hashed = Argon2::new(Algorithm::Argon2id, VERSION, params)
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| error.to_string())?;
    Ok(hashed.to_string())
}

fn read_bcrypt(text: &str) -> Result<PasswordHash, String> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| damaged())?;
    let cost = parts.get_cost();
    if !BCRYPT_COST.contains(&cost) {
        return Err(format!("hashed with a bcrypt cost of {cost}"));
    }
    Ok(PasswordHash::Bcrypt(text.into()))
}

fn read_argon2(text: &str) -> Result<PasswordHash, String> {
    let phc = Phc::new(text).map_err(|_| damaged())?;
    let algorithm = Algorithm::new(phc.algorithm).map_err(|_| damaged())?;
    if phc.version != Some(VERSION.into()) {
        return Err("hashed with an Argon2 of another version than 19".to_owned());
    }
    let params = Params::try_from(&phc).map_err(|_| damaged())?;
    for (number, range, what) in [
        (params.m_cost(), ARGON2_MEMORY, "KiB of memory"),
        (params.t_cost(), ARGON2_PASSES, "passes"),
        (params.p_cost(), ARGON2_LANES, "lanes"),
    ] {
        if !range.contains(&number) {
            return Err(format!("hashed with an Argon2 of {number} {what}"));
        }
    }
    let (Some(salt), Some(output)) = (&phc.salt, &phc.hash) else {
        return Err(damaged());
    };
    if output.len() < SHORTEST_OUTPUT {
        return Err(format!("hashed to {} bytes only", output.len()));
    }
    Ok(PasswordHash::Argon2 {
        argon2: Argon2::new(algorithm, VERSION, params),
        salt: salt.as_ref().into(),
        output: output.as_bytes().into(),
    })
}

fn damaged() -> String {
    "hashed, but not all of the hash is there".to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by `htpasswd` and by the reference implementation of Argon2.
    const WONDERLAND: [&str; 5] = [
        "$2y$08$LJ14hDHLp6ep4a5AK4tCqup7k7R7dB37hVzlkO/VtIgcMA2.LJs9u",
        "$2a$08$LJ14hDHLp6ep4a5AK4tCqup7k7R7dB37hVzlkO/VtIgcMA2.LJs9u",
        "$2b$08$LJ14hDHLp6ep4a5AK4tCqup7k7R7dB37hVzlkO/VtIgcMA2.LJs9u",
        "$argon2id$v=19$m=4096,t=2,p=1$c2l4dGVlbi1vZi1zYWx0LQ$ABqgI3DF5Q5MdFlr0BaWAKULvwpxuC7kQFxO5ERU5j0",
        "$argon2i$v=19$m=4096,t=3,p=4$c2l4dGVlbi1vZi1zYWx0LQ$pz5W/P5eumtdmEk5R/X4UYdWhgVp2y9TO//LgYnZ9JE",
    ];
    const BEYOND_ASCII: &str = "$argon2id$v=19$m=8192,t=1,p=1$c2l4dGVlbi1vZi1zYWx0LQ$RvqUChIUGbDPavthPz9SA9WrOy9rkSPKMYH2aNTfM3g";
    /// Of `x`, 72 times.
    const LONG: &str = "$2y$08$eq4OHn5Z3NjXh/kEu85YZuOxzO9GXf2YBS9dg8kbxuEMPXs.mOi4K";

    fn matches(hash: &str, password: &str) -> bool {
        let hash = PasswordHash::read(hash).unwrap_or_else(|it| panic!("{hash} is {it}"));
        hash.matches(password).unwrap()
    }

    #[test]
    fn a_password_is_the_one_that_was_hashed() {
        for hash in WONDERLAND {
            assert!(matches(hash, "wonderland"), "{hash}");
            for other in ["", "wonderlan", "wonderlane", "Wonderland", "wonderland "] {
                assert!(!matches(hash, other), "{hash} {other}");
            }
        }
        assert!(matches(BEYOND_ASCII, "geheim£"));
        assert!(!matches(BEYOND_ASCII, "geheim\u{a3}\u{a3}"));
    }

    #[test]
    fn bcrypt_takes_no_password_for_a_longer_one() {
        let of = |length| "x".repeat(length);
        assert!(matches(LONG, &of(72)));
        // The function itself is deaf behind its 72nd byte.
        assert!(bcrypt::verify(of(73), LONG).unwrap());
        assert!(!matches(LONG, &of(73)));
        assert!(!matches(LONG, &of(71)));
    }

    #[test]
    fn what_is_hashed_here_is_read_here() {
        let hashed = hash("wonderland").unwrap();
        assert!(
            hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hashed}"
        );
        assert!(matches(&hashed, "wonderland"));
        assert_ne!(hashed, hash("wonderland").unwrap(), "the salt is new");
    }

    #[test]
    fn weak_unknown_and_damaged_hashes_are_refused() {
        let argon2 = |parameters: &str| {
            format!(
                "$argon2id$v=19${parameters}$c2l4dGVlbi1vZi1zYWx0LQ$ABqgI3DF5Q5MdFlr0BaWAKULvwpxuC7kQFxO5ERU5j0"
            )
        };
        let bcrypt = |cost: &str| WONDERLAND[0].replace("$08$", &format!("${cost}$"));
        for (hash, what) in [
            ("$apr1$OMa8xnd2$t7M25nvGGAFxOXof.aL9x0", "MD5"),
            ("{SHA}6dcfXufJLW3J6S/9rRe4vUlBj5g=", "SHA-1"),
            ("$5$WY9c6xydxXuwCoJW$GqJY0TN0NlY", "SHA-256"),
            ("$6$RUChRQfOssWaXNsP$4iWJ", "SHA-512"),
            ("$2x$08$LJ14hDHLp6ep4a5AK4tCqup7", "wrong"),
            ("$argon2d$v=19$m=4096,t=2,p=1$c2l4", "Argon2d"),
            ("qVsgh6AxxdPiY", "not hashed"),
            ("wonderland", "not hashed"),
            ("", "not hashed"),
            (" $2y$08$LJ14", "not hashed"),
            (&bcrypt("07"), "a bcrypt cost of 7"),
            (&bcrypt("16"), "a bcrypt cost of 16"),
            (&bcrypt("x8"), "not all"),
            (&WONDERLAND[0][..59], "not all"),
            (&format!("{}x", WONDERLAND[0]), "not all"),
            (&WONDERLAND[3].replace("19", "16"), "another version"),
            (&WONDERLAND[3].replace("$v=19", ""), "another version"),
            (&argon2("m=262145,t=1,p=1"), "262145 KiB"),
            (&argon2("m=4095,t=3,p=1"), "4095 KiB"),
            (&argon2("m=4096,t=11,p=1"), "11 passes"),
            (&argon2("m=4096,t=1,p=17"), "17 lanes"),
            // Whoever reads the first and whoever reads the last must not differ.
            (&argon2("m=4096,t=1,p=1,m=4294967295"), "hashed"),
            (&argon2("m=4096,t=0,p=1"), "hashed"),
            (&argon2("m=4096,t=1,p=1,x=1"), "not all"),
            (
                "$argon2id$v=19$m=4096,t=2,p=1$c2l4dGVlbi1vZi1zYWx0LQ",
                "not all",
            ),
            (
                "$argon2id$v=19$m=4096,t=2,p=1$c2l4dGVlbi1vZi1zYWx0LQ$v5hZ1jD9VsX4HISe",
                "12 bytes",
            ),
        ] {
            let problem = PasswordHash::read(hash).err();
            let problem = problem.unwrap_or_else(|| panic!("{hash} is accepted"));
            assert!(problem.contains(what), "{hash}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\$2[abxy]|\\$argon2(id|i|d)?|)(\\$(v=19|m=[0-9]{0,11},t=[0-9]{0,3},p=[0-9]{0,9}|[0-9]{0,3}|.{0,60})){0,5}") {
            let _ = PasswordHash::read(&text);
        }
    }
}
